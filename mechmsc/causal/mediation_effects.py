"""Estimates of a mediation: effects averaged over items, by round and over all rounds."""

from typing import TYPE_CHECKING

import numpy as np

from mechmsc.estimate import cluster_bootstrap_columns, cluster_bootstrap_weighted

if TYPE_CHECKING:
    import pandas
    import xarray

EFFECTS = ("total", "indirect", "direct", "interaction")
RESOLUTION = 1e-5  # outcomes come from float32 passes: an effect below this is rounding, in the unit of the outcome
COLUMNS = ["outcome", "layer", "round", "effect", "value", "low", "high", "level", "n"]


def natural_effects(worlds: "xarray.Dataset") -> "xarray.Dataset":
    """TE, NIE, NDE and interaction of every item and round, in the unit of the outcome.

    Args:
        worlds: from `mediate`.

    Returns:
        total (item, round, outcome), and indirect, direct, interaction (item, round, outcome, layer); placebo, the NIE
        of random directions, where there are some.
    """
    total = worlds["treatment"] - worlds["control"]
    indirect = worlds["indirect_world"] - worlds["control"]
    direct = worlds["direct_world"] - worlds["control"]
    effects = {"total": total, "indirect": indirect, "direct": direct, "interaction": total - direct - indirect}
    if "placebo_world" in worlds:
        effects["placebo"] = worlds["placebo_world"] - worlds["control"]
    import xarray

    return xarray.Dataset(effects, attrs=worlds.attrs)


def mediation_table(
    worlds: "xarray.Dataset", *, level: float = 0.95, n_boot: int = 2000, seed: int = 0
) -> "pandas.DataFrame":
    """Mean effects with cluster-bootstrap intervals over items.

    Beside them `proportion`, mean NIE / mean TE, only where TE's interval leaves 0 out by more than rounding (nan
    elsewhere: a ratio to nothing says nothing), and, with placebos, `excess`: |NIE| over the root mean square of the
    placebos' NIE, with an interval that resamples items and placebos, and `placebo_p` =
    (1 + #{placebo >= concept}) / (1 + n).

    Args:
        worlds: from `mediate`.
        level: of the intervals.
        n_boot: number of resamples.
        seed: of the resamples; the same for all rows, so effects are resampled together.

    Returns:
        outcome, layer (the band), round (nan: mean over rounds), effect, value, low, high, level, n (items).
    """
    import pandas

    effects, rows = natural_effects(worlds), []
    for outcome in effects["outcome"].values:
        for layer in effects["layer"].values:
            here = effects.sel(outcome=outcome, layer=layer)
            for round in [*effects["round"].values, None]:
                part = here if round is None else here.sel(round=[round])
                for effect, numbers in _estimates(part, level, n_boot, seed).items():
                    rows.append((outcome, layer, np.nan if round is None else int(round), effect, *numbers))
    return pandas.DataFrame(rows, columns=COLUMNS)


def _estimates(part: "xarray.Dataset", level: float, n_boot: int, seed: int) -> dict[str, tuple]:
    items, rounds = part.sizes["item"], part.sizes["round"]
    clusters = np.repeat(np.arange(items), rounds)
    columns = np.stack([part[name].values.reshape(-1) for name in EFFECTS], axis=1)
    found = cluster_bootstrap_columns(columns, clusters, level=level, n_boot=n_boot, seed=seed)
    numbers = {name: (e.value, e.low, e.high, e.level, e.n) for name, e in zip(EFFECTS, found, strict=True)}
    total = found[0]
    sure = total.low > RESOLUTION or total.high < -RESOLUTION  # False for nan
    numbers["proportion"] = (np.nan, np.nan, np.nan, level, total.n)
    if sure:
        pair = columns[~np.isnan(columns).any(axis=1)]
        kept = clusters[~np.isnan(columns).any(axis=1)]
        (ratio,) = cluster_bootstrap_weighted(lambda w: _ratio(w, pair), kept, level=level, n_boot=n_boot, seed=seed)
        numbers["proportion"] = (ratio.value, ratio.low, ratio.high, level, ratio.n)
    if "placebo" in part:
        numbers |= _beyond_placebos(part, level, n_boot, seed)
    return numbers


def _ratio(weights: np.ndarray, pair: np.ndarray) -> np.ndarray:
    """[resample, 1]: indirect over total; nan where a resample's total is within rounding of 0."""
    total = weights @ pair[:, 0]
    far = np.abs(total) > RESOLUTION * weights.sum(axis=1)
    return np.divide(weights @ pair[:, 1], total, out=np.full(len(total), np.nan), where=far)[:, None]


def _beyond_placebos(part: "xarray.Dataset", level: float, n_boot: int, seed: int) -> dict[str, tuple]:
    from mechmsc.causal.beyond import beyond_placebos

    concept = part["indirect"].mean("round").values
    placebos = part["placebo"].mean("round").transpose("item", "placebo").values
    excess, p = beyond_placebos(concept, placebos, level=level, n_boot=n_boot, seed=seed)
    return {
        "excess": (excess.value, excess.low, excess.high, level, excess.n),
        "placebo_p": (p, np.nan, np.nan, level, excess.n),
    }
