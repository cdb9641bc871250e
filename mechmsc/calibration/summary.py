"""Confidence against correctness: all the errors of one set of answers, with an interval and a null."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from mechmsc.calibration.binning import Binning, bin_codes, confidence_and_correct
from mechmsc.calibration.confidence import bin_means, expected_calibration_error
from mechmsc.errors import InputError
from mechmsc.estimate import Estimate, Seed, cluster_bootstrap_columns

if TYPE_CHECKING:
    import pandas

_GRID = 64  # candidate values of the error between which the ends of its interval are interpolated


def calibration_summary(
    confidence: ArrayLike,
    correct: ArrayLike,
    *,
    clusters: ArrayLike | None = None,
    n_bins: int = 10,
    binning: Binning = "equal_width",
    level: float = 0.95,
    n_boot: int = 2000,
    seed: Seed,
) -> "pandas.DataFrame":
    """Calibration error, its null, accuracy and confidence of one set of answers.

    Rows (`measure`):
        ece: as `expected_calibration_error`, with the interval of `calibration_error_interval`. The estimate is biased
            upwards, the interval is not: where errors are small the estimate may lie above it.
        ece_debiased: with `debiased=True`, and the same interval.
        ece_null: the error that calibrated confidences would show: answers drawn right with the probability that the
            model states (consistency resampling; Broecker & Smith 2007); mean, and central `level` as low and high.
        accuracy, confidence: their means with cluster-bootstrap intervals.

    Args:
        confidence: [item], in [0, 1]. Rows with a nan are left out.
        correct: [item], 0/1.
        clusters: [item], what is resampled together; None: every row is an item of its own.
        n_bins: number of bins.
        binning: as in `expected_calibration_error`.
        level: of the intervals.
        n_boot: number of resamples, draws for the interval and draws from the null.
        seed: an integer, or a generator of the caller's own.

    Returns:
        A row per measure: measure, value, low, high, level, n (clusters with data).

    Raises:
        InputError: lengths differ, or a value or option is out of range.
    """
    import pandas as pd

    clusters = np.arange(np.size(confidence)) if clusters is None else np.asarray(clusters)
    if np.shape(clusters) != np.shape(confidence):
        raise InputError(f"expected one cluster an item, got shapes {np.shape(clusters)} and {np.shape(confidence)}")
    known = ~np.isnan(np.asarray(confidence, dtype=float) + np.asarray(correct, dtype=float))
    confidence, correct = confidence_and_correct(confidence, correct)
    clusters, rng = clusters[known], np.random.default_rng(seed)
    settings = {"n_bins": n_bins, "binning": binning}
    error = calibration_error_interval(
        confidence, correct, clusters=clusters, level=level, n_draws=n_boot, seed=rng, **settings
    )
    debiased = expected_calibration_error(confidence, correct, debiased=True, **settings)
    both = np.stack([correct, confidence], axis=1)
    accuracy, mean_confidence = cluster_bootstrap_columns(both, clusters, level=level, n_boot=n_boot, seed=rng)
    found = {
        "ece": error,
        "ece_debiased": Estimate(debiased, error.low, error.high, level, error.n),
        "ece_null": _null(confidence, bin_codes(confidence, n_bins, binning), level, n_boot, error.n, rng),
        "accuracy": accuracy,
        "confidence": mean_confidence,
    }
    rows = [(name, one.value, one.low, one.high, one.level, one.n) for name, one in found.items()]
    return pd.DataFrame(rows, columns=["measure", "value", "low", "high", "level", "n"])


def calibration_error_interval(
    confidence: ArrayLike,
    correct: ArrayLike,
    *,
    clusters: ArrayLike | None = None,
    n_bins: int = 10,
    binning: Binning = "equal_width",
    level: float = 0.95,
    n_draws: int = 2000,
    seed: Seed,
) -> Estimate:
    """The expected calibration error with an interval that covers, also where confidences are calibrated.

    Bootstrap percentiles do not: the absolute values push every resample further up, so that with calibrated
    confidences the interval lies above the truth of 0. Instead every candidate value s is tested (hybrid resampling,
    Chuang & Lai 2000): the signed gaps of the bins, g_b = mean over items of (correct - confidence) [item in bin b],
    are moved as little as possible (in units of their standard errors) until sum_b |g_b| = s; errors are drawn as
    sum_b |g_b + e_b|, e normal with the covariance of the gaps between clusters; s stays where the observed error lies
    between their (1 - level) / 2 quantiles. Where even the lower quantile at s = 0 is not reached, the interval is
    [0, 0].

    What is covered is the error of the population at these bins, sum_b |E g_b|. To the variance of a bin is added what
    one more item of its mean confidence would bring, so that a bin with all answers right is not taken for certain.

    Args:
        confidence: [item], in [0, 1]. Rows with a nan are left out.
        correct: [item], 0/1.
        clusters: [item], rows that are not independent; None: every row is an item of its own.
        n_bins: number of bins.
        binning: as in `expected_calibration_error`; bins of equal mass are taken as given.
        level: of the interval.
        n_draws: number of draws, used for every candidate.
        seed: an integer, or a generator of the caller's own.

    Returns:
        The estimate (not debiased); n is the number of clusters; bounds are nan with fewer than two.

    Raises:
        InputError: lengths differ, or a value or option is out of range.
    """
    clusters = np.arange(np.size(confidence)) if clusters is None else np.asarray(clusters)
    if np.shape(clusters) != np.shape(confidence):
        raise InputError(f"expected one cluster an item, got shapes {np.shape(clusters)} and {np.shape(confidence)}")
    if not 0 < level < 1 or n_draws < 1:
        raise InputError(f"expected a level between 0 and 1 and at least 1 draw, got {level} and {n_draws}")
    known = ~np.isnan(np.asarray(confidence, dtype=float) + np.asarray(correct, dtype=float))
    confidence, correct = confidence_and_correct(confidence, correct)
    codes = np.unique(bin_codes(confidence, n_bins, binning), return_inverse=True)[1]
    members = np.unique(clusters[known], return_inverse=True)[1]
    n_clusters = len(np.unique(members))
    if not len(codes):
        return Estimate(np.nan, np.nan, np.nan, level, 0)
    gaps, covariance = _gaps(confidence, correct, codes, members)
    observed = float(np.abs(gaps).sum())
    if n_clusters < 2:
        return Estimate(observed, np.nan, np.nan, level, n_clusters)
    noise = _noise(covariance, n_draws, np.random.default_rng(seed))
    low, high = _inverted(gaps, np.diag(covariance), noise, level)
    return Estimate(observed, low, high, level, n_clusters)


def _gaps(
    confidence: np.ndarray, correct: np.ndarray, codes: np.ndarray, members: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Signed gap of every bin [bin], and its covariance [bin, bin] from the spread between clusters."""
    n, n_clusters, n_bins = len(codes), members.max() + 1, codes.max() + 1
    sums = np.zeros((n_clusters, n_bins))
    np.add.at(sums, (members, codes), correct - confidence)
    gaps = sums.sum(axis=0) / n
    spread = sums - np.bincount(members)[:, None] * gaps  # linearised: clusters may differ in size
    covariance = spread.T @ spread * (n_clusters / max(n_clusters - 1, 1)) / n**2
    _, mean_confidence, _ = bin_means(confidence, correct, codes)
    return gaps, covariance + np.diag(mean_confidence * (1 - mean_confidence) / n**2)


