"""Convergence rounds, decay fits and flip rates of a run's measures."""

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from mechmsc.convergence import convergence_round, decay_fit, flip_rate
from mechmsc.estimate import Estimate
from mechmsc.measures.measured import Cube, Job, Measured, Summary

if TYPE_CHECKING:
    import pandas

FEWEST_ROUNDS, FEWEST_ROUNDS_DECAY = 3, 4
"""Below these neither a convergence round nor a decay can be told."""


def settling_jobs(measured: Measured, cube: Cube) -> Iterator[Job]:
    """When the curve of a measure settles, and how fast, by task and arm."""
    margin = measured.settings.margin_of(cube.measure, cube.unit)
    yield Job(f"convergence {cube.key}", [cube], lambda: _convergence(measured, cube, margin), margin)
    yield Job(f"decay {cube.key}", [cube], lambda: _decay(measured, cube))


def flip_jobs(measured: Measured) -> Iterator[Job]:
    """How often the choice differs from that of the round before."""
    choices = measured.transcripts[measured.transcripts["choice"].notna()]
    if choices.empty or choices["round"].max() < 2:
        return
    extra = choices[["item_id", "arm", "round", "choice"]].to_json(orient="values")
    yield Job("flips", [], lambda: list(_flips(measured, choices)), extra)


def _convergence(measured: Measured, cube: Cube, margin: float) -> list[Summary]:
    import pandas as pd

    s, found = measured.settings, []
    table = long_table(measured, cube, fewest=FEWEST_ROUNDS)
    if table.empty:
        return []
    rows = convergence_round(table, value="value", margin=margin, n_boot=s.n_boot, seed=s.seed)
    for row in rows.itertuples():
        low, value = (math.nan if pd.isna(one) else float(one) for one in (row.earliest, row.round))
        estimates = {
            "convergence_round": Estimate(value, low, value, row.level, row.n),
            "convergence_margin": Estimate(margin, math.nan, math.nan, row.level, row.n),
        }
        found += [Summary(row.task, "", row.arm, None, name, cube.label, None, e) for name, e in estimates.items()]
    return found


def _decay(measured: Measured, cube: Cube) -> list[Summary]:
    s, table = measured.settings, long_table(measured, cube, fewest=FEWEST_ROUNDS_DECAY)
    if table.empty:
        return []
    rows = decay_fit(table, value="value", level=s.level, n_boot=s.n_boot, seed=s.seed)
    return [
        Summary(
            *(row.task, "", row.arm, None, f"decay_{row.parameter}", cube.label, None),
            Estimate(row.value, row.low, row.high, row.level, row.n),
        )
        for row in rows.itertuples()
    ]


def _flips(measured: Measured, choices: "pandas.DataFrame") -> Iterator[Summary]:
    names = np.array(measured.cells.items)
    for task, group, items in measured.each_group():
        part = choices[choices["item_id"].isin(names[items])]
        if part.empty or part.groupby("arm")["round"].nunique().max() < 2:
            continue
        for row in flip_rate(part, level=measured.settings.level).itertuples():
            estimate = Estimate(row.value, row.low, row.high, row.level, row.n)
            yield Summary(task, group, row.arm, row.round, "flip_rate", "options", None, estimate)


def long_table(measured: Measured, cube: Cube, *, fewest: int) -> "pandas.DataFrame":
    """task, item_id, arm, round, value of the arms that have at least so many rounds."""
    import pandas as pd

    cells, parts = measured.cells, []
    for task, of in measured.groups.items():
        for a, arm in enumerate(cells.arms):
            grid = cube.values[of[""], a, :, 0]
            known = ~np.isnan(grid)
            if known.any(axis=0).sum() < fewest:
                continue
            i, r = np.nonzero(known)
            items = np.array(cells.items, dtype=object)[of[""][i]]
            parts.append(
                pd.DataFrame({"task": task, "item_id": items, "arm": arm, "round": r + 1, "value": grid[i, r]})
            )
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame({"task": [], "arm": []})
