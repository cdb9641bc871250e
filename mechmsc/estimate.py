"""A number with its interval, and the only bootstrap, permutation test and equivalence test of the package.

The unit is the item: all rounds, arms and samples of one item are resampled together, because they resemble each other.
Resampling rows instead would make intervals too narrow.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from mechmsc.errors import InputError

Seed = int | np.random.Generator
_DRAWS_AT_ONCE = 4_000_000  # cluster counts held in memory at a time


@dataclass(frozen=True)
class Estimate:
    """A number, its interval, and how many items stand behind it."""

    value: float
    """The estimate; nan without data."""
    low: float
    """Lower end of the interval; nan with fewer than two items."""
    high: float
    """Upper end of the interval; nan with fewer than two items."""
    level: float
    """Confidence level, e.g. 0.95."""
    n: int
    """Number of items (clusters) with data."""

    def __str__(self) -> str:
        return f"{self.value:.3g} [{self.low:.3g}, {self.high:.3g}] (n={self.n})"


@dataclass(frozen=True)
class Equivalence:
    """Outcome of `equivalence_test`; true where equivalence is shown."""

    equivalent: bool
    """The whole interval lies inside the margin."""
    difference: Estimate
    """Mean difference with the interval that decided."""
    margin: float
    """Largest difference that does not matter, in the unit of the values."""

    def __bool__(self) -> bool:
        return self.equivalent


def cluster_bootstrap(
    values: ArrayLike,
    clusters: ArrayLike,
    *,
    statistic: Literal["mean"] | Callable[[np.ndarray], float] = "mean",
    level: float = 0.95,
    n_boot: int = 2000,
    seed: Seed,
) -> Estimate:
    """A statistic with the percentile interval of a bootstrap over clusters (Davison & Hinkley 1997, section 3.8).

    For a paired comparison give the differences. With few clusters percentile intervals are somewhat narrow (at 40
    clusters and level 0.95 they cover in about 0.94 of cases).

    Args:
        values: [row], or [row, column] for a callable that reads several columns. Rows with a nan are left out; `n`
            counts what remains.
        clusters: [row], the item of each row.
        statistic: "mean" over rows, or a function of the resampled rows; the mean is much faster.
        level: of the interval.
        n_boot: number of resamples.
        seed: an integer, or a generator of the caller's own.

    Returns:
        The estimate; n is the number of clusters; bounds are nan with fewer than two.

    Raises:
        InputError: lengths differ, or level or n_boot is out of range.
    """
    values, codes, n_clusters = _checked(values, clusters, level, n_boot)
    keep = ~np.isnan(values).any(axis=tuple(range(1, values.ndim)))
    values, codes, n_clusters = _checked(values[keep], codes[keep], level, n_boot)
    if statistic == "mean":
        if values.ndim != 1:
            raise InputError(
                f"the mean is of one column, got values of shape {values.shape}; use cluster_bootstrap_columns"
            )
        return cluster_bootstrap_columns(values[:, None], codes, level=level, n_boot=n_boot, seed=seed)[0]
    if n_clusters == 0:
        return Estimate(np.nan, np.nan, np.nan, level, 0)
    value = float(statistic(values))
    if n_clusters < 2:
        return Estimate(value, np.nan, np.nan, level, n_clusters)
    draws = _statistic_draws(values, codes, n_clusters, statistic, n_boot, seed)
    return Estimate(value, *_interval(draws, level), level, n_clusters)


def cluster_bootstrap_columns(
    values: ArrayLike, clusters: ArrayLike, *, level: float = 0.95, n_boot: int = 2000, seed: Seed
) -> list[Estimate]:
    """The mean of every column, all columns resampled with the same clusters.

    mean*_c = sum_k w_k S_kc / sum_k w_k N_kc, with w a multinomial draw over clusters, S_kc and N_kc the sum and number
    of finite values of cluster k in column c.

    Args:
        values: [row, column]; nan values are left out of their column.
        clusters: [row], the item of each row.
        level: of the intervals.
        n_boot: number of resamples.
        seed: an integer, or a generator of the caller's own.

    Returns:
        An estimate per column; n counts the clusters with a finite value in that column.

    Raises:
        InputError: lengths differ, values are not [row, column], or level or n_boot is out of range.
    """
    values, codes, n_clusters = _checked(values, clusters, level, n_boot)
    if values.ndim != 2:
        raise InputError(f"expected values of shape [row, column], got {values.shape}")
    sums, sizes = _sums(values, codes, n_clusters)
    if n_clusters == 0:
        return [Estimate(np.nan, np.nan, np.nan, level, 0)] * values.shape[1]
    with np.errstate(invalid="ignore", divide="ignore"):  # 0 / 0: a resample without data in this column
        means = sums.sum(axis=0) / sizes.sum(axis=0)
        draws = np.concatenate([(block @ sums) / (block @ sizes) for block in _counts(n_clusters, n_boot, seed)])
    n = (sizes > 0).sum(axis=0)
    return [
        Estimate(float(means[c]), *(_interval(draws[:, c], level) if n[c] > 1 else (np.nan, np.nan)), level, int(n[c]))
        for c in range(values.shape[1])
    ]


def cluster_bootstrap_weighted(
    statistics: Callable[[np.ndarray], np.ndarray],
    clusters: ArrayLike,
    *,
    level: float = 0.95,
    n_boot: int = 2000,
    seed: Seed,
) -> list[Estimate]:
    """Several statistics of weighted rows, all from the same resamples: fast where a statistic can use weights.

    Args:
        statistics: weights [resample, row], how often each row is drawn -> values [resample, statistic].
        clusters: [row], the item of each row.
        level: of the intervals.
        n_boot: number of resamples.
        seed: an integer, or a generator of the caller's own.

    Returns:
        An estimate per statistic, its value that of weights 1; resamples where it is nan are left out.
    """
    _, codes, n_clusters = _checked(np.zeros(len(np.asarray(clusters))), clusters, level, n_boot)
    values = statistics(np.ones((1, len(codes))))[0]
    if n_clusters < 2:
        return [Estimate(float(value), np.nan, np.nan, level, n_clusters) for value in values]
    draws = np.concatenate(
        [statistics(c[:, codes].astype(float)) for c in _counts(n_clusters, n_boot, seed, len(codes))]
    )
    return [Estimate(float(v), *_interval(d, level), level, n_clusters) for v, d in zip(values, draws.T, strict=True)]


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
    values, codes, n_clusters = _checked(differences, clusters, 0.95, n_perm)
    finite = np.isfinite(values)
    values, codes, n_clusters = _checked(values[finite], codes[finite], 0.95, n_perm)
    if n_clusters < 2:
        return float("nan")
    sums = np.bincount(codes, weights=values, minlength=n_clusters)
    rng = np.random.default_rng(seed)
    observed = abs(sums.sum())
    least = observed - 1e-12 * np.abs(sums).sum()  # ties count, whatever the order of summation
    reached = 0
    for size in _block_sizes(n_perm, n_clusters):
        signs = rng.integers(0, 2, size=(size, n_clusters)) * 2.0 - 1.0
        reached += int((np.abs(signs @ sums) >= least).sum())
    return (1 + reached) / (1 + n_perm)


def equivalence_test(
    differences: ArrayLike,
    clusters: ArrayLike | None = None,
    *,
    margin: float,
    level: float = 0.90,
    n_boot: int = 2000,
    seed: Seed,
) -> Equivalence:
    """Two one-sided tests (Schuirmann 1987), done by an interval.

    Equivalent when the whole interval lies strictly inside (-margin, margin). The 90 % interval makes a test at 5 %:
    with a true difference on the margin, equivalence is declared in at most (about) 5 % of cases.

    Args:
        differences: [row], nan left out.
        clusters: [row], the item of each row; None: every row is an item.
        margin: largest difference that does not matter, above 0, in the unit of the differences.
        level: of the interval, 1 - 2 * (size of the test).
        n_boot: number of resamples.
        seed: an integer, or a generator of the caller's own.

    Returns:
        The decision with the interval; never equivalent with fewer than two items.

    Raises:
        InputError: margin is not above 0, lengths differ, or level or n_boot is out of range.
    """
    if not margin > 0:
        raise InputError(f"an equivalence margin is above 0, got {margin}")
    clusters = np.arange(len(differences)) if clusters is None else clusters
    difference = cluster_bootstrap(differences, clusters, level=level, n_boot=n_boot, seed=seed)
    return Equivalence(bool(-margin < difference.low and difference.high < margin), difference, margin)


def _checked(values: ArrayLike, clusters: ArrayLike, level: float, n_boot: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Values as floats, clusters as codes from 0, and the number of clusters."""
    values = np.asarray(values, dtype=float)
    clusters = np.asarray(clusters)
    if values.ndim == 0 or clusters.ndim != 1 or len(values) != len(clusters):
        raise InputError(
            f"expected one cluster a row, got values of shape {values.shape} and clusters of shape {clusters.shape}"
        )
    if not 0 < level < 1:
        raise InputError(f"a confidence level lies between 0 and 1, got {level}")
    if n_boot < 1:
        raise InputError(f"expected at least 1 resample, got {n_boot}")
    names, codes = np.unique(clusters, return_inverse=True)
    return values, codes, len(names)


