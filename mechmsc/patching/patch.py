"""`patch_grid`: from what a user asks for to an array with names on its axes."""

from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from mechmsc.errors import InputError, nearest
from mechmsc.model.partial import check_partial
from mechmsc.patching.alignment import Rounds, pair_ids, pair_transcripts
from mechmsc.patching.grid import Job, compute
from mechmsc.patching.places import BY_HEAD, Pairing, Place, check_components, check_range
from mechmsc.patching.tokens import end_ids_of, position_coords
from mechmsc.patching.wanted import Outcome, outcomes_of
from mechmsc.sites import Site
from mechmsc.transcripts import Transcript

if TYPE_CHECKING:
    import xarray
    from transformer_lens import HookedTransformer

DIRECTIONS = {
    "denoise": "source: clean run, destination: corrupted run",
    "noise": "source: corrupted run, destination: clean run",
}
SIGN = "effect = patched - destination; normalised: mean effect / mean(source - destination), 1 reaches the source"


def patch_grid(
    model: "HookedTransformer",
    source: Any,
    destination: Any,
    *,
    sites: "str | Site | Sequence[str | Site]" = "resid_pre",
    outcome: "Callable[..., Tensor] | Outcome | Mapping[str, Callable[..., Tensor]]",
    layers: Sequence[int] | None = None,
    positions: Sequence[int] | None = None,
    span: str | None = None,
    round: Rounds = None,
    align: str | None = None,
    together: bool = False,
    direction: str = "denoise",
    max_memory_gib: float = 4.0,
) -> "xarray.DataArray":
    """Patch every layer x (head) x token of the source run into the destination run, and read the outcome each time.

    Exact: equal to the full forward pass with a hook that replaces the activation, up to rounding. The tokens before
    the patched one and the layers below it come from the unpatched run. Grouped-query attention: a patched `k` or `v`
    head is that of all query heads that read it, and its number stands at each of them (coordinate `kv_head`).

    Args:
        model: from `load_model`, without hooks.
        source: the run that activations come from: token ids `[item, position]`, a `Transcript` or a list of them.
        destination: the run that they are written to, of the same kind and number.
        sites: component or list of components: resid_pre, resid_mid, resid_post, attn_out, mlp_out; or of the heads' z,
            q, k, v (both before rotation), pattern (the row of the patched token). Or `Site`s, which also say layers,
            head and tokens.
        outcome: logits at the last position `[item, 1, d_vocab]` (float32) -> one number an item; `outcome(...)` for
            one that needs more; several in a dict.
        layers: of the model; None: all.
        positions: tokens to patch, for token ids; None: all.
        span: tokens to patch, for transcripts: a span name or "prompt"; None: all tokens.
        round: of the span, in both, or (source, destination); None: every round.
        align: how tokens correspond where conversations differ: "last" | "mean" | "shared" (`alignment`).
        together: patch all chosen tokens at once: no `position` axis.
        direction: "denoise" or "noise": what source and destination are; recorded, changes no number.
        max_memory_gib: memory of the sweep beside the model, estimated; results do not depend on it.

    Returns:
        The raw patched outcome, dims item, (outcome,) component, layer, (head,) (position). Coordinates `source` and
        `destination` hold the unpatched outcomes, dims item, (outcome). Along position: `token` (text, where all items
        agree), `span`, `round`; `source_token` and `destination_token` are the tokens' indices, dims item, position
        (-1: several, or none). attrs: direction, sign, aligned, model.

    Raises:
        InputError: conversations of different length without an alignment, a layer, head, position or span that does
            not exist, an outcome that is not one number an item, hooks on the model, too little memory.
    """
    if direction not in DIRECTIONS:
        raise InputError(f"unknown direction {direction!r}: {nearest(str(direction), DIRECTIONS)}")
    if not max_memory_gib > 0:
        raise InputError(f"max_memory_gib: expected a number above 0, got {max_memory_gib}")
    outcomes = outcomes_of(outcome)
    asked = _read_sites(sites, layers=layers, span=span, round=round, align=align)
    chosen = check_range("layer", asked["layers"] or range(model.cfg.n_layers), model.cfg.n_layers)
    check_partial(model)
    texts = _transcripts(source, destination)
    if texts is None:
        if asked["span"] is not None or asked["align"] is not None or asked["round"] is not None:
            raise InputError("span, round and align are for transcripts; with token ids give positions")
        pairing = pair_ids(source, destination, positions=positions)
    elif positions is not None:
        raise InputError("positions are for token ids; with transcripts give span, round and at")
    else:
        where = {name: asked[name] for name in ("span", "round", "align", "at")}
        pairing = pair_transcripts(*texts, **where, end_ids=end_ids_of(model))
    _check_tokens(model, pairing, asked["components"])
    pairing = pairing.together() if together else pairing
    heads = _heads(model, asked["components"], asked["head"])
    places = _places(model, asked["components"], chosen, heads, pairing.n_slots)
    job = Job(model, pairing, list(dict.fromkeys(places.values())), outcomes, int(max_memory_gib * 2**30))
    values = compute(job)
    attrs = {
        "direction": direction,
        "direction_means": DIRECTIONS[direction],
        "sign": SIGN,
        "aligned": asked["align"] or "token by token",
        "model": str(model.cfg.model_name),
    }
    sizes = (asked["components"], chosen, heads, pairing.n_slots)
    grid = _array(job, places, values, sizes, together=together, single=not isinstance(outcome, Mapping))
    return _labelled(grid, model, pairing, texts, together=together).assign_attrs(attrs)


