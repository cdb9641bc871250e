"""Patched passes from the first token and layer on: for models whose blocks cannot be run in parts.

Equal to the partial pass, and slower by what that one leaves out: every cell is a row of its own in an ordinary pass,
in which a hook writes the new values.
"""

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mechmsc.model.looking import looking
from mechmsc.model.partial import HOOKS, TOKENS, Memory, Rows
from mechmsc.patching.entries import Edits, new_values
from mechmsc.patching.places import Pairing, Place

if TYPE_CHECKING:
    from mechmsc.model.engines import Model


def injected(
    model: "Model",
    cells: Sequence[tuple[int, Place]],
    pairing: Pairing,
    memory: Memory,
    source: Memory,
    recorded: Sequence[int],
) -> tuple[Tensor, dict[int, Tensor]]:
    """Run each cell, of one component, as a row of its own.

    Args:
        model: the model.
        cells: (item, place).
        pairing: of the items.
        memory: the destination run.
        source: the source run.
        recorded: blocks before which the residual stream is kept.

    Returns:
        The residual stream `[cell, position, d_model]` behind the last block, and before each recorded block.
    """
    finals, kept = [], {layer: [] for layer in recorded}
    step = max(1, TOKENS // memory.width)
    for start in range(0, len(cells), step):
        final, streams = _pass(model, cells[start : start + step], pairing, memory, source, recorded)
        finals.append(final)
        for layer, stream in streams.items():
            kept[layer].append(stream)
    return torch.cat(finals), {layer: torch.cat(parts) for layer, parts in kept.items()}


def _pass(
    model: "Model",
    cells: Sequence[tuple[int, Place]],
    pairing: Pairing,
    memory: Memory,
    source: Memory,
    recorded: Sequence[int],
) -> tuple[Tensor, dict[int, Tensor]]:
    device, width = memory.final.device, memory.width
    rows = [pairing.destination_ids[item] for item, _ in cells]
    tokens = torch.tensor([[*ids, *[0] * (width - len(ids))] for ids in rows], device=device)
    streams: dict[int, Tensor] = {}

    def record(activation: Tensor, hook: object, *, layer: int) -> None:  # noqa: ARG001 - a hook's
        streams[layer] = activation

    hooks = []
    for component, layer in dict.fromkeys((place.component, place.layer) for _, place in cells):
        here = [i for i, (_, place) in enumerate(cells) if (place.component, place.layer) == (component, layer)]
        edits = Edits.of([cells[i] for i in here], pairing, device)
        new = new_values(edits, component, layer, memory, source, mean=pairing.mean)
        row = torch.tensor(here, device=device)[edits.cell]
        write = partial(_write, row=row, edits=edits, new=new, component=component)
        hooks.append((f"blocks.{layer}.{HOOKS[component]}", write))
    n_layers = model.cfg.n_layers
    hooks += [(f"blocks.{layer}.{HOOKS['resid_pre']}", partial(record, layer=layer)) for layer in recorded]
    with torch.no_grad(), looking(model, rows), model.hooks(fwd_hooks=hooks):
        final = model(tokens, stop_at_layer=n_layers, return_type=None, padding_side="right")
    return final, streams


def _write(
    activation: Tensor,
    hook: object,  # noqa: ARG001 - a hook's
    *,
    row: Tensor,
    edits: Edits,
    new: Tensor,
    component: str,
) -> Tensor:
    out = activation.clone()
    if component == "pattern":
        out[row, edits.head, edits.position] = new[:, : out.shape[-1]].to(out.dtype)
    elif out.ndim == 4:
        out[row, edits.position, edits.head] = new.to(out.dtype)
    else:
        out[row, edits.position] = new.to(out.dtype)
    return out


def packed(streams: Tensor, rows: Rows, *, whole: bool) -> Tensor:
    """The tokens of the first cells: each one's last, `[cell, d_model]`, or all, packed `[token, d_model]`."""
    if whole:
        return streams[rows.cell, rows.position]
    return streams[torch.arange(len(rows.item), device=streams.device), rows.position[rows.last]]
