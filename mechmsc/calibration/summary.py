"""Confidence against correctness: all the errors of one set of answers, with an interval and a null."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from mechmsc.calibration.binning import bin_codes, confidence_and_correct
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
    binning: str = "equal_width",
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

    confidence, correct, clusters = confidence_and_correct(confidence, correct, clusters)
    rng = np.random.default_rng(seed)
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
    binning: str = "equal_width",
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
    between their (1 - level) / 2 quantiles.

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
    if not 0 < level < 1 or n_draws < 1:
        raise InputError(f"expected a level between 0 and 1 and at least 1 draw, got {level} and {n_draws}")
    confidence, correct, clusters = confidence_and_correct(confidence, correct, clusters)
    codes = np.unique(bin_codes(confidence, n_bins, binning), return_inverse=True)[1]
    members = np.unique(clusters, return_inverse=True)[1]
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
    drawn = np.abs(nearest_with_sums(gaps, variance, candidates)[:, None] + noise).sum(axis=2)
    bounds = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2], axis=1)
    lower, upper = np.maximum.accumulate(bounds, axis=1)  # both rise with the candidate, up to the noise of the draws
    low, high = np.interp(observed, upper, candidates), np.interp(observed, lower, candidates)
    return float(low), float(max(high, low))


def nearest_with_sums(gaps: np.ndarray, variance: np.ndarray, totals: np.ndarray) -> np.ndarray:
    """For each total the g nearest to `gaps` in sum_b (g_b - gaps_b)^2 / variance_b with sum_b |g_b| = total.

    All |g_b| change by the same multiple x of their variance, and stop at 0: |g_b| = max(|gaps_b| - x v_b, 0).

    Returns:
        [total, bin], with the signs of `gaps`.
    """
    size, variance = np.abs(gaps), np.maximum(variance, 1e-300)
    order = np.argsort(-size / variance)  # the last to reach 0 first
    ordered, rate = size[order], variance[order]
    multiples = (np.cumsum(ordered) - totals[:, None]) / np.cumsum(rate)  # if only the bins up to here are not 0
    stays = ordered / rate > multiples
    last = len(gaps) - 1 - np.argmax(stays[:, ::-1], axis=1)
    multiple = np.where(stays.any(axis=1), multiples[np.arange(len(totals)), last], np.inf)
    return np.where(gaps < 0, -1.0, 1.0) * np.maximum(size - multiple[:, None] * variance, 0.0)


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
