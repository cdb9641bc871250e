"""From patched outcomes to effects: differences, shares of the gap, intervals over items, and what survives a grid."""

from typing import TYPE_CHECKING

import numpy as np

from mechmsc.errors import InputError, nearest
from mechmsc.estimate import (
    benjamini_hochberg,
    cluster_bootstrap_columns,
    cluster_bootstrap_weighted,
    max_statistic_test,
    permutation_test_cells,
)

if TYPE_CHECKING:
    import xarray

CORRECTIONS = ("max_statistic", "benjamini_hochberg")
_COLUMNS = 2000  # cells whose resamples are held in memory at a time


def patching_effect(
    grid: "xarray.DataArray",
    *,
    correction: str = "max_statistic",
    level: float = 0.95,
    n_boot: int = 2000,
    n_perm: int = 9999,
    seed: int = 0,
) -> "xarray.Dataset":
    """Mean effect of each patch over items, with intervals and p-values corrected for the number of cells.

    effect     = mean_i (patched_i - destination_i)
    normalised = effect / mean_i (source_i - destination_i): means are divided, never single items. 0: nothing moved,
                 1: the mean outcome of the source is reached. Where a patch exists for some items only, both means are
                 over those.

    Intervals are cluster bootstraps over items, all cells resampled alike. The p-value of a cell is of the hypothesis
    that its effect is symmetric about 0 (signs of items flipped), corrected over all cells of one outcome: the chance
    of any false cell (max_statistic, Westfall & Young 1993), or the share of false ones (benjamini_hochberg).

    Args:
        grid: from `patch_grid`, or one variable of `attribution_patch`.
        correction: max_statistic or benjamini_hochberg.
        level: of the intervals; a cell is `significant` where its corrected p is at most 1 - level.
        n_boot: resamples.
        n_perm: flips.
        seed: of both.

    Returns:
        Dataset over the grid's dims without item: effect, low, high, normalised, normalised_low, normalised_high, p,
        significant, n; and gap, gap_low, gap_high (mean source - destination) by outcome. Bounds and p are nan with
        fewer than two items.

    Raises:
        InputError: not a grid of patches, or an unknown correction.
    """
    if correction not in CORRECTIONS:
        raise InputError(f"unknown correction {correction!r}: {nearest(str(correction), CORRECTIONS)}")
    if "item" not in grid.dims or not {"source", "destination"} <= set(grid.coords):
        raise InputError(f"expected a grid of patch_grid with its items, got an array with dims {grid.dims}")
    import xarray

    if "outcome" in grid.dims:
        options = {"correction": correction, "level": level, "n_boot": n_boot, "n_perm": n_perm, "seed": seed}
        parts = [patching_effect(grid.sel(outcome=name), **options) for name in grid.outcome.values]
        order = ["outcome", *(dim for dim in grid.dims if dim not in ("item", "outcome"))]
        return xarray.concat(parts, "outcome", coords="minimal", compat="override").transpose(*order)
    dims = [dim for dim in grid.dims if dim != "item"]
    grid = grid.transpose("item", *dims)
    own, gap = grid.destination.values, (grid.source - grid.destination).values
    difference = grid.values if grid.name == "attribution" else grid.values - own.reshape(-1, *[1] * len(dims))
    cells = difference.reshape(len(own), -1)
    found = _estimates(cells, gap, level=level, n_boot=n_boot, seed=seed)
    test = max_statistic_test if correction == "max_statistic" else permutation_test_cells
    p = test(cells, n_perm=n_perm, seed=seed)
    found["p"] = p if correction == "max_statistic" else benjamini_hochberg(p)
    found["significant"] = found["p"] <= 1 - level + 1e-12
    coords = {name: coord for name, coord in grid.coords.items() if "item" not in coord.dims}
    shaped = {name: (dims, values.reshape(difference.shape[1:])) for name, values in found.items()}
    whole = cluster_bootstrap_columns(gap[:, None], np.arange(len(gap)), level=level, n_boot=n_boot, seed=seed)[0]
    shaped |= {"gap": ((), whole.value), "gap_low": ((), whole.low), "gap_high": ((), whole.high)}
    settings = {"correction": correction, "level": level, "n_boot": n_boot, "n_perm": n_perm, "seed": seed}
    kind = {"kind": str(grid.name), "n_items": len(own)}
    return xarray.Dataset(shaped, coords=coords, attrs={**grid.attrs, **settings, **kind})


def _estimates(cells: np.ndarray, gap: np.ndarray, *, level: float, n_boot: int, seed: int) -> dict[str, np.ndarray]:
    """Columns of effects with their intervals; the same seed gives every block of columns the same resamples."""
    items = np.arange(len(cells))
    options = {"level": level, "n_boot": n_boot, "seed": seed}
    plain, share = [], []
    for start in range(0, cells.shape[1], _COLUMNS):
        block = cells[:, start : start + _COLUMNS]
        plain += cluster_bootstrap_columns(block, items, **options)
        known = np.isfinite(block)
        effects, gaps = np.where(known, block, 0.0), np.where(known, gap[:, None], 0.0)

        def ratio(weights: np.ndarray, effects: np.ndarray = effects, gaps: np.ndarray = gaps) -> np.ndarray:
            with np.errstate(divide="ignore", invalid="ignore"):
                shares = (weights @ effects) / (weights @ gaps)
            return np.where(np.isfinite(shares), shares, np.nan)

        share += cluster_bootstrap_weighted(ratio, items, **options)
    return {
        "effect": np.array([one.value for one in plain]),
        "low": np.array([one.low for one in plain]),
        "high": np.array([one.high for one in plain]),
        "normalised": np.array([one.value for one in share]),
        "normalised_low": np.array([one.low for one in share]),
        "normalised_high": np.array([one.high for one in share]),
        "n": np.array([one.n for one in plain]),
    }
