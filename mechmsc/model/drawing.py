"""The Hugging Face model over the branching cache, as decoders use it; and which architectures cannot be used so.

Transformers has a seam for attention functions. Architectures that go around it, or whose attention has terms that
`kv_cache.attention` lacks, would draw wrong tokens: they are tried when they are loaded.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from mechmsc.errors import MechmscError
from mechmsc.kv_cache import ATTENTION, BranchingCache, attention

MAX_KL_NATS = {torch.float32: 1e-6, torch.float16: 1e-2, torch.bfloat16: 1e-2}
"""Largest KL of a decoded distribution from the one of the whole text, by dtype."""


@contextmanager
def attention_of(hf: torch.nn.Module) -> Iterator[None]:
    """Let a Hugging Face model attend through the cache, and leave it as it was."""
    from transformers import AttentionInterface

    AttentionInterface.register(ATTENTION, attention)
    config = hf.config.get_text_config(decoder=True)
    before = config._attn_implementation
    config._attn_implementation = ATTENTION
    try:
        yield
    finally:
        config._attn_implementation = before


def padded(ids: Sequence[Sequence[int]], device: torch.device, *, side: str) -> Tensor:
    """Token ids `[row, token]`, filled up with 0 on one side."""
    width = max(map(len, ids))
    fill = [[0] * (width - len(row)) for row in ids]
    rows = [[*f, *row] if side == "left" else [*row, *f] for f, row in zip(fill, ids, strict=True)]
    return torch.tensor(rows, dtype=torch.long, device=device)


def encoded(hf: torch.nn.Module, cache: BranchingCache, tokens: Tensor, positions: Tensor) -> Tensor:
    """Encode tokens `[row, token]` into the cache: logits float32 `[row, d_vocab]` after the last of each row.

    Args:
        hf: the Hugging Face model.
        cache: where they go.
        tokens: padded on the left.
        positions: of the tokens in their conversations, as the cache gives them.
    """
    with torch.no_grad(), attention_of(hf):
        out = hf(
            input_ids=tokens,
            position_ids=positions.clamp(min=0),
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
    return out.logits[:, -1].float()


def check_drawing(hf: torch.nn.Module, text: Sequence[int], name: str) -> None:
    """Compare decoding with encoding a whole text, at two places of two rows.

    Raises:
        MechmscError: the cache cannot be read, or the distributions differ.
    """
    texts = [list(text), list(text[: len(text) // 2])]
    what = f"{name} ({hf.config.model_type}) cannot draw tokens here"
    try:
        cache = BranchingCache(len(texts), hf.device)
        said = []
        for new in ([text[:-1] for text in texts], [text[-1:] for text in texts]):
            positions = cache.extend([len(row) for row in new])
            said.append(encoded(hf, cache, padded(new, hf.device, side="left"), positions))
    except Exception as error:  # an architecture that reads the cache itself fails in a way of its own
        reason = " ".join(str(error).split())[:120]
        raise MechmscError(f"{what}: its attention does not go through transformers' seam ({reason})") from error
    for row, ids in enumerate(texts):
        with torch.no_grad():
            whole = hf(torch.tensor([ids], device=hf.device)).logits[0, -2:].float().log_softmax(-1)
        drawn = torch.stack([part[row] for part in said]).log_softmax(-1)
        apart = (whole.exp() * (whole - drawn)).sum(-1).max().item()
        if not apart <= MAX_KL_NATS[hf.dtype]:  # nan fails
            raise MechmscError(
                f"{what}: decoding step by step differs from encoding the text by a KL of {apart:.2g} nats"
            )