def _read_sites(sites: Any, **given: Any) -> dict[str, Any]:
    """Components, and what `Site`s or the arguments say about layers, head and tokens."""
    many = [sites] if isinstance(sites, str | Site) else list(sites)
    places = [site for site in many if isinstance(site, Site)]
    names = [site.component if isinstance(site, Site) else str(site).removeprefix("hook_") for site in many]
    check_components(names)
    if not places:
        return {"components": names, "head": None, "at": "all", **given}
    if len(places) < len(many) or len({(s.layer, s.head, s.span, s.round, s.at) for s in places}) > 1:
        raise InputError("sites: expected all of them to name the same layers, head and tokens, one component each")
    if twice := [name for name, value in given.items() if value is not None and name != "align"]:
        raise InputError(f"{twice[0]} is said by the sites already; leave it out")
    site = places[0]
    listed = [site.layer] if isinstance(site.layer, int) else None if site.layer is None else list(site.layer)
    align = given["align"] or ("mean" if site.at == "mean" else None)
    where = {"span": site.span, "round": site.round, "at": site.at, "align": align}
    return {"components": names, "head": site.head, "layers": listed, **where}


def _transcripts(source: Any, destination: Any) -> tuple[list[Transcript], list[Transcript]] | None:
    """Both as lists of transcripts; None for token ids."""
    sides = [[side] if isinstance(side, Transcript) else side for side in (source, destination)]
    kinds = [
        isinstance(side, Sequence) and len(side) > 0 and all(isinstance(one, Transcript) for one in side)
        for side in sides
    ]
    if kinds[0] != kinds[1]:
        raise InputError("source and destination: expected both as token ids or both as transcripts")
    return tuple(list(side) for side in sides) if kinds[0] else None


def _check_tokens(model: "HookedTransformer", pairing: Pairing, components: Sequence[str]) -> None:
    """Refuse ids and lengths that the model does not have, and pattern rows that cannot correspond."""
    for name, many in (("source", pairing.source_ids), ("destination", pairing.destination_ids)):
        for ids in many:
            if len(ids) > model.cfg.n_ctx:
                raise InputError(f"{name}: {len(ids)} tokens are more than the model's context of {model.cfg.n_ctx}")
            if not all(0 <= token < model.cfg.d_vocab for token in ids):
                raise InputError(
                    f"{name}: token ids lie from 0 to {model.cfg.d_vocab - 1}; are these of another model?"
                )
    lengths = [[len(ids) for ids in many] for many in (pairing.source_ids, pairing.destination_ids)]
    if "pattern" in components and (lengths[0] != lengths[1] or pairing.source != pairing.destination):
        raise InputError("pattern: rows correspond only between conversations of equal length, token by token")


