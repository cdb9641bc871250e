"""What figures by round share: panels of lines with intervals, one line an arm; legend above, caption below."""

import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mechmsc.errors import InputError
from mechmsc.figures.style import INK, MUTED, STANCES, Look, looks, style
from mechmsc.instructions import parse_arms
from mechmsc.tasks import TASKS

if TYPE_CHECKING:
    import matplotlib.axes
    import matplotlib.figure
    import pandas

PANEL_INCHES = (3.6, 2.7)
BASELINE = "none"


@dataclass(frozen=True)
class Panel:
    """One set of axes."""

    rows: "pandas.DataFrame"
    """arm, round, value, low, high, n: a line an arm; the arm `none` is a dashed horizontal line with its band."""
    title: str
    ylabel: str
    within_one: bool = False
    """Whether values are fractions, which lie between 0 and 1."""
    more: "Callable[[matplotlib.axes.Axes, pandas.DataFrame, dict[str, Look]], None] | None" = None
    """Draws what is beyond the lines: (axes, rows, look of each arm)."""
    draw: "Callable[[matplotlib.axes.Axes, Panel, dict[str, Look]], None] | None" = None
    """Draws the panel instead of `draw_panel`, where the x-axis is not the round."""


def task_title(task: str, *, short: bool = False) -> str:
    """The task's title; short: cut to fit over a panel beside a count."""
    title = TASKS[task].title if task in TASKS else str(task)
    return " ".join(title.split()[:2]) if short and len(title) > 18 else title


