"""Performance by round and arm, one panel a task.

After Figure 3 of Liu et al. (arXiv:2510.07290), with intervals, n and a baseline.
"""

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from mechmsc.errors import InputError
from mechmsc.estimate import cluster_bootstrap_columns
from mechmsc.figures.panels import Panel, draw_panels, statement_of, task_title
from mechmsc.scorers import SCORERS

if TYPE_CHECKING:
    import matplotlib.figure
    import pandas

COLUMNS = ["task", "group", "arm", "round", "measure", "direction", "value", "low", "high", "level", "n"]
PAIRED = "pair_accuracy"
"""Of pairs of items, such as MMVP's: a pair counts only if both answers are right."""
DERIVED = {name: scorer.derived for name, scorer in SCORERS.items() if scorer.derived}
UNITS = {"accuracy": "fraction correct", PAIRED: "fraction of pairs"}
UNITS |= {name: scorer.unit for name, scorer in SCORERS.items()}
UNITS |= {one.name: one.unit for derived in DERIVED.values() for one in derived}
NAMES = {"iou": "IoU", "no_box": "answers without a box"}
NOTES = {
    PAIRED: "Pair accuracy: over pairs of items; a pair counts only if both answers are right.",
    "no_box": "IoU: over the answers with a box; in box accuracy an answer without one is wrong.",
}
"""Measure -> what the caption says where it is drawn."""


def performance_table(transcripts: "pandas.DataFrame", *, seed: int = 0, level: float = 0.95) -> "pandas.DataFrame":
    """Mean score by task, arm and round, with a cluster-bootstrap interval over items.

    All arms and rounds of a task are resampled with the same items. Rows without a score (nan, or no scorer) are left
    out; `n` counts the items with a score. What follows from a score (`Scorer.derived`) and, where items come in pairs,
    `pair_accuracy` over pairs have rows of their own.

    Args:
        transcripts: a row per (item_id, arm, round) with task, item_id, arm, round, score, score_name, score_direction
            (a run's transcripts); with a column `group`, every group has rows of its own beside those of all items.
        seed: seeds the bootstrap.
        level: of the intervals.

    Returns:
        task, group (empty: all items), arm, round, measure (the score's name), direction, value, low, high, level, n;
        tasks and arms in the order in which they first appear.

    Raises:
        InputError: a column is missing, or an item has two rows for one arm and round.
    """
    import pandas as pd

    needed = ["task", "item_id", "arm", "round", "score", "score_name", "score_direction"]
    if missing := [name for name in needed if name not in transcripts]:
        raise InputError(f"transcripts lack {', '.join(missing)}; expected {', '.join(needed)}")
    scored = transcripts[transcripts["score_name"].notna()]
    rows = []
    for task, measure, table in _scores(scored):
        groups = [("", table)]
        if "group" in table:
            groups += [(str(name), part) for name, part in table.groupby("group", sort=True)]
        for group, part in groups:
            direction = part["score_direction"].iloc[0]
            for (arm, round), estimate in _estimates(part, seed, level).items():
                numbers = (estimate.value, estimate.low, estimate.high, estimate.level, estimate.n)
                rows.append((task, group, arm, round, measure, direction, *numbers))
    return pd.DataFrame(rows, columns=COLUMNS)


def _scores(scored: "pandas.DataFrame") -> "Iterator[tuple[str, str, pandas.DataFrame]]":
    """(task, measure, rows with it as their score), what follows from a score after it."""
    for (task, measure), table in scored.groupby(["task", "score_name"], sort=False):
        yield task, measure, table
        for one in DERIVED.get(measure, ()):
            yield task, one.name, table.assign(score=table["score"].map(one.of), score_direction=one.direction)
        if "pair" in table and len(pairs := paired(table)):
            yield task, PAIRED, pairs


def paired(table: "pandas.DataFrame") -> "pandas.DataFrame":
    """A row a whole pair, arm and round: the lower of its two scores; the pair takes the place of the item.

    Args:
        table: arm, round, item_id, pair, score and whatever else; rows without a pair, and pairs of which one item is
            missing, are left out.
    """
    table = table[table["pair"].notna()]
    whole = table.groupby("pair")["item_id"].transform("nunique") == 2
    keys = ["pair", "arm", "round"]
    rows = table[whole].assign(item_id=table["pair"], group=None)
    both = rows.groupby(keys)["score"].agg(lambda scores: scores.min(skipna=False) if len(scores) == 2 else math.nan)
    return rows.drop_duplicates(keys).drop(columns="score").merge(both.reset_index(), on=keys)


def _estimates(table: "pandas.DataFrame", seed: int, level: float) -> dict:
    """(arm, round) -> Estimate, all from the same resamples of items."""
    if table.duplicated(["item_id", "arm", "round"]).any():
        twice = table[table.duplicated(["item_id", "arm", "round"])].iloc[0]
        raise InputError(
            f"two rows for item {twice['item_id']}, arm {twice['arm']}, round {twice['round']}; expected one"
        )
    wide = table.pivot(index="item_id", columns=["arm", "round"], values="score").astype(float)
    estimates = cluster_bootstrap_columns(wide.to_numpy(), wide.index.to_numpy(), level=level, seed=seed)
    found = {(arm, int(round)): estimate for (arm, round), estimate in zip(wide.columns, estimates, strict=True)}
    order = {arm: place for place, arm in enumerate(table["arm"].unique())}
    return dict(sorted(found.items(), key=lambda cell: (order[cell[0][0]], cell[0][1])))


def draw_performance(table: "pandas.DataFrame", *, caption: str | None = None) -> "matplotlib.figure.Figure":
    """Score against round, one panel a task and score, one line an arm, `none` as a dashed line with its band.

    In a mixed schedule the rounds in which another stance speaks carry that stance's marker and colour.

    Args:
        table: from `performance_table`; rows of single groups are not drawn.
        caption: sentences to stand under the figure, after the statement on intervals and n: which model, what the
            reader must not conclude.

    Returns:
        The figure, bound to no window; save it with `save_figure`.

    Raises:
        InputError: the table has no row for a whole task.
    """
    table = table[table["group"] == ""]
    if table.empty:
        raise InputError("there is no score to draw: the table has no rows; was the run scored?")
    panels = [_panel(rows) for _, rows in table.groupby(["task", "measure"], sort=False)]
    notes = " ".join(note for measure, note in NOTES.items() if (table["measure"] == measure).any())
    return draw_panels(panels, statement=statement_of(table, notes, caption=caption))


def _panel(rows: "pandas.DataFrame") -> Panel:
    """One task and score."""
    task, measure, direction = (rows[name].iloc[0] for name in ("task", "measure", "direction"))
    unit = UNITS.get(measure, "score")
    return Panel(
        rows,
        title=task_title(task),
        ylabel=f"{NAMES.get(measure, measure.replace('_', ' '))}\n({unit}, {direction} is better)",
        within_one=unit.startswith(("fraction", "probability")),
    )
