"""The cluster bootstrap and the sign-flip test as one would explain them on a blackboard: slow, with dictionaries and
loops."""

import math
import random

import numpy as np


def resampled_mean_interval(values, clusters, *, level, n_boot, seed):
    """Draw as many items as there are, with replacement; take all their rows; average; repeat; cut off both tails."""
    rows = {}
    for value, cluster in zip(values, clusters, strict=True):
        if not math.isnan(value):
            rows.setdefault(cluster, []).append(value)
    items = sorted(rows)
    dice = random.Random(seed)
    means = []
    for _ in range(n_boot):
        drawn = []
        for _ in items:
            drawn.extend(rows[dice.choice(items)])
        means.append(sum(drawn) / len(drawn))
    everything = [value for item in items for value in rows[item]]
    return (
        sum(everything) / len(everything),
        float(np.quantile(means, (1 - level) / 2)),
        float(np.quantile(means, (1 + level) / 2)),
        len(items),
    )


def exact_sign_flip_p(differences, clusters):
    """Every way to flip the items' signs, each counted once."""
    totals = {}
    for value, cluster in zip(differences, clusters, strict=True):
        totals[cluster] = totals.get(cluster, 0.0) + value
    sums = list(totals.values())
    observed = abs(sum(sums))
    reached = 0
    for flips in range(2 ** len(sums)):
        total = sum(value if flips >> i & 1 else -value for i, value in enumerate(sums))
        reached += abs(total) >= observed - 1e-9
    return reached / 2 ** len(sums)


def exact_sign_flip_max_p(differences, clusters):
    """Every way to flip the items' signs; in each, the largest statistic of all columns against every column."""
    names = sorted(set(clusters))
    sums = np.array([np.nansum(differences[np.asarray(clusters) == name], axis=0) for name in names])
    length = np.sqrt((sums**2).sum(axis=0))
    observed = abs(sums.sum(axis=0)) / length
    reached = np.zeros(differences.shape[1])
    for flips in range(2 ** len(names)):
        signs = np.array([1 if flips >> i & 1 else -1 for i in range(len(names))])
        reached += (abs(signs @ sums) / length).max() >= observed - 1e-9
    return reached / 2 ** len(names)
