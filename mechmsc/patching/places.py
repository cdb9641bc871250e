"""Which activation goes where: the tokens that correspond in two runs, and the cells of a grid."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from mechmsc.errors import InputError, nearest

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer

RESIDUAL = ("resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out")
BY_HEAD = ("z", "q", "k", "v", "pattern")
COMPONENTS = (*RESIDUAL, *BY_HEAD)
"""What can be patched; `k` and `v` before rotation and before their norm, as TransformerLens hooks them."""

Slot = tuple[int, ...]
"""Tokens that are patched together."""


@dataclass(frozen=True, eq=False)
class Pairing:
    """Conversations in pairs, and which of their tokens correspond."""

    source_ids: list[tuple[int, ...]]
    """Token ids of each item's source run."""
    destination_ids: list[tuple[int, ...]]
    """Token ids of each item's destination run."""
    source: list[list[Slot]]
    """Item -> slot -> tokens of the source run."""
    destination: list[list[Slot]]
    """Item -> slot -> tokens of the destination run that they are written to."""
    mean: bool = False
    """The tokens of a slot are shifted by the difference of the slots' means; otherwise replaced one by one."""

    @property
    def n_items(self) -> int:
        """Number of pairs."""
        return len(self.destination_ids)

    @property
    def n_slots(self) -> int:
        """Slots of the item that has most."""
        return max(map(len, self.destination))

    def items(self, chosen: Sequence[int]) -> "Pairing":
        """The pairs of some items, in this order."""
        parts = [
            [part[i] for i in chosen] for part in (self.source_ids, self.destination_ids, self.source, self.destination)
        ]
        return Pairing(*parts, mean=self.mean)

    def together(self) -> "Pairing":
        """The same with all slots of an item in one."""
        merged = [[tuple(t for slot in slots for t in slot)] if slots else [] for slots in self.source]
        into = [[tuple(t for slot in slots for t in slot)] if slots else [] for slots in self.destination]
        return Pairing(self.source_ids, self.destination_ids, merged, into, self.mean)


class Place(NamedTuple):
    """One cell of the grid, for all items."""

    component: str
    layer: int
    head: int | None
    """Key-value head for `k` and `v`; None for components without heads."""
    slot: int

    @property
    def entry(self) -> int:
        """The block before which the edited residual stream joins the sweep."""
        return self.layer if self.component == "resid_pre" else self.layer + 1


def n_heads_of(model: "HookedTransformer", component: str) -> int:
    """Heads that a component really has: queries share the key-value heads of grouped-query attention."""
    shared = model.cfg.n_key_value_heads if component in ("k", "v") else None
    return shared or model.cfg.n_heads


def check_components(components: Sequence[str], *, mixed: bool) -> None:
    """Refuse components that there are not, or that no one grid can hold.

    Raises:
        InputError: says which.
    """
    if not components:
        raise InputError("sites: expected at least one component, got none")
    for name in components:
        if name not in COMPONENTS:
            raise InputError(f"unknown component {name!r} to patch: {nearest(str(name), COMPONENTS)}")
        if list(components).count(name) > 1:
            raise InputError(f"component {name!r} is named twice")
    kinds = {name in BY_HEAD for name in components}
    if len(kinds) > 1 and not mixed:
        raise InputError(
            f"sites: {', '.join(components)} do not share the axis head; sweep those with heads by themselves"
        )


def check_range(what: str, chosen: Sequence[int], size: int) -> list[int]:
    """Whole numbers from 0 to size - 1, each once, ascending.

    Raises:
        InputError: one is out of range, twice there or no whole number; or there are none.
    """
    wrong = next(
        (one for one in chosen if isinstance(one, bool) or not isinstance(one, int) or not 0 <= one < size), None
    )
    if wrong is not None:
        raise InputError(f"{what} {wrong!r} is out of range: expected whole numbers from 0 to {size - 1}")
    if not chosen or len(set(chosen)) < len(chosen):
        raise InputError(f"{what}s: expected at least one, each once, got {list(chosen)}")
    return sorted(chosen)
