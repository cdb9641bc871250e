"""What an injected instruction does, round by round: performance, uncertainty and concept against the base arm."""

from typing import TYPE_CHECKING

from mechmsc.errors import InputError
from mechmsc.figures.panels import frame, n_range, round_axis, task_title
from mechmsc.figures.performance import UNITS as SCORES
from mechmsc.figures.style import INK, MUTED, RULE, style
from mechmsc.figures.uncertainty import NAMES

if TYPE_CHECKING:
    import matplotlib.axes
    import matplotlib.figure
    import pandas

INJECTED = "#D55E00"
"""Colour of the immoral stance; injections are marked with it whatever is injected."""


def draw_injection(
    table: "pandas.DataFrame", *, treatment: str, control: str, caption: str | None = None
) -> "matplotlib.figure.Figure":
    """A row of panels a task, one a measure: treatment minus control by round, rounds with an injection shaded.

    Args:
        table: from `causal.injection_effects`.
        treatment: the arm with injections.
        control: its base.
        caption: sentences to stand under the figure.

    Returns:
        The figure, bound to no window.

    Raises:
        InputError: there is no row.
    """
    from matplotlib.figure import Figure

    if table.empty:
        raise InputError("no injection to draw: the table has no rows")
    tasks = [(task, list(rows.groupby(["measure", "source"], sort=False))) for task, rows in table.groupby("task")]
    columns = max(len(panels) for _, panels in tasks)
    with style():
        figure = Figure(layout="constrained")
        axes = figure.subplots(len(tasks), columns, squeeze=False)
        for row, (task, panels) in zip(axes, tasks, strict=True):
            for axis, ((measure, _), rows) in zip(row, panels, strict=False):
                _draw(axis, rows, task_title(task, short=True), label(measure))
            for axis in row[len(panels) :]:
                axis.set_visible(False)
        drawn = [axis for axis in axes.ravel() if axis.get_visible()]
        said = _statement(table, treatment, control, caption)
        frame(figure, drawn, len(tasks), columns, said, panel_inches=(2.9, 2.3))
    return figure


def label(measure: str) -> str:
    """Axis label of a difference."""
    if measure == "concept":
        return "concept\n(difference, class gaps)"
    if measure in SCORES:
        return f"{measure}\n(difference)"
    return f"{NAMES.get(measure, measure.replace('_', ' '))}\n(difference, nats)"


def _draw(axis: "matplotlib.axes.Axes", rows: "pandas.DataFrame", title: str, ylabel: str) -> None:
    by_round = rows[rows["round"].notna()].sort_values("round")
    injected = _injected(rows)
    for at in injected:
        axis.axvspan(at - 0.5, at + 0.5, color=INJECTED, alpha=0.13, linewidth=0, zorder=0)
    axis.axhline(0.0, color=MUTED, linewidth=0.8)
    x = by_round["round"].to_numpy(int)
    axis.vlines(x, by_round["low"], by_round["high"], color=INK, linewidth=1.1)
    axis.plot(x, by_round["value"], color=INK, linewidth=0.8, marker="o", markersize=4, label="mean over items")
    sure = by_round[by_round["p_adjusted"] < 0.05]
    axis.plot(
        sure["round"].to_numpy(int),
        sure["value"],
        linestyle="",
        marker="o",
        markersize=8,
        markerfacecolor="none",
        markeredgecolor=INJECTED,
        label="p < 0.05, corrected for rounds",
    )
    round_axis(axis, int(x.max()))
    axis.set_xlabel("round")
    axis.set_ylabel(ylabel)
    axis.set_title(title, loc="left")
    axis.set_title(f"n = {n_range(rows['n'])}", loc="right", color=MUTED, fontsize=8.5)
    axis.grid(visible=True, color=RULE)


def _injected(rows: "pandas.DataFrame") -> list[int]:
    return sorted({int(at) for at in rows.loc[rows["part"] == "injected", "round"].dropna()})


def _statement(table: "pandas.DataFrame", treatment: str, control: str, caption: str | None) -> str:
    said = (
        f"Arm {treatment} minus arm {control}, paired by item: mean with {table['level'].iloc[0] * 100:g} % "
        f"cluster-bootstrap interval over items, n = {n_range(table['n'])} items. Shaded: rounds in which the "
        "instructions differ."
    )
    return f"{said} {caption.strip()}" if caption else said
