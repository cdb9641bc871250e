"""Proper scores of a probability for every choice: Brier score and negative log-likelihood."""

import numpy as np
from numpy.typing import ArrayLike

from mechmsc.errors import InputError

SUM_TOLERANCE = 1e-4  # choice probabilities are softmaxes in float32, averaged over permutations


def brier_score(probs: ArrayLike, gold: ArrayLike) -> float:
    """Mean squared distance of the probabilities from the right answer, 0 (best) to 2.

    Brier = 1/n sum_i sum_k (p_ik - [k = gold_i])^2        Brier 1950, for several choices

    For two choices this is twice `sklearn.metrics.brier_score_loss`.

    Args:
        probs: [item, choice], each row sums to 1. A row with a nan, or whose gold is nan, is left out.
        gold: [item], index of the right choice.

    Returns:
        The score; nan without items.

    Raises:
        InputError: shapes do not fit, a row is not a distribution, or a gold is no choice; the message says where.
    """
    probs, gold = _distributions(probs, gold)
    right = np.eye(probs.shape[1])[gold]
    return _mean(((probs - right) ** 2).sum(axis=1))


def negative_log_likelihood(probs: ArrayLike, gold: ArrayLike) -> float:
    """Mean of -log p(right answer), in nats.

    A right answer of probability 0 gives infinity: nothing is clipped (scikit-learn's `log_loss` clips).

    Args:
        probs: [item, choice], each row sums to 1. A row with a nan, or whose gold is nan, is left out.
        gold: [item], index of the right choice.

    Returns:
        Nats; nan without items.

    Raises:
        InputError: shapes do not fit, a row is not a distribution, or a gold is no choice; the message says where.
    """
    probs, gold = _distributions(probs, gold)
    with np.errstate(divide="ignore"):
        return _mean(-np.log(probs[np.arange(len(gold)), gold]))


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else float("nan")


def _distributions(probs: ArrayLike, gold: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Checked rows [item, choice] and whole-number gold, nan rows left out."""
    probs, gold = np.asarray(probs, dtype=float), np.asarray(gold, dtype=float)
    if probs.ndim != 2 or gold.shape != probs.shape[:1]:
        raise InputError(
            f"expected probs [item, choice] and one gold an item, got shapes {probs.shape} and {gold.shape}"
        )
    known = ~(np.isnan(probs).any(axis=1) | np.isnan(gold))
    where = np.flatnonzero(known)
    probs, gold = probs[known], gold[known]
    wrong = (probs < 0).any(axis=1) | (np.abs(probs.sum(axis=1) - 1) > SUM_TOLERANCE)
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise InputError(
            f"probabilities are at least 0 and sum to 1, got {probs[row].tolist()} (sum {probs[row].sum():g}) "
            f"in row {where[row]}; normalise them first"
        )
    wrong = ~np.isin(gold, np.arange(probs.shape[1]))
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise InputError(
            f"gold is the index of a choice, 0 to {probs.shape[1] - 1}, got {gold[row]:g} in row {where[row]}"
        )
    return probs, gold.astype(int)
