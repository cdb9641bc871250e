"""Does prediction mean causation? Simulated worlds, the predictive test of a run, and the fit of the posterior."""

from typing import TYPE_CHECKING

import numpy as np

from mechmsc.errors import InputError
from mechmsc.figures.panels import Panel, arm_shifts, draw_panels, frame, n_range, round_axis, task_title
from mechmsc.figures.style import INK, MUTED, RULE, Look, style

if TYPE_CHECKING:
    import matplotlib.axes
    import matplotlib.figure
    import pandas

ESTIMATORS = {
    "interventional": ("intervention (clamp)", Look("#0072B2", "o")),
    "observational": ("observation (regression)", Look("#D55E00", "s")),
    "adjusted": ("regression, confounder known", Look("#009E73", "^")),
}
PREDICTORS = {
    "concept": ("predicted by the concept", Look("#CC79A7", "D")),
    "confounder": ("by the confounder", Look("#E69F00", "v")),
    "majority": ("by the majority class", Look("#555555", "P", "--")),
}
ROWS = (
    ("accuracy", PREDICTORS, "accuracy\n(sign of change)"),
    ("estimate", ESTIMATORS, "estimated effect\n(nats)"),
    ("coverage", ESTIMATORS, "truth inside interval\n(share of data sets)"),
    ("rejection", ESTIMATORS, "0 outside interval\n(share of data sets)"),
)
CONFOUNDERS = {
    "length": "a text length that varies by item and round",
    "round": "a course that settles with the number of the round",
}
PREDICTED_BY = {
    "majority": "majority class",
    "concept": "change of concept",
    "concept_as_released": "change of concept, as released",
    "round": "number of the round",
    "length": "change of length",
    "others": "round and length",
    "all": "round, length and concept",
}
PANEL_INCHES = (2.6, 1.75)


def draw_structural(
    table: "pandas.DataFrame", *, n_items: int | None = None, caption: str | None = None
) -> "matplotlib.figure.Figure":
    """Accuracy of the predictive test, estimated effects, coverage and rejections against the true effect.

    A column of panels for each strength of the confounder.

    Args:
        table: from `structural_grid`.
        n_items: which of the numbers of items; None: the largest.
        caption: sentences to stand under the figure.

    Returns:
        The figure, bound to no window.

    Raises:
        InputError: the table has no row for this number of items, or more than one confounder.
    """
    from matplotlib.figure import Figure

    chosen = table["n_items"].max() if n_items is None else n_items
    rows = table[table["n_items"] == chosen]
    if rows.empty or rows["confounder"].nunique() > 1:
        raise InputError(f"expected simulated worlds of {chosen} items with one confounder, got {len(rows)} rows")
    gammas = sorted(rows["gamma"].unique())
    with style():
        figure = Figure(layout="constrained")
        axes = figure.subplots(len(ROWS), len(gammas), squeeze=False, sharex=True, sharey="row")
        for column, gamma in enumerate(gammas):
            _structural_column(axes[:, column], rows[rows["gamma"] == gamma], first=column == 0)
            title = "no confounder" if gamma == 0 else f"confounder γ = {gamma:g}"
            axes[0, column].set_title(title, loc="left", color=INK)
        for axis in axes[-1]:
            axis.set_xlabel("true effect β\n(nats per class gap)")
        frame(figure, axes.ravel(), *axes.shape, _structural_statement(rows, caption), panel_inches=PANEL_INCHES)
        figure.draw_without_rendering()
    return figure


def _structural_column(axes: np.ndarray, rows: "pandas.DataFrame", *, first: bool) -> None:
    """The panels of one strength of the confounder."""
    betas = np.sort(rows["beta"].unique())
    gap = np.diff(betas).min() if len(betas) > 1 else 1.0
    for axis, (quantity, drawn, label) in zip(axes, ROWS, strict=True):
        for place, (name, (text, look)) in enumerate(drawn.items()):
            mine = rows[(rows["estimator"] == name) & (rows["quantity"] == quantity)].sort_values("beta")
            x = mine["beta"].to_numpy() + (place - (len(drawn) - 1) / 2) * 0.12 * gap
            axis.vlines(x, mine["low"], mine["high"], color=look.color, linewidth=1.1, alpha=0.75, zorder=3)
            axis.plot(
                x,
                mine["value"],
                color=look.color,
                linestyle=look.line,
                marker=look.marker,
                markersize=4,
                linewidth=1.2,
                label=text,
                zorder=4,
            )
        if first:
            axis.set_ylabel(label)
        axis.set_xlim(betas[0] - 0.45 * gap, betas[-1] + 0.45 * gap)
        axis.set_xticks(betas, _labels(betas))
    truth = rows[rows["quantity"] == "truth"].drop_duplicates("beta").sort_values("beta")
    axes[1].plot(truth["beta"], truth["value"], color=INK, linestyle=":", linewidth=1.4, label="true effect", zorder=5)
    axes[0].set_ylim(0.4, 1.02)
    level = rows["level"].iloc[0]
    for axis, nominal in ((axes[2], level), (axes[3], 1 - level)):
        axis.axhline(nominal, color=INK, linestyle=":", linewidth=1.0, zorder=2)
        axis.set_ylim(-0.05, 1.05)


