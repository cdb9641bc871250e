"""The activated concept by round and arm: averaged over a band of layers, and layer by layer.

After Figure 4 of Liu et al. (arXiv:2510.07290): (a) tasks with options, (b) generation; with intervals, n, a baseline
and a neutral arm. One unit is the distance between the two classes of the statements that the direction was fitted on;
levels on transcripts are not comparable with those classes, differences between arms and rounds are.
"""

from typing import TYPE_CHECKING

import numpy as np

from mechmsc.errors import InputError, nearest
from mechmsc.estimate import cluster_bootstrap_columns
from mechmsc.figures.panels import Panel, draw_panels, statement_of, task_title
from mechmsc.tasks import TASKS

if TYPE_CHECKING:
    import matplotlib.figure
    import pandas

COLUMNS = ["task", "arm", "round", "layers", "measure", "source", "position", "unit"]
NUMBERS = ["value", "low", "high", "level", "n"]
SHOWN_LAYERS = 5
"""Layers with a panel of their own, evenly spaced; the table has all."""


def concept_table(
    measures: "pandas.DataFrame",
    *,
    layers: tuple[int, int] | None = None,
    position: str | None = None,
    measure: str = "concept",
    level: float = 0.95,
    seed: int = 0,
) -> "pandas.DataFrame":
    """Mean concept by task, arm and round, for a band of layers and for every layer.

    Args:
        measures: a run's measures.
        layers: first and last layer of the band; None: the middle half.
        position: where it was read; None: prompt_end, else the first that there is.
        measure: concept, concept_cosine or concept_cosine_as_released.
        level: of the cluster-bootstrap intervals over items, all cells from the same resamples.
        seed: of the bootstrap.

    Returns:
        task, arm, round, layers ("7-21" for the band, "12" for a layer), measure, source, position, unit, value, low,
        high, level, n; tasks with options first. Of several directions a task is read by the one for its concept.

    Raises:
        InputError: no concept was measured, at this position, or in this band.
    """
    import pandas as pd

    rows = []
    for what, items, cells, grid, numbers in grids(measures, measure, position):
        inside = in_band(numbers, layers)
        name = f"{numbers[inside][0]}-{numbers[inside][-1]}"
        with_band = np.concatenate([grid[:, :, inside].mean(axis=2, keepdims=True), grid], axis=2)
        labels = [name, *map(str, numbers)]
        flat = with_band.reshape(len(items), -1)
        estimates = iter(cluster_bootstrap_columns(flat, items, level=level, seed=seed))
        for arm, round in cells:
            for label in labels:
                one = next(estimates)
                place = (what["task"], arm, round, label, measure, what["source"], what["position"], what["unit"])
                rows.append((*place, one.value, one.low, one.high, one.level, one.n))
    table = pd.DataFrame(rows, columns=[*COLUMNS, *NUMBERS])
    order = {label: place for place, label in enumerate(table["layers"].unique())}
    return table.sort_values("layers", kind="stable", key=lambda column: column.map(order)).reset_index(drop=True)


def draw_concept(table: "pandas.DataFrame", *, caption: str | None = None) -> "matplotlib.figure.Figure":
    """Concept against round: of every task the mean over the band of layers, then some layers by themselves.

    Args:
        table: from `concept_table`.
        caption: sentences to stand under the figure.

    Returns:
        The figure, bound to no window.

    Raises:
        InputError: the table is empty.
    """
    if table.empty:
        raise InputError("no concept to draw: the table has no rows")
    panels = []
    for letter, (task, rows) in zip("abcdefgh", table.groupby("task", sort=False), strict=False):
        for label in _shown(list(rows["layers"].unique())):
            mine = rows[rows["layers"] == label]
            title = f"({letter}) {task_title(task, short=True)}" if "-" in label else f"({letter}) layer {label}"
            panels.append(Panel(mine, title, concept_label(mine)))
    drawn = table[table["layers"].isin(_shown(list(table["layers"].unique())))]
    unit = "One class gap: the distance between the two classes of the direction's statements."
    unit = unit if drawn["unit"].str.startswith("class gaps").any() else ""
    bands = [label.replace("-", "\u2013") for label in drawn["layers"].unique() if "-" in label]
    where = f"Under the name of a task: mean over layers {', '.join(bands)}; then some layers by themselves."
    return draw_panels(panels, statement=statement_of(drawn, where, unit, caption=caption), columns=min(3, len(panels)))


