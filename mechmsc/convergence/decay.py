"""An exponential approach to a limit, fitted to the mean curve over rounds."""

from typing import TYPE_CHECKING

import numpy as np

from mechmsc.convergence.curves import curves
from mechmsc.errors import InputError
from mechmsc.estimate import Estimate, Seed, cluster_bootstrap_weighted

if TYPE_CHECKING:
    import pandas

FEWEST_ROUNDS = 4
SHORTEST = 0.2
"""Least tau, in rounds: with it 99 % of the way is gone after one round, and less cannot be told apart."""
PARAMETERS = ("start", "limit", "gap", "tau")
_GRID = 120


def decay_fit(
    table: "pandas.DataFrame", *, value: str = "score", level: float = 0.95, n_boot: int = 2000, seed: Seed = 0
) -> "pandas.DataFrame":
    """Where a curve over rounds starts, where it goes, and how fast.

    y_t = y_inf + (y_1 - y_inf) exp(-(t - 1) / tau), least squares on the mean over items of each round, with
    percentile intervals of a bootstrap over items (the whole fit is repeated in every resample).

    Parameters (column `parameter`): start y_1; limit y_inf; gap y_1 - y_inf; tau, in rounds: after tau rounds 37 % of
    the gap is left. Where the interval of the gap covers 0 there is no approach to time, and tau is nan.
    tau is searched from 0.2 rounds to twice the rounds that the run spans: a curve that is still straight at the end
    has no visible limit, its tau lies at the upper end and its limit is an extrapolation.

    Args:
        table: a row per (item_id, arm, round), with `task` where there are several; nan values are left out.
        value: the column.
        level: of the intervals.
        n_boot: number of resamples of items.
        seed: an integer, or a generator of the caller's own.

    Returns:
        A row per task, arm and parameter: task, arm, parameter, value, low, high, level, n (items); arms with fewer
        than 4 rounds have nan.

    Raises:
        InputError: a column is missing, rows are doubled, or no arm has 4 rounds.
    """
    import pandas as pd

    rng, rows, most = np.random.default_rng(seed), [], 0
    for task, arm, wide in curves(table, value):
        most = max(most, wide.shape[1])
        found = [Estimate(np.nan, np.nan, np.nan, level, len(wide))] * len(PARAMETERS)
        if wide.shape[1] >= FEWEST_ROUNDS:
            found = estimates(wide.to_numpy(dtype=float), wide.columns.to_numpy(dtype=float), level, n_boot, rng)
        for parameter, one in zip(PARAMETERS, found, strict=True):
            rows.append((task, arm, parameter, one.value, one.low, one.high, one.level, one.n))
    if most < FEWEST_ROUNDS:
        raise InputError(f"a decay fit has three parameters and needs at least {FEWEST_ROUNDS} rounds, got {most}")
    return pd.DataFrame(rows, columns=["task", "arm", "parameter", "value", "low", "high", "level", "n"])


def estimates(
    values: np.ndarray, rounds: np.ndarray, level: float, n_boot: int, rng: np.random.Generator
) -> list[Estimate]:
    """Start, limit, gap and tau of values [item, round]; tau nan where the gap is not shown."""
    known = ~np.isnan(values)
    sums, sizes = np.where(known, values, 0.0), known.astype(float)

    def fits(weights: np.ndarray) -> np.ndarray:
        with np.errstate(invalid="ignore", divide="ignore"):  # a resample without data in some round
            means = (weights @ sums) / (weights @ sizes)
        return fitted(means, rounds)

    found = cluster_bootstrap_weighted(fits, np.arange(len(values)), level=level, n_boot=n_boot, seed=rng)
    gap = found[PARAMETERS.index("gap")]
    if not (gap.low > 0 or gap.high < 0):
        found[PARAMETERS.index("tau")] = Estimate(np.nan, np.nan, np.nan, level, gap.n)
    return found


def fitted(means: np.ndarray, rounds: np.ndarray) -> np.ndarray:
    """Least-squares start, limit, gap and tau of every curve [curve, round] -> [curve, parameter].

    For a given tau the fit is a straight line in x_t = exp(-(t - 1) / tau), so tau alone is searched: on a grid of
    log tau, then by a parabola through the best point and its neighbours.
    """
    since = rounds - rounds[0]
    grid = np.linspace(np.log(SHORTEST), np.log(2 * since[-1]), _GRID)
    shapes = np.exp(-since / np.exp(grid)[:, None])
    shapes -= shapes.mean(axis=1, keepdims=True)
    shapes /= np.linalg.norm(shapes, axis=1, keepdims=True)
    centred = means - means.mean(axis=1, keepdims=True)
    explained = (centred @ shapes.T) ** 2
    best = np.argmax(np.nan_to_num(explained), axis=1)
    inner = np.clip(best, 1, _GRID - 2)
    before, at, after = (explained[np.arange(len(means)), inner + step] for step in (-1, 0, 1))
    bend = before - 2 * at + after
    shift = np.divide((before - after) / 2, bend, out=np.zeros_like(bend), where=bend < 0)
    log_tau = np.where(best == inner, grid[inner] + np.clip(shift, -1, 1) * (grid[1] - grid[0]), grid[best])
    tau = np.exp(log_tau)
    x = np.exp(-since / tau[:, None])
    x_centred = x - x.mean(axis=1, keepdims=True)
    gap = (x_centred * centred).sum(axis=1) / (x_centred**2).sum(axis=1)
    limit = means.mean(axis=1) - gap * x.mean(axis=1)
    return np.stack([limit + gap, limit, gap, np.where(np.isnan(gap), np.nan, tau)], axis=1)
