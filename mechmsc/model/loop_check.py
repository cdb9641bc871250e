"""Do the parts of the blocks, one after another, make up the forward pass? Tried on a few tokens, once a model."""

from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import torch

from mechmsc.errors import InputError
from mechmsc.model.config import sliding_window
from mechmsc.model.partial import Rows, remember, run_block
from mechmsc.model.vision import vision_of

if TYPE_CHECKING:
    from mechmsc.model.engines import Model

TOKENS = 24
"""Tokens tried beyond the sliding window, where it is short enough."""
LONGEST_WINDOW = 1024
LIMITS = {torch.float32: 1e-4, torch.float16: 5e-3, torch.bfloat16: 3e-2}
"""dtype -> largest relative error of the residual stream behind a block."""

_KNOWN: "WeakKeyDictionary[Model, bool]" = WeakKeyDictionary()


def blocks_agree(model: "Model") -> bool:
    """Whether every block, run in parts, gives what the whole pass has behind it; on "meta", whether it runs."""
    if model not in _KNOWN:
        try:
            _KNOWN[model] = worst_error(model) <= LIMITS[model.cfg.dtype]
        except (AttributeError, IndexError, KeyError, TypeError, ValueError, RuntimeError, InputError):
            _KNOWN[model] = False  # blocks of another kind: they lack a part, or its shapes are others
    return _KNOWN[model]


def worst_error(model: "Model") -> float:
    """Largest |loop - pass| / |pass| over the blocks, of the residual stream behind each; 0 on "meta"."""
    window = sliding_window(model.mechmsc.hf.config) or 0
    n = min(model.cfg.n_ctx, TOKENS + window * (window <= LONGEST_WINDOW))
    dice = torch.Generator().manual_seed(0)
    placeholder = getattr(vision_of(model), "image_id", None)  # stands for nothing without its picture
    ids = [torch.randint(model.cfg.d_vocab, (length,), generator=dice).tolist() for length in (n, n // 2)]
    ids = [[0 if token == placeholder else token for token in row] for row in ids]
    memory = remember(model, ids, keep=("rot_k", "v"))
    rows, worst = Rows.of([0, 1], [0, 0], memory), 0.0
    at = (rows.item[rows.cell], rows.position)
    with torch.no_grad():
        for layer in range(model.cfg.n_layers):
            out = run_block(model, layer, memory.resid_pre(layer)[at], rows, memory)
            expected = memory.resid_pre(layer + 1)[at]
            if not out.is_meta:
                worst = max(worst, ((out - expected).float().norm() / expected.float().norm()).item())
    return worst
