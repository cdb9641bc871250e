"""Bins, and the checks that all of calibration shares."""

import numpy as np
from numpy.typing import ArrayLike

from mechmsc.errors import InputError

BINNINGS = ("equal_width", "equal_mass")


def paired(
    first: ArrayLike, second: ArrayLike, clusters: ArrayLike | None, names: tuple[str, str]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two columns of floats and the cluster of each row, without the rows in which either column is nan.

    Raises:
        InputError: they are not columns of one length, or hold an infinite value.
    """
    a, b = (np.asarray(column, dtype=float) for column in (first, second))
    if a.ndim != 1 or a.shape != b.shape:
        raise InputError(f"expected one {names[0]} and one {names[1]} an item, got shapes {a.shape} and {b.shape}")
    clusters = np.arange(len(a)) if clusters is None else np.asarray(clusters)
    if clusters.shape != a.shape:
        raise InputError(f"expected one cluster an item, got shapes {clusters.shape} and {a.shape}")
    known = ~(np.isnan(a) | np.isnan(b))
    a, b = a[known], b[known]
    for column, name in ((a, names[0]), (b, names[1])):
        if not np.isfinite(column).all():
            raise InputError(f"{name} must be finite or nan (missing), got {column[~np.isfinite(column)][0]}")
    return a, b, clusters[known]


def confidence_and_correct(
    confidence: ArrayLike, correct: ArrayLike, clusters: ArrayLike | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Confidences in [0, 1], answers that are right (1) or wrong (0), and clusters, nan rows left out.

    Raises:
        InputError: lengths differ, or a value is out of range; the message gives it.
    """
    confidence, correct, clusters = paired(confidence, correct, clusters, ("confidence", "correct"))
    outside = (confidence < 0) | (confidence > 1)
    if outside.any():
        raise InputError(f"confidence is a probability in [0, 1], got {confidence[outside][0]:g}")
    odd = (correct != 0) & (correct != 1)
    if odd.any():
        raise InputError(f"correct is 0 or 1 (or bool) for each item, got {correct[odd][0]:g}")
    return confidence, correct, clusters


def bin_codes(values: np.ndarray, n_bins: int, binning: str) -> np.ndarray:
    """The bin of each value, from 0; some bins may be empty.

    equal_width: edges k / n_bins on [0, 1]; the first bin is closed, the others are (low, high].
    equal_mass: see `equal_count_codes`.

    Raises:
        InputError: n_bins is below 1, or the binning is unknown.
    """
    if n_bins < 1:
        raise InputError(f"expected at least 1 bin, got {n_bins}")
    if binning == "equal_mass":
        return equal_count_codes(values, n_bins)
    if binning != "equal_width":
        raise InputError(f"unknown binning {binning!r}; known: {', '.join(BINNINGS)}")
    return np.searchsorted(width_edges(n_bins)[1:-1], values, side="left")


def width_edges(n_bins: int) -> np.ndarray:
    """Edges k / n_bins, each the float nearest to the fraction, so that a confidence of 0.7 lies in (0.6, 0.7]."""
    return np.arange(n_bins + 1) / n_bins


def equal_count_codes(values: np.ndarray, n_bins: int) -> np.ndarray:
    """Bins of equal count (they differ by one at most) over the sorted values; bins that share a value are merged.

    Without the merging, rows of equal value would be told apart by their order in the table.

    Returns:
        [row], codes from 0 in rising order of value, none empty.
    """
    n = len(values)
    order = np.argsort(values, kind="stable")
    count_bins = np.arange(n) * min(n_bins, n) // max(n, 1)
    ordered = values[order]
    starts = np.concatenate([[False], (np.diff(count_bins) > 0) & (np.diff(ordered) > 0)])[:n]
    codes = np.empty(n, dtype=int)
    codes[order] = np.cumsum(starts)
    return codes
