"""An edit as hooks of a model: which hook at which layer, and what is done to the activation that comes by."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mechmsc.errors import InputError, MechmscError
from mechmsc.interventions.arithmetic import Edited, edited, excess, replaced, rounding
from mechmsc.interventions.axis import Axis, axis_at, heads_of
from mechmsc.interventions.edits import Intervention
from mechmsc.interventions.values import activations
from mechmsc.positions import Picked, edits_on, flight
from mechmsc.sites import Site

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer

Hook = tuple[str, Callable[..., Tensor | None]]


@dataclass(eq=False)
class Ledger:
    """What is known of an edit while it is active."""

    edit: Intervention
    verify: bool
    touched: int = 0
    """Tokens edited so far, once for each layer and pass."""
    worst: Tensor | None = None
    """By how much a coordinate that was read back missed what was asked, beyond rounding; kept on the device."""
    reach: Tensor | None = field(default=None, repr=False)

    def note(self, beyond: Tensor) -> None:
        """Remember the largest miss."""
        beyond = beyond.detach()
        self.worst = beyond if self.worst is None else torch.maximum(self.worst, beyond)

    def settle(self) -> None:
        """Raise if the edit touched nothing or did not take effect.

        Raises:
            InputError: no token of the site was in any pass.
            MechmscError: the coordinate that was read back is not what was asked.
        """
        if not self.touched:
            raise InputError(
                f"{self.edit} touched no position: no pass under it held a token of its site; run respond, measure or "
                "the model inside the block, on a conversation that has the site"
            )
        if self.worst is not None and not self.worst.is_meta and not self.worst.item() <= 0:
            raise MechmscError(
                f"{self.edit} did not take effect: a coordinate read back misses what was asked by "
                f"{self.worst.item():g} more than rounding explains; is another hook at the same place?"
            )


def hooks_of(model: "HookedTransformer", ledger: Ledger) -> list[Hook]:
    """The hooks of an edit, in the order in which they are to be added.

    Raises:
        InputError: the edit does not fit the model.
    """
    edit = ledger.edit
    hooks = list(_everywhere(model, ledger) if edit.site is None else _at_site(model, ledger, edit.site))
    for name, _ in hooks:
        if name not in model.hook_dict:
            raise InputError(f"{edit}: the model has no hook {name!r}; choose another component")
    return hooks


def _at_site(model: "HookedTransformer", ledger: Ledger, site: Site) -> Iterator[Hook]:
    cfg, edit = model.cfg, ledger.edit
    layers, n_heads = site.layers(cfg.n_layers), heads_of(model, site)
    sizes = {"d_model": cfg.d_model, "d_head": cfg.d_head, "d_mlp": cfg.d_mlp, "source_position": -1}
    size = sizes[site.dims[-1]]
    if edit.kind == "replace":
        inner = [n_heads] * bool(n_heads and site.head is None) + [size]
        values = activations(edit.values, site, layers=layers, inner=inner, device=torch.device(cfg.device))
    elif site.component == "pattern" or n_heads and site.head is None:
        why = "a pattern can only be replaced" if site.component == "pattern" else "name the head: head=0, ..."
        raise InputError(f"{edit}: {why}")
    for place, layer in enumerate(layers):
        if edit.kind == "replace":
            index = None if isinstance(site.layer, int) else place
            change = _replacing(edit, values, index)
            axis = None
        else:
            axis = axis_at(model, edit, layer, place=place, size=size)
            change = _moving(edit, axis)
        yield site.hook(layer), _hook(model, ledger, site, change, axis)


def _replacing(edit: Intervention, values: Any, index: int | None) -> Callable[[Tensor, Picked], Edited]:
    def change(x: Tensor, picked: Picked) -> Edited:
        if edit.site.component == "pattern" and any(row.start or row.column for row in picked.owners):
            raise InputError(f"{edit}: a pattern can be replaced in passes without cache and left padding only")
        return replaced(edit, x, picked, values, index)

    return change


def _moving(edit: Intervention, axis: Axis) -> Callable[[Tensor, Picked], Edited]:
    return lambda x, picked: edited(edit, x, picked, axis)


def _hook(
    model: "HookedTransformer",
    ledger: Ledger,
    site: Site,
    change: Callable[[Tensor, Picked], Edited],
    axis: Axis | None,
) -> Callable[..., Tensor | None]:
    """The hook at one layer: picks the tokens, changes them in float32, stores them, reads them back."""

    def act(activation: Tensor, hook: object) -> Tensor | None:  # noqa: ARG001 - a hook's
        if not edits_on(model):
            return None
        picked = _picked(model, ledger.edit, activation)
        if picked is None:
            return None
        index = _index(site, picked)
        x = activation[index].float()
        after = change(x, picked)
        out = activation.clone()
        out[index] = after.values.to(activation.dtype)
        ledger.touched += len(picked.places)
        if after.want is not None:
            ledger.note(excess(after, out[index].float(), axis, picked, activation.dtype))
        if ledger.verify:
            _verify(ledger.edit, activation, out, index, after)
        return out

    return act


def _index(site: Site, picked: Picked) -> tuple[Any, ...]:
    """Where the picked tokens are in `[row, column, (head,) d]`, or `[row, head, column, source]` of a pattern."""
    if site.component == "pattern":
        return (picked.row, slice(None) if site.head is None else site.head, picked.column)
    return (picked.row, picked.column) if site.head is None else (picked.row, picked.column, site.head)


def _picked(model: "HookedTransformer", edit: Intervention, activation: Tensor) -> Picked | None:
    batch = flight(model)
    if batch is not None:
        if len(batch.rows) != activation.shape[0]:
            raise InputError(
                f"{edit}: the pass holds {activation.shape[0]} rows, the position map {len(batch.rows)}; run the model "
                "through respond or measure, or give the conversations of the batch to applied(..., on=)"
            )
        return batch.picked(edit.site)
    if edit.site.in_conversation:
        raise InputError(
            f"{edit}: a bare model call does not know which tokens that is; use respond or measure, or "
            "applied(model, edits, on=conversation)"
        )
    return _all_tokens(activation, token_axis=2 if edit.site.component == "pattern" else 1)


def _all_tokens(activation: Tensor, *, token_axis: int) -> Picked:
    """Every token of every row, of nobody in particular."""
    n_rows, width, device = activation.shape[0], activation.shape[token_axis], activation.device
    row = torch.arange(n_rows, device=device).repeat_interleave(width)
    column = torch.arange(width, device=device).repeat(n_rows)
    places = tuple(range(width)) * n_rows
    return Picked(row, column, row, (0,) * len(places), places, (), ())


def _verify(edit: Intervention, before: Tensor, after: Tensor, index: tuple[Any, ...], asked: Edited) -> None:
    """What `verify=True` adds: nothing else changed, the values are there, and rounding did not swallow the edit."""
    if before.is_meta:
        return
    elsewhere = torch.ones(before.shape, dtype=torch.bool, device=before.device)
    elsewhere[index] = False
    if not torch.equal(before[elsewhere], after[elsewhere]):
        raise MechmscError(f"{edit}: verify found a change outside of its tokens")
    wanted, stored, original = asked.values.to(after.dtype), after[index], before[index]
    if not torch.equal(stored, wanted):
        raise MechmscError(f"{edit}: verify read back other values than were put")
    moved = (asked.values - original.float()).norm(dim=-1) > 0
    if moved.any() and torch.equal(stored, original):
        raise MechmscError(
            f"{edit}: rounding to {after.dtype} swallowed the edit, which is too small for activations of norm "
            f"{original.float().norm(dim=-1).max().item():.3g}; use a larger strength or float32"
        )


def _everywhere(model: "HookedTransformer", ledger: Ledger) -> Iterator[Hook]:
    """Ablation everywhere: the stream before layer 0 (all embeddings), each write, and the reading at each layer."""
    cfg, edit = model.cfg, ledger.edit
    axis = axis_at(model, edit, edit.options["layer"], place=edit.options["layer"], size=cfg.d_model)
    left = axis.mid if edit.options["center"] == "midpoint" else torch.zeros_like(axis.mid)
    yield "blocks.0.hook_resid_pre", _write(model, ledger, axis, left)
    for layer in range(cfg.n_layers):
        for component in ("attn_out",) if cfg.attn_only else ("attn_out", "mlp_out"):
            yield Site(component).hook(layer), _write(model, ledger, axis, torch.zeros_like(left))
        yield Site("resid_post").hook(layer), _reading(model, ledger, axis, left, layer)


def _write(model: "HookedTransformer", ledger: Ledger, axis: Axis, left: Tensor) -> Callable[..., Tensor | None]:
    def act(activation: Tensor, hook: object) -> Tensor | None:  # noqa: ARG001 - a hook's
        if not edits_on(model):
            return None
        w = activation.float()
        ledger.touched += activation.shape[0] * activation.shape[1]
        return (w + (left - axis.of(w))[..., None] * axis.u).to(activation.dtype)

    return act


def _reading(
    model: "HookedTransformer", ledger: Ledger, axis: Axis, left: Tensor, layer: int
) -> Callable[..., Tensor | None]:
    """Reads the coordinate at a layer, where no other edit may have moved it on purpose."""

    def act(activation: Tensor, hook: object) -> None:  # noqa: ARG001 - a hook's
        edits: Sequence[Any] = edits_on(model)
        if len(edits) != 1:
            return
        h = activation.detach().float()
        allowed = rounding(h, activation.dtype)
        # the stream was rounded twice a layer, at the size that it had there
        kept = layer > 0 and ledger.reach is not None and ledger.reach.shape == allowed.shape
        ledger.reach = torch.maximum(allowed, ledger.reach) if kept else allowed
        ledger.note(((axis.of(h) - left).abs() - (2 * layer + 3) * ledger.reach).max())

    return act
