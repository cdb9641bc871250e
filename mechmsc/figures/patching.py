"""Maps of patching effects: layer x token with the tokens' text and the spans' bounds, or layer x head.

Colour shows the mean effect, white is none; a dot marks what survives the correction over the whole grid.
"""

import textwrap
from typing import TYPE_CHECKING

import numpy as np

from mechmsc.errors import InputError, nearest
from mechmsc.figures.style import INK, MUTED, style

if TYPE_CHECKING:
    import matplotlib.axes
    import matplotlib.figure
    import pandas
    import xarray

DIVERGING = "PuOr"  # can be told apart with the common colour-vision deficiencies
EVERY_TOKEN = 60
"""Up to so many tokens each has its text at the axis; beyond, spans alone are named."""
VALUES = {"effect": "effect on {outcome}{unit}", "normalised": "share of the gap in {outcome}"}
UNITS = {
    "choice_entropy": "nats",
    "choice_entropy_within": "nats",
    "log_odds": "nats",
    "first_token_entropy": "nats",
    "kl": "nats",
}
"""Units of the named outcomes."""
BOUNDS = {"effect": ("low", "high"), "normalised": ("normalised_low", "normalised_high")}
CORRECTED = {
    "max_statistic": "no false dot with probability {level} (max-statistic permutation test over items and all cells)",
    "benjamini_hochberg": "at most {rest} of the dots false on average (Benjamini-Hochberg over all cells)",
}


def conditions(effect: "xarray.Dataset") -> str:
    """Round, arms and history of an effect of `patch_run`, as a sentence of its caption."""
    said = effect.attrs
    return (
        f"Round {said['round_patched']}, from arm {said['source_arm']} into {said['destination_arm']}, history "
        f"{said['history']}."
    )


def patching_table(effect: "xarray.Dataset | xarray.DataArray") -> "pandas.DataFrame":
    """The numbers of a map, a row a cell: what `save_figure` puts beside the picture.

    Args:
        effect: from `patching_effect`, or a raw grid of `patch_grid`.
    """
    effect = _effect(effect)
    scalars = [name for name in effect.coords if effect[name].ndim == 0]
    return effect.drop_vars(scalars).to_dataframe().reset_index().dropna(subset=["effect"], ignore_index=True)


def patch_grid(
    effect: "xarray.Dataset | xarray.DataArray",
    *,
    value: str = "effect",
    outcome: str | None = None,
    unit: str | None = None,
    caption: str | None = None,
) -> "matplotlib.figure.Figure":
    """Draw effects as maps, a panel a component: layers upwards, tokens (or heads) to the right.

    Args:
        effect: from `patching_effect`; or a raw grid of `patch_grid`, drawn as mean differences without marks. With
            heads and positions choose one of either first: `effect.sel(position=...)` or `effect.sel(head=...)`.
        value: effect (in the outcome's unit) or normalised (share of the gap between the runs).
        outcome: which, where there are several.
        unit: of the outcome; None: that of the named outcomes, nothing for others.
        caption: sentences to stand under the figure, after what the map shows.

    Returns:
        The figure, bound to no window; save it with `save_figure(figure, patching_table(effect), ...)`.

    Raises:
        InputError: an unknown value or outcome, heads and positions at once, nothing to draw.
    """
    from matplotlib.figure import Figure

    effect = _effect(effect)
    if value not in VALUES or value not in effect:
        raise InputError(f"unknown value {value!r}: {nearest(str(value), [name for name in VALUES if name in effect])}")
    effect, name = _outcome(effect, outcome)
    across = [dim for dim in ("position", "head") if dim in effect.dims]
    if len(across) > 1 or "layer" not in effect.dims:
        raise InputError(
            f"a map has layers and either positions or heads, got {', '.join(map(str, effect.dims))}; choose one with "
            "effect.sel(position=...) or effect.sel(head=...), or sweep with together=True"
        )
    count = effect.sizes["component"] if "component" in effect.dims else 0
    parts = [effect.isel(component=i) for i in range(count)] or [effect]
    limit = float(np.nanmax(np.abs(effect[value].values), initial=0.0))
    if not limit > 0:
        limit = 1.0  # nothing has an effect: an empty map, not a division by zero
    unit = UNITS.get(name, "") if unit is None else unit
    with style():
        figure = Figure(layout="constrained")
        axes = figure.subplots(len(parts), 1, squeeze=False, sharex=True)[:, 0]
        for axis, part in zip(axes, parts, strict=True):
            image = _draw_panel(axis, part, value, limit, across)
        if "position" in across:
            _name_spans(axes[0], _spans(parts[0]), parts[0].sizes["position"])
        for axis in axes[:-1]:
            axis.tick_params(labelbottom=False)
            axis.set_xlabel("")
        label = VALUES[value].format(outcome=name, unit=f" ({unit})" if unit else "")
        bar = figure.colorbar(image, ax=list(axes), label=label, aspect=12 * len(parts) + 6, pad=0.02)
        bar.outline.set_visible(False)
        said = _statement(effect, value, unit) + (f" {caption.strip()}" if caption else "")
        _frame(figure, effect, len(parts), across, said)
        figure.draw_without_rendering()  # ticks are made when first drawn: here, while the style holds
    return figure


