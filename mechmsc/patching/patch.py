"""`patch_grid`: from what a user asks for to an array with names on its axes."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from mechmsc.errors import InputError, nearest
from mechmsc.patching.alignment import Rounds
from mechmsc.patching.grid import Job, compute
from mechmsc.patching.places import BY_HEAD
from mechmsc.patching.request import Request, read_request
from mechmsc.patching.tokens import position_coords
from mechmsc.patching.wanted import Outcome, outcomes_of
from mechmsc.progress import bar
from mechmsc.sites import Site

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
    outcome: "str | Callable[..., Tensor] | Outcome | Mapping[str, Any]",
    layers: Sequence[int] | None = None,
    positions: Sequence[int] | None = None,
    span: str | None = None,
    round: Rounds = None,
    align: str | None = None,
    together: bool = False,
    direction: str = "denoise",
    max_memory_gib: float | int = 4.0,
    progress: bool = False,
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
            one that needs more; a name of `outcomes.OUTCOMES` that needs no labels; several in a dict.
        layers: of the model; None: all.
        positions: tokens to patch, for token ids; None: all.
        span: tokens to patch, for transcripts: a span name or "prompt"; None: all tokens.
        round: of the span, in both, or (source, destination); None: every round.
        align: how tokens correspond where conversations differ: "last" | "mean" | "shared" (`alignment`).
        together: patch all chosen tokens at once: no `position` axis.
        direction: "denoise" or "noise": what source and destination are; recorded, changes no number.
        max_memory_gib: memory of the sweep beside the model, estimated; results do not depend on it.
        progress: show a bar on stderr.

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
    asked = read_request(
        model,
        source,
        destination,
        sites=sites,
        layers=layers,
        positions=positions,
        span=span,
        round=round,
        align=align,
        together=together,
    )
    places = [asked.places(component) for component in asked.components]
    unique = list(dict.fromkeys(place for part in places for place in part.values()))
    n_cells = len(unique) * asked.pairing.n_items
    with bar("patches", n_cells, show=progress) as advance:
        values = compute(Job(model, asked.pairing, unique, outcomes, int(max_memory_gib * 2**30), advance))
    number = {place: i for i, place in enumerate(unique)}
    patched = np.stack([values[0][[number[place] for place in part.values()]] for part in places])
    grid = named_array(asked, patched, values[1:], list(outcomes), single=not isinstance(outcome, Mapping))
    return grid.assign_coords(coords_of(model, asked)).assign_attrs(
        direction=direction,
        direction_means=DIRECTIONS[direction],
        sign=SIGN,
        aligned=asked.align or "token by token",
        model=str(model.cfg.model_name),
    )


def named_array(
    asked: Request,
    patched: np.ndarray,
    unpatched: tuple[np.ndarray, np.ndarray],
    outcomes: Sequence[str],
    *,
    single: bool,
) -> "xarray.DataArray":
    """Name the axes.

    Args:
        asked: what was patched, its components all with heads or all without.
        patched: `[component, place, outcome, item]`, places in the order of `Request.places`.
        unpatched: of source and destination, `[outcome, item]`.
        outcomes: their names.
        single: whether the outcome has no axis.
    """
    import xarray

    with_heads = asked.components[0] in BY_HEAD
    shape = (len(asked.layers), len(asked.heads) if with_heads else 1, asked.pairing.n_slots)
    data = np.moveaxis(patched, (3, 2), (0, 1)).reshape(*patched.shape[3:1:-1], len(patched), *shape)
    coords: dict[str, Any] = {"outcome": list(outcomes), "component": asked.components, "layer": asked.layers}
    coords |= {
        name: (("item", "outcome"), values.T) for name, values in zip(("source", "destination"), unpatched, strict=True)
    }
    if with_heads:
        coords |= {"head": asked.heads, "kv_head": ("head", [head // asked.shared for head in asked.heads])}
    grid = xarray.DataArray(
        data, dims=("item", "outcome", "component", "layer", "head", "position"), coords=coords, name="patched"
    )
    absent = {"outcome": single, "head": not with_heads, "position": asked.together}
    grid = grid.isel({dim: 0 for dim, gone in absent.items() if gone})
    return grid.drop_vars("outcome").assign_attrs(outcome=outcomes[0]) if single else grid


def coords_of(model: "HookedTransformer", asked: Request) -> dict[str, Any]:
    """Items and tokens by name."""
    texts, n_items = asked.transcripts, asked.pairing.n_items
    names = list(range(n_items)) if texts is None else [text.item_id or str(i) for i, text in enumerate(texts)]
    names = names if len(set(names)) == n_items else [f"{name}#{i}" for i, name in enumerate(names)]
    return {"item": names} | ({} if asked.together else position_coords(model, asked.pairing, texts))
