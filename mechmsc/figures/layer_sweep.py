"""Where in the model a probe finds its concept: held-out detection against layer, beside everything it must beat."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from mechmsc.errors import InputError
from mechmsc.figures.panels import frame, n_range
from mechmsc.figures.style import INK, MUTED, Look, style

if TYPE_CHECKING:
    import matplotlib.axes
    import matplotlib.figure
    import pandas

LOOKS = {
    "mass_mean": Look("#0072B2", "o"),
    "logistic": Look("#D55E00", "s"),
    "lda": Look("#009E73", "^"),
    "caa": Look("#CC79A7", "D"),
    "pair_svd": Look("#E69F00", "v"),
    "ccs": Look("#56B4E9", "P"),
}
"""One colour and marker a method in every figure (colours by Okabe & Ito 2008)."""
OTHERS = (Look("#8C6BB1", "X"), Look("#555555", "*"), Look("#B8860B", "<"), Look("#1B9E77", ">"))
"""For fits of other names, in the order in which they appear."""
WORDS, RANDOM = Look("#222222", "", "--"), Look("#8C6BB1", "", ":")
BASELINES = ("bag_of_words", "text_length", "random_direction")
PANEL_INCHES = (4.3, 3.3)
RING = {"marker": "o", "markersize": 9.5, "markerfacecolor": "none", "markeredgewidth": 1.6, "linestyle": ""}
NAMES = {"bag_of_words": "bag of words", "random_direction": "random direction"}


def draw_layer_sweep(
    table: "pandas.DataFrame", *, concept: str, chosen: Mapping[str, int] | None = None, caption: str | None = None
) -> "matplotlib.figure.Figure":
    """AUROC and selectivity on held-out statements against layer, a line a method.

    Baselines: a bag of words (dashed, with its interval), random directions and, for the first method, fits on shuffled
    labels (mean and band over draws), and 0.5.

    Args:
        table: from `directions.evaluation.evaluate`.
        concept: what is detected, for the title.
        chosen: method -> the layer that was chosen for it, marked on its line.
        caption: sentences to stand under the figure, after the statement on intervals and n: model, data, position.

    Returns:
        The figure, bound to no window; save it with `save_figure`.

    Raises:
        InputError: no AUROC of a method by layer, or a chosen layer that is not in the table.
    """
    from matplotlib.figure import Figure

    held = table[table["part"] == "held_out"]
    methods = [name for name in held.loc[_of(held, "auroc"), "method"].unique() if name not in BASELINES]
    if not methods:
        raise InputError("no AUROC of a method by layer to draw: the table is not one of evaluate, or it is empty")
    look = _looks(methods)
    two = bool(held["measure"].eq("selectivity").any())
    with style():
        figure = Figure(layout="constrained")
        axes = figure.subplots(1, 1 + two, squeeze=False).ravel()
        _draw_lines(axes[0], held, "auroc", look, chosen or {})
        _draw_nulls(axes[0], held, methods[0])
        axes[0].set_ylabel("AUROC (1 = perfect, 0.5 = chance)")
        axes[0].set_title(f"detection of {concept}", loc="left", color=INK)
        n = held.loc[_of(held, "auroc") & held["method"].isin(methods), "n"]
        axes[0].set_title(f"n = {n_range(n)}", loc="right", color=MUTED, fontsize=8.5)
        if two:
            axes[1].axhline(0.0, color=MUTED, linewidth=0.8, zorder=1)
            _draw_lines(axes[1], held, "selectivity", look, chosen or {})
            axes[1].set_ylabel("selectivity\n(accuracy \u2212 control-task accuracy)")
            axes[1].set_title("more than memory of words", loc="left", color=INK)
        for axis in axes:
            axis.set_xlabel("layer (residual stream after the block)")
            axis.xaxis.get_major_locator().set_params(integer=True)
        statement = _statement(held, methods, two, chosen, caption)
        frame(figure, axes, 1, 1 + two, statement, panel_inches=PANEL_INCHES)
        figure.draw_without_rendering()  # ticks are made when first drawn: here, while the style holds
    return figure


def _of(held: "pandas.DataFrame", measure: str) -> "pandas.Series":
    return (held["measure"] == measure) & held["layer"].notna()


def _looks(methods: list[str]) -> dict[str, Look]:
    new = [name for name in methods if name not in LOOKS]
    return {name: LOOKS.get(name) or OTHERS[new.index(name) % len(OTHERS)] for name in methods}


def _draw_lines(
    axis: "matplotlib.axes.Axes",
    held: "pandas.DataFrame",
    measure: str,
    look: Mapping[str, Look],
    chosen: Mapping[str, int],
) -> None:
    """A line with its band for each method, and a ring around the chosen layer."""
    for place, (name, its) in enumerate(look.items()):
        rows = held[_of(held, measure) & (held["method"] == name)].sort_values("layer")
        if rows.empty:
            continue
        x = rows["layer"].astype(int).to_numpy()
        low, high = (rows[side].to_numpy(dtype=float) for side in ("low", "high"))
        axis.fill_between(x, low, high, color=its.color, alpha=0.13, linewidth=0, zorder=3)
        axis.plot(
            x, rows["value"], color=its.color, marker=its.marker, markersize=3.6, linewidth=1.4, label=name,
            markevery=(place % 2, 1 if len(x) < 16 else 2), zorder=5,
        )  # fmt: skip
        if name in chosen:
            at = rows[rows["layer"] == chosen[name]]
            if at.empty:
                raise InputError(
                    f"layer {chosen[name]} was chosen for {name!r}, but the table has layers {x[0]} to {x[-1]}"
                )
            axis.plot([chosen[name]], at["value"], **RING, markeredgecolor=its.color, zorder=6)
    if chosen:
        axis.plot([], [], **RING, markeredgecolor=INK, label="chosen layer")


def _draw_nulls(axis: "matplotlib.axes.Axes", held: "pandas.DataFrame", method: str) -> None:
    """Chance, shuffled labels of one method, random directions, bag of words."""
    axis.axhline(0.5, color=MUTED, linewidth=0.8, zorder=1)
    shuffled = held[_of(held, "shuffled_auroc") & (held["method"] == method)].sort_values("layer")
    random = held[_of(held, "auroc") & (held["method"] == "random_direction")].sort_values("layer")
    for rows, color, line, label in (
        (shuffled, MUTED, "-.", f"shuffled labels ({method})"),
        (random, RANDOM.color, RANDOM.line, NAMES["random_direction"]),
    ):
        if not rows.empty:
            x, low, high = (rows[side].to_numpy(dtype=float) for side in ("layer", "low", "high"))
            axis.fill_between(x, low, high, color=color, alpha=0.13, linewidth=0, zorder=1)
            axis.plot(x, rows["value"], color=color, linestyle=line, linewidth=1.2, label=label, zorder=2)
    for _, row in held[(held["measure"] == "auroc") & (held["method"] == "bag_of_words")].iterrows():
        axis.axhspan(row["low"], row["high"], color=WORDS.color, alpha=0.07, linewidth=0, zorder=1)
        axis.axhline(
            row["value"], color=WORDS.color, linestyle=WORDS.line, linewidth=1.2, label=NAMES["bag_of_words"], zorder=2
        )


def _statement(
    held: "pandas.DataFrame",
    methods: list[str],
    two: bool,
    chosen: Mapping[str, int] | None,
    caption: str | None,
) -> str:
    """What the marks mean, then the caller's sentences."""
    lines = held[_of(held, "auroc") & held["method"].isin(methods)]
    level = f"{lines['level'].iloc[0] * 100:g} %"
    said = [
        f"Statements that the fit has not seen (grouped cross-validation); bands: {level} cluster-bootstrap interval "
        f"over groups, n = {n_range(lines['n'])} groups."
    ]
    draws = held[_of(held, "shuffled_auroc") & (held["method"] == methods[0])]
    random = held[_of(held, "auroc") & (held["method"] == "random_direction")]
    if not draws.empty and not random.empty:
        said.append(
            f"Grey: {draws['n'].max()} fits on shuffled labels; violet: {random['n'].max()} random directions with the "
            f"sign that the training part gives them (mean, and {level} of the draws)."
        )
    if two:
        said.append(
            "Control task: a random label for each first word (Hewitt & Liang 2019); at 0 a probe tells no more than "
            "it could learn by heart."
        )
    if chosen:
        layers = ", ".join(f"{name} {layer}" for name, layer in chosen.items())
        said.append(
            f"Rings: the layer with the highest held-out AUROC ({layers}); the best of many layers looks better than "
            "it is."
        )
    return " ".join([*said, *([caption.strip()] if caption else [])])
