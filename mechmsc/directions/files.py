"""Directions as files: safetensors with the card inside, and plain vectors of other libraries. Nothing is unpickled.

The card is JSON under the key `mechmsc` of the safetensors header; that one is read. `NAME.json` beside it says the
same for people, and may be deleted.
"""

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from mechmsc.directions.record import Direction
from mechmsc.errors import InputError

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer

FORMAT = 1
KEY = "mechmsc"
TENSORS = ("vectors", "midpoints", "gaps")
FIELDS = ("concept", "layers", "method", "component", "position", "context", "model", "data", "settings")


def save(direction: Direction, path: str | Path) -> None:
    """Write a direction; see `Direction.save`."""
    from safetensors.torch import save as to_bytes

    path = _checked(path)
    card = {"format": FORMAT, **{name: getattr(direction, name) for name in FIELDS}}
    card |= {"model": asdict(direction.model), "layers": list(direction.layers), "unit": "one class gap"}
    card |= {"data": dict(direction.data), "settings": dict(direction.settings)}
    tensors = {name: getattr(direction, name).detach().cpu().contiguous() for name in TENSORS}
    write_whole(path, to_bytes(tensors, metadata={KEY: json.dumps(card)}))
    write_whole(path.with_suffix(".json"), (json.dumps(card, indent=2, ensure_ascii=False) + "\n").encode())


def load_direction(
    path: str | Path,
    *,
    model: "HookedTransformer | None" = None,
    component: str | None = None,
    device: str | torch.device | None = None,
) -> Direction:
    """Read a direction that `Direction.save` wrote.

    Args:
        path: the .safetensors file.
        model: the model it is to be used with; it must be the one that it was fitted on.
        component: the component it is to be used at, where that matters.
        device: of the tensors; None: the model's, or the CPU.

    Raises:
        InputError: no such file, a file of another kind, or a direction that does not fit; says what does not.
    """
    from mechmsc.model import ModelIdentity

    path = Path(path)
    card, tensors = _read(path)
    try:
        direction = Direction(
            **tensors,
            **{name: card[name] for name in FIELDS if name not in ("layers", "model")},
            layers=tuple(card["layers"]),
            model=ModelIdentity(**card["model"]),
        )
    except (KeyError, TypeError) as error:
        raise InputError(f"{path}: its card lacks something ({error}); fit the direction again") from error
    _check_shapes(direction, path)
    try:
        if model is not None:
            direction.check_model(model)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    if component is not None and component != direction.component:
        raise InputError(
            f"{path}: direction {direction.concept!r} was fitted at {direction.component}, not at {component}; "
            f"fit it at {component}"
        )
    return direction.to(device if device is not None else "cpu" if model is None else model.cfg.device)


def write_whole(path: Path, data: bytes) -> None:
    """Write a file that is either whole or not there."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        partial.write_bytes(data)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _checked(path: str | Path) -> Path:
    path = Path(path)
    if path.suffix != ".safetensors":
        raise InputError(f"expected a path that ends in .safetensors for a direction, got {path}")
    if not path.parent.is_dir():
        raise InputError(f"cannot write {path}: the folder {path.parent} does not exist; make it first")
    return path


def _read(path: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise InputError(f"no direction at {path}: expected a .safetensors file that Direction.save wrote")
    if not path.stat().st_size:
        raise InputError(f"{path} is empty: expected a .safetensors file that Direction.save wrote; fit it again")
    try:
        with safe_open(str(path), "pt") as file:
            text = (file.metadata() or {}).get(KEY)
            found = set(file.keys())
            if text is None or not found >= set(TENSORS):
                raise InputError(
                    f"{path} holds no direction of mechmsc (tensors {', '.join(sorted(found)[:5]) or 'none'}); "
                    "read vectors of other libraries with import_vectors"
                )
            card, tensors = json.loads(text), {name: file.get_tensor(name) for name in TENSORS}
    except (SafetensorError, json.JSONDecodeError) as error:
        raise InputError(f"{path} is not a readable .safetensors file ({error}); fit the direction again") from error
    if card.get("format") != FORMAT:
        raise InputError(f"{path} has format {card.get('format')!r}, this mechmsc reads {FORMAT}: update mechmsc")
    return card, tensors


def _check_shapes(direction: Direction, path: Path) -> None:
    layers, width = len(direction.layers), direction.vectors.shape[-1]
    for name, expected in (("vectors", (layers, width)), ("midpoints", (layers, width)), ("gaps", (layers,))):
        shape = tuple(getattr(direction, name).shape)
        if shape != expected:
            raise InputError(f"{path}: {name} should have shape {expected} by its card, has {shape}")
