"""The only bootstrap of the package, and the equivalence test that rests on it."""

from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from mechmsc.errors import InputError
from mechmsc.estimate.records import Equivalence, Estimate
from mechmsc.estimate.resampling import Seed, checked, cluster_counts, cluster_sums


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
    values, codes, n_clusters = checked(values, clusters, level, n_boot)
    keep = ~np.isnan(values).any(axis=tuple(range(1, values.ndim)))
    values, codes, n_clusters = checked(values[keep], codes[keep], level, n_boot)
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
    values, codes, n_clusters = checked(values, clusters, level, n_boot)
    if values.ndim != 2:
        raise InputError(f"expected values of shape [row, column], got {values.shape}")
    sums, sizes = cluster_sums(values, codes, n_clusters)
    if n_clusters == 0:
        return [Estimate(np.nan, np.nan, np.nan, level, 0)] * values.shape[1]
    with np.errstate(invalid="ignore", divide="ignore"):  # 0 / 0: a resample without data in this column
        means = sums.sum(axis=0) / sizes.sum(axis=0)
        draws = np.concatenate([(block @ sums) / (block @ sizes) for block in cluster_counts(n_clusters, n_boot, seed)])
    n = (sizes > 0).sum(axis=0)
    return [
        Estimate(float(mean), *(ends if k > 1 else (np.nan, np.nan)), level, int(k))
        for mean, ends, k in zip(means, _intervals(draws, level), n, strict=True)
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
    _, codes, n_clusters = checked(np.zeros(len(np.asarray(clusters))), clusters, level, n_boot)
    values = statistics(np.ones((1, len(codes))))[0]
    if n_clusters < 2:
        return [Estimate(float(value), np.nan, np.nan, level, n_clusters) for value in values]
    draws = np.concatenate(
        [statistics(c[:, codes].astype(float)) for c in cluster_counts(n_clusters, n_boot, seed, len(codes))]
    )
    intervals = _intervals(draws, level)
    return [Estimate(float(value), *ends, level, n_clusters) for value, ends in zip(values, intervals, strict=True)]


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


def _statistic_draws(
    values: np.ndarray, codes: np.ndarray, n_clusters: int, statistic: Callable, n_boot: int, seed: Seed
) -> np.ndarray:
    """The statistic of every resample, one after the other."""
    rows = np.split(np.argsort(codes, kind="stable"), np.cumsum(np.bincount(codes))[:-1])  # rows of each cluster
    everyone = np.arange(n_clusters)
    return np.array(
        [
            statistic(values[np.concatenate([rows[cluster] for cluster in np.repeat(everyone, counts)])])
            for block in cluster_counts(n_clusters, n_boot, seed)
            for counts in block
        ],
        dtype=float,
    )


def _intervals(draws: np.ndarray, level: float) -> list[tuple[float, float]]:
    """Percentile interval of every column of draws [resample, column]; all at once where none is nan."""
    if np.isnan(draws).any():
        return [_interval(column, level) for column in draws.T]
    lows, highs = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return list(zip(lows.tolist(), highs.tolist(), strict=True))


def _interval(draws: np.ndarray, level: float) -> tuple[float, float]:
    """Percentile interval of the draws that are numbers."""
    draws = draws[~np.isnan(draws)]
    if not len(draws):
        return np.nan, np.nan
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
