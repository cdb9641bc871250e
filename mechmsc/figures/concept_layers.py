"""Maps layer x round: where and when an instruction changes the concept, against a control arm, and what survives."""

from typing import TYPE_CHECKING

import numpy as np

from mechmsc.errors import InputError, nearest
from mechmsc.estimate import cluster_bootstrap_columns, max_statistic_test
from mechmsc.figures.concept import NUMBERS, concept_label, grids
from mechmsc.figures.panels import BASELINE, frame, n_range, task_title
from mechmsc.figures.style import INK, style

if TYPE_CHECKING:
    import matplotlib.axes
    import matplotlib.figure
    import matplotlib.image
    import pandas

CONTROL = "neutral"


def concept_layers_table(
    measures: "pandas.DataFrame",
    *,
    control: str | None = None,
    position: str | None = None,
    measure: str = "concept",
    level: float = 0.95,
    n_perm: int = 9999,
    seed: int = 0,
) -> "pandas.DataFrame":
    """Difference of every arm to a control arm, paired by item, by layer and round.

    Args:
        measures: a run's measures.
        control: arm to compare with; None: neutral if there, else the first.
        position: where it was read; None: prompt_end, else the first that there is.
        measure: as in `concept_table`.
        level: of the cluster-bootstrap intervals.
        n_perm: sign flips of the max-statistic test over the layers and rounds of one arm.
        seed: of bootstrap and flips.

    Returns:
        task, arm, control, round, layer, source, position, unit, value (mean paired difference), low, high, level, n,
        p_adjusted (corrected for the cells of the arm's map).

    Raises:
        InputError: no concept was measured, or there is no such arm, or no second arm with several rounds.
    """
    import pandas as pd

    rows = []
    for what, items, cells, grid, numbers in grids(measures, measure, position):
        arms = [arm for arm in dict.fromkeys(arm for arm, _ in cells) if arm != BASELINE]
        if control is not None and control not in arms:
            raise InputError(f"no arm {control!r} in the measures: {nearest(control, arms)}")
        base = control or (CONTROL if CONTROL in arms else arms[0])
        at = {cell: place for place, cell in enumerate(cells)}
        for arm in arms:
            rounds = [round for name, round in cells if name == arm and (base, round) in at]
            if arm == base or not rounds:
                continue
            mine, theirs = ([at[name, round] for round in rounds] for name in (arm, base))
            differences = grid[:, mine] - grid[:, theirs]  # [item, round, layer]
            flat = differences.reshape(len(items), -1)
            estimates = cluster_bootstrap_columns(flat, items, level=level, seed=seed)
            adjusted = max_statistic_test(flat, items, n_perm=n_perm, seed=seed)
            places = [(round, int(layer)) for round in rounds for layer in numbers]
            rows += [
                (what["task"], arm, base, *place, what["source"], what["position"], what["unit"])
                + (one.value, one.low, one.high, one.level, one.n, float(p))
                for place, one, p in zip(places, estimates, adjusted, strict=True)
            ]
    if not rows:
        raise InputError("a map of differences needs two arms with several rounds; the run has one")
    names = ["task", "arm", "control", "round", "layer", "source", "position", "unit", *NUMBERS, "p_adjusted"]
    return pd.DataFrame(rows, columns=names)


def draw_concept_layers(
    table: "pandas.DataFrame", *, alpha: float = 0.05, caption: str | None = None
) -> "matplotlib.figure.Figure":
    """Maps layer x round of the difference to the control arm: a row a task, a column an arm, dots where it survives.

    Args:
        table: from `concept_layers_table`.
        alpha: cells whose corrected p is at most this carry a dot.
        caption: sentences to stand under the figure.

    Returns:
        The figure, bound to no window.

    Raises:
        InputError: the table is empty.
    """
    from matplotlib.figure import Figure

    if table.empty:
        raise InputError("no concept to draw: the table has no rows")
    tasks, arms = list(table["task"].unique()), list(table["arm"].unique())
    with style():
        figure = Figure(layout="constrained")
        axes = figure.subplots(len(tasks), len(arms), squeeze=False)
        for task, row in zip(tasks, axes, strict=True):
            mine = table[table["task"] == task]
            reach = float(np.nanmax(np.abs(mine["value"]), initial=0.0)) or 1.0
            for arm, axis in zip(arms, row, strict=True):
                image = _draw_map(axis, mine[mine["arm"] == arm], task, reach, alpha)
            bar = figure.colorbar(image, ax=list(row), shrink=0.9, pad=0.01)
            bar.set_label(
                concept_label(mine.assign(measure="concept")).replace("activated", "difference in"), fontsize=8
            )
        frame(figure, axes.ravel(), len(tasks), max(2, len(arms)), _map_statement(table, alpha, caption))
        figure.get_layout_engine().set(w_pad=0.1)  # room for the labels of the colour bars
        figure.draw_without_rendering()
    return figure


def _draw_map(
    axis: "matplotlib.axes.Axes", rows: "pandas.DataFrame", task: str, reach: float, alpha: float
) -> "matplotlib.image.AxesImage":
    grid = rows.pivot(index="layer", columns="round", values="value")
    first, last, low, high = grid.columns[0], grid.columns[-1], grid.index[0], grid.index[-1]
    image = axis.imshow(
        grid.to_numpy(float),
        origin="lower",
        aspect="auto",
        cmap="PuOr_r",
        vmin=-reach,
        vmax=reach,
        extent=(first - 0.5, last + 0.5, low - 0.5, high + 0.5),
        interpolation="nearest",
    )
    sure = rows[rows["p_adjusted"] <= alpha]
    axis.plot(sure["round"], sure["layer"], "o", color=INK, markeredgecolor="white", markersize=3, markeredgewidth=0.6)
    axis.grid(False)
    name = rows["arm"].iloc[0] if len(rows) else ""
    axis.set_title(f"{task_title(task, short=True)}: {name}", loc="left", color=INK, fontsize=9)
    axis.set_xlabel(f"round (n = {n_range(rows['n'])} items)")
    axis.set_ylabel("layer")
    axis.xaxis.get_major_locator().set_params(integer=True)
    axis.yaxis.get_major_locator().set_params(integer=True)
    return image


def _map_statement(table: "pandas.DataFrame", alpha: float, caption: str | None) -> str:
    control = ", ".join(table["control"].unique())
    said = (
        f"Mean paired difference to the arm {control}, over items. Dots: the difference survives correction for all "
        f"layers and rounds of its map (max-statistic over sign flips of items, p <= {alpha:g}). "
        "Purple: less, orange: more."
    )
    return " ".join([said, *([caption.strip()] if caption else [])])
