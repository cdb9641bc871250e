"""What a user asks to be patched, checked and spelled out before any work."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING, Any

from mechmsc.errors import InputError
from mechmsc.model.partial import check_partial
from mechmsc.patching.alignment import Rounds, pair_ids, pair_transcripts
from mechmsc.patching.places import BY_HEAD, Pairing, Place, check_components, check_range
from mechmsc.positions import end_ids
from mechmsc.sites import Site
from mechmsc.transcripts import Transcript

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer


@dataclass(frozen=True, eq=False)
class Request:
    """Which activations of which runs."""

    components: list[str]
    layers: list[int]
    heads: list[int]
    """Query heads, for components that have heads."""
    shared: int
    """Query heads that read one key-value head."""
    pairing: Pairing
    transcripts: list[Transcript] | None
    """The destination's, where transcripts were given."""
    align: str | None
    together: bool

    def only(self, component: str) -> "Request":
        """The same of one component."""
        return replace(self, components=[component])

    def places(self, component: str) -> dict[tuple[int, int, int], Place]:
        """Index (layer, head, slot) in the component's part of the grid -> what is patched there."""
        heads = self.heads if component in BY_HEAD else [None]
        found = {}
        for (a, layer), (b, head) in product(enumerate(self.layers), enumerate(heads)):
            own = head // self.shared if component in ("k", "v") else head
            for slot in range(self.pairing.n_slots):
                found[a, b, slot] = Place(component, layer, own, slot)
        return found


def read_request(
    model: "HookedTransformer",
    source: Any,
    destination: Any,
    *,
    sites: Any,
    layers: Sequence[int] | None,
    positions: Sequence[int] | None,
    span: str | None,
    round: Rounds,
    align: str | None,
    together: bool,
    mixed: bool = False,
) -> Request:
    """The arguments of `patch_grid`, checked.

    Args:
        model: the model.
        source: as in `patch_grid`.
        destination: as in `patch_grid`.
        sites: as in `patch_grid`.
        layers: as in `patch_grid`.
        positions: as in `patch_grid`.
        span: as in `patch_grid`.
        round: as in `patch_grid`.
        align: as in `patch_grid`.
        together: as in `patch_grid`.
        mixed: whether components with heads and without may stand together.

    Raises:
        InputError: see `patch_grid`.
    """
    asked = _read_sites(sites, mixed=mixed, layers=layers, span=span, round=round, align=align)
    n_layers = model.cfg.n_layers
    chosen = check_range("layer", range(n_layers) if asked["layers"] is None else list(asked["layers"]), n_layers)
    check_partial(model, asked["components"])
    texts = _transcripts(source, destination)
    if texts is None:
        if asked["span"] is not None or asked["align"] is not None or asked["round"] is not None:
            raise InputError("span, round and align are for transcripts; with token ids give positions")
        pairing = pair_ids(source, destination, positions=positions)
    elif positions is not None:
        raise InputError("positions are for token ids; with transcripts give span, round and at")
    else:
        where = {name: asked[name] for name in ("span", "round", "align", "at")}
        pairing = pair_transcripts(*texts, **where, end_ids=end_ids(model))
    _check_tokens(model, pairing, asked["components"])
    heads, shared = _heads(model, asked["components"], asked["head"])
    pairing = pairing.together() if together else pairing
    texts = None if texts is None else texts[1]
    return Request(asked["components"], chosen, heads, shared, pairing, texts, asked["align"], together)


def _read_sites(sites: Any, *, mixed: bool, **given: Any) -> dict[str, Any]:
    """Components, and what `Site`s or the arguments say about layers, head and tokens."""
    many = [sites] if isinstance(sites, str | Site) else list(sites)
    places = [site for site in many if isinstance(site, Site)]
    names = [site.component if isinstance(site, Site) else str(site).removeprefix("hook_") for site in many]
    check_components(names, mixed=mixed)
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
                    f"{name}: expected token ids from 0 to {model.cfg.d_vocab - 1}; are these another model's?"
                )
    lengths = [[len(ids) for ids in many] for many in (pairing.source_ids, pairing.destination_ids)]
    if "pattern" in components and (lengths[0] != lengths[1] or pairing.source != pairing.destination):
        raise InputError("pattern: rows correspond only between conversations of equal length, token by token")


def _heads(model: "HookedTransformer", components: Sequence[str], head: int | None) -> tuple[list[int], int]:
    """Query heads of the axis, and how many of them read one key-value head; a `Site` of k or v counts the latter."""
    n_heads = model.cfg.n_heads
    shared = n_heads // (model.cfg.n_key_value_heads or n_heads)
    if head is None:
        return list(range(n_heads)), shared
    without = next((name for name in components if name not in BY_HEAD), None)
    if without is not None:
        raise InputError(f"component {without!r} has no heads, got head {head}")
    kinds = {name in ("k", "v") for name in components}
    if len(kinds) > 1:
        raise InputError("sites: k and v count key-value heads, the others query heads; give them in two sweeps")
    group = shared if kinds == {True} else 1
    check_range("head", [head], n_heads // group)
    return list(range(head * group, (head + 1) * group)), shared
