"""How well scores tell two classes apart: AUROC and accuracy with weights, which is what makes their bootstrap fast."""

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import ArrayLike

from mechmsc.errors import InputError
from mechmsc.estimate import Estimate, cluster_bootstrap_weighted

Scores = Float[np.ndarray, "statement column"]


def auroc(
    scores: Scores,
    labels: Int[np.ndarray, " statement"],
    *,
    weights: Float[np.ndarray, "resample statement"] | None = None,
    folds: Int[np.ndarray, " statement"] | None = None,
) -> Float[np.ndarray, "resample column"]:
    """Area under the ROC curve: how often a positive statement scores above a negative one, ties counted half.

    A = sum_ij w_i w_j ([s_i > s_j] + [s_i = s_j] / 2) / sum_ij w_i w_j, i over positives, j over negatives
    (Hanley & McNeil 1982). With folds only i and j of one fold are compared: scores of two folds come from two fits,
    whose zero points differ.

    Args:
        scores: higher means more of the concept.
        labels: 0 or 1.
        weights: how often each statement counts; None: once.
        folds: fold of each statement; None: all are compared with all.

    Returns:
        nan where a column has a nan, or where no positive and negative statement of a fold have weight.
    """
    weights = np.ones((1, len(labels))) if weights is None else weights
    folds = np.zeros(len(labels), dtype=int) if folds is None else folds
    area, pairs = np.zeros((scores.shape[1], len(weights))), np.zeros(len(weights))
    for fold in np.unique(folds):
        positive, negative = (np.flatnonzero((folds == fold) & (labels == label)) for label in (1, 0))
        over, under = (np.ascontiguousarray(weights[:, rows].T) for rows in (positive, negative))  # [row, resample]
        pairs += over.sum(axis=0) * under.sum(axis=0)
        for column in range(scores.shape[1]):
            area[column] += _area(scores[positive, column], scores[negative, column], over, under)
    with np.errstate(invalid="ignore", divide="ignore"):  # 0 / 0: a resample with one class only
        found = area / pairs
    found[np.isnan(scores).any(axis=0)] = np.nan
    return found.T


def _area(high: np.ndarray, low: np.ndarray, over: np.ndarray, under: np.ndarray) -> np.ndarray:
    """Weight of the pairs in which the positive statement scores higher, [resample], by a running sum of negatives."""
    order = np.argsort(low)
    below = np.zeros((len(low) + 1, under.shape[1]))
    np.cumsum(under[order], axis=0, out=below[1:])
    first, last = (np.searchsorted(low[order], high, side=side) for side in ("left", "right"))
    mass = below[first] if np.array_equal(first, last) else (below[first] + below[last]) / 2
    return np.einsum("pr,pr->r", over, mass)


def correct(scores: Scores, labels: Int[np.ndarray, " statement"]) -> Float[np.ndarray, "statement column"]:
    """1.0 where the statement lies on its side of 0, the midpoint of the training part; 0.5 exactly on it."""
    sides = np.where(labels[:, None] == 1, scores, -scores)
    return np.where(np.isnan(sides), np.nan, (sides > 0) + 0.5 * (sides == 0))


def detection_estimates(
    scores: Scores,
    labels: Int[np.ndarray, " statement"],
    *,
    groups: ArrayLike,
    folds: Int[np.ndarray, " statement"] | None = None,
    against: Float[np.ndarray, " statement"] | None = None,
    control: Float[np.ndarray, "statement column"] | None = None,
    level: float = 0.95,
    n_boot: int = 2000,
    seed: int,
) -> dict[str, list[Estimate]]:
    """AUROC and accuracies of every column, with intervals that resample groups.

    The scores are taken as they are: the intervals say how the numbers would vary over other held-out groups, not over
    other training parts.

    Args:
        scores: held out.
        labels: 0 or 1.
        groups: [statement], resampled together.
        folds: fold of each statement, see `auroc`.
        against: scores of a baseline, for the paired difference of AUROCs.
        control: whether a probe of a control task was right on each statement (`correct`), for selectivity; nan where
            the control label could not be known.
        level: of the intervals.
        n_boot: number of resamples.
        seed: of the resamples; the same seed and groups give the same resamples.

    Returns:
        measure -> an estimate per column: `auroc`, `accuracy`, `balanced_accuracy` (mean of the two classes' rates),
        and where asked for `auroc_difference`, `control_accuracy`, `selectivity` (Hewitt & Liang 2019,
        arXiv:1909.03368: accuracy - control accuracy); n is the number of groups.
    """
    if len(np.unique(labels)) < 2:
        raise InputError("expected held-out statements of both labels, got one label only")
    right = correct(scores, labels)
    by_class = [np.where(labels == label, 1.0, 0.0) for label in (0, 1)]

    def statistics(weights: np.ndarray) -> np.ndarray:
        areas = auroc(scores, labels, weights=weights, folds=folds)
        accuracy = _mean(right, weights)
        parts = [areas, accuracy, sum(_mean(right, weights * rows) for rows in by_class) / 2]
        if against is not None:
            parts.append(areas - auroc(against[:, None], labels, weights=weights, folds=folds))
        if control is not None:
            beside = _mean(control, weights)
            parts += [beside, accuracy - beside]
        return np.concatenate(parts, axis=1)

    names = ["auroc", "accuracy", "balanced_accuracy"]
    names += ["auroc_difference"] * (against is not None) + ["control_accuracy", "selectivity"] * (control is not None)
    found = cluster_bootstrap_weighted(statistics, groups, level=level, n_boot=n_boot, seed=seed)
    width = scores.shape[1]
    return {name: found[place * width : (place + 1) * width] for place, name in enumerate(names)}


def _mean(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weighted means of what is known, [resample, column]; nan where nothing has weight."""
    known = ~np.isnan(values)
    with np.errstate(invalid="ignore", divide="ignore"):
        return weights @ np.where(known, values, 0.0) / (weights @ known)
