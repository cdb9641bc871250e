"""The interval of a share of items each of which counts once."""

from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike


def proportion_interval(
    share: ArrayLike | float, n: ArrayLike | int, *, level: float = 0.95
) -> tuple[np.ndarray, np.ndarray]:
    """Wilson's (1927) score interval of k of n independent items.

    Where every item has one 0/1 outcome a bootstrap is a detour, and with k = 0 or k = n it shrinks to a point; this
    interval does not.

    Args:
        share: k / n, any shape.
        n: number of items, same shape.
        level: of the interval.

    Returns:
        Lower and upper ends, of that shape; nan with fewer than two items.
    """
    share, n = np.asarray(share, dtype=float), np.asarray(n, dtype=float)
    z2 = NormalDist().inv_cdf((1 + level) / 2) ** 2
    n = np.where(n < 2, np.nan, n)
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = np.sqrt(z2 * (share * (1 - share) / n + z2 / (4 * n**2))) / (1 + z2 / n)
    return np.asarray(np.maximum(centre - half, 0.0)), np.asarray(np.minimum(centre + half, 1.0))
