"""Heat maps of directions: transfer between data sets, cosines between methods and between layers."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from mechmsc.errors import InputError
from mechmsc.figures.panels import frame, n_range
from mechmsc.figures.style import INK, style

if TYPE_CHECKING:
    import matplotlib.figure
    import pandas

PANEL_INCHES = (3.9, 3.5)
DIVERGING = "PuOr"  # can be told apart with the common colour-vision deficiencies


def draw_transfer(
    table: "pandas.DataFrame", *, concept: str, layers: Mapping[str, int], caption: str | None = None
) -> "matplotlib.figure.Figure":
    """AUROC of directions fitted on one data set (rows) and tested on another (columns), a panel a method.

    Args:
        table: from `directions.transfer.transfer_table`.
        concept: what is detected.
        layers: method -> the layer shown.
        caption: sentences to stand under the figure, after the statement on intervals and n.

    Returns:
        The figure, bound to no window.

    Raises:
        InputError: no AUROC at the layer of a method.
    """
    rows = table[table["measure"] == "auroc"]
    panels = {}
    for method in rows["method"].unique():
        its = rows[(rows["method"] == method) & (rows["layer"] == layers.get(method))]
        if its.empty:
            raise InputError(f"no AUROC of {method!r} at layer {layers.get(method)} in the table; name its layer")
        names = list(its["train"].unique())
        cells = its.set_index(["train", "test"])
        values = np.array([[cells.loc[(a, b), "value"] for b in names] for a in names])
        texts = [["{value:.2f}\n[{low:.2f}, {high:.2f}]".format(**cells.loc[(a, b)]) for b in names] for a in names]
        panels[f"{method}, layer {layers[method]}"] = (names, values, texts)
    level = f"{rows['level'].iloc[0] * 100:g} %"
    said = (
        f"AUROC for {concept} (0.5 = chance) of a direction fitted on one data set and tested on another; on the "
        f"diagonal on held-out groups of the same. In brackets: {level} cluster-bootstrap interval over groups of the "
        f"test set, n = {n_range(rows['n'])} groups."
    )
    return _heat_maps(
        panels, statement=_joined(said, caption), limits=(0.0, 1.0), bar="AUROC", axes=("tested on", "fitted on")
    )


def draw_method_cosines(
    table: "pandas.DataFrame", *, layer: int, caption: str | None = None
) -> "matplotlib.figure.Figure":
    """Cosine between the directions of methods at one layer.

    Args:
        table: from `directions.transfer.method_cosines`.
        layer: the layer shown.
        caption: sentences to stand under the figure.

    Returns:
        The figure, bound to no window.

    Raises:
        InputError: the table has no such layer.
    """
    rows = table[table["layer"] == layer]
    if rows.empty:
        raise InputError(f"no cosines at layer {layer}: the table has layers {sorted(table['layer'].unique())}")
    names = list(rows["method"].unique())
    wide = rows.pivot(index="method", columns="other_method", values="cosine").loc[names, names].to_numpy()
    texts = [[f"{value:.2f}" for value in row] for row in wide]
    said = f"Cosine between the directions that each method fits to the same statements, layer {layer}."
    return _heat_maps(
        {f"layer {layer}": (names, wide, texts)}, statement=_joined(said, caption), limits=(-1.0, 1.0), bar="cosine",
        axes=("method", "method"),
    )  # fmt: skip


def draw_layer_cosines(table: "pandas.DataFrame", *, caption: str | None = None) -> "matplotlib.figure.Figure":
    """Cosine between the directions at any two layers, a panel a method.

    Args:
        table: from `directions.transfer.layer_cosines`.
        caption: sentences to stand under the figure.

    Returns:
        The figure, bound to no window.

    Raises:
        InputError: the table is empty.
    """
    if table.empty:
        raise InputError("no cosines to draw: the table has no rows")
    panels = {}
    for method, rows in table.groupby("method", sort=False):
        wide = rows.pivot(index="layer", columns="other_layer", values="cosine")
        panels[str(method)] = ([str(layer) for layer in wide.index], wide.to_numpy(), None)
    said = "Cosine between the directions of two layers: over which layers the concept is written in the same place."
    axes = ("layer (residual stream after the block)", "layer")
    return _heat_maps(panels, statement=_joined(said, caption), limits=(-1.0, 1.0), bar="cosine", axes=axes)


def _heat_maps(
    panels: Mapping[str, tuple[Sequence[str], np.ndarray, list[list[str]] | None]],
    *,
    statement: str,
    limits: tuple[float, float],
    bar: str,
    axes: tuple[str, str],
) -> "matplotlib.figure.Figure":
    """Square maps beside each other with one colour bar; with texts a number in every cell."""
    from matplotlib.figure import Figure

    with style():
        figure = Figure(layout="constrained")
        spaces = figure.subplots(1, len(panels), squeeze=False).ravel()
        for space, (title, (names, values, texts)) in zip(spaces, panels.items(), strict=True):
            image = space.imshow(values, cmap=DIVERGING, vmin=limits[0], vmax=limits[1])
            space.grid(False)
            step = max(1, len(names) // 8)
            ticks = range(0, len(names), step)
            long = max(map(len, names)) > 4
            space.set_xticks(
                ticks, [names[t] for t in ticks], rotation=30 if long else 0, ha="right" if long else "center"
            )
            space.set_yticks(ticks, [names[t] for t in ticks])
            space.set_xlabel(axes[0])
            space.set_ylabel(axes[1])
            space.set_title(title, loc="left", color=INK)
            for (row, column), value in np.ndenumerate(values) if texts is not None else ():
                middle = abs(value - sum(limits) / 2) < 0.3 * (limits[1] - limits[0])
                space.text(column, row, texts[row][column], ha="center", va="center", fontsize=7.5,
                           color=INK if middle else "white")  # fmt: skip
        figure.colorbar(image, ax=list(spaces), shrink=0.8, label=bar)
        frame(figure, spaces, 1, len(panels), statement, panel_inches=PANEL_INCHES)
        figure.draw_without_rendering()  # ticks are made when first drawn: here, while the style holds
    return figure


def _joined(said: str, caption: str | None) -> str:
    return " ".join([said, *([caption.strip()] if caption else [])])
