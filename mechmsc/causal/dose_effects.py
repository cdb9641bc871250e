"""Slopes and curvatures of a dose-response, against those of placebos."""

from typing import TYPE_CHECKING

import numpy as np

from mechmsc.causal.beyond import beyond_placebos
from mechmsc.estimate import cluster_bootstrap_columns

if TYPE_CHECKING:
    import pandas
    import xarray

COLUMNS = ["outcome", "effect", "value", "low", "high", "p", "excess", "excess_low", "excess_high", "level", "n"]


def odd_and_even(responses: "xarray.DataArray") -> "xarray.Dataset":
    """Slope and curvature of every curve along `strength`.

    odd(a) = (Y(a) - Y(-a)) / 2, slope = sum a odd(a) / sum a^2; even(a) = (Y(a) + Y(-a)) / 2 - Y(0),
    curvature = sum a^2 even(a) / sum a^4; sums over a > 0: least squares of odd on a, and of even on a^2.

    Args:
        responses: with dim strength, symmetric about 0 and with 0 in it.

    Returns:
        slope, per class gap, and curvature, per squared class gap, without the dim strength.
    """
    import xarray

    positive = responses["strength"].values
    positive = positive[positive > 0]
    up, down = (responses.sel(strength=sign * positive).assign_coords(strength=positive) for sign in (1.0, -1.0))
    middle = responses.sel(strength=0.0, drop=True)
    a = xarray.DataArray(positive, coords={"strength": positive})
    slope = (a * (up - down) / 2).sum("strength", skipna=False) / (a**2).sum()
    curvature = (a**2 * ((up + down) / 2 - middle)).sum("strength", skipna=False) / (a**4).sum()
    return xarray.Dataset({"slope": slope, "curvature": curvature})


def dose_table(
    doses: "xarray.Dataset", *, level: float = 0.95, n_boot: int = 2000, seed: int = 0
) -> "pandas.DataFrame":
    """Slope and curvature of each outcome with intervals over items, and whether they are beyond the placebos'.

    Args:
        doses: from `dose_response`.
        level: of the intervals.
        n_boot: number of resamples.
        seed: of the resamples.

    Returns:
        outcome, effect (slope or curvature), value, low, high; p = (1 + #{|placebo| >= |concept|}) / (1 + n_placebo);
        excess of |concept| over the root mean square of the placebos, with an interval that resamples items and
        placebos; level, n (items).
    """
    import pandas

    concept, placebo = odd_and_even(doses["response"]), odd_and_even(doses["placebo_response"])
    rows = []
    for outcome in doses["outcome"].values:
        for effect in ("slope", "curvature"):
            mine = concept[effect].sel(outcome=outcome).mean("round").values
            (e,) = cluster_bootstrap_columns(mine[:, None], np.arange(len(mine)), level=level, n_boot=n_boot, seed=seed)
            p, excess = np.nan, (np.nan, np.nan, np.nan)
            if doses.sizes["placebo"]:
                theirs = placebo[effect].sel(outcome=outcome).mean("round").transpose("item", "placebo").values
                beyond, p = beyond_placebos(mine, theirs, level=level, n_boot=n_boot, seed=seed)
                excess = (beyond.value, beyond.low, beyond.high)
            rows.append((outcome, effect, e.value, e.low, e.high, p, *excess, level, e.n))
    return pandas.DataFrame(rows, columns=COLUMNS)


def dose_curves(
    doses: "xarray.Dataset", *, level: float = 0.95, n_boot: int = 2000, seed: int = 0
) -> "pandas.DataFrame":
    """Mean change of each outcome from strength 0, with its interval, and the band of the placebos' mean changes.

    Returns:
        outcome, strength, value, low, high, placebo_low, placebo_high (2.5 and 97.5 % of placebos at level 0.95),
        unedited (mean outcome at strength 0), level, n.
    """
    import pandas

    rows, tail = [], (1 - level) / 2
    change = (doses - doses.sel(strength=0.0)).mean("round")
    for outcome in doses["outcome"].values:
        base = float(doses["response"].sel(outcome=outcome, strength=0.0).mean())
        mine = change["response"].sel(outcome=outcome).transpose("item", "strength").values
        found = cluster_bootstrap_columns(mine, np.arange(len(mine)), level=level, n_boot=n_boot, seed=seed)
        theirs = change["placebo_response"].sel(outcome=outcome).mean("item").transpose("strength", "placebo").values
        known = theirs.shape[1] > 0
        bands = np.quantile(theirs, [tail, 1 - tail], axis=1) if known else np.full((2, len(theirs)), np.nan)
        for strength, e, low, high in zip(doses["strength"].values, found, *bands, strict=True):
            rows.append((outcome, float(strength), e.value, e.low, e.high, low, high, base, level, e.n))
    columns = ["outcome", "strength", "value", "low", "high", "placebo_low", "placebo_high", "unedited", "level", "n"]
    return pandas.DataFrame(rows, columns=columns)
