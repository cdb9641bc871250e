"""Parts of HookedTransformer's forward pass that its `forward` offers only whole: an empty cache, the last logits."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer


def new_kv_cache(model: "HookedTransformer", n_rows: int) -> object:
    """An empty key-value cache of TransformerLens for `n_rows` sequences."""
    from transformer_lens.cache.key_value_cache import TransformerLensKeyValueCache

    return TransformerLensKeyValueCache.init_cache(model.cfg, model.cfg.device, n_rows)


def unembed_last(model: "HookedTransformer", residual: Tensor) -> Tensor:
    """Logits of the last position, through the final norm and the hooks on it; without gradients.

    Args:
        model: the model.
        residual: `[row, token, d_model]` after the last block.

    Returns:
        `[row, d_vocab]`, float32.
    """
    with torch.no_grad():
        return unembed(model, residual[:, -1:])[:, 0]


def unembed(model: "HookedTransformer", residual: Tensor) -> Tensor:
    """Logits of every position, float32 `[row, token, d_vocab]`, with gradients; as `forward` computes them."""
    normed = residual if model.cfg.normalization_type is None else model.ln_final(residual)
    logits = model.unembed(normed)
    cap = model.cfg.output_logits_soft_cap
    return (cap * torch.tanh(logits / cap) if cap > 0 else logits).float()