def _noise(covariance: np.ndarray, n_draws: int, rng: np.random.Generator) -> np.ndarray:
    """Normal draws with this covariance, [draw, bin], in pairs of opposite sign."""
    values, vectors = np.linalg.eigh(covariance)
    half = rng.standard_normal((-(-n_draws // 2), len(values))) @ (vectors * np.sqrt(np.maximum(values, 0))).T
    return np.concatenate([half, -half])


def _inverted(gaps: np.ndarray, variance: np.ndarray, noise: np.ndarray, level: float) -> tuple[float, float]:
    """Least and greatest error under which the observed one is not unlikely."""
    observed = float(np.abs(gaps).sum())
    reach = 4 * float(np.sqrt(variance).sum())
    candidates = np.linspace(max(observed - reach, 0.0), min(observed + reach, 1.0), _GRID)
    bounds = np.stack([_quantiles(gaps, variance, noise, s, level) for s in candidates])
    bounds = np.maximum.accumulate(bounds, axis=0)  # both rise with s, up to the noise of the draws
    low = np.interp(observed, bounds[:, 1], candidates)
    high = np.interp(observed, bounds[:, 0], candidates)
    return float(low), float(max(high, low))


def _quantiles(gaps: np.ndarray, variance: np.ndarray, noise: np.ndarray, error: float, level: float) -> np.ndarray:
    """Between which values the observed error would lie if the true one were `error`."""
    drawn = np.abs(nearest_with_sum(gaps, variance, error) + noise).sum(axis=1)
    return np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])


def nearest_with_sum(gaps: np.ndarray, variance: np.ndarray, total: float) -> np.ndarray:
    """The g nearest to `gaps` in sum_b (g_b - gaps_b)^2 / variance_b with sum_b |g_b| = total.

    All |g_b| change by the same multiple of their variance, and stop at 0: g_b = sign(gaps_b) max(|gaps_b| - x v_b, 0).
    """
    size, sign = np.abs(gaps), np.where(gaps < 0, -1.0, 1.0)
    variance = np.maximum(variance, 1e-300)
    order = np.argsort(-size / variance)  # the last to reach 0 first
    multiples = (np.cumsum(size[order]) - total) / np.cumsum(variance[order])
    stays = np.flatnonzero(size[order] / variance[order] > multiples)
    multiple = multiples[stays[-1]] if len(stays) else np.inf
    return sign * np.maximum(size - multiple * variance, 0.0)


def _null(
    confidence: np.ndarray, codes: np.ndarray, level: float, n_draws: int, n: int, rng: np.random.Generator
) -> Estimate:
    """The error of answers that are right as often as the model says: mean and central range."""
    if not len(confidence):
        return Estimate(np.nan, np.nan, np.nan, level, 0)
    order = np.argsort(codes, kind="stable")
    starts = np.flatnonzero(np.diff(codes[order], prepend=-1))
    stated = confidence[order]
    drawn = np.concatenate(
        [(rng.random((min(250, n_draws - at), len(stated))) < stated) for at in range(0, n_draws, 250)]
    )
    errors = np.abs(np.add.reduceat(drawn - stated, starts, axis=1)).sum(axis=1) / len(stated)
    low, high = np.quantile(errors, [(1 - level) / 2, (1 + level) / 2]) if n > 1 else (np.nan, np.nan)
    return Estimate(float(errors.mean()), float(low), float(high), level, n)
