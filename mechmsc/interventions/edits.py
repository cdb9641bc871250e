"""`Intervention`: one edit of activations, and the four functions that make one.

On an activation h at the tokens of a site, with u, m and gap of a direction and strengths a in class gaps (science,
section 7):

    add      h + a gap u
    ablate   h - ((h - m).u) u          everywhere: see `ablate`
    clamp    h + (target - h.u) u       a span of several tokens: every token is moved by target minus the span's mean
    replace  the activation of another run
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from mechmsc.directions import Direction
from mechmsc.errors import InputError, nearest
from mechmsc.sites import COMPONENTS, Site

EDITABLE = tuple(name for name in COMPONENTS if name not in ("rot_k", "result"))
"""Components that can be edited. `rot_k` holds the whole cache, edit `k`; `result` is computed only here, edit `z`."""
UNITS = ("gaps", "projection")
CENTERS = ("midpoint", "zero")


@dataclass(frozen=True, eq=False)
class Intervention:
    """One edit; made by `add`, `ablate`, `clamp` or `replace`, put into effect by `applied`."""

    kind: Literal["add", "ablate", "clamp", "replace"]
    """What is done."""
    site: Site | None
    """Where; None: ablate everywhere."""
    direction: Direction | Tensor | None
    """Along what; a plain tensor is a direction with midpoint 0 and gap 1. None for replace."""
    values: Any = None
    """add: strength; clamp: target; replace: activations. For all items, or for each (see `add`)."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """norm_preserving of add; center and layer of ablate; unit and each of clamp."""

    @property
    def strength(self) -> Any:
        """Strength of an `add` in class gaps; None for the other kinds."""
        return self.values if self.kind == "add" else None

    @property
    def fingerprint(self) -> str:
        """Eight hexadecimal digits of all that the edit does, for records of what was edited."""
        return sha256(repr((str(self), sorted(self.options.items()), *_plain(self))).encode()).hexdigest()[:8]

    def __str__(self) -> str:
        name = getattr(self.direction, "concept", "" if self.direction is None else "a tensor")
        value = f"{self.values:+g}" if isinstance(self.values, int | float) else "..."
        shown = {"add": f"({name}, {value})", "clamp": f"({name}, to {value})", "ablate": f"({name})", "replace": ""}
        return f"{self.kind}{shown[self.kind]} at {self.site if self.site is not None else 'every write'}"


def add(direction: Direction | Tensor, *, strength: Any, at: Site, norm_preserving: bool = False) -> Intervention:
    """Move the activation by `strength` class gaps along the direction: h + a gap u.

    Args:
        direction: fitted at the site's component; or a tensor `[d]` or `[layer, d]` (a row a layer of the site), which
            is read as a unit direction with gap 1, so that strength is in units of the activation.
        strength: a, in class gaps. One number; or one an item: a sequence in the order of the conversations, a mapping
            item_id -> number, or a DataArray over `item`.
        at: where.
        norm_preserving: scale the result to the norm that the activation had.
    """
    options = {"norm_preserving": norm_preserving}
    return Intervention("add", _site(at), _direction(direction, at), _numbers(strength, "strength"), options)


def ablate(
    direction: Direction | Tensor,
    *,
    at: Site | None = None,
    center: str = "midpoint",
    layer: int | None = None,
) -> Intervention:
    """Take the direction out of the activation: h - ((h - m).u) u, at a site or everywhere.

    Everywhere (`at=None`; Arditi et al. 2024, arXiv:2406.11717): with one u, the embedding and every write w of
    attention and MLP into the residual stream become w - (w.u) u, and (m.u) u is added once after the embedding, so
    that the coordinate is m.u at every layer and token.

    Args:
        direction: as in `add`.
        at: where; None: everywhere.
        center: `midpoint` leaves the coordinate m.u, `zero` leaves 0.
        layer: which layer's u and m are taken everywhere; needed where the direction has several.
    """
    if center not in CENTERS:
        raise InputError(f"ablate: unknown center {center!r}: {nearest(str(center), CENTERS)}")
    if at is not None and layer is not None:
        raise InputError(f"ablate: layer is for at=None; the site {at} says its layers itself")
    direction = _direction(direction, at)
    rows = direction.layers if isinstance(direction, Direction) else range(len(direction))
    if at is None:
        if layer is None and len(rows) > 1:
            raise InputError(f"ablate everywhere: expected layer=, one of {rows[0]} to {rows[-1]}, whose u is taken")
        layer = rows[0] if layer is None else layer
        if layer not in rows:
            raise InputError(f"ablate everywhere: expected layer from {rows[0]} to {rows[-1]}, got {layer}")
    return Intervention("ablate", _site(at), direction, None, {"center": center, "layer": layer})


def clamp(
    direction: Direction | Tensor,
    *,
    to: Any,
    at: Site,
    unit: str = "gaps",
    each: bool = False,
) -> Intervention:
    """Set the coordinate along the direction to a value, a constant or one an item.

    On several tokens every token is moved by (target - mean over them), so that the mean reads back as the target and
    the variation within stays; `each=True` sets every token by itself. While a response is being drawn its mean is not
    known: there, `each=True`.

    Args:
        direction: as in `add`.
        to: the target, one number or one an item, as strength in `add`.
        at: where.
        unit: of `to`: `gaps`, (h - m).u / gap, what `Direction.score` gives; `projection`, (h - m).u.
        each: set every token, not the mean.
    """
    if unit not in UNITS:
        raise InputError(f"clamp: unknown unit {unit!r}: {nearest(str(unit), UNITS)}")
    if each and at.at == "mean":
        raise InputError(f"clamp: each=True sets every token, but the site {at} is their mean; use at='all'")
    options = {"unit": unit, "each": each}
    return Intervention("clamp", _site(at), _direction(direction, at), _numbers(to, "to"), options)


def replace(values: Any, *, at: Site) -> Intervention:
    """Put the activation of another run in place.

    Args:
        values: axes `(item,) (layer,) (token,) (head,) d`: layer where the site has several, token where `at` is `all`
            or a range, head where the component has heads and the site names none. Without the axis `item` the same
            for all. A tensor, an array, a list with one an item, a mapping item_id -> array; or a DataArray with named
            dimensions (item, layer, position, head, ...), which are brought into order, and whose item and layer are
            found by coordinate. For `pattern` d is the source token, and only passes without a cache can be edited.
        at: where; one round, so name it where the conversation has several with this span.
    """
    if isinstance(values, Tensor | np.ndarray | float | int):
        _finite(torch.as_tensor(values), "replace")
    return Intervention("replace", _site(at), None, values)


def _plain(edit: Intervention) -> list[Any]:
    """The numbers of an edit as lists."""
    d, v = edit.direction, edit.values
    parts = [d.vectors, d.midpoints, d.gaps] if isinstance(d, Direction) else [d, v]
    parts = [*parts, *(v.values() if isinstance(v, Mapping) else v if isinstance(v, list | tuple) else [v])]
    return [x.tolist() if hasattr(x, "tolist") else str(getattr(x, "values", x)) for x in parts]


def _site(site: Site | None) -> Site | None:
    if site is not None and site.component not in EDITABLE:
        instead = {"rot_k": "k", "result": "z"}[site.component]
        raise InputError(f"site {site}: {site.component} cannot be edited; edit {instead}, which it is made of")
    return site


def _direction(direction: Direction | Tensor, site: Site | None) -> Direction | Tensor:
    if isinstance(direction, Direction):
        if site is not None and direction.component != site.component:
            raise InputError(
                f"direction {direction.concept!r} was fitted at {direction.component}, but the site is {site}; "
                f"use Site({direction.component!r}, ...) or fit it again"
            )
        return direction
    if not isinstance(direction, Tensor) or direction.ndim not in (1, 2):
        arrived = f"shape {tuple(direction.shape)}" if isinstance(direction, Tensor) else type(direction).__name__
        raise InputError(f"direction: expected a Direction or a tensor [d] or [layer, d], got {arrived}")
    return _finite(torch.atleast_2d(direction.detach().float()), "direction")


def _numbers(values: Any, what: str) -> Any:
    """One number; or numbers by item: a list in the order of the call, or a dict by item_id."""
    if hasattr(values, "dims"):  # xarray
        if values.dims != ("item",):
            raise InputError(f"{what}: expected a DataArray over item alone, got dims {values.dims}; select the rest")
        values = dict(zip(values["item"].values.tolist(), values.values.tolist(), strict=True))
    if isinstance(values, Mapping):
        given = {str(item): float(value) for item, value in values.items()}
        _finite(torch.tensor(list(given.values())), what)
        return given
    array = torch.as_tensor(values, dtype=torch.float64)
    if array.ndim > 1:
        raise InputError(f"{what}: expected one number or one an item, got shape {tuple(array.shape)}")
    _finite(array, what)
    return array.tolist()


def _finite(values: Tensor, what: str) -> Tensor:
    if not values.isfinite().all():
        raise InputError(f"{what}: expected finite numbers, got {int((~values.isfinite()).sum())} that are not")
    return values