def draw_panels(panels: Sequence[Panel], *, statement: str, columns: int | None = None) -> "matplotlib.figure.Figure":
    """Panels of lines by round in a grid.

    Args:
        panels: at least one.
        statement: the caption.
        columns: panels beside each other; None chooses.

    Returns:
        The figure, bound to no window.
    """
    from matplotlib.figure import Figure

    columns = columns or (len(panels) if len(panels) < 4 else 2 if len(panels) == 4 else 3)
    rows = -(-len(panels) // columns)
    look = looks(list(dict.fromkeys(arm for panel in panels for arm in panel.rows["arm"].unique())))
    with style():
        figure = Figure(layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False).ravel()
        for axis, panel in zip(axes, panels, strict=False):
            (panel.draw or draw_panel)(axis, panel, look)
        for axis in axes[len(panels) :]:
            axis.remove()
        frame(figure, axes[: len(panels)], rows, columns, statement)
        figure.draw_without_rendering()  # ticks are made when first drawn: here, while the style holds
    return figure


def draw_panel(axis: "matplotlib.axes.Axes", panel: Panel, look: dict[str, Look]) -> None:
    """Lines with intervals, baseline, labels."""
    arms = [arm for arm in panel.rows["arm"].unique() if arm != BASELINE]
    last = int(panel.rows["round"].max())
    shifts = arm_shifts(arms)
    for arm in arms:
        draw_arm(axis, panel.rows[panel.rows["arm"] == arm], look[arm], shift=shifts[arm], last=last)
    for _, row in panel.rows[panel.rows["arm"] == BASELINE].iterrows():
        axis.axhspan(row["low"], row["high"], color=look[BASELINE].color, alpha=0.12, linewidth=0, zorder=1)
        axis.axhline(
            row["value"],
            color=look[BASELINE].color,
            linestyle=look[BASELINE].line,
            linewidth=1.2,
            label=BASELINE,
            zorder=2,
        )
    axis.set_title(panel.title, loc="left", color=INK)
    axis.set_title(f"n = {n_range(panel.rows['n'])}", loc="right", color=MUTED, fontsize=8.5)
    axis.set_xlabel("round")
    axis.set_ylabel(panel.ylabel)
    round_axis(axis, last)
    if panel.more is not None:
        panel.more(axis, panel.rows, look)
    if panel.within_one:
        keep_in_range(axis)


def arm_shifts(arms: Sequence[str]) -> dict[str, float]:
    """By how many rounds each arm is moved sideways, so that intervals do not hide each other."""
    step = min(0.12, 0.5 / max(len(arms), 1))
    return {arm: (place - (len(arms) - 1) / 2) * step for place, arm in enumerate(arms)}


def round_axis(axis: "matplotlib.axes.Axes", last: int) -> None:
    """Limits and whole-numbered ticks of rounds 1 to `last`."""
    axis.set_xlim(0.6, last + 0.4)
    if last <= 12:
        axis.set_xticks(range(1, last + 1))
    else:
        axis.xaxis.get_major_locator().set_params(integer=True)


def draw_arm(axis: "matplotlib.axes.Axes", rows: "pandas.DataFrame", look: Look, *, shift: float, last: int) -> None:
    """One line with intervals, moved sideways by `shift` rounds.

    In a mixed schedule the rounds in which another stance speaks carry that stance's marker and colour.
    """
    arm, x = rows["arm"].iloc[0], rows["round"].to_numpy() + shift
    axis.vlines(x, rows["low"], rows["high"], color=look.color, linewidth=1.1, alpha=0.75, zorder=3)
    axis.plot(
        x,
        rows["value"],
        color=look.color,
        linestyle=look.line,
        marker=look.marker,
        markersize=4.5,
        linewidth=1.5,
        label=arm,
        zorder=4,
    )
    for stance, rounds in switches(arm, last).items():
        switched = rows[rows["round"].isin(rounds)]
        axis.plot(
            switched["round"] + shift,
            switched["value"],
            color=STANCES[stance].color,
            marker=STANCES[stance].marker,
            markersize=6.0,
            markeredgecolor=look.color,
            markeredgewidth=1.2,
            linestyle="",
            label=f"{stance} in this round",
            zorder=5,
        )


def switches(arm: str, rounds: int) -> dict[str, list[int]]:
    """The rounds of a mixed schedule in which another stance than its first speaks, by stance; empty for other arms."""
    if "+" not in arm:
        return {}
    try:
        (schedule,) = parse_arms(arm, rounds=rounds)
    except InputError:  # a name that is no schedule, in a table made elsewhere
        return {}
    speaking = {round: schedule.stance(round) for round in range(1, rounds + 1)}
    first = schedule.parts[0][0]
    others = dict.fromkeys(stance for stance in speaking.values() if stance and stance != first)
    return {other: [round for round, stance in speaking.items() if stance == other] for other in others}


def keep_in_range(axis: "matplotlib.axes.Axes") -> None:
    """Do not show much of what a fraction or a probability cannot be."""
    low, high = axis.get_ylim()
    edge = 0.03 * (min(high, 1.0) - max(low, 0.0))
    axis.set_ylim(max(low, -edge), min(high, 1.0 + edge))


def frame(
    figure: "matplotlib.figure.Figure",
    axes: "Iterable[matplotlib.axes.Axes]",
    rows: int,
    columns: int,
    statement: str,
    *,
    panel_inches: tuple[float, float] = PANEL_INCHES,
) -> None:
    """Size, legend above the panels, caption below them."""
    width = panel_inches[0] * columns if columns > 1 else 5.2
    handles = {label: handle for axis in axes for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    order = sorted(
        handles, key=lambda label: label.endswith(" in this round")
    )  # arms first, marks of switched rounds after
    names = {BASELINE: "none (baseline)"}
    texts = [names.get(label, label) for label in order]
    per_row = _legend_columns(texts, width)
    lines = textwrap.wrap(statement, int(width * 16))
    caption_height = 0.145 * len(lines) + 0.12
    legend_height = 0.2 * -(-len(order) // per_row)
    height = panel_inches[1] * rows + caption_height + legend_height
    figure.set_size_inches(width, height)
    figure.get_layout_engine().set(
        rect=(0, caption_height / height, 1, 1 - caption_height / height), w_pad=0.09, h_pad=0.06
    )
    if order:
        figure.legend([handles[label] for label in order], texts, loc="outside upper center", ncols=per_row)
    figure.text(
        0.08 / width, 0.06 / height, "\n".join(lines), fontsize=8, color=MUTED, va="bottom", ha="left", linespacing=1.25
    )


def _legend_columns(texts: list[str], width: float) -> int:
    """The most columns in which a legend fits into `width` inches; it is filled column by column."""
    for columns in range(len(texts), 1, -1):
        deep, longer = divmod(len(texts), columns)  # matplotlib gives the first columns one entry more
        ends = [deep * place + min(place, longer) for place in range(columns + 1)]
        widest = [max(map(len, texts[a:b])) for a, b in zip(ends, ends[1:], strict=False)]
        if sum(widest) * 0.072 + columns * 0.62 <= width - 0.2:
            return columns
    return 1


MEANS = "Mean over items with {level} cluster-bootstrap interval over items, n = {n} items."


def statement_of(rows: "pandas.DataFrame", *sentences: str, first: str = MEANS, caption: str | None = None) -> str:
    """What the lines and marks mean, then further sentences, then the caller's."""
    said = [first.format(level=f"{rows['level'].iloc[0] * 100:g} %", n=n_range(rows["n"]))]
    if (rows["arm"] == BASELINE).any():
        said.append("Dashed: the question alone, without any instruction (round 1), with its interval.")
    if any(switches(arm, int(rows["round"].max())) for arm in rows["arm"].unique()):
        said.append(
            "Markers of another colour than the line: rounds in which a mixed schedule gives another instruction."
        )
    return " ".join([*said, *(sentence for sentence in sentences if sentence), *([caption.strip()] if caption else [])])


def n_range(n: "pandas.Series") -> str:
    """The numbers of items, one or from - to."""
    return f"{n.min()}" if n.min() == n.max() else f"{n.min()}\u2013{n.max()}"


def curve_name(measure: str, source: str) -> str:
    """How a measure is called where it is a source itself: with its own source where that says more.

    >>> curve_name("semantic_entropy", "embedding"), curve_name("toxicity", "toxicity")
    ('semantic_entropy/embedding', 'toxicity')
    """
    return measure if source in ("options", "samples", "model", measure) else f"{measure}/{source}"
