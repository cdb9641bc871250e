"""Vectors of other libraries, in and out: one plain tensor a layer, as steering-vectors and repeng keep them.

Layer N is the output of decoder block N, our `resid_post` of layer N, in both libraries. A vector leaves here as
gap * u, so that a multiplier of 1 there is one class gap, as a strength of 1 is here. Pickled files (.pt) are not read:
save `steering_vector.layer_activations` or `control_vector.directions` with safetensors or numpy.savez.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from mechmsc.directions.files import write_whole
from mechmsc.directions.fits.training import check_training
from mechmsc.directions.fitting import calibration_of
from mechmsc.directions.record import Direction
from mechmsc.errors import InputError

if TYPE_CHECKING:
    from mechmsc.model import ModelIdentity

KINDS = (".safetensors", ".npz", ".gguf")
ARCHITECTURE = "controlvector"
"""What a GGUF file of repeng or llama.cpp says it is."""


def import_vectors(
    source: "str | Path | Mapping[int, Any]",
    *,
    concept: str,
    model: "ModelIdentity",
    component: str = "resid_post",
    activations: Float[Tensor, "statement layer d_model"] | None = None,
    labels: Tensor | None = None,
    position: str = "last",
    context: str = "chat",
) -> Direction:
    """A direction from one vector a layer.

    Without labelled activations nothing is known of midpoints: they are nan, and so are scores. The gap is the length
    of the vector: a strength of 1 adds it as it was published.

    Args:
        source: layer -> vector; or a file of such tensors, whose names end in the layer: .safetensors, .npz (no
            pickles), or .gguf as repeng exports.
        concept: what the vectors point to more of.
        model: the model they were made for, `mechmsc.model.identity(model)`.
        component: where they are added or read.
        activations: of labelled statements at every layer of the model, for midpoints and class gaps.
        labels: 0 or 1 each, on their device.
        position: where those statements were read.
        context: how they were shown.

    Raises:
        InputError: a file that cannot be read so, vectors of different length, or layers that the activations lack.
    """
    found = dict(source) if isinstance(source, Mapping) else _read(Path(source))
    layers = tuple(sorted(found))
    vectors = [torch.as_tensor(found[layer]).float().reshape(-1) for layer in layers]
    if not vectors or len({len(vector) for vector in vectors}) != 1:
        raise InputError(f"expected vectors of one length, a layer each, got lengths {[len(v) for v in vectors][:5]}")
    stacked = torch.stack(vectors)
    bad = (~torch.isfinite(stacked)).any(1)
    if bad.any():
        raise InputError(f"the vector of layer {layers[int(bad.nonzero()[0])]} is not finite")
    midpoints, gaps = torch.full_like(stacked, torch.nan), stacked.norm(dim=1)
    if activations is not None and labels is not None:
        if max(layers) >= activations.shape[1] or stacked.shape[1] != activations.shape[2]:
            raise InputError(
                f"vectors of layers {layers[0]} to {layers[-1]} and length {stacked.shape[1]} do not fit activations "
                f"[statement, layer, d_model] {list(activations.shape)}"
            )
        check_training(activations, labels)
        stacked = stacked.to(activations.device)
        midpoints, gaps = calibration_of(stacked, activations[:, list(layers)], labels)
    origin = "given as tensors" if isinstance(source, Mapping) else Path(source).name
    return Direction(
        concept, stacked, midpoints, gaps, layers, "imported", component, position, context, model, {"origin": origin}
    )


def export_vectors(direction: Direction, path: str | Path) -> None:
    """Write gap * u of every layer as tensor `direction.N`; layers without a gap are left out.

    Args:
        direction: the direction.
        path: .safetensors, .npz, or .gguf as repeng and llama.cpp read it.

    Raises:
        InputError: another ending, or no layer with a gap.
    """
    path = Path(path)
    known = torch.isfinite(direction.gaps)
    if path.suffix not in KINDS:
        raise InputError(f"expected a path that ends in {', '.join(KINDS)}, got {path}")
    if not known.any():
        raise InputError(f"direction {direction.concept!r} has no layer with a gap: nothing to write to {path}")
    scaled = (direction.units * direction.gaps[:, None]).cpu()
    vectors = {f"direction.{layer}": scaled[row].clone() for row, layer in enumerate(direction.layers) if known[row]}
    write_whole(path, _WRITERS[path.suffix](vectors, direction))


def _safetensors(vectors: dict[str, Tensor], direction: Direction) -> bytes:
    from safetensors.torch import save

    return save(vectors, metadata={"concept": direction.concept, "model": direction.model.name})


def _npz(vectors: dict[str, Tensor], direction: Direction) -> bytes:  # noqa: ARG001 - the signature of a writer
    import io

    import numpy as np

    buffer = io.BytesIO()
    np.savez(buffer, **{name: vector.numpy() for name, vector in vectors.items()})
    return buffer.getvalue()


def _gguf(vectors: dict[str, Tensor], direction: Direction) -> bytes:
    import tempfile

    import gguf

    with tempfile.TemporaryDirectory() as folder:  # the writer wants a path
        path = Path(folder) / "vectors.gguf"
        writer = gguf.GGUFWriter(path, ARCHITECTURE)
        writer.add_string(f"{ARCHITECTURE}.model_hint", direction.model.name)
        writer.add_uint32(f"{ARCHITECTURE}.layer_count", len(vectors))
        for name, vector in vectors.items():
            writer.add_tensor(name, vector.numpy())
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return path.read_bytes()


_WRITERS = {".safetensors": _safetensors, ".npz": _npz, ".gguf": _gguf}


def _read(path: Path) -> dict[int, Any]:
    if path.suffix not in KINDS:
        raise InputError(
            f"{path}: expected vectors in {', '.join(KINDS)}; pickled files are not read, save them as one"
        )
    if not path.is_file():
        raise InputError(f"no file at {path}: expected vectors in {', '.join(KINDS)}")
    try:
        named = _named(path)
    except Exception as error:  # three libraries raise many kinds, all for the same reason
        raise InputError(f"{path} cannot be read: {' '.join(str(error).split())[:160]}") from error
    layers = {name: re.search(r"(\d+)$", name) for name in named}
    if not named or not all(layers.values()):
        odd = next((name for name, layer in layers.items() if not layer), "no tensors")
        raise InputError(f"{path}: expected tensors whose names end in a layer, e.g. direction.12, got {odd!r}")
    return {int(layers[name].group()): vector for name, vector in named.items()}


def _named(path: Path) -> dict[str, Any]:
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(str(path))
    if path.suffix == ".npz":
        import numpy as np

        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    import gguf

    return {tensor.name: torch.tensor(tensor.data) for tensor in gguf.GGUFReader(path).tensors}