def _statistic_draws(
    values: np.ndarray, codes: np.ndarray, n_clusters: int, statistic: Callable, n_boot: int, seed: Seed
) -> np.ndarray:
    """The statistic of every resample, one after the other."""
    rows = np.split(np.argsort(codes, kind="stable"), np.cumsum(np.bincount(codes))[:-1])  # rows of each cluster
    everyone = np.arange(n_clusters)
    return np.array(
        [
            statistic(values[np.concatenate([rows[cluster] for cluster in np.repeat(everyone, counts)])])
            for block in _counts(n_clusters, n_boot, seed)
            for counts in block
        ],
        dtype=float,
    )


def _sums(values: np.ndarray, codes: np.ndarray, n_clusters: int) -> tuple[np.ndarray, np.ndarray]:
    """Sum and number of the finite values, each [cluster, column]."""
    known = ~np.isnan(values)
    sums, sizes = np.zeros((2, n_clusters, values.shape[1]))
    np.add.at(sums, codes, np.where(known, values, 0.0))
    np.add.at(sizes, codes, known.astype(float))
    return sums, sizes


def _counts(n_clusters: int, n_boot: int, seed: Seed, n_rows: int = 0) -> Iterator[np.ndarray]:
    """How often each cluster is drawn, [resample, cluster], in blocks that fit into memory and change no number."""
    rng = np.random.default_rng(seed)
    for size in _block_sizes(n_boot, max(n_clusters, n_rows)):
        yield rng.multinomial(n_clusters, np.full(n_clusters, 1 / n_clusters), size=size)


def _block_sizes(total: int, width: int) -> Iterator[int]:
    block = max(1, _DRAWS_AT_ONCE // max(width, 1))
    for start in range(0, total, block):
        yield min(block, total - start)


def _interval(draws: np.ndarray, level: float) -> tuple[float, float]:
    """Percentile interval of the draws that are numbers."""
    draws = draws[~np.isnan(draws)]
    if not len(draws):
        return np.nan, np.nan
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
