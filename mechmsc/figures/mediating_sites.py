"""Where the effect passes through: NIE by layer, a line a site, beside the total effect."""

from typing import TYPE_CHECKING

from mechmsc.errors import InputError
from mechmsc.figures.dose import UNITS, not_flat
from mechmsc.figures.panels import frame, n_range
from mechmsc.figures.style import INK, MUTED, SCHEDULES, Look, style

if TYPE_CHECKING:
    import matplotlib.axes
    import matplotlib.figure
    import pandas

SITES = (Look("#0072B2", "s"), Look("#D55E00", "^"), *SCHEDULES)


def draw_mediating_sites(table: "pandas.DataFrame", *, caption: str | None = None) -> "matplotlib.figure.Figure":
    """A panel an outcome and mediator: indirect effect against layer, a line a site; the total effect as a band.

    Args:
        table: rows of `causal.mediation_table` over all rounds (`round` missing), with columns site and mediator beside
            its own; each layer by itself.
        caption: sentences to stand under the figure.

    Returns:
        The figure, bound to no window.

    Raises:
        InputError: there is no row, or a band of layers among the rows.
    """
    from matplotlib.figure import Figure

    table = table[table["round"].isna() & table["effect"].isin(["indirect", "total"])]
    if table.empty:
        raise InputError("no mediation to draw: the table has no rows over all rounds")
    bands = table.loc[~table["layer"].str.isdigit(), "layer"]
    if len(bands):
        raise InputError(f"expected single layers, got the band {bands.iloc[0]}")
    panels = list(table.groupby(["outcome", "mediator"], sort=False))
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    with style():
        figure = Figure(layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False).ravel()
        for axis, ((outcome, mediator), mine) in zip(axes, panels, strict=False):
            _draw(axis, mine, outcome, mediator)
        for axis in axes[len(panels) :]:
            axis.set_visible(False)
        frame(figure, axes[: len(panels)], rows, columns, _statement(table, caption), panel_inches=(3.7, 2.6))
    return figure


def _draw(axis: "matplotlib.axes.Axes", rows: "pandas.DataFrame", outcome: str, mediator: str) -> None:
    total = rows[rows["effect"] == "total"].iloc[0]
    axis.axhline(0.0, color=MUTED, linewidth=0.8)
    axis.axhspan(total["low"], total["high"], color=INK, alpha=0.10, linewidth=0)
    axis.axhline(total["value"], color=INK, linestyle="--", linewidth=1.1, label="total effect")
    sites = list(rows["site"].unique())
    for place, site in enumerate(sites):
        mine = rows[(rows["site"] == site) & (rows["effect"] == "indirect")]
        mine = mine.assign(layer=mine["layer"].astype(int)).sort_values("layer")
        look, shift = SITES[place % len(SITES)], (place - (len(sites) - 1) / 2) * 0.25
        x = mine["layer"].to_numpy() + shift
        axis.vlines(x, mine["low"], mine["high"], color=look.color, linewidth=1.1)
        axis.plot(x, mine["value"], color=look.color, marker=look.marker, markersize=4, label=f"NIE at {site}")
    not_flat(axis)
    axis.set_xlabel("layer")
    axis.set_ylabel(UNITS.get(outcome, f"{outcome}\n(change)").replace("change", "effect"))
    axis.set_title(mediator, loc="left")
    axis.set_title(f"n = {n_range(rows['n'])}", loc="right", color=MUTED, fontsize=8.5)


def _statement(table: "pandas.DataFrame", caption: str | None) -> str:
    said = (
        f"Mean over items and rounds with {table['level'].iloc[0] * 100:g} % cluster-bootstrap interval over items, "
        f"n = {n_range(table['n'])} items. NIE: the mediator at one layer is set to what it was under the treatment. "
        "Effects of layers do not add up: each holds what earlier layers passed on. Intervals are not corrected for "
        "the number of layers and sites."
    )
    return f"{said} {caption.strip()}" if caption else said
