"""The forward pass from a layer and a token on, for many edited copies of a few conversations at once.

An edit at layer l and token p changes only tokens from p on, and only layers from l on. What lies before comes from
`Memory`, which one ordinary pass fills: keys and values of every layer, and the residual stream.
The copies (*cells*) are packed: their tokens stand one after another in one axis, so that nothing is padded where the
work is; only attention sees them as a rectangle. A cell joins at its own layer; cells are sorted by it, so that those
in flight are always the first ones.

The parts of a block are the engine's own modules, called on packed tokens (`engines.Block`); attention alone is written
anew. Hooks would meet shapes they do not expect, so a model that carries any is refused.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from mechmsc.errors import InputError
from mechmsc.model.engines import Block, engine_of
from mechmsc.model.looking import looking

if TYPE_CHECKING:
    from mechmsc.model.engines import Model

TOKENS = 1024
"""Tokens in one unedited pass, padding included: larger ones are slower on a processor, by page faults."""
HOOKS = {
    **{name: f"hook_{name}" for name in ("resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out")},
    **{name: f"attn.hook_{name}" for name in ("q", "k", "v", "z", "pattern", "rot_q", "rot_k")},
}
"""Activation -> the end of its hook's name, after `blocks.L.`."""


@dataclass(frozen=True, eq=False)
class Memory:
    """What the unedited pass over some conversations left, padded on the right."""

    lengths: list[int]
    """Tokens of each conversation."""
    kept: dict[str, list[Tensor]]
    """Activation -> layer -> `[item, position, ...]`, `[item, head, position, source_position]` for a pattern."""
    final: Tensor
    """`[item, position, d_model]`, the residual stream after the last block."""

    @property
    def width(self) -> int:
        """Tokens of the longest conversation."""
        return self.final.shape[1]

    def resid_pre(self, layer: int) -> Tensor:
        """The residual stream before a block; after the last one for the layer behind it."""
        layers = self.kept["resid_pre"]
        return layers[layer] if layer < len(layers) else self.final


def check_partial(model: "Model", components: Sequence[str] = ()) -> None:
    """Refuse what the partial pass would compute differently.

    Raises:
        InputError: hooks on the model, or a component that a block lacks.
    """
    hooked = next((name for name, point in model.hook_dict.items() if point.fwd_hooks or point.bwd_hooks), None)
    if hooked is not None:
        raise InputError(f"expected a model without hooks, found one at {hooked}; sweep outside of `applied`")
    lacking = next((name for name in components if f"blocks.0.{HOOKS[name]}" not in model.hook_dict), None)
    if lacking is not None:
        raise InputError(f"component {lacking!r}: the blocks of this model have none (attention only?)")


