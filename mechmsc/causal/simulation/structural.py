"""Worlds in which the answer is known: when the test of the paper is fooled, and how estimators of the effect do.

For every strength of the effect (beta), of the confounder (gamma) and every number of items, many data sets are drawn
from `worlds.Truth`. Each is put to the predictive test, and its indirect effect is estimated by intervention (clamping
the concept to what it was in the other arm, in the same model) and by observation (regression).
"""

import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from itertools import product
from multiprocessing import get_context
from typing import TYPE_CHECKING

import numpy as np

from mechmsc.causal.simulation.worlds import (
    ESTIMATORS,
    PREDICTORS,
    Confounder,
    Truth,
    draw_world,
    indirect_effects,
    predicted_share,
)
from mechmsc.errors import InputError, MechmscError
from mechmsc.estimate import cluster_bootstrap_columns, proportion_interval

if TYPE_CHECKING:
    import pandas

COLUMNS = ["confounder", "beta", "gamma", "n_items", "rounds", "estimator", "quantity"]
NUMBERS = ["value", "low", "high", "level", "n_datasets"]
AT_ONCE = 25
"""Data sets that a process takes at a time."""
ALONE = 500
"""With fewer data sets than this a further process costs more than it saves."""


def structural_grid(
    *,
    betas: Sequence[float] = (0.0, -0.05, -0.1, -0.2, -0.4),
    gammas: Sequence[float] = (0.0, 0.5, 1.0),
    n_items: Sequence[int] = (60,),
    datasets: int = 200,
    confounder: Confounder = "length",
    rounds: int = 6,
    level: float = 0.95,
    n_boot: int = 1000,
    seed: int = 0,
    workers: int | None = None,
    progress: bool = True,
) -> "pandas.DataFrame":
    """Accuracy of the predictive test, and bias, coverage and power of three estimators, by beta, gamma and n.

    Data set k of a cell depends on the seed, the cell and k alone: neither on the number of processes nor on the rest
    of the grid. New processes start empty (spawn), so a script that calls this with more than one of them keeps its own
    work under `if __name__ == "__main__":`.

    Args:
        betas: effects of the concept, nats per class gap; 0 is none.
        gammas: strengths of the confounder, which looks like a negative beta.
        n_items: numbers of items.
        datasets: data sets of each cell.
        confounder: length or round, see `worlds.Truth`.
        rounds: of each conversation, at least 3.
        level: of the estimators' intervals and of those below.
        n_boot: resamples of each data set.
        seed: of everything.
        workers: processes; None: as many as cores, and one for every 500 data sets at most.
        progress: show a bar on stderr.

    Returns:
        confounder, beta, gamma, n_items, rounds, estimator, quantity, value, low, high, level, n_datasets. For each of
        `ESTIMATORS`: truth; estimate (mean, and the range of the central 95 % of data sets); bias (mean, bootstrap
        interval over data sets); coverage of the truth by the interval, and rejection, the share of intervals that
        leave 0 out (power, or at beta = 0 false positives), with Wilson intervals. For each of `PREDICTORS`: accuracy
        of the predictive test (mean, central 95 % of data sets). An estimator that is not defined in some data set
        (regression terms that cannot be told apart) is nan.

    Raises:
        InputError: nothing to do, or a number out of range.
        MechmscError: a process died.
    """
    import pandas as pd

    cells = [
        Truth(float(beta), float(gamma), int(n), rounds=rounds, confounder=confounder)
        for n, gamma, beta in product(n_items, gammas, betas)
    ]
    if not cells or datasets < 2 or (workers is not None and workers < 1):
        raise InputError(
            f"expected betas, gammas, n_items, 2 data sets and 1 worker or more, got {len(cells)} cells, {datasets} "
            f"data sets and {workers} workers"
        )
    draw_world(cells[0], np.random.default_rng(0))  # a wrong model is refused before work starts
    jobs = [
        (cell, range(start, min(start + AT_ONCE, datasets)), level, n_boot, seed)
        for cell in cells
        for start in range(0, datasets, AT_ONCE)
    ]
    found: dict[Truth, list[np.ndarray]] = {cell: [] for cell in cells}
    parts = _all_jobs(jobs, _processes(workers, len(cells) * datasets), progress)
    for (cell, *_), part in zip(jobs, parts, strict=True):
        found[cell].append(part)
    rows = [row for cell in cells for row in _summary(cell, np.concatenate(found[cell]), level, seed)]
    return pd.DataFrame(rows, columns=[*COLUMNS, *NUMBERS])


