"""Where curves over rounds settle: score, uncertainty and concept, with the round from which on no change matters."""

from typing import TYPE_CHECKING

from mechmsc.errors import InputError
from mechmsc.figures.panels import BASELINE, Panel, arm_shifts, curve_name, draw_panels, statement_of, task_title
from mechmsc.figures.performance import UNITS
from mechmsc.figures.style import MUTED
from mechmsc.figures.uncertainty import FREE, NAMES, TOTAL
from mechmsc.tasks import TASKS

if TYPE_CHECKING:
    import matplotlib.axes
    import matplotlib.figure
    import pandas

COLUMNS = ["kind", "task", "curve", "arm", "round", "measure", "value", "low", "high", "level", "n"]
STRIP = 0.055
"""Height of an arm's strip under the curves, as a fraction of the panel."""


def convergence_table(summaries: "pandas.DataFrame") -> "pandas.DataFrame":
    """The numbers of the figure.

    Args:
        summaries: a run's summaries.

    Returns:
        kind "curve": means by round; kind "convergence": convergence_round (value: the round, nan where not converged;
        low: the earliest that the data leave open) and convergence_margin; kind "decay": the fitted exponential.
        `curve` is what settles: each task's score, its first uncertainty, the concept averaged over a band of layers.

    Raises:
        InputError: no curve has a convergence round, e.g. because the run has fewer than 3 rounds.
    """
    import pandas as pd

    whole = summaries[(summaries["group"] == "") & summaries["layer"].isna()]
    settled = whole[whole["measure"].str.startswith(("convergence_", "decay_"))].rename(columns={"source": "curve"})
    means = whole[whole["round"].notna()].copy()
    means["curve"] = [curve_name(*pair) for pair in zip(means["measure"], means["source"], strict=True)]
    parts = []
    for task, rows in settled.groupby("task", sort=False):
        for curve in _shown(list(rows["curve"].unique()), TASKS[task].concept if task in TASKS else None):
            mine = means[(means["task"] == task) & (means["curve"] == curve)]
            ends = rows[rows["curve"] == curve]
            kinds = ends["measure"].str.split("_").str[0]
            parts += [mine.assign(kind="curve"), ends.assign(kind=kinds)]
    if not parts:
        raise InputError("no convergence to draw: it needs measures of at least 3 rounds; mechmsc measure RUN")
    return pd.concat(parts, ignore_index=True)[COLUMNS]


def _shown(curves: list[str], concept: str | None) -> list[str]:
    """Scores, the first uncertainty, the concept: by a direction named after the task's, at prompt_end, where there."""
    names = {curve: curve.split("/")[0].split(".")[0] for curve in curves}
    scores = [curve for curve in curves if names[curve] in UNITS]
    unsure = [curve for name in (TOTAL, *FREE) for curve in curves if names[curve] == name][:1]
    concepts = [curve for curve in curves if names[curve] == "concept"]
    for wanted in (".prompt_end", str(concept)):
        concepts = [curve for curve in concepts if wanted in curve] or concepts
    return scores + unsure + concepts


def draw_convergence(table: "pandas.DataFrame", *, caption: str | None = None) -> "matplotlib.figure.Figure":
    """Curves with their convergence round: a panel a task and curve.

    Args:
        table: from `convergence_table`.
        caption: sentences to stand under the figure.

    Returns:
        The figure, bound to no window.

    Raises:
        InputError: the table has no curve.
    """
    curves = table[table["kind"] == "curve"]
    if curves.empty:
        raise InputError("no convergence to draw: the table has no curve")
    panels, margins = [], []
    for (task, curve), rows in curves.groupby(["task", "curve"], sort=False):
        ends = table[(table["kind"] == "convergence") & (table["task"] == task) & (table["curve"] == curve)]
        panels.append(_panel(task, curve, rows, ends))
        margins += ends.loc[ends["measure"] == "convergence_margin", "value"].unique().tolist()
    level = table.loc[table["kind"] == "convergence", "level"].iloc[0]
    marks = (
        "Under the curves: the first round from which every later round differs by less than the margin "
        f"(filled mark; {level * 100:g} % interval of the paired difference inside the margin, a test at "
        f"{(1 - level) / 2 * 100:g} %), the line from the earliest round that the data leave open; an arrow: not "
        "converged by the last round that can be judged. Shaded: the margin around the mean at that round."
    )
    return draw_panels(panels, statement=statement_of(curves, marks, caption=caption))


def _panel(task: str, curve: str, rows: "pandas.DataFrame", ends: "pandas.DataFrame") -> Panel:
    name, *source = curve.split("/", 1)
    margin = ends.loc[ends["measure"] == "convergence_margin", "value"]
    said = f"\nmargin {margin.iloc[0]:g}" if len(margin) else ""
    unit, label = UNITS.get(name, "nats"), NAMES.get(name, name.replace("_", " "))
    if name.startswith("concept"):
        layers = name.rsplit(".", 1)[-1].replace("_", " ").replace("-", "\u2013")
        unit, label = "cosine" if "cosine" in name else "class gaps", f"{source[0] if source else 'concept'}, {layers}"
    return Panel(
        rows,
        title=task_title(task, short=True),
        ylabel=f"{label}\n({unit}{',' if said else ''}{said.replace(chr(10), ' ')})",
        within_one=False,
        more=_strips(ends),
    )


def _strips(ends: "pandas.DataFrame"):  # noqa: ANN202 - a Panel's `more`
    """Draws the convergence round of each arm in a strip under the curves, and the margin around it."""

    def draw(axis: "matplotlib.axes.Axes", rows: "pandas.DataFrame", look: dict) -> None:
        arms = [arm for arm in rows["arm"].unique() if arm != BASELINE]
        low, high = axis.get_ylim()
        below = STRIP * (len(arms) + 1.7)
        ticks = [tick for tick in axis.get_yticks() if low <= tick <= high]  # none beside the strip: it has no values
        axis.set_ylim(low - (high - low) * below / (1 - below), high)
        axis.set_yticks(ticks)
        last, place = float(rows["round"].max()), axis.get_xaxis_transform()
        top = STRIP * (len(arms) + 0.7)
        axis.text(0.99, top, "settled from round", transform=axis.transAxes, fontsize=7, color=MUTED, ha="right")
        shifts = arm_shifts(arms)
        for k, arm in enumerate(arms):
            mine = ends[ends["arm"] == arm].set_index("measure")
            if "convergence_round" not in mine.index:
                continue
            found, y, color = mine.loc["convergence_round"], STRIP * (len(arms) - k), look[arm].color
            settled = found["value"] == found["value"]
            end = found["value"] if settled else last + 0.3
            start = found["low"] if found["low"] == found["low"] else end
            axis.plot([start, end], [y, y], color=color, linewidth=1.6, transform=place, zorder=4)
            marker = look[arm].marker if settled else ">"
            axis.plot([end], [y], color=color, marker=marker, markersize=5, transform=place, zorder=5, linestyle="")
            if settled:
                mean = rows[(rows["arm"] == arm) & (rows["round"] == found["value"])]["value"].iloc[0]
                margin = mine.loc["convergence_margin", "value"]
                x = [found["value"] + shifts[arm], last + shifts[arm]]
                axis.fill_between(x, mean - margin, mean + margin, color=color, alpha=0.12, linewidth=0, zorder=0.8)

    return draw