def remember(model: "Model", ids: Sequence[Sequence[int]], *, keep: Sequence[str]) -> Memory:
    """Run conversations unedited and keep the named activations of every layer.

    Args:
        model: the model.
        ids: tokens of each conversation.
        keep: of `HOOKS`; `resid_pre` is always kept.
    """
    width, n_layers = max(map(len, ids)), model.cfg.n_layers
    tokens = torch.tensor([[*row, *[0] * (width - len(row))] for row in ids], device=model.cfg.device)
    names = sorted({"resid_pre", *keep})
    parts: dict[str, list[list[Tensor]]] = {name: [[] for _ in range(n_layers)] for name in names}

    def note(activation: Tensor, hook: object, *, name: str, layer: int) -> None:  # noqa: ARG001 - a hook's
        parts[name][layer].append(activation)

    ends = {name: HOOKS[name] for name in names}
    unplaced = "blocks.0.attn.hook_rot_k" not in model.hook_dict  # positions are learned, nothing is rotated
    ends |= {name: f"attn.hook_{name[4:]}" for name in ("rot_q", "rot_k") if name in ends and unplaced}
    hooks = [
        (f"blocks.{layer}.{end}", partial(note, name=name, layer=layer))
        for name, end in ends.items()
        for layer in range(n_layers)
    ]
    finals: list[Tensor] = []
    with torch.no_grad(), model.hooks(fwd_hooks=hooks):
        step = max(1, TOKENS // width)
        for start in range(0, len(ids), step):
            part = slice(start, start + step)
            with looking(model, ids[part]):
                finals.append(model(tokens[part], stop_at_layer=n_layers, return_type=None, padding_side="right"))
    kept = {
        name: [torch.cat(pieces) if len(pieces) > 1 else pieces[0] for pieces in layers]
        for name, layers in parts.items()
    }
    return Memory([len(row) for row in ids], kept, torch.cat(finals))


@dataclass(frozen=True, eq=False)
class Rows:
    """The tokens of cells, packed: cell 0's tokens from its start to its end, then cell 1's, ..."""

    item: Int[Tensor, " cell"]
    """The conversation of each cell."""
    cell: Int[Tensor, " token"]
    """The cell of each packed token."""
    position: Int[Tensor, " token"]
    """Its place in the conversation."""
    last: Int[Tensor, " cell"]
    """Place of each cell's last token in the packed axis."""
    offsets: list[int]
    """Packed tokens before each cell, and in all."""
    first: int
    """The earliest start."""
    width: int
    """Tokens of the longest conversation in `Memory`."""
    _masks: dict[object, Tensor] = field(default_factory=dict)

    @classmethod
    def of(cls, items: Sequence[int], starts: Sequence[int], memory: Memory) -> "Rows":
        """Rows of cells that start at these tokens of these conversations."""
        device = memory.final.device
        sizes = [memory.lengths[item] - start for item, start in zip(items, starts, strict=True)]
        offsets = [0]
        for size in sizes:
            offsets.append(offsets[-1] + size)
        as_tensor = partial(torch.tensor, dtype=torch.long, device=device)
        cell = [number for number, size in enumerate(sizes) for _ in range(size)]
        position = [p for item, start in zip(items, starts, strict=True) for p in range(start, memory.lengths[item])]
        last = [offset - 1 for offset in offsets[1:]]
        return cls(*map(as_tensor, (list(items), cell, position, last)), offsets, min(starts, default=0), memory.width)

    def upto(self, n_cells: int) -> "Rows":
        """The first cells."""
        tokens = self.offsets[n_cells]
        return Rows(
            self.item[:n_cells],
            self.cell[:tokens],
            self.position[:tokens],
            self.last[:n_cells],
            self.offsets[: n_cells + 1],
            self.first,
            self.width,
            self._masks,
        )

    def mask(self, window: int | None, dtype: torch.dtype) -> Tensor:
        """What a query at `first`, `first + 1`, ... may not see: `[query, key]`, 0 or -inf."""
        if window not in self._masks:
            key = torch.arange(self.width, device=self.item.device)
            query = key[self.first :, None]
            hidden = (key > query) if window is None else (key > query) | (key <= query - window)
            mask = torch.zeros(hidden.shape, dtype=dtype, device=key.device)
            self._masks[window] = mask.masked_fill_(hidden, -torch.inf)
        return self._masks[window]


def attend(
    block: Block, q: Float[Tensor, "cell query head d_head"], keys: Tensor, values: Tensor, mask: Tensor
) -> Float[Tensor, "cell query head d_head"]:
    """What each head reads.

    Args:
        block: for its scale and soft cap.
        q: queries, rotated.
        keys: `[cell, key, kv_head, d_head]`, rotated.
        values: `[cell, key, kv_head, d_head]`.
        mask: 0 or -inf, `[query, key]` or `[cell, 1, query, key]`.
    """
    q, keys, values = q.transpose(1, 2), keys.transpose(1, 2), values.transpose(1, 2)
    cap = block.cap
    if cap is None:
        z = scaled_dot_product_attention(q, keys, values, mask, scale=block.scale, enable_gqa=True)
        return z.transpose(1, 2)
    group = q.shape[1] // keys.shape[1]
    keys, values = keys.repeat_interleave(group, 1), values.repeat_interleave(group, 1)
    scores = cap * torch.tanh(q @ keys.transpose(2, 3) * block.scale / cap)
    return ((scores + mask).softmax(-1) @ values).transpose(1, 2)


def joined(memory: Memory, name: str, layer: int, rows: Rows, new: Tensor) -> Tensor:
    """Keys or values of every cell, `[cell, position, kv_head, d_head]`: remembered ones, its own tokens' put in."""
    whole = memory.kept[name][layer][rows.item]
    whole.view(-1, *new.shape[1:]).index_copy_(0, rows.cell * rows.width + rows.position, new)
    return whole


def run_block(
    model: "Model", layer: int, residual: Tensor, rows: Rows, memory: Memory, *, last_only: bool = False
) -> Tensor:
    """One block on the packed tokens: `[token, d_model]`; on each cell's last token alone with `last_only`."""
    block = engine_of(model).block(model, layer)
    normed = block.normed(residual)
    keys = joined(memory, "rot_k", layer, rows, block.placed("K", block.heads("K", normed), rows.position))
    values = joined(memory, "v", layer, rows, block.heads("V", normed))
    mask = rows.mask(block.window, residual.dtype)
    if last_only:
        residual, position = residual[rows.last], rows.position[rows.last]
        q = block.placed("Q", block.heads("Q", normed[rows.last]), position)
        z = attend(block, q[:, None], keys, values, mask[position - rows.first][:, None, None])[:, 0]
    else:
        q = block.placed("Q", block.heads("Q", normed), rows.position)
        n_queries = rows.width - rows.first
        slots = rows.cell * n_queries + (rows.position - rows.first)
        padded = q.new_zeros(len(rows.item) * n_queries, *q.shape[1:]).index_copy_(0, slots, q)
        z = attend(block, padded.view(-1, n_queries, *q.shape[1:]), keys, values, mask).flatten(0, 1)[slots]
    return block.write_mlp(residual + block.write_attention(z))