def _effect(effect: "xarray.Dataset | xarray.DataArray") -> "xarray.Dataset":
    """Effects as they are; mean differences of a raw grid."""
    if hasattr(effect, "data_vars"):
        if "effect" not in effect:
            raise InputError(
                f"expected effects of patching_effect, got a dataset of {', '.join(map(str, effect))[:80]}"
            )
        return effect
    if "item" not in effect.dims:
        raise InputError(f"expected a grid of patch_grid with its items, got an array with dims {effect.dims}")
    difference = effect if effect.name == "attribution" else effect - effect.destination
    found = difference.mean("item").rename("effect").to_dataset()
    return found.assign(n=difference.count("item")).assign_attrs({**effect.attrs, "n_items": effect.sizes["item"]})


def _outcome(effect: "xarray.Dataset", outcome: str | None) -> "tuple[xarray.Dataset, str]":
    if "outcome" not in effect.dims:
        return effect, str(effect.attrs.get("outcome", "outcome"))
    names = [str(name) for name in effect.outcome.values]
    if outcome is None and len(names) > 1 or outcome is not None and outcome not in names:
        raise InputError(f"outcome {outcome!r}: expected one of {', '.join(names)}")
    return effect.sel(outcome=outcome or names[0]), outcome or names[0]


def _draw_panel(axis: "matplotlib.axes.Axes", part: "xarray.Dataset", value: str, limit: float, across: list[str]):  # noqa: ANN202 - the image
    """One component."""
    along = across[0] if across else None
    part = part.transpose("layer", *across)
    data = part[value].values.reshape(part.sizes["layer"], -1)
    rows, columns = data.shape
    edges = np.arange(columns + 1) - 0.5, np.arange(rows + 1) - 0.5
    image = axis.pcolormesh(*edges, data, cmap=DIVERGING, vmin=-limit, vmax=limit, rasterized=True)
    axis.set_facecolor("#eeeeee")  # cells that no item has
    if "significant" in part:
        marks = np.argwhere(part["significant"].values.reshape(rows, columns))
        size = 9.0 if columns <= EVERY_TOKEN else 3.0 if columns <= 150 else 1.5
        dark = np.abs(data[marks[:, 0], marks[:, 1]]) > 0.55 * limit
        axis.scatter(marks[:, 1], marks[:, 0], s=size, c=np.where(dark, "white", INK), linewidths=0, zorder=3)
    layers = part.layer.values.tolist()
    step = max(1, -(-rows // 8))
    axis.set_yticks(range(0, rows, step), [str(layers[i]) for i in range(0, rows, step)])
    axis.set_ylabel(f"{part.component.item()}\nlayer" if "component" in part.coords else "layer")
    axis.grid(False)
    if along == "head":
        heads = part["head"].values.tolist()
        axis.set_xticks(range(columns), [str(head) for head in heads], fontsize=8.5 if columns <= 24 else 6)
        axis.set_xlabel("head")
    elif along == "position":
        _token_axis(axis, part)
    else:
        axis.set_xticks([])
    return image


def _token_axis(axis: "matplotlib.axes.Axes", part: "xarray.Dataset") -> None:
    """Tokens by text where there is room, spans by name, and lines where spans meet."""
    n = part.sizes["position"]
    spans = _spans(part)
    for start, _, _ in spans[1:]:
        axis.axvline(start - 0.5, color=MUTED, linewidth=0.7, zorder=2)
    if n <= EVERY_TOKEN:
        texts = [_shown(str(text)) for text in part["token"].values] if "token" in part.coords else range(n)
        axis.set_xticks(range(n), texts, rotation=90, fontsize=8 if n <= 30 else 6.5)
        axis.set_xlabel("token")
    elif spans:
        axis.set_xticks([(start + end - 1) / 2 for start, end, _ in spans], [""] * len(spans))
        axis.tick_params(axis="x", length=0)
        axis.set_xlabel(f"{n} tokens, by span and round")
    else:
        step = -(-n // 12)
        axis.set_xticks(range(0, n, step), [str(part["position"].values[i]) for i in range(0, n, step)])
        axis.set_xlabel("token (number in the conversation)")


def _name_spans(axis: "matplotlib.axes.Axes", spans: list[tuple[int, int, str]], n: int) -> None:
    """Names above the panel; those that would not fit beside their neighbours are turned, the smallest left out."""
    for start, end, name in spans:
        share = (end - start) / n
        if share * 10 < 0.16:  # inches of a wide figure
            continue
        flat = share * 10 > 0.085 * len(name)
        axis.annotate(
            name,
            ((start + end - 1) / 2, 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(0, 3),
            textcoords="offset points",
            ha="center" if flat else "left",
            va="bottom",
            rotation=0 if flat else 45,
            rotation_mode="anchor",
            fontsize=7.5,
            color=MUTED,
        )


def _spans(part: "xarray.Dataset") -> list[tuple[int, int, str]]:
    """Runs of positions in one span and round: (first, one behind the last, name)."""
    if "span" not in part.coords or part["span"].ndim != 1:
        return []
    keys = list(zip(part["span"].values.tolist(), part["round"].values.tolist(), strict=True))
    bounds = [i for i in range(len(keys)) if i == 0 or keys[i] != keys[i - 1]] + [len(keys)]
    names = [f"{keys[i][0]} {keys[i][1]}" if keys[i][0] else "" for i in bounds[:-1]]
    return [(a, b, name) for a, b, name in zip(bounds, bounds[1:], names, strict=False)]


def _shown(text: str) -> str:
    """A token's text with blanks and line ends visible, cut to what fits under a map."""
    text = text.replace("\n", "↵").replace("\t", "→").replace(" ", "·").replace("$", r"\$")
    return text if len(text) <= 14 else f"{text[:13]}…"


def _statement(effect: "xarray.Dataset", value: str, unit: str) -> str:
    """What the map shows, in words."""
    n = int(effect.attrs.get("n_items", effect["n"].max() if "n" in effect else 1))
    kind = "First-order estimate" if effect.attrs.get("kind") == "attribution" else "Mean effect"
    share = (
        ", divided by the mean of source minus destination (1 = reaches the source)" if value == "normalised" else ""
    )
    said = [
        f"{kind} over n = {n} item{'s' * (n != 1)} of writing the activation of the source run into the destination "
        f"run: outcome after the patch minus outcome of the destination run{share}."
    ]
    direction = effect.attrs.get("direction")
    if direction:
        said.append(f"Direction {direction}: {effect.attrs.get('direction_means', '')}.")
    if "aligned" in effect.attrs and effect.attrs["aligned"] != "token by token":
        said.append(f"Tokens aligned by {effect.attrs['aligned']}.")
    if "gap" in effect and effect["gap"].ndim == 0:
        gap = [float(effect[name]) for name in ("gap", "gap_low", "gap_high")]
        interval = f" [{gap[1]:.3g}, {gap[2]:.3g}]" if np.isfinite(gap[1]) else ""
        said.append(f"Source minus destination: {gap[0]:.3g}{interval}{f' {unit}' if unit else ''}.")
    low, high = (effect.get(name) for name in BOUNDS[value])
    level = float(effect.attrs.get("level", 0.95))
    if low is not None and np.isfinite(low.values).any():
        half = float(np.nanmedian((high - low).values)) / 2
        said.append(f"Median half-width of the cells' {level * 100:g} % bootstrap intervals over items: {half:.2g}.")
    elif n == 1:
        said.append("One item: no interval and no test.")
    if "significant" in effect and bool(np.isfinite(effect["p"].values).any()):
        rates = {"level": f"{level * 100:g} %", "rest": f"{(1 - level) * 100:.2g} %"}
        text = CORRECTED[effect.attrs["correction"]].format(**rates)
        said.append(f"Dots ({int(effect['significant'].sum())} of {effect['p'].size} cells): {text}.")
    return " ".join(said)


def _frame(
    figure: "matplotlib.figure.Figure", effect: "xarray.Dataset", panels: int, across: list[str], statement: str
) -> None:
    """Size by what there is to show; the caption below."""
    columns = effect.sizes[across[0]] if across else 1
    per_column = 0.19 if columns <= EVERY_TOKEN else 0.03
    width = float(np.clip(1.9 + per_column * columns, 4.8, 11.0))
    rows = float(np.clip(0.085 * effect.sizes["layer"], 1.1, 3.2))
    lines = textwrap.wrap(statement, int(width * 16))
    caption = 0.145 * len(lines) + 0.12
    height = panels * (rows + 0.55) + 0.75 + caption
    figure.set_size_inches(width, height)
    figure.get_layout_engine().set(rect=(0, caption / height, 1, 1 - caption / height), w_pad=0.06, h_pad=0.06)
    text = "\n".join(lines)
    figure.text(0.08 / width, 0.06 / height, text, fontsize=8, color=MUTED, va="bottom", ha="left", linespacing=1.25)
