"""Settling of curves as one would explain it on a blackboard: slow, by definition."""

import math
import random

import numpy as np


def convergence_round(values, margin, *, n_boot, seed):
    """Try every round in turn: bootstrap its mean paired difference to every later round, and look where it ends.

    values: item -> list of values by round.
    """
    items, dice = sorted(values), random.Random(seed)
    rounds = len(values[items[0]])
    for t in range(rounds - max(2, math.ceil(rounds / 4))):
        ends = []
        for later in range(t + 1, rounds):
            means = []
            for _ in range(n_boot):
                drawn = [dice.choice(items) for _ in items]
                means.append(sum(values[item][later] - values[item][t] for item in drawn) / len(drawn))
            ends += [float(np.quantile(means, 0.05)), float(np.quantile(means, 0.95))]
        if all(abs(end) < margin for end in ends):
            return t + 1
    return None


def cluster_sandwich(design, outcome, groups):
    """Coefficients and Liang-Zeger standard errors: bread, meat of summed scores, bread, small-sample factor."""
    n, k = design.shape
    bread = np.linalg.inv(design.T @ design)
    coefficients = bread @ design.T @ outcome
    residuals = outcome - design @ coefficients
    meat = np.zeros((k, k))
    names = sorted(set(groups))
    for name in names:
        score = sum(design[i] * residuals[i] for i in range(n) if groups[i] == name)
        meat += np.outer(score, score)
    factor = len(names) / (len(names) - 1) * (n - 1) / (n - k)
    return coefficients, np.sqrt(np.diag(factor * bread @ meat @ bread))
