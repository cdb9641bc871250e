"""One pass of the destination run with gradients, and what they say of every patch to first order."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from mechmsc.model.looking import looking
from mechmsc.model.partial import HOOKS, Memory
from mechmsc.patching.entries import Edits, means, new_values, stored
from mechmsc.patching.grid import Ends, Job, ends_of
from mechmsc.patching.places import Pairing, Place


@dataclass(frozen=True, eq=False)
class Graph:
    """One forward pass of some items with gradients, from an embedding on the line."""

    job: Job
    chunk: list[int]
    pairing: Pairing
    memory: Memory
    source: Memory
    nodes: dict[tuple[str, int], Tensor]
    """(component, layer) -> the activation in the graph."""
    ends: Ends

    @classmethod
    def of(cls, job: Job, chunk: list[int], memory: Memory, source: Memory, alpha: float) -> "Graph":
        """Run the items of a chunk from `alpha` of the way to the source's embeddings; a graph if gradients are on."""
        pairing, nodes = job.pairing.items(chunk), {}
        start = _on_the_line(pairing, memory, source, alpha).requires_grad_(torch.is_grad_enabled())

        def keep(activation: Tensor, hook: object, *, key: tuple[str, int]) -> Tensor:  # noqa: ARG001 - a hook's
            nodes[key] = start if key == ("resid_pre", 0) else activation
            return nodes[key]

        layers = range(job.model.cfg.n_layers)
        kept = sorted({"resid_pre", *(place.component for place in job.places)})
        hooks = [(f"blocks.{a}.{HOOKS[name]}", partial(keep, key=(name, a))) for name in kept for a in layers]
        rows = [[*ids, *[0] * (memory.width - len(ids))] for ids in pairing.destination_ids]
        tokens = torch.tensor(rows, device=memory.final.device)
        with looking(job.model, pairing.destination_ids), job.model.hooks(fwd_hooks=hooks):
            final = job.model(tokens, stop_at_layer=len(layers), return_type=None, padding_side="right")
        residual = [nodes["resid_pre", layer] for layer in layers]
        ends = ends_of(job, Memory(memory.lengths, {"resid_pre": residual}, final))
        return cls(job, chunk, pairing, memory, source, nodes, ends)

    def gradients(self, pull: Ends) -> dict[tuple[str, int], Tensor | None]:
        """Gradients of the outcome at every kept activation, from those where it is read, of all items."""
        rows, width = torch.tensor(self.chunk, device=pull.final.device), self.ends.final.shape[1]
        outputs = [self.ends.final, *self.ends.recorded.values()]
        pulls = [part[rows][:, :width] for part in (pull.final, *pull.recorded.values())]
        found = torch.autograd.grad(outputs, list(self.nodes.values()), pulls, allow_unused=True)
        return dict(zip(self.nodes, found, strict=True))

    def add_to(self, values: np.ndarray, differ: np.ndarray, grads: dict, *, share: float) -> None:
        """Add `share` of each patch's attribution to `values`, and mark where the runs differ."""
        cells = _cells(self.pairing)
        edits = Edits.of(cells, self.pairing, self.memory.final.device)
        item, slot = (np.array(column) for column in zip(*((i, place.slot) for i, place in cells), strict=True))
        for (component, layer), found in _numbered(self.job.places).items():
            grad = grads[component, layer]
            if grad is None:
                continue
            grad = grad.transpose(1, 2) if component == "pattern" else grad
            moved = self._moved(edits, component, layer)
            effect = moved.new_zeros(edits.n_cells, *moved.shape[1:-1])
            apart = effect.clone().index_add_(0, edits.cell, moved.abs().sum(-1)) > 0
            effect.index_add_(0, edits.cell, (moved * grad[edits.item, edits.position].float()).sum(-1))
            for head, numbers in found.items():
                own = (effect, apart) if head is None else (effect[:, head], apart[:, head])
                at = numbers[slot], np.array(self.chunk)[item]
                values[at] += share * own[0].double().cpu().numpy()
                differ[at] |= own[1].cpu().numpy()

    def _moved(self, edits: Edits, component: str, layer: int) -> Tensor:
        """How far each edited token would be moved, `[edit, (head,) d]` in float32."""
        own, theirs = stored(self.memory, component, layer), stored(self.source, component, layer)
        item = edits.item.new_zeros(edits.n_cells)
        item[edits.cell] = edits.item
        here, there = own[edits.item, edits.position], theirs[item[edits.source_cell], edits.source_position]
        if not self.pairing.mean:
            return (there - here).float()
        shift = means(there, edits.source_cell, edits.n_cells) - means(here, edits.cell, edits.n_cells)
        return shift[edits.cell]


def _numbered(places: Sequence[Place]) -> dict[tuple[str, int], dict[int | None, np.ndarray]]:
    """(component, layer) -> head -> number of the place of each slot."""
    found: dict[tuple[str, int], dict[int | None, list[int]]] = {}
    for number, place in enumerate(places):  # slots of one head stand in their order
        found.setdefault((place.component, place.layer), {}).setdefault(place.head, []).append(number)
    return {at: {head: np.array(numbers) for head, numbers in heads.items()} for at, heads in found.items()}


def _on_the_line(pairing: Pairing, memory: Memory, source: Memory, alpha: float) -> Tensor:
    """The first residual stream, its patched tokens moved by `alpha` of the way to the source's."""
    start = memory.resid_pre(0).detach().clone()
    if alpha:
        edits = Edits.of(_cells(pairing), pairing, start.device)
        new = new_values(edits, "resid_pre", 0, memory, source, mean=pairing.mean)
        here = start[edits.item, edits.position]
        start[edits.item, edits.position] = here + (alpha * (new - here)).to(here.dtype)
    return start


def _cells(pairing: Pairing) -> list[tuple[int, Place]]:
    """Every slot of every item; of component, layer and head nothing but the slot is read."""
    slots = [(item, slot) for item, many in enumerate(pairing.destination) for slot in range(len(many))]
    return [(item, Place("resid_pre", 0, None, slot)) for item, slot in slots]