def _heads(model: "HookedTransformer", components: Sequence[str], head: int | None) -> list[int] | None:
    """Query heads of the axis; a `Site` of k or v counts key-value heads."""
    if components[0] not in BY_HEAD:
        if head is not None:
            raise InputError(f"component {components[0]!r} has no heads, got head {head}")
        return None
    if head is None:
        return list(range(model.cfg.n_heads))
    kinds = {name in ("k", "v") for name in components}
    if len(kinds) > 1:
        raise InputError("sites: k and v count key-value heads, the others query heads; give them in two sweeps")
    shared = _shared(model) if kinds == {True} else 1
    check_range("head", [head], model.cfg.n_heads // shared)
    return list(range(head * shared, (head + 1) * shared))


def _shared(model: "HookedTransformer") -> int:
    """Query heads that read one key-value head."""
    return model.cfg.n_heads // (model.cfg.n_key_value_heads or model.cfg.n_heads)


def _places(
    model: "HookedTransformer", components: Sequence[str], layers: Sequence[int], heads: list[int] | None, n_slots: int
) -> dict[tuple[int, ...], Place]:
    """Index in the array (component, layer, head, slot) -> what is patched there."""
    found = {}
    for (c, component), (a, layer), (b, head) in product(
        enumerate(components), enumerate(layers), enumerate(heads or [None])
    ):
        own = head // _shared(model) if component in ("k", "v") else head
        for slot in range(n_slots):
            found[c, a, b, slot] = Place(component, layer, own, slot)
    return found


def _array(
    job: Job,
    places: dict[tuple[int, ...], Place],
    values: tuple[np.ndarray, np.ndarray, np.ndarray],
    sizes: tuple[Sequence[str], Sequence[int], Sequence[int] | None, int],
    *,
    together: bool,
    single: bool,
) -> "xarray.DataArray":
    """Name the axes."""
    import xarray

    components, layers, heads, n_slots = sizes
    patched, source, destination = values
    number = {place: i for i, place in enumerate(job.places)}
    order = np.array([number[place] for place in places.values()])
    shape = (len(components), len(layers), len(heads or [None]), n_slots)
    data = patched[order].transpose(2, 1, 0).reshape(job.pairing.n_items, len(job.outcomes), *shape)
    dims = ("item", "outcome", "component", "layer", "head", "position")
    coords: dict[str, Any] = {"outcome": list(job.outcomes), "component": list(components), "layer": list(layers)}
    coords |= {"source": (("item", "outcome"), source.T), "destination": (("item", "outcome"), destination.T)}
    if heads is not None:
        coords["head"] = heads
        coords["kv_head"] = ("head", [head // _shared(job.model) for head in heads])
    grid = xarray.DataArray(data, dims=dims, coords=coords, name="patched")
    drop = {"outcome": 0} if single else {}
    drop |= {"head": 0} if heads is None else {}
    grid = grid.isel(drop | ({"position": 0} if together else {}))
    return grid.assign_attrs(outcome=next(iter(job.outcomes))).drop_vars("outcome") if single else grid


def _labelled(
    grid: "xarray.DataArray",
    model: "HookedTransformer",
    pairing: Pairing,
    texts: tuple[list[Transcript], list[Transcript]] | None,
    *,
    together: bool,
) -> "xarray.DataArray":
    """Items and tokens by name."""
    names = [text.item_id or str(i) for i, text in enumerate(texts[1])] if texts else list(range(pairing.n_items))
    names = names if len(set(names)) == len(names) else [f"{name}#{i}" for i, name in enumerate(names)]
    grid = grid.assign_coords(item=names)
    return grid if together else grid.assign_coords(position_coords(model, pairing, texts and texts[1]))
