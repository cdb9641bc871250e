"""Tables of curves over rounds with a known course, for the tests of convergence."""

import numpy as np
import pandas as pd
from scipy import stats


def curve_table(values, *, arm="moral", task=None):
    """Values [item, round] -> a row per item, arm and round."""
    n, rounds = np.shape(values)
    table = pd.DataFrame(
        {
            "item_id": np.repeat([f"t/{i}" for i in range(n)], rounds),
            "arm": arm,
            "round": np.tile(np.arange(1, rounds + 1), n),
            "score": np.ravel(values),
        }
    )
    return table if task is None else table.assign(task=task)


def noisy(curve, n, rng, *, between=0.3, within=0.1):
    """Items that share a course: a level of their own, and noise in every round; [item, round]."""
    curve = np.asarray(curve, dtype=float)
    return curve + rng.normal(0, between, (n, 1)) + rng.normal(0, within, (n, len(curve)))


def decay(start, limit, tau, rounds=10):
    """The course y_inf + (y_1 - y_inf) exp(-(t - 1) / tau)."""
    return limit + (start - limit) * np.exp(-np.arange(rounds) / tau)


def rate_meets(count, trials, low, high):
    """Whether the 99 % binomial interval of the observed rate meets the band."""
    sure = stats.binomtest(int(count), trials).proportion_ci(0.99)
    return sure.low <= high and sure.high >= low
