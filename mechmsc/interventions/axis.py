"""A direction at one layer of a model, checked against it: u, m.u and the gap, in float32 on the model's device."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from mechmsc.directions import Direction
from mechmsc.errors import InputError
from mechmsc.interventions.edits import Intervention
from mechmsc.sites import Site

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer


@dataclass(frozen=True, eq=False)
class Axis:
    """What an edit needs of a direction at a layer."""

    u: Float[Tensor, " d"]
    """Unit vector."""
    mid: Float[Tensor, ""]
    """m.u, the coordinate halfway between the two classes."""
    gap: Float[Tensor, ""]
    """One class gap in units of the activation."""

    def of(self, x: Float[Tensor, "*token d"]) -> Float[Tensor, "*token"]:
        """The coordinate x.u."""
        return x @ self.u


def axis_at(model: "HookedTransformer", edit: Intervention, layer: int, *, place: int, size: int) -> Axis:
    """The direction of an edit at a layer.

    Args:
        model: the model that is to be edited.
        edit: the edit.
        layer: a layer of the model.
        place: which of the layers of the site this is, from 0: the row of a plain tensor.
        size: d, the last axis of the component.

    Raises:
        InputError: the direction belongs to another model or lacks the layer, sizes differ, or something is not finite.
    """
    direction = edit.direction
    if isinstance(direction, Direction):
        if getattr(model, "mechmsc", None) is not None:  # a model that knows its weights
            direction.check_model(model)
        row = direction.row(layer)
        d, m, gap = (x[row].detach().float() for x in (direction.vectors, direction.midpoints, direction.gaps))
    else:
        row = place if len(direction) > 1 else 0
        if row >= len(direction):
            raise InputError(f"{edit}: expected a row a layer of the site, or one for all, got {len(direction)}")
        d = direction[row]
        m, gap = torch.zeros_like(d), torch.ones((), device=d.device)
    if d.shape != (size,):
        raise InputError(f"{edit}: expected vectors of {size} numbers, got {d.shape[0]}; fit it again on this model")
    u = d / d.norm()
    mid = (m * u).sum()
    needs_gap = edit.kind == "add" or edit.options.get("unit") == "gaps"
    if not d.is_meta and not (u.isfinite().all() and mid.isfinite() and (gap.isfinite() and gap != 0 or not needs_gap)):
        raise InputError(
            f"{edit}: at layer {layer} expected a direction with finite numbers and a gap that is not 0, got norm "
            f"{d.norm().item():g}, m.u {mid.item():g}, gap {gap.item():g}"
        )
    device = torch.device(model.cfg.device)
    return Axis(u.to(device), mid.to(device), gap.to(device))


def heads_of(model: "HookedTransformer", site: Site) -> int:
    """How many heads the site's component has, 0 for none; checks the head of the site.

    Raises:
        InputError: the component has no heads, or not this one; for shared keys and values it says who reads which.
    """
    cfg = model.cfg
    if "head" not in site.dims:
        if site.head is not None:
            raise InputError(f"site {site}: {site.component} has no heads; leave head out")
        return 0
    shared = site.component in ("k", "v", "rot_k")
    n_heads = (cfg.n_key_value_heads or cfg.n_heads) if shared else cfg.n_heads
    if site.head is not None and not 0 <= site.head < n_heads:
        readers = cfg.n_heads // n_heads
        hint = (
            f", each read by {readers} of the {cfg.n_heads} query heads; query head {site.head} reads head "
            f"{site.head // readers}"
            if readers > 1 and 0 <= site.head < cfg.n_heads
            else ""
        )
        raise InputError(f"site {site}: {site.component} has heads 0 to {n_heads - 1}{hint}; got head {site.head}")
    return n_heads
