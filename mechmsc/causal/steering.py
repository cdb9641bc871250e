"""`select_steering`: the layer and the strength to steer with, chosen on items that are not reported afterwards."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from mechmsc.causal.asked import band_name, bands_of, check_mediator, site_of, warn_of_few
from mechmsc.causal.filling import Kept, Part, fill
from mechmsc.causal.histories import Pair, check_run, conversations_of
from mechmsc.causal.worlds import Band
from mechmsc.directions import Direction
from mechmsc.errors import InputError
from mechmsc.interventions import Intervention, add, applied, generation_guards, measure, respond
from mechmsc.runs import Run
from mechmsc.sites import Site
from mechmsc.tasks import Item

if TYPE_CHECKING:
    import pandas
    import xarray
    from transformer_lens import HookedTransformer

STRENGTHS = (0.5, 1.0, 2.0, 4.0)
MAX_KL = 0.5
"""Nats by which the next token may move."""
MAX_PERPLEXITY_RATIO = 1.5
"""How much less likely steered responses may be to the unedited model than its own."""
LAYERS_TRIED = 10


def validation_items(items: Sequence[Item], *, share: float = 0.25, seed: int = 0) -> list[str]:
    """Items of each task to choose on; those of one template together, so that none is on both sides.

    Args:
        items: of a run.
        share: of the templates (items, where there are none), above 0 and below 1; at least one is chosen and one is
            left; a task of one template gives none.
        seed: of the choice.

    Raises:
        InputError: a share that is none, or items that are all of one template.
    """
    if not 0 < share < 1:
        raise InputError(f"share: expected a number above 0 and below 1, got {share}")
    chosen: set[str] = set()
    for task in dict.fromkeys(item.task for item in items):
        families = sorted({_family(item) for item in items if item.task == task})
        n = min(max(1, round(share * len(families))), len(families) - 1)
        chosen |= set(np.random.default_rng(seed).permutation(families)[:n].tolist())
    if not chosen:
        raise InputError("items that are all of one template: none would be left to report")
    return [item.item_id for item in items if _family(item) in chosen]


def select_steering(
    model: "HookedTransformer",
    run: Run,
    direction: Direction,
    *,
    items: Sequence[str] | None = None,
    arm: str = "neutral",
    layers: Sequence[int | range] | None = None,
    strengths: Sequence[float | int] = STRENGTHS,
    site: str | Site = "prompt_end",
    read_layer: int | None = None,
    rounds: Sequence[int] = (1,),
    max_kl: float = MAX_KL,
    max_perplexity_ratio: float = MAX_PERPLEXITY_RATIO,
    samples: int = 2,
    max_new_tokens: int = 32,
    batch_size: int = 16,
    seed: int = 0,
    progress: bool = True,
    kept: Kept | None = None,
) -> "xarray.Dataset":
    """What steering at each layer and strength does to the concept further on, what it costs, and the best to use.

    effect = (c(+a) - c(-a)) / 2 with c the concept's score at `read_layer`, in class gaps. Its cost is the larger of
    the two signs: KL(p_unedited || p) of the next token in nats, averaged over items, and the perplexity of steered
    responses under the unedited model over that of unsteered ones (geometric means). Chosen is the largest effect
    whose costs are within both limits; perplexity is taken in the order of the effects, until one is.

    The outcome of interest is not looked at. `dose_response(..., steering=...)` uses the choice and leaves these items
    out, because an effect looks larger on the items that chose it.

    Args:
        model: the run's model.
        run: holds the arm.
        direction: of the concept.
        items: to choose on; None: `validation_items(run.items, seed=seed)`.
        arm: whose conversations are steered.
        layers: layers, or bands that are edited together, all below `read_layer`; None: ten layers evenly.
        strengths: above 0, in class gaps; both signs are tried.
        site: as in `dose_response`.
        read_layer: where the concept is read; None: the last that the direction has.
        rounds: from 1.
        max_kl: limit in nats.
        max_perplexity_ratio: limit.
        samples: responses a conversation for the perplexity.
        max_new_tokens: longest of them.
        batch_size: conversations at once, strengths counted one by one.
        seed: of the split and of the samples.
        progress: show a bar on stderr.
        kept: where it is kept on its way, to go on after an interruption; `causal.store_*` give it.

    Returns:
        A Dataset: effect and kl (item, round, strength, layer), perplexity_ratio (strength, layer; nan where not
        needed); attributes chosen_layer, chosen_strength and the settings. `steering_table` averages over items.

    Raises:
        InputError: nothing within the limits, a layer not below `read_layer`, strengths not above 0; or as
            `dose_response`.
    """
    site = site_of(site, direction)
    check_mediator("concept", direction, site, run)
    check_run(model, run, [arm])
    read_layer = max(direction.layers) if read_layer is None else read_layer
    bands, strengths = _candidates(layers, read_layer, model.cfg.n_layers), _positive(strengths)
    items = validation_items(run.items, seed=seed) if items is None else list(items)
    pairs = conversations_of(run, arm=arm, rounds=rounds, items=items)
    warn_of_few(pairs)
    found = _empty(pairs, strengths, bands)
    steer = _Steer(model, direction, site, read_layer, batch_size)
    numbers = [int(at) for at in found["round"].values]
    parts = (
        Part((place, i), partial(steer.fill, found, [pair for pair in pairs if pair.round == at], band, place))
        for place, band in enumerate(bands)
        for i, at in enumerate(numbers)
    )
    total = len(bands) * len(numbers)
    fill(found, parts, ("layer", "round"), text="layers and rounds steered", show=progress, total=total, kept=kept)
    drawing = {"samples": samples, "max_new_tokens": max_new_tokens, "seed": seed, "batch_size": batch_size}
    chosen = _choose(steer, found, pairs, bands, max_kl, max_perplexity_ratio, drawing)
    return found.assign_attrs(
        {
            "concept_name": direction.concept,
            "method": direction.method,
            "arm": arm,
            "site": str(site),
            "read_layer": read_layer,
            "max_kl": max_kl,
            "max_perplexity_ratio": max_perplexity_ratio,
            "chosen_layer": band_name(bands[chosen[1]]),
            "chosen_strength": strengths[chosen[0]],
            "seed": seed,
        }
    )


def steering_table(
    found: "xarray.Dataset", *, level: float = 0.95, n_boot: int = 2000, seed: int = 0
) -> "pandas.DataFrame":
    """Effect (class gaps, with its interval over items) and cost of every layer and strength, the chosen one marked.

    Returns:
        layer, strength, effect, low, high, kl, perplexity_ratio, chosen, level, n (items); largest effect first.
    """
    import pandas

    from mechmsc.estimate import cluster_bootstrap_columns

    means, rows = found[["effect", "kl"]].mean("round"), []
    for layer in found["layer"].values:
        mine = means["effect"].sel(layer=layer).transpose("item", "strength").values
        estimates = cluster_bootstrap_columns(mine, np.arange(len(mine)), level=level, n_boot=n_boot, seed=seed)
        for strength, e in zip(found["strength"].values, estimates, strict=True):
            at = {"layer": layer, "strength": strength}
            chosen = layer == found.attrs["chosen_layer"] and strength == found.attrs["chosen_strength"]
            costs = float(means["kl"].sel(at).mean()), float(found["perplexity_ratio"].sel(at))
            rows.append((layer, float(strength), e.value, e.low, e.high, *costs, bool(chosen), level, e.n))
    columns = ["layer", "strength", "effect", "low", "high", "kl", "perplexity_ratio", "chosen", "level", "n"]
    return pandas.DataFrame(rows, columns=columns).sort_values("effect", ascending=False, ignore_index=True)


def chosen_band(found: "xarray.Dataset") -> range:
    """The layers that were chosen."""
    first, _, last = str(found.attrs["chosen_layer"]).partition("-")
    return range(int(first), int(last or first) + 1)


class _Steer:
    """Steers conversations of one round, and looks at what it did."""

    def __init__(
        self, model: "HookedTransformer", direction: Direction, site: Site, read_layer: int, batch_size: int
    ) -> None:
        self.model, self.direction, self.site, self.batch_size = model, direction, site, batch_size
        self.read = replace(Site.named("prompt_end", component=direction.component), layer=read_layer)

    def fill(self, found: "xarray.Dataset", pairs: Sequence[Pair], band: Band, place: int) -> None:
        """Effect and KL of every strength at a band: each conversation at all strengths, its beginning encoded once."""
        signed = [sign * a for a in found["strength"].values for sign in (1.0, -1.0)]
        conversations = [pair.control for pair in pairs for _ in signed]
        with applied(self.model, self._edits(band, pairs[0].round, [a for _ in pairs for a in signed])):
            values = measure(
                self.model,
                conversations,
                ["concept", "kl"],
                direction=self.direction,
                at=replace(self.read, round=pairs[0].round),
                batch_size=self.batch_size,
            )
        up, down = np.moveaxis(values["concept"].reshape(len(pairs), -1, 2), 2, 0)
        items = found.indexes["item"].get_indexer([pair.item.item_id for pair in pairs])
        at = (items, found.indexes["round"].get_loc(pairs[0].round), slice(None), place)
        found["effect"].values[at] = (up - down) / 2
        found["kl"].values[at] = values["kl"].reshape(len(pairs), -1, 2).max(2)

    def log_perplexity(self, pairs: Sequence[Pair], band: Band, strength: float, **drawing: int) -> float:
        """Mean log perplexity, under the unedited model, of samples drawn while steered."""
        logs = []
        for at in sorted({pair.round for pair in pairs}):
            conversations = [pair.control for pair in pairs if pair.round == at]
            with applied(self.model, self._edits(band, at, strength) if strength else []):
                told = respond(self.model, conversations, **drawing)
            guards = generation_guards(self.model, conversations, told[told["sample"] >= 0].reset_index(drop=True))
            logs += np.log(guards["perplexity"]).tolist()
        return float(np.mean(logs))

    def _edits(self, band: Band, at: int, strength: float | list[float]) -> list[Intervention]:
        where = replace(self.site, round=at)
        return [add(self.direction, strength=strength, at=replace(where, layer=layer)) for layer in band]


def _choose(
    steer: _Steer,
    found: "xarray.Dataset",
    pairs: Sequence[Pair],
    bands: Sequence[Band],
    max_kl: float,
    max_ratio: float,
    drawing: dict[str, int],
) -> tuple[int, int]:
    """(strength, layer) of the largest effect within both limits; fills in the perplexities that it needed."""
    effects, costs = (found[name].mean(["item", "round"]).values for name in ("effect", "kl"))
    order = [np.unravel_index(i, effects.shape) for i in np.argsort(-effects, axis=None, kind="stable")]
    within = [(int(a), int(band)) for a, band in order if costs[a, band] <= max_kl and effects[a, band] > 0]
    if not within:
        raise InputError(
            f"no layer and strength raises the concept at KL <= {max_kl:g} nats; the least costly moves the next "
            f"token by {costs.min():.3g} nats and the concept by {effects.flat[costs.argmin()]:.3g} gaps; "
            "try smaller strengths"
        )
    base = steer.log_perplexity(pairs, bands[0], 0.0, **drawing)
    for a, band in within:
        strength = float(found["strength"].values[a])
        signs = [steer.log_perplexity(pairs, bands[band], sign * strength, **drawing) for sign in (1.0, -1.0)]
        ratio = float(np.exp(max(signs) - base))
        found["perplexity_ratio"].values[a, band] = ratio
        if ratio <= max_ratio:
            return a, band
    raise InputError(
        f"no layer and strength keeps perplexity within {max_ratio:g} times the unsteered; the least is "
        f"{float(found['perplexity_ratio'].min()):.3g}; try smaller strengths"
    )


def _candidates(layers: Sequence[int | range] | None, read_layer: int, n_layers: int) -> list[Band]:
    if layers is None:
        layers = sorted(set(np.linspace(0, max(read_layer - 1, 0), LAYERS_TRIED).round().astype(int).tolist()))
    bands = bands_of(layers, n_layers)
    late = [band for band in bands if band[-1] >= read_layer]
    if late:
        raise InputError(f"layers: expected layers below read_layer {read_layer}, got {band_name(late[0])}")
    return bands


def _positive(strengths: Sequence[float | int]) -> list[float]:
    grid = sorted({float(a) for a in strengths})
    if not grid or not np.isfinite(grid).all() or grid[0] <= 0:
        raise InputError(f"strengths: expected numbers above 0, both signs are tried; got {list(strengths)}")
    return grid


def _family(item: Item) -> str:
    """The template that the item was made from, where its format tells (BBQ); else the item itself."""
    index = item.metadata.get("question_index")
    return item.item_id if index is None else f"{item.task}/{item.group}/{index}"


def _empty(pairs: Sequence[Pair], strengths: list[float], bands: Sequence[Band]) -> "xarray.Dataset":
    import xarray

    coords = {
        "item": list(dict.fromkeys(pair.item.item_id for pair in pairs)),
        "round": sorted({pair.round for pair in pairs}),
        "strength": strengths,
        "layer": [band_name(band) for band in bands],
    }
    dims = {"effect": tuple(coords), "kl": tuple(coords), "perplexity_ratio": ("strength", "layer")}
    arrays = {name: (of, np.full([len(coords[dim]) for dim in of], np.nan)) for name, of in dims.items()}
    return xarray.Dataset(arrays, coords=coords)
