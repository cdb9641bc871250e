"""Mediation: the path from instruction over concept to outcome, and its effects by round."""

from typing import TYPE_CHECKING

from mechmsc.errors import InputError
from mechmsc.figures.dose import UNITS, not_flat, short
from mechmsc.figures.panels import frame, n_range
from mechmsc.figures.style import INK, MUTED, style

if TYPE_CHECKING:
    import matplotlib.axes
    import matplotlib.figure
    import pandas

EFFECTS = {
    "total": ("total effect (TE)", "#222222", "o"),
    "indirect": ("through the mediator (NIE)", "#0072B2", "s"),
    "direct": ("past the mediator (NDE)", "#D55E00", "^"),
    "interaction": ("interaction", "#999999", "D"),
}


def draw_mediation(
    table: "pandas.DataFrame", *, treatment: str, control: str, mediator: str, caption: str | None = None
) -> "matplotlib.figure.Figure":
    """A path diagram of the effects over all rounds, and beside it the effects by round; a row an outcome and band.

    Args:
        table: from `causal.mediation_table`.
        treatment: arm x'.
        control: arm x.
        mediator: what mediates, in words.
        caption: sentences to stand under the figure.

    Returns:
        The figure, bound to no window.

    Raises:
        InputError: there is no row.
    """
    from matplotlib.figure import Figure

    if table.empty:
        raise InputError("no mediation to draw: the table has no rows")
    parts = list(table.groupby(["outcome", "layer"], sort=False))
    with style():
        figure = Figure(layout="constrained")
        axes = figure.subplots(len(parts), 2, squeeze=False)
        for (path, bars), ((outcome, layer), rows) in zip(axes, parts, strict=True):
            _draw_path(path, rows[rows["round"].isna()], outcome, treatment, control, f"{mediator}\nlayers {layer}")
            _draw_rounds(bars, rows[rows["round"].notna()], outcome)
        frame(figure, axes[:, 1], len(parts), 2, _statement(table, caption), panel_inches=(4.0, 3.1))
        figure.draw_without_rendering()
    return figure


def _draw_path(
    axis: "matplotlib.axes.Axes", rows: "pandas.DataFrame", outcome: str, treatment: str, control: str, mediator: str
) -> None:
    """Boxes and arrows: instruction -> mediator -> outcome, and the arrow past it."""
    axis.set_axis_off()
    axis.set_xlim(0, 1)
    axis.set_ylim(0, 1)
    named = UNITS.get(outcome, outcome).split("\n")[0]
    boxes = {
        (0.13, 0.2): f"instruction\n{treatment}\ninstead of\n{control}",
        (0.5, 0.84): mediator,
        (0.87, 0.2): named.replace(", ", "\n"),
    }
    for (x, y), text in boxes.items():
        box = {"boxstyle": "round,pad=0.4", "facecolor": "white", "edgecolor": INK, "linewidth": 0.9}
        axis.text(x, y, text, ha="center", va="center", fontsize=8, color=INK, bbox=box, zorder=3)
    arrow = {"arrowstyle": "-|>", "linewidth": 1.6, "shrinkA": 2, "shrinkB": 2}
    blue, red = EFFECTS["indirect"][1], EFFECTS["direct"][1]
    axis.annotate("", (0.4, 0.72), (0.19, 0.42), arrowprops=arrow | {"color": blue})
    axis.annotate("", (0.82, 0.36), (0.6, 0.72), arrowprops=arrow | {"color": blue})
    axis.annotate("", (0.72, 0.2), (0.28, 0.2), arrowprops=arrow | {"color": red})
    by = rows.set_index("effect")
    plain = {"facecolor": "white", "edgecolor": "none", "pad": 1.5}
    axis.text(0.5, 0.5, f"NIE {_number(by, 'indirect')}", ha="center", color=blue, fontsize=8.5, bbox=plain)
    axis.text(0.5, 0.07, f"NDE {_number(by, 'direct')}", ha="center", color=red, fontsize=8.5)
    under = f"TE {_number(by, 'total')}"
    axis.text(0.5, -0.04, under, ha="center", va="top", color=INK, fontsize=8.5)
    if "proportion" in by.index and by.loc["proportion", "value"] == by.loc["proportion", "value"]:
        share = f"NIE / TE {_number(by, 'proportion')}"
        axis.text(0.5, -0.13, share, ha="center", va="top", color=MUTED, fontsize=8)
    if "placebo_p" in by.index and by.loc["placebo_p", "value"] == by.loc["placebo_p", "value"]:
        p = f"NIE against random directions: p = {by.loc['placebo_p', 'value']:.2g}"
        axis.text(0.5, -0.21, p, ha="center", va="top", color=MUTED, fontsize=8)


def _number(by: "pandas.DataFrame", effect: str) -> str:
    row = by.loc[effect]
    return f"{short(row['value'])} [{short(row['low'])}, {short(row['high'])}]"


def _draw_rounds(axis: "matplotlib.axes.Axes", rows: "pandas.DataFrame", outcome: str) -> None:
    axis.axhline(0.0, color=MUTED, linewidth=0.8)
    shown = [effect for effect in EFFECTS if effect in set(rows["effect"])]
    for place, effect in enumerate(shown):
        mine = rows[rows["effect"] == effect]
        label, color, marker = EFFECTS[effect]
        x = mine["round"].to_numpy() + (place - (len(shown) - 1) / 2) * 0.16
        axis.vlines(x, mine["low"], mine["high"], color=color, linewidth=1.2)
        axis.plot(x, mine["value"], color=color, marker=marker, markersize=4.5, linestyle="", label=label)
    not_flat(axis)
    axis.set_xlabel("round")
    axis.set_xticks(sorted(int(round) for round in rows["round"].unique()))
    axis.set_ylabel(
        UNITS.get(outcome, f"{outcome}\n(change)").replace("change, ", "effect, ").replace("change", "effect")
    )
    axis.set_title(f"n = {n_range(rows['n'])}", loc="right", color=MUTED, fontsize=8.5)


def _statement(table: "pandas.DataFrame", caption: str | None) -> str:
    level, n = f"{table['level'].iloc[0] * 100:g} %", n_range(table["n"])
    said = (
        f"Mean over items with {level} cluster-bootstrap interval over items, n = {n} items; on the left over all "
        "rounds. NIE: the mediator is set to what it was under the treatment; NDE: the treatment, with the "
        "mediator as it was under the control."
    )
    return f"{said} {caption.strip()}" if caption else said
