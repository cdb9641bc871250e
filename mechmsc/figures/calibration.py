"""Calibration by round and arm: of stated confidence (ECE, reliability), and of the rank of uncertainty (RCE).

No error stands alone: each is drawn with what it would be by chance, and rank calibration with AUROC or Spearman's rank
correlation beside it, because it misleads where nearly all answers are right (Huang et al. 2024, arXiv:2404.03163).
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from mechmsc.calibration import reliability_diagram
from mechmsc.errors import InputError
from mechmsc.figures.panels import BASELINE, Panel, draw_panels, n_range, statement_of, task_title
from mechmsc.figures.style import INK, MUTED
from mechmsc.figures.uncertainty import FREE, NAMES, TOTAL

if TYPE_CHECKING:
    import matplotlib.axes
    import matplotlib.figure
    import pandas

CHANCE = "#F0E442"
"""The yellow of Okabe & Ito (2008)."""
COLUMNS = ["kind", "task", "arm", "round", "measure", "source", "stated", "value", "low", "high", "level", "n"]
BY_ROUND = ("ece", "ece_null", "rce", "rce_null", "rce_perfect", "auroc", "spearman")


def calibration_table(
    summaries: "pandas.DataFrame", measures: "pandas.DataFrame", *, n_bins: int = 10, level: float = 0.95
) -> "pandas.DataFrame":
    """The numbers of the figure.

    Args:
        summaries: a run's summaries.
        measures: its measures, from which reliability is read (confidence and accuracy of each item).
        n_bins: bins of the reliability diagram.
        level: of its intervals.

    Returns:
        kind "by round": errors of all items of a task, by arm and round, against the uncertainty that is shown first
        (`source`); kind "reliability": accuracy (value) of the items of a bin against their mean confidence (stated) in
        the last round of each arm.

    Raises:
        InputError: there is no calibration among the summaries.
    """
    import pandas as pd

    rows = summaries[summaries["measure"].isin(BY_ROUND) & (summaries["group"] == "")].assign(
        kind="by round", stated=float("nan")
    )
    parts = [rows[rows["measure"].str.startswith("ece")]]
    for _, of_task in rows.groupby("task", sort=False):
        ranked = of_task[~of_task["measure"].str.startswith("ece")]
        if shown := _shown(list(ranked["source"].unique())):
            parts.append(ranked[ranked["source"] == shown])
    parts.append(_reliability(measures, n_bins, level))
    table = pd.concat([part for part in parts if len(part)] or [rows], ignore_index=True)
    if table.empty:
        raise InputError("no calibration to draw: it needs confidence or uncertainty, and scores; mechmsc measure RUN")
    return table[COLUMNS]


def _shown(sources: list[str]) -> str | None:
    """The uncertainty whose rank calibration is drawn: of choices their entropy, else as in the uncertainty figure."""
    named = {source.split("/")[0]: source for source in reversed(sources)}
    return next((named[name] for name in (TOTAL, *FREE) if name in named), None)


def _reliability(measures: "pandas.DataFrame", n_bins: int, level: float) -> "pandas.DataFrame":
    import pandas as pd

    wide = measures[measures["measure"].isin(["confidence", "accuracy"])].pivot(
        index=["item_id", "arm", "round"], columns="measure", values="value"
    )
    if not {"confidence", "accuracy"} <= set(wide.columns):
        return pd.DataFrame(columns=COLUMNS)
    wide = wide.reset_index()
    wide["task"] = wide["item_id"].str.split("/").str[0]
    parts = []
    for (task, arm), rows in wide.groupby(["task", "arm"], sort=False):
        last = rows[rows["round"] == rows["round"].max()]
        found = reliability_diagram(last["confidence"], last["accuracy"], n_bins=n_bins, level=level)
        found = found.rename(columns={"confidence": "stated", "accuracy": "value"})
        what = {"kind": "reliability", "task": task, "arm": arm, "round": int(last["round"].iloc[0])}
        parts.append(found.assign(**what, measure="accuracy", source="confidence"))
    return pd.concat(parts, ignore_index=True)[COLUMNS]


def draw_calibration(table: "pandas.DataFrame", *, caption: str | None = None) -> "matplotlib.figure.Figure":
    """Calibration error, reliability, rank calibration error and ranking of every task.

    Args:
        table: from `calibration_table`.
        caption: sentences to stand under the figure.

    Returns:
        The figure, bound to no window.

    Raises:
        InputError: the table is empty.
    """
    if table.empty:
        raise InputError("no calibration to draw: the table has no rows")
    panels = []
    for task, rows in table.groupby("task", sort=False):
        panels += _panels(rows, task_title(task, short=True))
    first = (
        "ECE: expected calibration error with {level} interval (bars). RCE: rank calibration error, which has no "
        "interval. n = {n} items."
    )
    bands = (
        "Yellow bands: central range by chance over all arms, for ECE if confidences were calibrated, for RCE if "
        "uncertainty said nothing; thin lines: chance, and in the reliability diagram perfect calibration."
    )
    perfect = "Dash-dotted: a perfect ranking at the same scores."
    perfect = perfect if (table["measure"] == "rce_perfect").any() else ""
    lines = table[table["kind"] == "by round"]
    return draw_panels(
        panels, statement=statement_of(lines if len(lines) else table, bands, perfect, first=first, caption=caption)
    )


def _panels(rows: "pandas.DataFrame", title: str) -> list[Panel]:
    """The panels of one task, those that there are numbers for."""
    by_round, panels = rows[rows["kind"] == "by round"], []
    of = {name: part.sort_values("round", kind="stable") for name, part in by_round.groupby("measure", sort=False)}
    if "ece" in of:
        band = _band(of["ece_null"], None, "by chance") if "ece_null" in of else None
        panels.append(Panel(of["ece"], title, "ECE of the confidence\n(fraction, lower is better)", more=band))
    reliability = rows[rows["kind"] == "reliability"]
    if len(reliability):
        panels.append(Panel(reliability, title, "accuracy (fraction correct)", draw=_draw_reliability))
    if "rce" in of:
        name = _named(of["rce"])
        more = _band(of["rce_null"], of.get("rce_perfect"), "by chance") if "rce_null" in of else None
        panels.append(Panel(of["rce"], title, f"RCE of {name}\n(lower is better)", more=more))
        binary = "auroc" in of and of["auroc"]["value"].notna().any()
        if binary:
            label = f"AUROC of {name}\nfor wrong answers"
            panels.append(Panel(of["auroc"], title, label, within_one=True, more=_level(0.5)))
        elif "spearman" in of:
            panels.append(
                Panel(
                    of["spearman"],
                    title,
                    f"rank correlation of {name}\nwith how good the response is",
                    more=_level(0.0),
                )
            )
    return panels


def _named(rows: "pandas.DataFrame") -> str:
    measure = rows["source"].iloc[0].split("/")[0]
    return NAMES.get(measure, measure.replace("_", " "))


def _band(null: "pandas.DataFrame", perfect: "pandas.DataFrame | None", label: str) -> Callable:
    """Draws the range of the null over arms, and the mean of a perfect ranking."""

    def draw(axis: "matplotlib.axes.Axes", *_: object) -> None:
        by_round = null.groupby("round")
        rounds = [float(round) for round in by_round.groups]
        edges = [rounds[0] - 0.4, *rounds[1:-1], rounds[-1] + 0.4] if len(rounds) > 1 else [0.6, 1.4]
        low, high = by_round["low"].min().to_numpy(), by_round["high"].max().to_numpy()
        if len(rounds) == 1:
            low, high = low.repeat(2), high.repeat(2)
        axis.fill_between(edges, low, high, color=CHANCE, alpha=0.3, linewidth=0, label=label, zorder=0.5)
        if perfect is not None:
            best = perfect.groupby("round")["value"].mean().to_numpy()
            best = best.repeat(2) if len(rounds) == 1 else best
            axis.plot(edges, best, color=INK, linestyle="-.", linewidth=1.0, label="perfect ranking", zorder=1.5)

    return draw


def _level(value: float) -> Callable:
    """Draws what chance gives as a thin line."""

    def draw(axis: "matplotlib.axes.Axes", *_: object) -> None:
        axis.axhline(value, color=MUTED, linewidth=1.0, zorder=1)

    return draw


def _draw_reliability(axis: "matplotlib.axes.Axes", panel: Panel, look: dict) -> None:
    """Accuracy against stated confidence in the last round of each arm; the diagonal is perfect calibration."""
    axis.plot([0, 1], [0, 1], color=MUTED, linewidth=1.0, zorder=1)
    for arm, rows in panel.rows.groupby("arm", sort=False):
        axis.vlines(
            rows["stated"], rows["low"], rows["high"], color=look[arm].color, linewidth=1.0, alpha=0.6, zorder=3
        )
        axis.plot(
            rows["stated"],
            rows["value"],
            color=look[arm].color,
            linestyle=look[arm].line,
            marker=look[arm].marker or "x",
            markersize=4.5,
            linewidth=1.2,
            label=arm if arm != BASELINE else "_none",
            zorder=4,
        )
    rounds = sorted(panel.rows.loc[panel.rows["arm"] != BASELINE, "round"].unique())
    axis.set_title(panel.title, loc="left", color=INK)
    said = f"round {n_range(panel.rows.loc[panel.rows['arm'] != BASELINE, 'round'])}" if rounds else "round 1"
    axis.set_title(said, loc="right", color=MUTED, fontsize=8.5)
    axis.set_xlabel("confidence (mean of the bin)")
    axis.set_ylabel(panel.ylabel)
    axis.set_xlim(-0.02, 1.02)
    axis.set_ylim(-0.02, 1.02)
