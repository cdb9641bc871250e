"""What every fit asks of its training data, and the class means."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mechmsc.errors import InputError

CHUNK_BYTES = {"cpu": 2**24, "meta": 2**62}
"""Activations that a fit works on at a time, by device; caches like small ones on a CPU, others take `LARGE_CHUNK`."""
LARGE_CHUNK = 2**28

Column = Sequence[Any] | np.ndarray
"""One entry a statement."""


def check_training(
    activations: Float[Tensor, "statement *side layer d_model"], labels: Tensor, *columns: Column
) -> None:
    """Refuse what no method can be fitted on.

    Args:
        activations: of the training statements.
        labels: 0 or 1 each.
        columns: groups, pairs: one entry a statement.

    Raises:
        InputError: lengths differ, labels other than 0 and 1, one class only, or activations that are not finite: the
            first such layer and statement are named.
    """
    lengths = [len(activations), len(labels), *map(len, columns)]
    if len(set(lengths)) != 1:
        raise InputError(f"expected a label, a group and a pair for each of {lengths[0]} statements, got {lengths[1:]}")
    found = sorted(set(labels.tolist()))
    if found != [0, 1]:
        counts = f"labels {found[:5]} in {len(labels)} statements"
        raise InputError(f"expected statements of both classes, labels 0 and 1, got {counts}; give both")
    check_finite(activations)


def check_finite(activations: Float[Tensor, "statement *side layer d_model"]) -> None:
    """Refuse activations with nan or infinity.

    Raises:
        InputError: names the first layer, its first statement and how many statements are affected.
    """
    if torch.isfinite(activations.sum()):  # one pass without a mask as large as the activations
        return
    bad = ~torch.isfinite(activations).all(-1)
    if bad.any():
        bad = bad.any(1) if bad.ndim == 3 else bad
        layer = int(bad.any(0).nonzero()[0])
        statement = int(bad[:, layer].nonzero()[0])
        raise InputError(
            f"activations are not finite at layer {layer} of statement {statement} "
            f"({int(bad.any(1).sum())} statements, {int(bad.any(0).sum())} layers are affected); "
            "read them in float32, or leave these statements out"
        )


def class_means(
    activations: Float[Tensor, "statement layer d_model"], labels: Tensor
) -> Float[Tensor, "label layer d_model"]:
    """Mean of each class, label 0 first."""
    positive = labels.to(activations.dtype)
    weights = torch.stack([1 - positive, positive])
    weights = weights / weights.sum(1, keepdim=True)
    return torch.einsum("cs,sld->cld", weights, activations)


def layer_chunks(activations: Float[Tensor, "statement *side layer d_model"], *, also: int = 0) -> Iterator[slice]:
    """Slices of layers that are worked on together: as many as the device holds well.

    Args:
        activations: of statements.
        also: bytes that a layer needs beside its activations.
    """
    layers = activations.shape[-2]
    budget = CHUNK_BYTES.get(activations.device.type, LARGE_CHUNK)
    each = 4 * activations.numel() // max(layers, 1) + also
    size = max(1, budget // max(each, 1))
    for start in range(0, layers, size):
        yield slice(start, min(start + size, layers))


def precise(tensor: Tensor) -> Tensor:
    """In float64, where the device has it."""
    return tensor if tensor.device.type == "mps" else tensor.double()


def standardised(
    activations: Float[Tensor, "statement layer d_model"],
) -> tuple[
    Float[Tensor, "layer statement d_model"], Float[Tensor, "layer 1 d_model"], Float[Tensor, "layer 1 d_model"]
]:
    """Every feature with mean 0 and standard deviation 1 over statements, layer first; its mean; its deviation.

    A feature that never varies is divided by 1.
    """
    rows = activations.transpose(0, 1).contiguous()  # every product after this runs along memory
    mean = rows.mean(1, keepdim=True)
    centred = rows - mean
    deviation = centred.square().mean(1, keepdim=True).sqrt()
    # what remains of a constant after rounding is no variation
    deviation = torch.where(deviation > 1e-6 * mean.abs(), deviation, torch.ones_like(deviation))
    return centred / deviation, mean, deviation
