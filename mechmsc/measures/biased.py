"""BBQ: accuracy and bias by context condition, dimension, arm and round of a run."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from mechmsc.bias import NEEDED, bbq_scores
from mechmsc.errors import InputError
from mechmsc.estimate import Estimate
from mechmsc.measures.measured import Job, Measured, Summary
from mechmsc.runs import Run

if TYPE_CHECKING:
    import pandas

TASK = "social_bias"
FROM_ITEMS = [name for name in NEEDED if name not in ("item_id", "choice", "gold")]


def bias_jobs(measured: Measured, run: Run) -> Iterator[Job]:
    """Bias scores of the items that carry BBQ's metadata; a run without its items has none."""
    table = _answers(measured, run)
    if len(table):
        extra = table.to_json(orient="values")
        yield Job("bias", [], lambda: list(_scores(measured, table)), extra)


def _answers(measured: Measured, run: Run) -> "pandas.DataFrame":
    """A row an answer with what BBQ says of its question."""
    import pandas as pd

    rows = measured.transcripts
    rows = rows[(rows["task"] == TASK) & rows["gold"].notna()]
    if rows.empty:
        return rows
    try:
        items = run.items
    except InputError:  # a run of an earlier version
        return rows.iloc[:0]
    known = [
        {"item_id": item.item_id, **{name: item.metadata[name] for name in FROM_ITEMS}}
        for item in items
        if all(name in item.metadata for name in FROM_ITEMS)
    ]
    if not known:
        return rows.iloc[:0]
    answers = rows[["item_id", "arm", "round", "choice", "gold"]].astype({"choice": float, "gold": float})
    return answers.merge(pd.DataFrame(known), on="item_id")


def _scores(measured: Measured, table: "pandas.DataFrame") -> Iterator[Summary]:
    s = measured.settings
    arms = {arm: place for place, arm in enumerate(measured.cells.arms)}
    for by in ([], ["category"]):
        scores = bbq_scores(table, by=(*by, "arm", "round"), level=s.level, n_boot=s.n_boot, seed=s.seed)
        order = [*by, "order", "round", "context_condition", "measure"]
        for row in scores.assign(order=scores["arm"].map(arms)).sort_values(order).itertuples():
            name, group = f"{row.measure}_{row.context_condition}", row.category if by else ""
            estimate = Estimate(row.value, row.low, row.high, row.level, row.n)
            yield Summary(TASK, group, row.arm, int(row.round), name, "options", None, estimate)