def simulated(truth: Truth, which: range, level: float, n_boot: int, seed: int) -> np.ndarray:
    """What is found in each of these data sets, [data set, number]: value, low, high of every estimator, accuracies.

    Args:
        truth: the model.
        which: numbers of the data sets.
        level: of the intervals.
        n_boot: resamples.
        seed: of the grid.
    """
    rows = []
    for number in which:
        rng = np.random.default_rng([seed, zlib.crc32(repr(truth).encode()), number])
        world = draw_world(truth, rng)
        estimates = indirect_effects(world, level=level, n_boot=n_boot, seed=rng)
        numbers = [x for e in estimates.values() for x in (e.value, e.low, e.high)]
        rows.append([*numbers, *predicted_share(world, seed=rng)])
    return np.array(rows)


def _job(job: tuple) -> np.ndarray:
    """`simulated`, on one thread: the work is divided among processes."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        return simulated(*job)


def _processes(workers: int | None, total: int) -> int:
    """How many processes share the work."""
    if workers is not None:
        return workers
    import os

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores, total // ALONE))


def _all_jobs(jobs: list[tuple], workers: int, progress: bool) -> list[np.ndarray]:
    """The results of all jobs, in their order."""
    from mechmsc.progress import bar

    results: list[np.ndarray | None] = [None] * len(jobs)
    with bar("simulated data sets", sum(len(job[1]) for job in jobs), show=progress) as advance:
        for place, result in _done(jobs, workers):
            results[place] = result
            advance(len(result))
    return results  # type: ignore[return-value]


def _done(jobs: list[tuple], workers: int) -> Iterator[tuple[int, np.ndarray]]:
    """Place and result of each job, as they are done."""
    if workers == 1:
        yield from ((place, _job(job)) for place, job in enumerate(jobs))
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        places = {pool.submit(_job, job): place for place, job in enumerate(jobs)}
        try:
            for future in as_completed(places):
                yield places[future], future.result()
        except BrokenProcessPool as error:
            raise MechmscError(
                'a process of the simulation died: put the call under `if __name__ == "__main__":`, or give workers=1'
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


def _summary(truth: Truth, found: np.ndarray, level: float, seed: int) -> list[tuple]:
    """The rows of one cell."""
    n, rows = len(found), []
    place = (truth.confounder, truth.beta, truth.gamma, truth.n_items, truth.rounds)
    numbers = found[:, : 3 * len(ESTIMATORS)].reshape(n, len(ESTIMATORS), 3)
    errors = numbers[..., 0] - truth.indirect
    bias = cluster_bootstrap_columns(errors, np.arange(n), level=level, n_boot=500, seed=seed)
    for k, name in enumerate(ESTIMATORS):
        value, low, high = numbers[:, k].T
        unknown = np.where(np.isnan(value), np.nan, 0.0)
        covered = (((low <= truth.indirect) & (truth.indirect <= high)) + unknown).mean()
        rejected = (((low > 0) | (high < 0)) + unknown).mean()
        told = {
            "truth": (truth.indirect, np.nan, np.nan),
            "estimate": (value.mean(), *_central(value)),
            "bias": (bias[k].value, bias[k].low, bias[k].high) if bias[k].n == n else (np.nan,) * 3,
            "coverage": (covered, *proportion_interval(covered, n, level=level)),
            "rejection": (rejected, *proportion_interval(rejected, n, level=level)),
        }
        rows += [(*place, name, what, *map(float, three), level, n) for what, three in told.items()]
    for name, accuracy in zip(PREDICTORS, found[:, -len(PREDICTORS) :].T, strict=True):
        rows.append((*place, name, "accuracy", float(accuracy.mean()), *_central(accuracy), level, n))
    return rows


def _central(values: np.ndarray) -> tuple[float, float]:
    """Where the central 95 % of data sets lie."""
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)
