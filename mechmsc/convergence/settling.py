"""The convergence round: from when on does nothing change any more, shown by equivalence tests."""

import math
from typing import TYPE_CHECKING

import numpy as np

from mechmsc.convergence.curves import curves
from mechmsc.errors import InputError
from mechmsc.estimate import Seed, cluster_bootstrap_columns

if TYPE_CHECKING:
    import pandas

FEWEST_ROUNDS = 3
COLUMNS = ["task", "arm", "round", "earliest", "rounds", "stable_rounds", "margin", "level", "n", "verdict"]


def convergence_round(
    table: "pandas.DataFrame",
    *,
    value: str = "score",
    margin: float = 0.02,
    level: float = 0.90,
    n_boot: int = 2000,
    seed: Seed = 0,
) -> "pandas.DataFrame":
    """The first round from which on the mean stays the same, within a margin, as far as the run goes.

    Of R rounds, the first t <= R - k, k = max(2, ceil(R / 4)), whose mean paired difference to every later round lies
    with its whole interval inside (-margin, margin): two one-sided tests at (1 - level) / 2 each (Schuirmann 1987), all
    of which must pass. So for each t that in truth is further than the margin from some later round, the probability
    that it is declared is at most 5 % at the default level. Rounds t > R - k are never declared: too few rounds follow
    to see whether the curve stays. A curve that moves by less than the margin in all has converged in round 1.

    `earliest` turns the question round: the first t for which it is not shown that some later round differs by more
    than the margin (no interval wholly outside, Bonferroni over the rounds). The round from which on the curve in
    truth stays is earlier than that in at most 5 % of cases; `earliest` to `round` is what the data leave open.

    Args:
        table: a row per (item_id, arm, round), with `task` where there are several; nan values are left out, and
            differences are taken over the items that have both rounds.
        value: the column.
        margin: largest difference that does not matter, above 0, in the unit of the column.
        level: of the intervals.
        n_boot: number of resamples of items.
        seed: an integer, or a generator of the caller's own.

    Returns:
        A row per task and arm: task, arm, round (missing where not converged), earliest, rounds (R), stable_rounds (k),
        margin, level, n (items), verdict ("3", "not converged by 10", "too few rounds").

    Raises:
        InputError: a column is missing, rows are doubled, the margin is not above 0, or no arm has 3 rounds.
    """
    import pandas as pd

    if not margin > 0:
        raise InputError(f"an equivalence margin is above 0, got {margin}")
    rng, rows, most = np.random.default_rng(seed), [], 0
    for task, arm, wide in curves(table, value):
        rounds, most = list(wide.columns), max(most, wide.shape[1])
        stable = max(2, math.ceil(len(rounds) / 4))
        first = earliest = None
        if len(rounds) >= FEWEST_ROUNDS:
            first, earliest = settled(wide.to_numpy(dtype=float), stable, margin, level, n_boot, rng)
        verdict = "too few rounds" if len(rounds) < FEWEST_ROUNDS else f"not converged by {rounds[-1]}"
        numbers = [pd.NA if place is None else int(rounds[place]) for place in (first, earliest)]
        verdict = verdict if first is None else str(rounds[first])
        rows.append((task, arm, *numbers, len(rounds), stable, margin, level, len(wide), verdict))
    if most < FEWEST_ROUNDS:
        raise InputError(f"a convergence round needs at least {FEWEST_ROUNDS} rounds, got {most}; run more rounds")
    return pd.DataFrame(rows, columns=COLUMNS).astype({"round": "Int64", "earliest": "Int64"})


def settled(
    values: np.ndarray, stable: int, margin: float, level: float, n_boot: int, rng: np.random.Generator
) -> tuple[int | None, int | None]:
    """Places (from 0) of the declared round and of the first that is not ruled out, of values [item, round]."""
    n_rounds, items = values.shape[1], np.arange(len(values))
    pairs = [(place, later) for place in range(n_rounds - stable) for later in range(place + 1, n_rounds)]
    differences = np.stack([values[:, later] - values[:, place] for place, later in pairs], axis=1)
    same = int(rng.integers(2**63))
    inside = cluster_bootstrap_columns(differences, items, level=level, n_boot=n_boot, seed=same)
    each = 1 - (1 - level) / (n_rounds - 1)  # Bonferroni over the later rounds
    outside = cluster_bootstrap_columns(differences, items, level=each, n_boot=n_boot, seed=same)
    moved, open_ = set(), set()
    for (place, _), narrow, wide in zip(pairs, inside, outside, strict=True):
        if not (-margin < narrow.low and narrow.high < margin):
            open_.add(place)
        if wide.low > margin or wide.high < -margin:
            moved.add(place)
    places = range(n_rounds - stable)
    return (
        next((place for place in places if place not in open_), None),
        next((place for place in places if place not in moved), None),
    )
