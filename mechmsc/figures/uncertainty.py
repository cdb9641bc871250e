"""Uncertainty by round and arm: choices between options by dimension, free responses by task.

After Figure 5 of Liu et al. (arXiv:2510.07290), with intervals, n, a baseline, and the part of the entropy of a choice
that remains when the order of the options is known.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mechmsc.errors import InputError
from mechmsc.figures.panels import BASELINE, Panel, arm_shifts, draw_panels, statement_of, task_title

if TYPE_CHECKING:
    import matplotlib.axes
    import matplotlib.figure
    import pandas

TOTAL, WITHIN = "choice_entropy", "choice_entropy_within"
FREE = (
    *("semantic_entropy", "miller_madow_semantic_entropy", "discrete_semantic_entropy", "predictive_entropy"),
    *("length_normalised_entropy", "first_token_entropy"),
)
"""Of free responses the first of these that was measured is shown."""
NAMES = {
    TOTAL: "entropy of the choice",
    "semantic_entropy": "semantic entropy",
    "miller_madow_semantic_entropy": "discrete semantic entropy, corrected",
    "discrete_semantic_entropy": "discrete semantic entropy",
    "predictive_entropy": "predictive entropy",
    "length_normalised_entropy": "entropy per token",
    "first_token_entropy": "entropy of the first token",
}


def uncertainty_table(
    summaries: "pandas.DataFrame", *, measures: Sequence[str] | None = None, groups: bool = True
) -> "pandas.DataFrame":
    """The rows of the summaries that the figure shows.

    Args:
        summaries: a run's summaries.
        measures: of free responses; None: the first of `FREE` that there is for a task. Of choices: total and within.
        groups: show the groups of a task with options (BBQ's dimensions) beside all items, where there are several.

    Returns:
        Rows of `summaries`, tasks with options first.

    Raises:
        InputError: none of the measures is there.
    """
    import pandas as pd

    parts = []
    per_round = summaries[summaries["round"].notna() & summaries["layer"].isna()]
    for task, rows in per_round.groupby("task", sort=False):
        has_options = (rows["measure"] == TOTAL).any()
        wanted = [TOTAL, WITHIN] if has_options else _free(rows, measures)
        shown = rows[rows["measure"].isin(wanted)]
        several = rows.loc[rows["group"] != "", "group"].nunique() > 1
        if not (has_options and groups and several):
            shown = shown[shown["group"] == ""]
        parts.append((not has_options, len(parts), shown.assign(task=task)))
    table = pd.concat([rows for *_, rows in sorted(parts, key=lambda part: part[:2])]) if parts else per_round
    if table.empty:
        raise InputError(
            "no uncertainty to draw: none was measured; mechmsc measure RUN does, with samples for free responses"
        )
    return table.sort_values("group", kind="stable").sort_values(
        "task", kind="stable", key=lambda column: column.map({task: i for i, task in enumerate(table["task"].unique())})
    )


def _free(rows: "pandas.DataFrame", measures: Sequence[str] | None) -> list[str]:
    if measures is not None:
        return list(measures)
    there = set(rows["measure"])
    return [name for name in FREE if name in there][:1]


def draw_uncertainty(table: "pandas.DataFrame", *, caption: str | None = None) -> "matplotlib.figure.Figure":
    """Uncertainty against round: a panel a task and measure, and a panel a dimension of questions with options.

    Args:
        table: from `uncertainty_table`.
        caption: sentences to stand under the figure, after the statement on intervals and n.

    Returns:
        The figure, bound to no window.

    Raises:
        InputError: the table is empty.
    """
    if table.empty:
        raise InputError("no uncertainty to draw: the table has no rows")
    panels = []
    main = table[table["measure"] != WITHIN]
    for (task, group, measure, source), rows in main.groupby(["task", "group", "measure", "source"], sort=False):
        inner = table[(table["task"] == task) & (table["group"] == group) & (table["measure"] == WITHIN)]
        panels.append(_panel(task, group, measure, source, rows, inner if measure == TOTAL else inner.iloc[:0]))
    within = "Dotted: entropy that remains when the order of the options is known (mean within an order)."
    between = "The solid lines show the total, which also counts changes of mind with the order of the options."
    sentences = (within, between) if (table["measure"] == WITHIN).any() else ()
    return draw_panels(panels, statement=statement_of(main, *sentences, caption=caption))


def _panel(
    task: str, group: str, measure: str, source: str, rows: "pandas.DataFrame", inner: "pandas.DataFrame"
) -> Panel:
    title = group.replace("_", " ") if group else task_title(task, short=measure == TOTAL)
    name = NAMES.get(measure, measure.replace("_", " "))
    detail = f"\n({source} clusters)" if "semantic" in measure else ""
    return Panel(rows, title=title, ylabel=f"{name} (nats){detail}", more=_within(inner))


def _within(inner: "pandas.DataFrame"):  # noqa: ANN202 - a Panel's `more`
    """Draws the entropy within an order as dotted lines of the arm's colour."""
    if inner.empty:
        return None

    def draw(axis: "matplotlib.axes.Axes", _: "pandas.DataFrame", look: dict) -> None:
        shifts = arm_shifts([arm for arm in inner["arm"].unique() if arm != BASELINE])
        for arm, rows in inner.groupby("arm", sort=False):
            color = look[arm].color
            if arm == BASELINE:
                axis.axhline(rows["value"].iloc[0], color=color, linestyle=":", linewidth=1.0, zorder=2)
                continue
            x = rows["round"].to_numpy(float) + shifts[arm]
            axis.plot(
                x, rows["value"], color=color, linestyle=":", linewidth=1.3, marker=look[arm].marker, markersize=2.5
            )

    return draw
