"""How unsure a model is between the options of a question, and how much of it is only their order.

The options are shown in several orders (permutations); each gives a distribution over the options, mapped back to them:
probabilities [..., permutation, choice]. q is their mean over the permutations. Everything is read from the same q.

    total = H(q)        within = mean over permutations of H(q_perm)        order = total - within >= 0

`order` is the mutual information between order and choice (a Jensen-Shannon divergence, Lin 1991): the position bias. A
model that always says (c) is sure in every order and undecided between the options: within near 0, total log 3.
"""

import numpy as np
from numpy.typing import ArrayLike

from mechmsc.errors import InputError
from mechmsc.uncertainty.arrays import plain, probabilities_of


def choice_entropy(probabilities: ArrayLike) -> np.ndarray | float:
    """Total entropy of the choice, H(q) with q the mean over permutations.

    Args:
        probabilities: [..., permutation, choice]; every row sums to 1.

    Returns:
        Nats, [...], from 0 to log of the number of choices; a float for one question.

    Raises:
        InputError: fewer than two axes, values outside [0, 1], or a row that does not sum to 1.
    """
    return plain(_entropy(_checked(probabilities).mean(axis=-2)))


def choice_entropy_within(probabilities: ArrayLike) -> np.ndarray | float:
    """Entropy that remains when the order of the options is known: mean over permutations of H(q_perm).

    Args:
        probabilities: [..., permutation, choice]; every row sums to 1.

    Returns:
        Nats, [...]; a float for one question.

    Raises:
        InputError: as in `choice_entropy`.
    """
    return plain(_entropy(_checked(probabilities)).mean(axis=-1))


def choice_entropy_order(probabilities: ArrayLike) -> np.ndarray | float:
    """Entropy that the order of the options alone makes: total - within, never below 0.

    Args:
        probabilities: [..., permutation, choice]; every row sums to 1.

    Returns:
        Nats, [...]; 0 with one permutation; a float for one question.

    Raises:
        InputError: as in `choice_entropy`.
    """
    p = _checked(probabilities)
    order = _entropy(p.mean(axis=-2)) - _entropy(p).mean(axis=-1)
    return plain(np.maximum(order, 0.0))  # rounding may leave -1e-17


def confidence(probabilities: ArrayLike) -> np.ndarray | float:
    """Probability of the chosen option, max_o q(o).

    Args:
        probabilities: [..., permutation, choice]; every row sums to 1.

    Returns:
        [...], from 1 / (number of choices) to 1; a float for one question.

    Raises:
        InputError: as in `choice_entropy`.
    """
    return plain(_checked(probabilities).mean(axis=-2).max(axis=-1))


def margin(probabilities: ArrayLike) -> np.ndarray | float:
    """How far the chosen option lies before the next: largest minus second largest q(o).

    Args:
        probabilities: [..., permutation, choice]; every row sums to 1.

    Returns:
        [...], from 0 (a tie) to 1; a float for one question.

    Raises:
        InputError: as in `choice_entropy`, or a single choice.
    """
    q = _checked(probabilities).mean(axis=-2)
    if q.shape[-1] < 2:
        raise InputError("a margin needs at least 2 choices, got 1")
    ordered = np.sort(q, axis=-1)
    return plain(ordered[..., -1] - ordered[..., -2])


def _checked(probabilities: ArrayLike) -> np.ndarray:
    p = probabilities_of(probabilities)
    if p.ndim < 2 or p.shape[-2] == 0:
        raise InputError(
            f"expected probabilities [..., permutation, choice], got shape {p.shape}; "
            "a single distribution is one permutation: probabilities[None]"
        )
    return p


def _entropy(p: np.ndarray) -> np.ndarray | np.floating:
    """-sum p log p over the last axis, with 0 log 0 = 0."""
    return -(p * np.log(np.where(p > 0, p, 1.0))).sum(axis=-1) + 0.0  # + 0.0: no negative zero
