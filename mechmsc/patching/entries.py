"""From an edited activation to the residual stream that leaves its block: where a cell joins the sweep.

An edit of z, q or a pattern row, of attn_out, resid_mid or mlp_out at token p reaches the rest of its block at p alone,
so its first block costs one token. An edit of k or v changes what all later tokens read.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechmsc.model.engines import Block, engine_of
from mechmsc.model.partial import Memory, Rows, attend
from mechmsc.patching.places import Pairing, Place

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer

NEEDS = {
    "resid_pre": (),
    "resid_post": (),
    "resid_mid": ("resid_mid",),
    "attn_out": ("attn_out",),
    "mlp_out": ("mlp_out", "resid_mid"),
    "z": ("z",),
    "q": ("q", "z"),
    "pattern": ("pattern", "z"),
    "k": ("k", "z", "rot_q"),
    "v": ("z", "rot_q"),
}
"""Component -> what the destination run must remember beside keys, values and the residual stream."""


@dataclass(frozen=True, eq=False)
class Edits:
    """The tokens that cells of one component and layer edit, packed."""

    cell: Int[Tensor, " edit"]
    item: Int[Tensor, " edit"]
    position: Int[Tensor, " edit"]
    head: Int[Tensor, " edit"]
    """0 for components without heads."""
    source_cell: Int[Tensor, " read"]
    source_position: Int[Tensor, " read"]
    n_cells: int

    @classmethod
    def of(cls, cells: Sequence[tuple[int, Place]], pairing: Pairing, device: torch.device) -> "Edits":
        """Of cells given as (item, place)."""
        written = [
            (number, item, token, place.head or 0)
            for number, (item, place) in enumerate(cells)
            for token in pairing.destination[item][place.slot]
        ]
        read = [
            (number, token) for number, (item, place) in enumerate(cells) for token in pairing.source[item][place.slot]
        ]
        columns = [list(column) for column in (*zip(*written, strict=True), *zip(*read, strict=True))]
        return cls(*(torch.tensor(column, device=device) for column in columns), len(cells))


def stored(memory: Memory, component: str, layer: int) -> Tensor:
    """A component's activation, tokens before heads: `[item, position, (head,) ...]`."""
    if component in ("resid_pre", "resid_post"):
        return memory.resid_pre(layer + (component == "resid_post"))
    kept = memory.kept[component][layer]
    return kept.transpose(1, 2) if component == "pattern" else kept


def new_values(
    edits: Edits, component: str, layer: int, memory: Memory, source: Memory, *, mean: bool
) -> Float[Tensor, "edit d"]:
    """What is written: the source's activation, or the own one shifted by the difference of the means."""
    theirs, item = stored(source, component, layer), edits.item.new_zeros(edits.n_cells)
    item[edits.cell] = edits.item
    head = edits.item.new_zeros(edits.n_cells)
    head[edits.cell] = edits.head
    index = (item[edits.source_cell], edits.source_position)
    by_head = theirs.ndim == 4
    read = theirs[(*index, head[edits.source_cell])] if by_head else theirs[index]
    if not mean:
        return read
    own = stored(memory, component, layer)
    here = own[edits.item, edits.position, edits.head] if by_head else own[edits.item, edits.position]
    shift = means(read, edits.source_cell, edits.n_cells) - means(here, edits.cell, edits.n_cells)
    return (here.float() + shift[edits.cell]).to(here.dtype)


def unchanged(edits: Edits, component: str, layer: int, memory: Memory, source: Memory) -> list[bool]:
    """Cell by cell, whether the source's activation is, bit for bit, what is there already."""
    if memory.final.device.type == "meta":
        return [False] * edits.n_cells
    own = stored(memory, component, layer)
    here = own[edits.item, edits.position, edits.head] if own.ndim == 4 else own[edits.item, edits.position]
    new = new_values(edits, component, layer, memory, source, mean=False)
    differs = (new != here).any(-1)
    found = torch.zeros(edits.n_cells, dtype=torch.bool, device=differs.device)
    found[edits.cell[differs]] = True
    return (~found).tolist()


def means(x: Tensor, group: Int[Tensor, " row"], n_groups: int) -> Tensor:
    """float32 means of the rows of each group."""
    sums = torch.zeros(n_groups, *x.shape[1:], device=x.device).index_add_(0, group, x.float())
    counts = torch.zeros(n_groups, device=x.device).index_add_(0, group, torch.ones_like(group, dtype=torch.float32))
    return sums / counts.view(-1, *[1] * (x.ndim - 1))


