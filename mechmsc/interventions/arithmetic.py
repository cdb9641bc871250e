"""What an edit does to the tokens it was given, in float32, and what is to be read back afterwards."""

from dataclasses import dataclass

import torch
from torch import Tensor

from mechmsc.errors import InputError
from mechmsc.interventions.axis import Axis
from mechmsc.interventions.edits import Intervention
from mechmsc.interventions.values import numbers, of_item
from mechmsc.positions import Picked
from mechmsc.sites import OPEN


@dataclass(frozen=True, eq=False)
class Edited:
    """Activations after an edit."""

    values: Tensor
    """`[token, ...]`, float32."""
    want: Tensor | None = None
    """The coordinate that is to be read back, `[token]`, or `[group]` of the means; None for replace."""
    by_mean: bool = False
    """Whether `want` is about the means."""


def edited(edit: Intervention, x: Tensor, picked: Picked, axis: Axis | None) -> Edited:
    """The edit of the picked tokens.

    Args:
        edit: any kind but `replace`.
        x: activations of the picked tokens, `[token, d]`, float32.
        picked: the tokens.
        axis: the direction at this layer.
    """
    return {"add": _added, "ablate": _ablated, "clamp": _clamped}[edit.kind](edit, x, picked, axis)


def _added(edit: Intervention, x: Tensor, picked: Picked, axis: Axis) -> Edited:
    a = _of_tokens(numbers(edit.values, picked.owners, str(edit), x.device), picked)
    y = x + (a * axis.gap)[..., None] * axis.u
    want = axis.of(x) + a * axis.gap
    if edit.options["norm_preserving"]:
        scale = x.norm(dim=-1) / y.norm(dim=-1).clamp(min=torch.finfo(y.dtype).tiny)
        y, want = y * scale[:, None], want * scale
    return Edited(y, want)


def _ablated(edit: Intervention, x: Tensor, picked: Picked, axis: Axis) -> Edited:
    target = axis.mid if edit.options["center"] == "midpoint" else torch.zeros_like(axis.mid)
    return _moved(edit, x, picked, axis, target, by_mean=edit.site.at == "mean")


def _clamped(edit: Intervention, x: Tensor, picked: Picked, axis: Axis) -> Edited:
    scale = axis.gap if edit.options["unit"] == "gaps" else torch.ones_like(axis.gap)
    target = numbers(edit.values, picked.owners, str(edit), x.device) * scale + axis.mid
    return _moved(edit, x, picked, axis, target, by_mean=not edit.options["each"])


def _moved(edit: Intervention, x: Tensor, picked: Picked, axis: Axis, target: Tensor, *, by_mean: bool) -> Edited:
    """Move the coordinate of every token, or of the mean of every group, to the target (one, or one a group)."""
    here = axis.of(x)
    if by_mean:
        _expect_whole(edit, picked)
        here = picked.means(here)
        shift = (target - here)[picked.group]
        return Edited(x + shift[:, None] * axis.u, target.expand_as(here), by_mean=True)
    target = _of_tokens(target, picked)
    return Edited(x + (target - here)[:, None] * axis.u, target.expand_as(here))


def replaced(edit: Intervention, x: Tensor, picked: Picked, values: object, layer: int | None) -> Edited:
    """The activations of another run in place of the picked tokens'.

    Args:
        edit: a `replace`.
        x: `[token, (head,) d]`, float32.
        picked: the tokens.
        values: from `values.activations`.
        layer: index into the axis `layer` of the values; None where they have none.
    """
    if any(len(row.shown.tokens(edit.site)) > 1 for row in picked.owners):
        raise InputError(f"{edit}: several rounds of a conversation have this span; name the round")
    own = [of_item(values, row.shown, str(edit)) for row in picked.owners]
    own = own if layer is None else [value[layer] for value in own]
    if edit.site.component == "pattern":  # nobody attends to the padding behind
        own = [torch.nn.functional.pad(value, (0, x.shape[-1] - value.shape[-1])) for value in own]
    if edit.site.at == "all" or isinstance(edit.site.at, range):
        _expect_tokens(edit, picked, own)
        return Edited(torch.stack([own[g][place] for g, place in zip(picked.groups, picked.places, strict=True)]))
    own = torch.stack(own)
    if edit.site.at != "mean":
        return Edited(own[picked.group])
    _expect_whole(edit, picked)
    return Edited(x + (own - picked.means(x))[picked.group])


def _expect_tokens(edit: Intervention, picked: Picked, own: list[Tensor]) -> None:
    last = {g: place for g, place in zip(picked.groups, picked.places, strict=True)}
    for g, (row, value) in enumerate(zip(picked.owners, own, strict=True)):
        tokens = row.shown.tokens(edit.site)[0]
        unending = isinstance(tokens, range) and tokens.stop == OPEN
        if len(value) <= last[g] or not unending and len(value) != len(tokens):
            size = f"{last[g] + 1} or more" if unending else len(tokens)
            raise InputError(
                f"{edit}: the site has {size} tokens in {row.shown.transcript.item_id!r}, got values for {len(value)}"
            )


def _of_tokens(values: Tensor, picked: Picked) -> Tensor:
    """From one a group to one a token; a single number stays."""
    return values if values.ndim == 0 else values[picked.group]


def _expect_whole(edit: Intervention, picked: Picked) -> None:
    if not picked.owners or not all(picked.whole):
        raise InputError(
            f"{edit}: the mean over these tokens is not known while they are still being drawn or encoded in parts; "
            "use each=True (clamp), at='first', a number, or a span of the prompt"
        )


def excess(after: Edited, y: Tensor, axis: Axis, picked: Picked, dtype: torch.dtype) -> Tensor:
    """By how much the coordinate read back from `y` misses what was asked, beyond rounding; at most 0 when all is well.

    Storing y in the model's dtype moves a coordinate by at most eps/2 |y|; float32 sums add a few of their own eps.
    """
    got, allowed = axis.of(y), rounding(y, dtype)
    if after.by_mean:
        got, allowed = picked.means(got), picked.means(allowed)
    return ((got - after.want).abs() - allowed).max()


def rounding(y: Tensor, dtype: torch.dtype) -> Tensor:
    """What a coordinate of y may be off by, for having been stored in this dtype: `[token, d]` -> `[token]`."""
    return (torch.finfo(dtype).eps + 64 * torch.finfo(torch.float32).eps) * (y.norm(dim=-1) + 1e-6)