def _labels(ticks: np.ndarray) -> list[str]:
    """Rising ticks as text, from the last on, empty where the text would run into the next."""
    texts, room = [], np.inf
    for tick in ticks[::-1]:
        fits = room - tick >= 0.2 * np.ptp(ticks)
        texts.append(f"{tick:g}".replace("-", "\u2212") if fits else "")
        room = tick if fits else room
    return texts[::-1]


def _structural_statement(rows: "pandas.DataFrame", caption: str | None) -> str:
    one, level = rows.iloc[0], f"{rows['level'].iloc[0] * 100:g} %"
    return " ".join(
        [
            f"Simulated: each point from {n_range(rows['n_datasets'])} data sets of {one['n_items']} items, 2 arms and "
            f"{one['rounds']} rounds. The confounder, {CONFOUNDERS[one['confounder']]}, raises the concept and lowers "
            "the uncertainty by γ each. Accuracy: of the predictive test, on the change in uncertainty from round to "
            "round. Bars: in the first two rows where the central 95 % of data sets lie, below "
            f"the {level} Wilson interval of a share. Effect: of the instruction through the concept, with {level} "
            "cluster-bootstrap intervals over items. Dotted: the true effect, and what the shares should be: "
            f"{one['level']:g} of intervals hold the truth, and {1 - one['level']:.2g} leave out 0 where β = 0.",
            *([caption.strip()] if caption else []),
        ]
    )


def draw_predictive(table: "pandas.DataFrame", *, caption: str | None = None) -> "matplotlib.figure.Figure":
    """Accuracy by what predicts, one panel a task.

    Args:
        table: from `simulate(table=...)["predictive"]`.
        caption: sentences to stand under the figure.

    Returns:
        The figure, bound to no window.

    Raises:
        InputError: the table has no accuracy.
    """
    rows = table[table["measure"] == "accuracy"]
    if rows.empty:
        raise InputError("no accuracy to draw: the table has no rows")
    rows = rows.assign(arm="", round=1)
    panels = [
        Panel(mine, task_title(task), "", draw=_predictive_panel) for task, mine in rows.groupby("task", sort=False)
    ]
    level = f"{rows['level'].iloc[0] * 100:g} %"
    said = (
        f"Share of changes between consecutive rounds whose sign is predicted, on items left out of the fit; {level} "
        f"cluster-bootstrap interval over items, n = {n_range(rows['n'])} items, {n_range(rows['n_rows'])} changes "
        f"({n_range(rows['n_left_out'])} without a change left out). p: changes of the concept exchanged between "
        "items. A prediction, whatever its accuracy, is no evidence that one causes the other."
    )
    return draw_panels(panels, statement=" ".join([said, *([caption.strip()] if caption else [])]))


def _predictive_panel(axis: "matplotlib.axes.Axes", panel: Panel, look: dict[str, Look]) -> None:
    del look  # there are no arms
    rows = panel.rows.iloc[::-1]
    y = np.arange(len(rows))
    majority = rows.loc[rows["predictor"] == "majority", "value"].iloc[0]
    axis.axvline(majority, color=MUTED, linestyle="--", linewidth=1.0, zorder=2)
    for place, (_, row) in zip(y, rows.iterrows(), strict=True):
        marked = row["predictor"].startswith("concept") or row["predictor"] == "all"
        one = PREDICTORS["concept" if marked else "majority"][1]
        axis.hlines(place, row["low"], row["high"], color=one.color, linewidth=1.4, zorder=3)
        axis.plot(row["value"], place, color=one.color, marker="D" if marked else "o", markersize=4.5, zorder=4)
        if np.isfinite(row["p"]):
            at = row["high"] if np.isfinite(row["high"]) else row["value"]
            axis.annotate(
                f"p = {row['p']:.2g}",
                (at, place),
                (4, 0),
                "data",
                "offset points",
                fontsize=7.5,
                color=MUTED,
                va="center",
            )
    axis.set_yticks(y, [PREDICTED_BY.get(name, f"change of {name}") for name in rows["predictor"]])
    axis.set_ylim(-0.6, len(rows) - 0.4)
    low, high = (np.nanmin(rows[["low", "value"]].to_numpy()), np.nanmax(rows[["high", "value"]].to_numpy()))
    axis.set_xlim(min(low, 0.5) - 0.03, min(high + 0.14, 1.06))
    axis.grid(visible=False, axis="y")
    axis.grid(visible=True, axis="x", color=RULE)
    axis.set_xlabel("accuracy")
    axis.set_title(panel.title, loc="left", color=INK)


