"""Many patched passes at once, within a stated memory.

Cells are sorted by the layer at which they join and by their first edited token, and taken in batches: those of like
start share the rectangle that attention needs. On a processor a batch holds about `TOKENS` tokens, since larger ones
cost more page faults than they save; elsewhere as many as the memory allows.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mechmsc.errors import InputError, MechmscError
from mechmsc.model.engines import engine_of
from mechmsc.model.partial import Memory, Rows, run_block
from mechmsc.patching.entries import Edits, joining
from mechmsc.patching.injection import injected, packed
from mechmsc.patching.places import Pairing, Place

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer

TOKENS = 1024
Cell = tuple[int, Place]
"""An item of the chunk in flight, and the place that is patched in it."""
Recorded = dict[int, tuple[Tensor, Rows]]
"""Layer -> the residual stream before it, of the cells in flight there: `[cell, d_model]`, or packed where all tokens
are needed."""


@dataclass(frozen=True, eq=False)
class Sweep:
    """Two remembered runs of some conversations, ready for patches from one into the other."""

    model: "HookedTransformer"
    pairing: Pairing
    """Of the items of this chunk."""
    memory: Memory
    """The destination run."""
    source: Memory
    budget: int
    """Bytes that a batch may take."""
    whole: bool = False
    """Whether all tokens are needed at the end; otherwise the last block sees each cell's last token alone."""
    recorded: frozenset[int] = frozenset()
    """Layers before which the residual stream is recorded; the number of layers: behind the last one."""

    def run(self, cells: Sequence[Cell], done: Callable[[Sequence[Cell], Tensor, Recorded], None]) -> None:
        """Patch each cell; `done` gets the cells of a batch, their residual streams behind the last block, and records.

        The streams are `[cell, d_model]` of each cell's last token, or packed `[token, d_model]` if all are needed.

        Raises:
            InputError: one cell alone needs more memory than there is.
        """
        waiting = list(self._batches(cells))[::-1]
        while waiting:
            batch = waiting.pop()
            try:
                done(batch, *self.pass_(batch))
            except torch.OutOfMemoryError as error:
                if len(batch) == 1:
                    raise MechmscError(
                        "patching: out of memory with one patched run in flight; use a smaller max_memory_gib, which "
                        "bounds what is remembered, or shorter conversations"
                    ) from error
                waiting += [batch[len(batch) // 2 :], batch[: len(batch) // 2]]

    def pass_(self, cells: Sequence[Cell]) -> tuple[Tensor, Recorded]:
        """One batch of one component, sorted by the layer of entry."""
        n_layers = self.model.cfg.n_layers
        rows = Rows.of([item for item, _ in cells], [self.start(cell) for cell in cells], self.memory)
        if not engine_of(self.model).in_parts(self.model):
            return self._whole_pass(cells, rows)
        residual, recorded = self.memory.final.new_zeros(0, self.memory.final.shape[2]), {}
        joined = short = 0  # cells in flight; how many of them have been cut to their last token
        for layer in range(cells[0][1].entry, n_layers + 1):
            new = [cell for cell in cells[joined:] if cell[1].entry == layer]
            if new:
                residual = torch.cat([residual, self._joining(new)])
                joined += len(new)
            now = rows.upto(joined)
            if layer in self.recorded and layer < n_layers:
                recorded[layer] = (residual if self.whole else residual[now.last], now)
            if layer < n_layers:
                short = joined if layer == n_layers - 1 and not self.whole else 0
                residual = run_block(self.model, layer, residual, now, self.memory, last_only=short > 0)
        if not self.whole:  # cells that joined behind the last block still have all their tokens
            late = rows.last[short:] - rows.offsets[short] + short
            residual = torch.cat([residual[:short], residual[late]])
        if n_layers in self.recorded:
            recorded[n_layers] = (residual, rows)
        return residual, recorded

    def _whole_pass(self, cells: Sequence[Cell], rows: Rows) -> tuple[Tensor, Recorded]:
        """The same by a pass from the start for each cell."""
        n_layers = self.model.cfg.n_layers
        layers = sorted(layer for layer in self.recorded if layer < n_layers)
        final, streams = injected(self.model, cells, self.pairing, self.memory, self.source, layers)
        recorded = {}
        for layer in layers:
            now = rows.upto(sum(place.entry <= layer for _, place in cells))
            recorded[layer] = packed(streams[layer], now, whole=self.whole), now
        residual = packed(final, rows, whole=self.whole)
        if n_layers in self.recorded:
            recorded[n_layers] = residual, rows
        return residual, recorded

    def start(self, cell: Cell) -> int:
        """The first token that a cell edits."""
        item, place = cell
        return min(self.pairing.destination[item][place.slot])

    def _joining(self, cells: Sequence[Cell]) -> Tensor:
        place = cells[0][1]
        edits = Edits.of(cells, self.pairing, self.memory.final.device)
        rows = Rows.of([item for item, _ in cells], [self.start(cell) for cell in cells], self.memory)
        return joining(
            self.model, place.component, place.layer, edits, rows, self.memory, self.source, mean=self.pairing.mean
        )

    def _batches(self, cells: Sequence[Cell]) -> Iterator[list[Cell]]:
        order = sorted(cells, key=self._order)
        limit = TOKENS if self.memory.final.device.type == "cpu" else None
        batch: list[Cell] = []
        tokens = first = 0
        for cell in order:
            start = self.start(cell)
            n = self.memory.lengths[cell[0]] - start
            if batch and (
                batch[0][1].component != cell[1].component
                or (limit is not None and tokens + n > limit)
                or self._bytes(len(batch) + 1, tokens + n, min(first, start)) > self.budget
            ):
                yield batch
                batch, tokens = [], 0
            first = min(first, start) if batch else start
            if (needed := self._bytes(1, n, start)) > self.budget:
                raise InputError(
                    f"max_memory_gib: one patched run of {n} tokens needs {needed / 2**30:.3g} GiB, but only "
                    f"{self.budget / 2**30:.3g} GiB are left for it; allow more"
                )
            batch.append(cell)
            tokens += n
        if batch:
            yield batch

    def _order(self, cell: Cell) -> tuple[str, int, int, int]:
        """By component, layer, then start: up in one layer, down in the next, so that neighbours start alike."""
        item, place = cell
        start = self.start(cell)
        return place.component, place.entry, -start if place.entry % 2 else start, item

    def _bytes(self, n_cells: int, tokens: int, start: int) -> int:
        """An estimate of what a batch takes while it runs, from above."""
        cfg, size, width = self.model.cfg, self.memory.final.element_size(), self.memory.width
        kv_heads = cfg.n_key_value_heads or cfg.n_heads
        wide = 8 * cfg.d_model + 4 * (cfg.d_mlp or 0) + 6 * (cfg.n_heads + kv_heads) * cfg.d_head
        rectangle = n_cells * (width - start)
        scores = rectangle * width * cfg.n_heads * 4 if cfg.attn_scores_soft_cap > 0 else 0
        repeated = 2 * n_cells * width * cfg.n_heads * cfg.d_head if cfg.attn_scores_soft_cap > 0 else 0
        attention = 2 * n_cells * width * kv_heads * cfg.d_head + 3 * rectangle * cfg.n_heads * cfg.d_head + repeated
        mask = 5 * (width - start) * width
        return size * (tokens * wide + attention) + scores + mask