def _shown(labels: list[str]) -> list[str]:
    single = [label for label in labels if "-" not in label]
    n = SHOWN_LAYERS if len(single) >= SHOWN_LAYERS else min(2, len(single))  # with the band, whole rows of three
    places = np.linspace(0, len(single) - 1, n).round().astype(int)
    return [label for label in labels if "-" in label] + [single[place] for place in dict.fromkeys(places)]


def concept_label(rows: "pandas.DataFrame") -> str:
    """Axis label: which concept, where, in which unit."""
    unit, _, concept = rows["unit"].iloc[0].partition(", positive = more ")
    what = "cosine with" if "cosine" in rows["measure"].iloc[0] else "activated"
    return f"{what} {concept or 'concept'}, {rows['position'].iloc[0].replace('_', ' ')}\n({unit}, + is more)"


def in_band(numbers: np.ndarray, layers: tuple[int, int] | None) -> np.ndarray:
    """Which layers lie in a band, [layer]; None: the middle half.

    Raises:
        InputError: none.
    """
    quarter = len(numbers) // 4
    first, last = layers or (numbers[quarter], numbers[max(quarter, 3 * len(numbers) // 4 - 1)])
    inside = (numbers >= first) & (numbers <= last)
    if not inside.any():
        raise InputError(f"no layer from {first} to {last} was measured; there are {numbers[0]} to {numbers[-1]}")
    return inside


def grids(measures: "pandas.DataFrame", measure: str, position: str | None):  # noqa: ANN202 - an iterator of tuples
    """Of each task: what it is, items [item], cells [(arm, round)], values [item, cell, layer], layers [layer]."""
    rows = measures[(measures["measure"] == measure) & measures["layer"].notna()]
    if rows.empty:
        raise InputError(f"no {measure} to draw: none was measured; mechmsc measure RUN --direction FILE does")
    places = list(rows["position"].unique())
    position = position or ("prompt_end" if "prompt_end" in places else places[0])
    if position not in places:
        raise InputError(f"{measure} was not measured at {position!r}: {nearest(position, places)}")
    rows = rows[rows["position"] == position]
    rows = rows.assign(task=rows["item_id"].str.split("/").str[0])
    has_options = set(measures.loc[measures["measure"] == "accuracy", "item_id"].str.split("/").str[0])
    for task in sorted(rows["task"].unique(), key=lambda task: task not in has_options):
        mine = rows[rows["task"] == task]
        mine = mine[mine["source"] == _source(mine, task)]
        wide = mine.pivot(index="item_id", columns=["arm", "round", "layer"], values="value")
        numbers = np.array(sorted(mine["layer"].unique()), dtype=int)
        order = {arm: place for place, arm in enumerate(mine["arm"].unique())}
        cells = sorted({(arm, int(round)) for arm, round, _ in wide.columns}, key=lambda c: (order[c[0]], c[1]))
        columns = [(arm, round, layer) for arm, round in cells for layer in numbers]
        grid = wide[columns].to_numpy(float).reshape(len(wide), len(cells), len(numbers))
        what = {"task": task, "position": position, "source": mine["source"].iloc[0], "unit": mine["unit"].iloc[0]}
        yield what, wide.index.to_numpy(), cells, grid, numbers


def _source(rows: "pandas.DataFrame", task: str) -> str:
    """The direction for the concept at stake in a task, else the first."""
    concept = TASKS[task].concept if task in TASKS else None
    fitting = rows[rows["unit"].str.endswith(f"positive = more {concept}")]
    return (fitting if len(fitting) else rows)["source"].iloc[0]