def joining(
    model: "HookedTransformer",
    component: str,
    layer: int,
    edits: Edits,
    rows: Rows,
    memory: Memory,
    source: Memory,
    *,
    mean: bool,
) -> Float[Tensor, "token d_model"]:
    """The residual stream of cells that join, before block `Place.entry`, on all of their tokens.

    Args:
        model: the model.
        component: what is edited.
        layer: where.
        edits: which tokens, and what is read.
        rows: the cells' tokens, from their first edited one on.
        memory: the destination run.
        source: the source run.
        mean: as in `Pairing`.
    """
    new = new_values(edits, component, layer, memory, source, mean=mean)
    block = engine_of(model).block(model, layer % model.cfg.n_layers)
    if component in ("k", "v"):
        return _after_keys_or_values(block, component, layer, new, edits, rows, memory)
    at = (edits.item, edits.position)
    if component in ("resid_pre", "resid_post"):
        out = new
    elif component == "mlp_out":
        out = memory.kept["resid_mid"][layer][at] + new
    elif component == "resid_mid":
        out = block.write_mlp(new)
    else:
        attention = new if component == "attn_out" else _attention_out(block, component, layer, new, edits, memory)
        out = block.write_mlp(memory.resid_pre(layer)[at] + attention)
    entry = layer if component == "resid_pre" else layer + 1
    residual = memory.resid_pre(entry)[rows.item[rows.cell], rows.position]
    offsets = torch.tensor(rows.offsets[:-1], device=residual.device)
    starts = rows.position[offsets]
    residual[offsets[edits.cell] + edits.position - starts[edits.cell]] = out
    return residual


def _attention_out(
    block: Block, component: str, layer: int, new: Tensor, edits: Edits, memory: Memory
) -> Float[Tensor, "edit d_model"]:
    """attn_out at the edited tokens, with one head's z, query or pattern row replaced."""
    position = edits.position
    z = memory.kept["z"][layer][edits.item, position]
    shared = z.shape[1] // memory.kept["v"][layer].shape[2]
    if component == "z":
        head_z = new
    else:
        values = memory.kept["v"][layer][edits.item, :, edits.head // shared]
        if component == "pattern":
            head_z = torch.einsum("ek,ekd->ed", new.to(values.dtype), values)
        else:
            keys = memory.kept["rot_k"][layer][edits.item, :, edits.head // shared]
            q = block.placed("Q", new[:, None], position)
            key = torch.arange(keys.shape[1], device=position.device)
            mask = _hidden(key, position[:, None], block.window, q.dtype)[:, None, None]
            head_z = attend(block, q[:, None], keys[:, :, None], values[:, :, None], mask)[:, 0, 0]
    z[torch.arange(len(z), device=z.device), edits.head] = head_z
    return block.write_attention(z)


def _after_keys_or_values(
    block: Block, component: str, layer: int, new: Tensor, edits: Edits, rows: Rows, memory: Memory
) -> Float[Tensor, "token d_model"]:
    """The residual stream behind the block on all tokens from the edited one on."""
    head = rows.item.clone()
    head[edits.cell] = edits.head
    keys, values = (memory.kept[name][layer][rows.item, :, head] for name in ("rot_k", "v"))
    if component == "k":
        keys[edits.cell, edits.position] = block.placed("K", new[:, None], edits.position)[:, 0]
    else:
        values[edits.cell, edits.position] = new
    at = (rows.item[rows.cell], rows.position)
    z = memory.kept["z"][layer][at]
    shared = z.shape[1] // memory.kept["v"][layer].shape[2]
    reads = head[rows.cell, None] * shared + torch.arange(shared, device=head.device)  # query heads of the edited head
    token = torch.arange(len(z), device=z.device)[:, None]
    q = memory.kept["rot_q"][layer][at][token, reads]
    n_queries = rows.width - rows.first
    slots = rows.cell * n_queries + (rows.position - rows.first)
    padded = q.new_zeros(len(rows.item) * n_queries, *q.shape[1:]).index_copy_(0, slots, q)
    padded = padded.view(-1, n_queries, *q.shape[1:])
    read = attend(block, padded, keys[:, :, None], values[:, :, None], rows.mask(block.window, q.dtype))
    z[token, reads] = read.flatten(0, 1)[slots]
    return block.write_mlp(memory.resid_pre(layer)[at] + block.write_attention(z))


def _hidden(key: Tensor, query: Tensor, window: int | None, dtype: torch.dtype) -> Tensor:
    hidden = (key > query) if window is None else (key > query) | (key <= query - window)
    return torch.zeros(hidden.shape, dtype=dtype, device=key.device).masked_fill_(hidden, -torch.inf)