def draw_posterior(
    curves: "pandas.DataFrame", fit: "pandas.DataFrame", *, unit: str = "class gaps", caption: str | None = None
) -> "matplotlib.figure.Figure":
    """Measured concept by round and arm with what the posterior and the leaky posterior make of it, a panel a task.

    Args:
        curves: from `simulate(table=...)["posterior_curves"]`.
        fit: from `simulate(table=...)["posterior"]`.
        unit: of the concept.
        caption: sentences to stand under the figure.

    Returns:
        The figure, bound to no window.

    Raises:
        InputError: there is no curve.
    """
    if curves.empty:
        raise InputError("no curve to draw: the table has no rows")
    panels = []
    for task, rows in curves.groupby("task", sort=False):
        panels.append(Panel(rows, task_title(task), f"activated concept\n({unit}, + is more)", draw=_posterior_panel))
    level = f"{curves['level'].iloc[0] * 100:g} %"
    said = [
        f"Points: mean over items, levels of items removed, with {level} cluster-bootstrap interval over items, n = "
        f"{n_range(curves['n'])} items. Solid: posterior, every instruction adds its evidence. Dashed: evidence "
        "leaks between rounds (1: none does). Variance is explained on items left out of the fit; linear: the same "
        "slope over rounds in all arms."
    ]
    for task, rows in fit.groupby("task", sort=False):
        name = f"{task_title(task)}: " if fit["task"].nunique() > 1 else ""
        parts = [_told(rows, "leaky", "leak", "leak")]
        parts += [
            _told(rows, model, "r2", f"variance explained on items left out, {model}")
            for model in ("posterior", "leaky")
        ]
        said.append(name + "; ".join(parts) + ".")
    return draw_panels(panels, statement=" ".join([*said, *([caption.strip()] if caption else [])]))


def _told(fit: "pandas.DataFrame", model: str, quantity: str, name: str) -> str:
    """A number and its interval in words."""
    row = fit[(fit["model"] == model) & (fit["quantity"] == quantity)].iloc[0]
    return f"{name} {row['value']:.2f} [{row['low']:.2f}, {row['high']:.2f}]"


def _posterior_panel(axis: "matplotlib.axes.Axes", panel: Panel, look: dict[str, Look]) -> None:
    """Points with intervals, and two fitted lines, of each arm."""
    rows, arms = panel.rows, list(panel.rows["arm"].unique())
    shifts, last = arm_shifts(arms), int(rows["round"].max())
    for arm in arms:
        mine, one = rows[rows["arm"] == arm].sort_values("round"), look[arm]
        x = mine["round"].to_numpy() + shifts[arm]
        axis.vlines(x, mine["low"], mine["high"], color=one.color, linewidth=1.1, alpha=0.75, zorder=3)
        axis.plot(
            x,
            mine["value"],
            color=one.color,
            marker=one.marker or "x",
            markersize=4.5,
            linestyle="",
            label=arm,
            zorder=4,
        )
        if len(mine) > 1:
            axis.plot(mine["round"], mine["posterior"], color=one.color, linewidth=1.3, zorder=2)
            axis.plot(mine["round"], mine["leaky"], color=one.color, linewidth=1.3, linestyle=(0, (4, 2)), zorder=2)
    axis.plot([], [], color=MUTED, linewidth=1.3, label="posterior")
    axis.plot([], [], color=MUTED, linewidth=1.3, linestyle=(0, (4, 2)), label="leaky posterior")
    axis.set_title(panel.title, loc="left", color=INK)
    axis.set_title(f"n = {n_range(rows['n'])}", loc="right", color=MUTED, fontsize=8.5)
    axis.set_xlabel("round")
    axis.set_ylabel(panel.ylabel)
    round_axis(axis, last)
