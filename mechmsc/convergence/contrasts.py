"""Two arms, round by round, paired by item."""

from typing import TYPE_CHECKING

import numpy as np

from mechmsc.convergence.curves import curves
from mechmsc.errors import InputError
from mechmsc.estimate import (
    Seed,
    benjamini_hochberg,
    cluster_bootstrap_columns,
    max_statistic_test,
    permutation_test_cells,
)

if TYPE_CHECKING:
    import pandas

CORRECTIONS = ("max_statistic", "benjamini_hochberg")
COLUMNS = [
    *("task", "treatment", "control", "control_round", "round", "value", "low", "high", "level", "n"),
    *("p", "p_adjusted", "correction"),
]


def arm_contrasts(
    table: "pandas.DataFrame",
    *,
    treatment: str,
    control: str,
    value: str = "score",
    control_round: int | None = None,
    correction: str = "max_statistic",
    level: float = 0.95,
    n_boot: int = 2000,
    n_perm: int = 9999,
    seed: Seed = 0,
) -> "pandas.DataFrame":
    """Mean paired difference, treatment minus control, in every round, with p-values corrected for their number.

    Intervals are cluster bootstraps over items, for each round by itself. p-values come from flipping the signs of
    whole items; `p_adjusted` is corrected over the rounds of a task.

    Args:
        table: a row per (item_id, arm, round), with `task` where there are several; nan values are left out.
        treatment: name of the arm.
        control: name of the arm that it is compared with.
        value: the column.
        control_round: compare every round with this one round of the control: 1 for the arm `none`, which has no
            other; with control = treatment it is the change since that round. None: the same round.
        correction: "max_statistic" (no false round, `max_statistic_test`) or "benjamini_hochberg" (few false rounds).
        level: of the intervals.
        n_boot: number of resamples.
        n_perm: number of sign flips.
        seed: an integer, or a generator of the caller's own.

    Returns:
        A row per task and round: task, treatment, control, control_round (missing: the same), round, value, low, high,
        level, n (items with both), p, p_adjusted, correction.

    Raises:
        InputError: a column or an arm is missing, rows are doubled, the two arms share no round, or the correction is
            unknown.
    """
    import pandas as pd

    if correction not in CORRECTIONS:
        raise InputError(f"unknown correction {correction!r}; known: {', '.join(CORRECTIONS)}")
    grids = {(task, arm): wide.astype(float) for task, arm, wide in curves(table, value)}
    arms = dict.fromkeys(arm for _, arm in grids)
    if missing := [arm for arm in (treatment, control) if arm not in arms]:
        raise InputError(f"no arm {missing[0]!r} in the table; it has {', '.join(arms)}")
    rng, rows = np.random.default_rng(seed), []
    for task in dict.fromkeys(task for task, _ in grids):
        if (task, treatment) not in grids or (task, control) not in grids:
            continue
        differences = _differences(grids[task, treatment], grids[task, control], control_round)
        for round, numbers in zip(
            differences.columns, tested(differences.to_numpy(), correction, level, n_boot, n_perm, rng), strict=True
        ):
            fixed = pd.NA if control_round is None else control_round
            rows.append((task, treatment, control, fixed, int(round), *numbers, correction))
    if not rows:
        raise InputError(
            f"arms {treatment!r} and {control!r} share no round; for an arm of one round give control_round"
        )
    return pd.DataFrame(rows, columns=COLUMNS).astype({"control_round": "Int64"})


def _differences(
    treatment: "pandas.DataFrame", control: "pandas.DataFrame", control_round: int | None
) -> "pandas.DataFrame":
    """Treatment minus control [item, round], of the rounds and items that both have."""
    items = treatment.index.intersection(control.index)
    if control_round is None:
        rounds = treatment.columns.intersection(control.columns)
        return treatment.loc[items, rounds] - control.loc[items, rounds]
    if control_round not in control.columns:
        raise InputError(f"the control has no round {control_round}; it has {', '.join(map(str, control.columns))}")
    return treatment.loc[items].sub(control.loc[items, control_round], axis=0)


def tested(
    differences: np.ndarray, correction: str, level: float, n_boot: int, n_perm: int, rng: np.random.Generator
) -> list[tuple]:
    """Value, low, high, level, n, p and corrected p of each round."""
    if not differences.shape[1]:
        return []
    items = np.arange(len(differences))
    estimates = cluster_bootstrap_columns(differences, items, level=level, n_boot=n_boot, seed=rng)
    flips = int(rng.integers(2**63))  # the same flips for both, so that p <= p_adjusted
    p = permutation_test_cells(differences, n_perm=n_perm, seed=flips)
    adjusted = (
        benjamini_hochberg(p)
        if correction == "benjamini_hochberg"
        else max_statistic_test(differences, n_perm=n_perm, seed=flips)
    )
    return [
        (one.value, one.low, one.high, one.level, one.n, float(a), float(b))
        for one, a, b in zip(estimates, p, adjusted, strict=True)
    ]
