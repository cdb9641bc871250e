"""Calibration of confidence: the expected calibration error and the reliability diagram."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from mechmsc.calibration.binning import bin_codes, confidence_and_correct, width_edges
from mechmsc.errors import InputError
from mechmsc.estimate import proportion_interval

if TYPE_CHECKING:
    import pandas


def expected_calibration_error(
    confidence: ArrayLike,
    correct: ArrayLike,
    *,
    n_bins: int = 10,
    binning: str = "equal_width",
    debiased: bool = False,
) -> float:
    """Mean distance between confidence and accuracy over bins of confidence, 0 (best) to 1.

    ECE = sum_b n_b/n |acc_b - conf_b|        Naeini et al. 2015; Guo et al. 2017, arXiv:1706.04599

    The absolute value makes sampling noise count as error: calibrated confidences of 40 items score about 0.15 with 10
    bins. `debiased` subtracts that part bin by bin, after Kumar et al. 2019 (arXiv:1909.10155), who propose it for this
    (l1) error by simulation; here their expectation is computed:

        debiased = sum_b n_b/n (2 |d_b| - E|N(d_b, s_b^2)|),  d_b = acc_b - conf_b,  s_b^2 = acc_b (1 - acc_b) / n_b

    It takes away about 40 % of the excess where confidences are calibrated, and most of it where gaps are as large as
    their standard errors; bins whose answers are all right (or all wrong) have s_b = 0 and stay as they are. It may be
    slightly below 0 and is not clipped, since clipping would bring bias back. The unbiased estimator of the same paper
    is one of the squared, l2, error, another quantity. An interval that covers, with the null of calibrated
    confidences: `calibration_summary`.

    Args:
        confidence: [item], probability of the chosen answer, in [0, 1]. Rows with a nan are left out.
        correct: [item], whether the answer is right, 0/1.
        n_bins: number of bins.
        binning: "equal_width": edges k / n_bins, the first bin closed, the others (low, high]; "equal_mass": equal
            counts, bins that share a confidence merged. Empty bins are skipped.
        debiased: subtract the part that sampling noise adds.

    Returns:
        The error; nan without items.

    Raises:
        InputError: lengths differ, or a value is out of range.
    """
    confidence, correct, _ = confidence_and_correct(confidence, correct)
    codes = bin_codes(confidence, n_bins, binning)
    if not len(codes):
        return float("nan")
    n, mean_confidence, accuracy = bin_means(confidence, correct, codes)
    gap = np.abs(accuracy - mean_confidence)
    if debiased:
        gap = 2 * gap - _mean_of_folded_normal(gap, np.sqrt(accuracy * (1 - accuracy) / n))
    return float(n @ gap / n.sum())


def reliability_diagram(
    confidence: ArrayLike,
    correct: ArrayLike,
    *,
    n_bins: int = 10,
    binning: str = "equal_width",
    level: float = 0.95,
) -> "pandas.DataFrame":
    """Accuracy against confidence, bin by bin.

    Each item is right or wrong once, so accuracy of a bin has Wilson's (1927) interval, which unlike a bootstrap does
    not shrink to a point where all items of a bin are right.

    Args:
        confidence: [item], in [0, 1]. Rows with a nan are left out.
        correct: [item], 0/1.
        n_bins: number of bins.
        binning: as in `expected_calibration_error`.
        level: of the intervals.

    Returns:
        A row per bin that is not empty: bin_low, bin_high (equal_mass: least and greatest confidence in it),
        confidence (mean), accuracy, low, high (of accuracy; nan with fewer than two items), level, n.

    Raises:
        InputError: lengths differ, or a value or option is out of range.
    """
    import pandas as pd

    if not 0 < level < 1:
        raise InputError(f"a confidence level lies between 0 and 1, got {level}")
    confidence, correct, _ = confidence_and_correct(confidence, correct)
    codes = bin_codes(confidence, n_bins, binning)
    n, mean_confidence, accuracy = bin_means(confidence, correct, codes)
    bins = np.unique(codes)
    if binning == "equal_width":
        edges = width_edges(n_bins)[np.stack([bins, bins + 1])]
    else:
        edges = np.array([(confidence[codes == b].min(), confidence[codes == b].max()) for b in bins]).reshape(-1, 2).T
    low, high = proportion_interval(accuracy, n, level=level)
    return pd.DataFrame(
        {
            "bin_low": edges[0],
            "bin_high": edges[1],
            "confidence": mean_confidence,
            "accuracy": accuracy,
            "low": low,
            "high": high,
            "level": level,
            "n": n.astype(int),
        }
    )


def bin_means(
    confidence: np.ndarray, correct: np.ndarray, codes: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Number of items, mean confidence and accuracy of the bins that are not empty, in rising order."""
    n = np.bincount(codes)
    some = n > 0
    n = n[some].astype(float)
    return n, np.bincount(codes, confidence)[some] / n, np.bincount(codes, correct)[some] / n


def _mean_of_folded_normal(mean: np.ndarray, sd: np.ndarray) -> np.ndarray:
    """E|X| of X ~ N(mean, sd^2), mean >= 0."""
    from scipy.special import ndtr

    ratio = np.divide(mean, sd, out=np.full_like(mean, np.inf), where=sd > 0)
    return sd * np.sqrt(2 / np.pi) * np.exp(-(ratio**2) / 2) + mean * (1 - 2 * ndtr(-ratio))
