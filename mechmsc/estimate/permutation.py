"""The only permutation tests of the package: one difference, or a grid of them at once; Benjamini-Hochberg."""

import numpy as np
from numpy.typing import ArrayLike

from mechmsc.errors import InputError
from mechmsc.estimate.resampling import Seed, block_sizes, checked, cluster_sums


def permutation_test(
    differences: ArrayLike, clusters: ArrayLike | None = None, *, n_perm: int = 9999, seed: Seed
) -> float:
    """Two-sided test that paired differences are symmetric about 0, by flipping the sign of whole items.

    p = (1 + #{|mean*| >= |mean|}) / (1 + n_perm)        Phipson & Smyth 2010, arXiv:1603.05766

    Args:
        differences: [row], treatment minus control; nan left out.
        clusters: [row], the item of each row, all flipped together; None: every row is an item.
        n_perm: number of random flips.
        seed: an integer, or a generator of the caller's own.

    Returns:
        The p-value; nan with fewer than two items, of which no flip can tell anything.

    Raises:
        InputError: lengths differ, or n_perm is below 1.
    """
    differences = np.asarray(differences, dtype=float)
    clusters = np.arange(len(differences)) if clusters is None else np.asarray(clusters)
    values, codes, n_clusters = checked(differences, clusters, 0.95, n_perm)
    finite = np.isfinite(values)
    values, codes, n_clusters = checked(values[finite], codes[finite], 0.95, n_perm)
    if n_clusters < 2:
        return float("nan")
    sums = np.bincount(codes, weights=values, minlength=n_clusters)
    rng = np.random.default_rng(seed)
    observed = abs(sums.sum())
    least = observed - 1e-12 * np.abs(sums).sum()  # ties count, whatever the order of summation
    reached = 0
    for size in block_sizes(n_perm, n_clusters):
        signs = rng.integers(0, 2, size=(size, n_clusters)) * 2.0 - 1.0
        reached += int((np.abs(signs @ sums) >= least).sum())
    return (1 + reached) / (1 + n_perm)


def max_statistic_test(
    differences: ArrayLike, clusters: ArrayLike | None = None, *, n_perm: int = 9999, seed: Seed
) -> np.ndarray:
    """Two-sided tests that paired differences of every cell are symmetric about 0, corrected for the number of cells.

    p_c = (1 + #{max_c' z*_c' >= z_c}) / (1 + n_perm),  z_c = |sum_i S_ic| / sqrt(sum_i S_ic^2)

    S_ic is the sum of item i in cell c; z* flips the sign of whole items, in all cells at once, so that what cells
    share stays in the null (single-step max-T; Westfall & Young 1993; Nichols & Holmes 2002). With as many items in
    every cell z rises with |t|, and its denominator does not change with a flip. The probability of any p <= 0.05 where
    no cell differs is at most 0.05; where some differ, the same holds for the others. Uncorrected:
    `permutation_test_cells`.

    Args:
        differences: [row, ...cells], treatment minus control, e.g. [item, layer, position]; a nan counts in no sum.
        clusters: [row], the item of each row, all flipped together; None: every row is an item.
        n_perm: number of random flips; p is at least 1 / (1 + n_perm).
        seed: an integer, or a generator of the caller's own.

    Returns:
        The corrected p of each cell, [...cells]; nan for cells with fewer than two items, which take no part; 1 for
        cells whose differences are all 0.

    Raises:
        InputError: there is no cell axis, lengths differ, or n_perm is below 1.
    """
    return _flip_cells(differences, clusters, n_perm, seed, largest=True)


def permutation_test_cells(
    differences: ArrayLike, clusters: ArrayLike | None = None, *, n_perm: int = 9999, seed: Seed
) -> np.ndarray:
    """`permutation_test` of every cell by itself, with the same flips: p-values for `benjamini_hochberg`.

    Args:
        differences: [row, ...cells], as in `max_statistic_test`.
        clusters: [row], the item of each row; None: every row is an item.
        n_perm: number of random flips.
        seed: an integer, or a generator of the caller's own.

    Returns:
        The uncorrected p of each cell, [...cells]; nan for cells with fewer than two items.

    Raises:
        InputError: there is no cell axis, lengths differ, or n_perm is below 1.
    """
    return _flip_cells(differences, clusters, n_perm, seed, largest=False)


def benjamini_hochberg(p: ArrayLike) -> np.ndarray:
    """Adjusted p-values: rejecting those <= q keeps the expected share of false rejections at q or below.

    adjusted_(i) = min_{j >= i} p_(j) m / j        Benjamini & Hochberg 1995

    Valid for tests that are independent or positively dependent. Use it where many cells may differ and a share of
    false ones can be borne; `max_statistic_test` where a single false cell would be one too many.

    Args:
        p: p-values of any shape; nan (no test) is not counted in m.

    Returns:
        Adjusted p-values of the same shape, nan where p is nan.

    Raises:
        InputError: a p-value is outside [0, 1].
    """
    p = np.asarray(p, dtype=float)
    known = np.isfinite(p)
    tested = p[known]
    if ((tested < 0) | (tested > 1)).any():
        raise InputError(f"p-values lie in [0, 1], got {tested[(tested < 0) | (tested > 1)][0]:g}")
    order = np.argsort(tested, kind="stable")
    scaled = tested[order] * len(tested) / np.arange(1, len(tested) + 1)
    adjusted = np.full(p.shape, np.nan)
    flat = np.empty(len(tested))
    flat[order] = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1.0)
    adjusted[known] = flat
    return adjusted


def _flip_cells(
    differences: ArrayLike, clusters: ArrayLike | None, n_perm: int, seed: Seed, *, largest: bool
) -> np.ndarray:
    """The p of each cell against its own flips, or against the largest of all cells in each flip."""
    differences = np.asarray(differences, dtype=float)
    if differences.ndim < 2:
        raise InputError(f"expected differences of shape [row, ...cells], got {differences.shape}")
    clusters = np.arange(len(differences)) if clusters is None else np.asarray(clusters)
    values, codes, n_clusters = checked(differences, clusters, 0.95, n_perm)
    values = values.reshape(len(values), -1)
    sums, sizes = cluster_sums(values, codes, n_clusters)
    tested = (sizes > 0).sum(axis=0) > 1
    root = np.sqrt((sums**2).sum(axis=0))
    units = np.divide(sums, root, out=np.zeros_like(sums), where=root > 0)[:, tested]
    p = np.full(values.shape[1], np.nan)
    p[tested] = _p_of_units(units, n_perm, seed, largest)
    return p.reshape(differences.shape[1:])


def _p_of_units(units: np.ndarray, n_perm: int, seed: Seed, largest: bool) -> np.ndarray:
    """Share of flips that reach each cell's statistic; columns of `units` [item, cell] have length 1 (or 0)."""
    n_clusters, n_cells = units.shape
    if n_cells == 0:
        return np.zeros(0)
    least = np.abs(units.sum(axis=0)) - 1e-12 * np.abs(units).sum(axis=0)  # ties count, as in permutation_test
    reached, rng = np.zeros(n_cells), np.random.default_rng(seed)
    for size in block_sizes(n_perm, max(n_clusters, n_cells)):
        signs = rng.integers(0, 2, size=(size, n_clusters)) * 2.0 - 1.0
        flipped = np.abs(signs @ units)
        if largest:
            flipped = np.sort(flipped.max(axis=1))
            reached += size - np.searchsorted(flipped, least, side="left")
        else:
            reached += (flipped >= least).sum(axis=0)
    return (1 + reached) / (1 + n_perm)
