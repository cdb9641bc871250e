"""Reading a direction: activations -> one number for each, block by block, so that a run larger than memory works."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mechmsc.errors import InputError
from mechmsc.sites import COMPONENTS

if TYPE_CHECKING:
    import xarray

    from mechmsc.directions.record import Direction

BLOCK_BYTES = 2**26
"""Activations that are in memory at a time."""

Quantity = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""(h [..., layer, d_model], u, m [layer, d_model], gap [layer]) -> [..., layer]"""


def projection(h: Tensor, u: Tensor, m: Tensor, gap: Tensor) -> Tensor:  # noqa: ARG001 - the signature of a quantity
    """(h - m) . u, in activation units."""
    return torch.einsum("...ld,ld->...l", h - m, u)


def score(h: Tensor, u: Tensor, m: Tensor, gap: Tensor) -> Tensor:
    """(h - m) . u / gap, in class gaps."""
    return projection(h, u, m, gap) / gap


def cosine(h: Tensor, u: Tensor, m: Tensor, gap: Tensor) -> Tensor:
    """cos(h - m, d)."""
    return projection(h, u, m, gap) / (h - m).norm(dim=-1)


def cosine_as_released(h: Tensor, u: Tensor, m: Tensor, gap: Tensor) -> Tensor:  # noqa: ARG001
    """cos(h, d)."""
    return torch.einsum("...ld,ld->...l", h, u) / h.norm(dim=-1)


UNITS = {projection: "activation units", score: "class gaps", cosine: "cosine", cosine_as_released: "cosine"}


def read(
    direction: "Direction", activations: "xarray.DataArray | np.ndarray | Tensor", quantity: Quantity
) -> "xarray.DataArray | np.ndarray | Tensor":
    """A quantity of every activation; what comes in decides what comes out.

    Args:
        direction: the direction.
        activations: a DataArray with dimension d_model, and layer as a dimension or a single coordinate; or a tensor or
            array `[..., layer, d_model]` with the direction's layers in their order.
        quantity: one of the functions above.

    Returns:
        The same without d_model, float32; nan where there is no activation.

    Raises:
        InputError: another component or width, or layers that the direction does not have.
    """
    if isinstance(activations, Tensor | np.ndarray):
        _check_width(direction, activations.shape[-1] if activations.ndim else 0, "these activations")
        if activations.ndim < 2 or activations.shape[-2] != len(direction.layers):
            raise InputError(
                f"direction {direction.concept!r}: expected activations [..., {len(direction.layers)} layers, "
                f"{direction.vectors.shape[1]}], got {list(activations.shape)}"
            )
        if isinstance(activations, Tensor):
            return quantity(activations.float(), *_parts(direction, None, activations.device))
        return quantity(_tensor(activations), *_parts(direction, None, "cpu")).numpy()
    return _read_labelled(direction, activations, quantity)


