"""Values that an edit takes from elsewhere: numbers and activations, for all items or for each."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from mechmsc.errors import InputError
from mechmsc.positions import Row, Shown
from mechmsc.sites import Site


def of_item(values: Any, shown: Shown, what: str) -> Any:
    """An item's own entry of a list in the order of the call or of a mapping by item_id; anything else is for all.

    Raises:
        InputError: there is none for this conversation.
    """
    if isinstance(values, Mapping):
        if shown.transcript.item_id not in values:
            raise InputError(f"{what}: no value for item {shown.transcript.item_id!r} among {len(values)}")
        return values[shown.transcript.item_id]
    if isinstance(values, list):
        if shown.number is None or shown.number >= len(values):
            place = "without a place in the order" if shown.number is None else f"number {shown.number}"
            raise InputError(
                f"{what}: {len(values)} values in the order of the conversations, but {shown.transcript.item_id!r} is "
                f"{place}; give one an item, or a mapping item_id -> value"
            )
        return values[shown.number]
    return values


def numbers(values: Any, owners: Sequence[Row], what: str, device: torch.device) -> Tensor:
    """One number for all (no axis), or one for each owner, `[owner]`."""
    if isinstance(values, float | int):
        return torch.tensor(float(values), device=device)
    if not owners:
        raise InputError(f"{what}: one value an item needs conversations; use respond, measure or applied(..., on=)")
    return torch.tensor([of_item(values, row.shown, what) for row in owners], device=device)


def activations(values: Any, site: Site, *, layers: Sequence[int], inner: Sequence[int], device: torch.device) -> Any:
    """Activations as float32 tensors `(layer,) (token,) (head,) d` by item: a dict, a list, or one for all.

    Args:
        values: as `replace` takes them.
        site: where they go.
        layers: its layers.
        inner: sizes of the axes after the token.
        device: of the result.

    Raises:
        InputError: axes or sizes do not fit, or a number is not finite.
    """
    if hasattr(values, "dims"):
        values = _from_xarray(values, site, layers)
    several, many = not isinstance(site.layer, int), site.at == "all" or isinstance(site.at, range)
    rank = several + many + len(inner)
    if isinstance(values, Mapping):
        return {str(k): _checked(v, site, layers, inner, rank, device) for k, v in values.items()}
    if not isinstance(values, list | tuple):
        values = torch.as_tensor(values)
        if values.ndim != rank + 1:
            return _checked(values, site, layers, inner, rank, device)
    return [_checked(v, site, layers, inner, rank, device) for v in values]


def _from_xarray(values: Any, site: Site, layers: Sequence[int]) -> Any:
    if "layer" in values.dims:
        values = values.sel(layer=site.layer if isinstance(site.layer, int) else list(layers))
    values = values.transpose("item", "layer", "position", "head", ..., missing_dims="ignore")
    if "item" not in values.dims:
        return values.values
    return {str(item): values.sel(item=item).values for item in values["item"].values.tolist()}


def _checked(
    values: Any, site: Site, layers: Sequence[int], inner: Sequence[int], rank: int, device: torch.device
) -> Tensor:
    values = torch.as_tensor(values).detach().float()
    shape = tuple(values.shape)
    wrong_layers = not isinstance(site.layer, int) and shape[:1] != (len(layers),)
    # a pattern's source tokens are as many as there are
    sized = inner[:-1] if site.component == "pattern" else inner
    tail = shape[len(shape) - len(inner) :][: len(sized)]
    if len(shape) != rank or wrong_layers or tail != tuple(sized):
        many = ["token"] * (site.at == "all" or isinstance(site.at, range))
        axes = [str(len(layers))] * (not isinstance(site.layer, int)) + many + [str(n) for n in inner]
        raise InputError(
            f"replace at {site}: expected axes [{', '.join(axes)}] for an item (layer, token, head, d as the site has "
            f"them), got shape {list(shape)}"
        )
    if not values.isfinite().all():
        raise InputError(
            f"replace at {site}: expected finite numbers, got {int((~values.isfinite()).sum())} that are not"
        )
    return values.to(device)
