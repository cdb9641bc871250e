"""Parts of the forward pass that a model offers only whole: logits of some positions."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mechmsc.model.engines import engine_of

if TYPE_CHECKING:
    from mechmsc.model.engines import Model


def unembed_last(model: "Model", residual: Tensor) -> Tensor:
    """Logits of the last position, through the final norm and the hooks on it; without gradients.

    Args:
        model: the model.
        residual: `[row, token, d_model]` after the last block.

    Returns:
        `[row, d_vocab]`, float32.
    """
    with torch.no_grad():
        return unembed(model, residual[:, -1:])[:, 0]


def unembed(model: "Model", residual: Tensor) -> Tensor:
    """Logits of every position, float32 `[row, token, d_vocab]`, with gradients; as a whole pass computes them."""
    return engine_of(model).unembed(model, residual)


def output_matrix(model: "Model", layer: int) -> Tensor:
    """W_O of a layer, `[head, d_head, d_model]`: what turns each head's z into what it adds to the residual stream."""
    return engine_of(model).block(model, layer).output_matrix()