def _read_labelled(direction: "Direction", array: "xarray.DataArray", quantity: Quantity) -> "xarray.DataArray":
    import xarray

    _check_labelled(direction, array)
    single = "layer" not in array.dims
    rows = _rows(direction, np.atleast_1d(array["layer"].values) if "layer" in array.coords else None, array)
    parts = _parts(direction, rows, "cpu")
    lead = [dim for dim in array.dims if dim not in ("layer", "d_model")]
    order = [array.dims.index(dim) for dim in (*lead, *([] if single else ["layer"]), "d_model")]
    out = np.full([array.sizes[dim] for dim in lead] + [len(rows)], np.nan, np.float32)
    each = 4 * len(rows) * array.sizes["d_model"]
    for block in _blocks([array.sizes[dim] for dim in lead], max(1, BLOCK_BYTES // each)):
        # read from disk here, and only this block; an array that is indexed first keeps nothing of it
        values = array.isel(dict(zip(lead, block, strict=True))).values.transpose(order)
        values = values[..., None, :] if single else values
        out[block] = quantity(_tensor(values), *parts).numpy()
    dims = lead if single else [*lead, "layer"]
    result = xarray.DataArray(
        out[..., 0] if single else out,
        dims=dims,
        coords={name: coord for name, coord in array.coords.items() if "d_model" not in coord.dims},
        name=direction.concept,
        attrs={"quantity": quantity.__name__, "unit": UNITS[quantity], "method": direction.method},
    )
    return result.transpose(*(dim for dim in array.dims if dim != "d_model"))


def _blocks(sizes: Sequence[int], most: int) -> Iterator[tuple[slice, ...]]:
    """Slices of the leading dimensions that hold at most `most` rows each: along the first dimension where they fit."""
    if not sizes:
        yield ()
        return
    inner = int(np.prod(sizes[1:]))
    if inner > most:
        for i in range(sizes[0]):
            for rest in _blocks(sizes[1:], most):
                yield (slice(i, i + 1), *rest)
        return
    step = max(1, most // max(inner, 1))
    for start in range(0, sizes[0], step):
        yield (slice(start, start + step), *(slice(0, size) for size in sizes[1:]))


def _tensor(values: np.ndarray) -> Float[Tensor, "..."]:
    """As float32; a copy where torch could not share the memory."""
    return torch.from_numpy(np.require(values, np.float32, ["C", "W"]))


def _parts(
    direction: "Direction", rows: Sequence[int] | None, device: str | torch.device
) -> tuple[Tensor, Tensor, Tensor]:
    u, m, gap = (part.to(device) for part in (direction.units, direction.midpoints, direction.gaps))
    return (u, m, gap) if rows is None else (u[list(rows)], m[list(rows)], gap[list(rows)])


def _rows(direction: "Direction", layers: np.ndarray | None, array: "xarray.DataArray") -> list[int]:
    """The direction's row for each layer of the array."""
    if layers is None:
        if array.sizes.get("layer", 1) != len(direction.layers):
            raise InputError(
                f"direction {direction.concept!r} has {len(direction.layers)} layers, these activations "
                f"{array.sizes.get('layer', 1)} and no coordinate layer that says which; give them one"
            )
        return list(range(len(direction.layers)))
    missing = [int(layer) for layer in layers if int(layer) not in direction.layers]
    if missing:
        raise InputError(
            f"direction {direction.concept!r} has layers {direction.layers[0]} to {direction.layers[-1]}, but these "
            f"activations have layer {missing[0]} ({len(missing)} layers too many); select .sel(layer=[...]) first"
        )
    return [direction.layers.index(int(layer)) for layer in layers]


def _check_labelled(direction: "Direction", array: "xarray.DataArray") -> None:
    if "d_model" not in array.dims:
        raise InputError(
            f"expected activations with dimension d_model, got dimensions {', '.join(map(str, array.dims))}"
        )
    name = str(array.name) if array.name is not None else ""
    component = name.partition(".")[0]
    if component in COMPONENTS and component != direction.component:
        raise InputError(
            f"direction {direction.concept!r} was fitted at {direction.component}, these activations are {name}; "
            f"give {direction.component} ones, or fit it at {component}"
        )
    _check_width(direction, array.sizes["d_model"], name or "these activations")


def _check_width(direction: "Direction", d_model: int, what: str) -> None:
    width = direction.vectors.shape[1]
    if d_model != width:
        raise InputError(
            f"direction {direction.concept!r} was fitted at {direction.component} of {direction.model.name} "
            f"(d_model={width}); {what} have d_model={d_model}; fit it for this model"
        )


def check_model(direction: "Direction", model: object) -> None:
    """Refuse a direction of another model.

    Args:
        direction: the direction.
        model: a HookedTransformer from `load_model`, a `ModelIdentity`, or run.json's `model`: name, revision, sha256.

    Raises:
        InputError: other weights, width or number of layers; says which.
    """
    if isinstance(model, Mapping):
        name, sha256 = model["name"], model["sha256"]
    elif hasattr(model, "sha256"):
        name, sha256 = model.name, model.sha256
    else:
        from mechmsc.model import identity

        name, sha256 = identity(model).name, identity(model).sha256
        _check_width(direction, model.cfg.d_model, f"activations of {name}")
        if max(direction.layers) >= model.cfg.n_layers:
            raise InputError(
                f"direction {direction.concept!r} has layer {max(direction.layers)}, but {name} has "
                f"{model.cfg.n_layers} layers; fit it for this model"
            )
    if sha256 != direction.model.sha256:
        raise InputError(
            f"direction {direction.concept!r} was fitted on {direction.model.name} "
            f"(sha256 {direction.model.sha256[:12]}), not on {name} (sha256 {sha256[:12]}); fit it for this model"
        )
