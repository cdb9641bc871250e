"""Dose-response: how an outcome changes when the concept is turned up and down, against what placebos do."""

from typing import TYPE_CHECKING

from mechmsc.errors import InputError
from mechmsc.figures.panels import frame, n_range
from mechmsc.figures.style import INK, MUTED, style

if TYPE_CHECKING:
    import matplotlib.axes
    import matplotlib.figure
    import pandas

CONCEPT, PLACEBO = "#0072B2", "#999999"
ROUNDING = 5e-5
"""Differences of float32 outcomes below this say nothing."""
UNITS = {
    "choice_entropy": "choice entropy, total\n(change, nats)",
    "choice_entropy_within": "choice entropy, within an order\n(change, nats)",
    "first_token_entropy": "first-token entropy\n(change, nats)",
    "semantic_entropy": "semantic entropy\n(change, nats)",
    "predictive_entropy": "predictive entropy\n(change, nats)",
    "log_odds": "log-odds of the right option\n(change)",
    "accuracy": "accuracy\n(change, fraction correct)",
    "score": "score of the task\n(change)",
    "perplexity": "perplexity, unedited model\n(change; guard)",
    "distinct_2": "distinct word pairs\n(change, fraction; guard)",
    "length": "length\n(change, tokens; guard)",
}


def draw_dose(
    curves: "pandas.DataFrame", tests: "pandas.DataFrame", *, concept: str, caption: str | None = None
) -> "matplotlib.figure.Figure":
    """Change of each outcome against strength: the concept with its interval, the placebos as a band.

    Args:
        curves: outcome, strength, value, low, high, placebo_low, placebo_high, level, n (`causal.dose_curves`).
        tests: outcome, effect (slope, curvature), value, p (`causal.dose_table`).
        concept: what positive strength is more of.
        caption: sentences to stand under the figure.

    Returns:
        The figure, bound to no window.

    Raises:
        InputError: there is no row.
    """
    from matplotlib.figure import Figure

    if curves.empty:
        raise InputError("no dose-response to draw: the table has no rows")
    curves = curves[curves.groupby("outcome")["value"].transform("count") > 0]  # no pairs of words in one-word answers
    outcomes = list(curves["outcome"].unique())
    columns = min(3, len(outcomes))
    rows = -(-len(outcomes) // columns)
    with style():
        figure = Figure(layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False).ravel()
        for axis, outcome in zip(axes, outcomes, strict=False):
            _panel(axis, curves[curves["outcome"] == outcome], tests[tests["outcome"] == outcome], concept)
        for axis in axes[len(outcomes) :]:
            axis.remove()
        frame(figure, axes[: len(outcomes)], rows, columns, _statement(curves, caption), panel_inches=(3.6, 3.0))
        figure.draw_without_rendering()
    return figure


def _panel(axis: "matplotlib.axes.Axes", rows: "pandas.DataFrame", tests: "pandas.DataFrame", concept: str) -> None:
    x = rows["strength"].to_numpy()
    if rows["placebo_low"].notna().any():
        axis.fill_between(
            x, rows["placebo_low"], rows["placebo_high"], color=PLACEBO, alpha=0.3, linewidth=0, label="placebos"
        )
    axis.axhline(0.0, color=MUTED, linewidth=0.8)
    axis.axvline(0.0, color=MUTED, linewidth=0.8, linestyle=":")
    axis.vlines(x, rows["low"], rows["high"], color=CONCEPT, linewidth=1.2)
    axis.plot(x, rows["value"], color=CONCEPT, marker="o", markersize=4.5, linewidth=1.5, label=concept)
    outcome = rows["outcome"].iloc[0]
    axis.set_xlabel(f"strength along {concept}\n(class gaps, + is more)")
    axis.set_ylabel(UNITS.get(outcome, f"{outcome}\n(change)"))
    said = [f"{row['effect']} {short(row['value'])}{_p(row['p'])}" for _, row in tests.iterrows()]
    not_flat(axis)
    axis.set_title("\n".join(said), loc="left", color=INK, fontsize=8)
    axis.set_title(f"n = {n_range(rows['n'])}", loc="right", color=MUTED, fontsize=8.5)


def short(value: float) -> str:
    """Two significant digits; rounding noise is 0."""
    return "0" if abs(value) < ROUNDING else f"{value:.2g}"


def not_flat(axis: "matplotlib.axes.Axes") -> None:
    """Do not blow rounding noise up to the height of the panel."""
    low, high = axis.get_ylim()
    if high - low < 20 * ROUNDING:
        axis.set_ylim(-0.05, 0.05)


def _p(p: float) -> str:
    return f", p = {p:.2g}" if p == p else ""


def _statement(curves: "pandas.DataFrame", caption: str | None) -> str:
    level = f"{curves['level'].iloc[0] * 100:g} %"
    n = n_range(curves["n"])
    said = [f"Mean change from strength 0 with {level} cluster-bootstrap interval over items, n = {n} items."]
    if curves["placebo_low"].notna().any():
        said.append(
            f"Grey: the middle {level} of placebo directions, each moved by as much; p compares the size of the "
            "concept's slope (per class gap) and curvature (per squared class gap) with the placebos'."
        )
    return " ".join([*said, *([caption.strip()] if caption else [])])
