"""The grid of exact patches: what is swept, within which memory, and what comes out."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from mechmsc.errors import InputError
from mechmsc.model.engines import engine_of
from mechmsc.model.forward import unembed
from mechmsc.model.partial import Memory, Rows, remember
from mechmsc.patching.entries import NEEDS, Edits, unchanged
from mechmsc.patching.places import Pairing, Place, Slot
from mechmsc.patching.sweep import Cell, Recorded, Sweep
from mechmsc.patching.wanted import Outcome, checked

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer

LOGIT_ROWS = 64
"""Rows of logits that are made at once."""
SHARES = {"runs": 0.5, "ends": 0.25, "batch": 0.25}
"""Of the memory: remembered runs, residual streams that wait for their outcome, the batch in flight."""


@dataclass(frozen=True, eq=False)
class Job:
    """A grid to compute."""

    model: "HookedTransformer"
    pairing: Pairing
    places: list[Place]
    outcomes: dict[str, Outcome]
    budget: int
    """Bytes."""
    advance: Callable[[int], object] = int
    """Told how many cells (a place in an item) are done."""

    @property
    def whole(self) -> bool:
        """Whether some outcome reads all positions."""
        return any(outcome.positions == "all" for outcome in self.outcomes.values())

    @property
    def recorded(self) -> frozenset[int]:
        """Layers before which the residual stream is read by some outcome."""
        sites = {site for outcome in self.outcomes.values() for site in outcome.sites}
        return frozenset(_before(site) for site in sites)

    def last(self, x: Tensor) -> Tensor:
        """The last token of every item, `[item, 1, d]`, from all of them."""
        last = torch.tensor([len(ids) - 1 for ids in self.pairing.destination_ids], device=x.device)
        return x[torch.arange(len(last), device=x.device), last][:, None]


def _before(site: tuple[str, int]) -> int:
    component, layer = site
    return layer if component == "resid_pre" else layer + 1


@dataclass(frozen=True, eq=False)
class Ends:
    """What outcomes are read from: residual streams at the last token, or at all tokens, padded on the right."""

    final: Tensor
    """Behind the last block, `[..., item, position, d_model]`."""
    recorded: dict[int, Tensor]
    """Before other blocks, by layer."""

    def copies(self, n: int) -> "Ends":
        """`n` copies in a new leading axis."""
        copied = {layer: x.expand(n, *x.shape).clone() for layer, x in self.recorded.items()}
        return Ends(self.final.expand(n, *self.final.shape).clone(), copied)

    def of(self, layer: int | None) -> Tensor:
        """`recorded`, or `final` for None."""
        return self.final if layer is None else self.recorded[layer]


def compute(job: Job) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every outcome of every place: patched `[place, outcome, item]`, source and destination `[outcome, item]`.

    Items that lack a place (a shorter span) are nan there.

    Raises:
        InputError: the memory is too small, or an outcome is not one number an item.
    """
    chunks, blocks = list(chunks_of(job)), list(_blocks(job))
    with torch.no_grad():
        source, destination, runs = both_ends(job, chunks)
        baseline = logits_of(job.model, destination.final)
        sides = [(side, logits_of(job.model, side.final)) for side in (source, destination)]
        unpatched = [np.array(_outcomes(job, side, logits, baseline)) for side, logits in sides]
        patched = np.full((len(job.places), len(job.outcomes), job.pairing.n_items), np.nan)
        for block in blocks:
            stored = destination.copies(len(block))
            moved = np.zeros((len(block), job.pairing.n_items), dtype=bool)
            for chunk in chunks:
                runs = runs if len(chunks) == 1 else remembered(job, chunk)
                moved |= _sweep(job, block, chunk, runs, stored)
            patched[block.start : block.stop] = list(_evaluate(job, block, stored, moved, baseline, unpatched[1]))
    return patched, *unpatched


def both_ends(job: Job, chunks: Sequence[list[int]]) -> tuple[Ends, Ends, tuple[Memory, Memory]]:
    """The unpatched runs of all items, source and destination; and what is remembered of the last chunk."""
    ends: tuple[list[Ends], list[Ends]] = ([], [])
    for chunk in chunks:
        runs = remembered(job, chunk)
        for side, memory in zip(ends, runs, strict=True):
            side.append(ends_of(job, memory))
    return joined(ends[1], chunks), joined(ends[0], chunks), runs


def _sweep(job: Job, block: range, chunk: list[int], runs: tuple[Memory, Memory], stored: Ends) -> np.ndarray:
    """Patch the places of a block in the items of a chunk, and put the ends into `stored`.

    Returns:
        `[place, item]`, whether anything was patched there: nowhere outside of the chunk.
    """
    memory, source = runs
    pairing = job.pairing.items(chunk)
    budget = int(job.budget * SHARES["batch"])
    sweep = Sweep(job.model, pairing, memory, source, budget, job.whole, job.recorded)
    places = {place: number for number, place in enumerate(job.places[i] for i in block)}
    item_of = torch.tensor(chunk, device=memory.final.device)
    cells = list(_changing(job, places, pairing, runs))
    moved = np.zeros((len(block), job.pairing.n_items), dtype=bool)
    moved[[places[place] for _, place in cells], [chunk[item] for item, _ in cells]] = True

    def done(cells: Sequence[Cell], final: Tensor, recorded: Recorded) -> None:
        slot = torch.tensor([places[place] for _, place in cells], device=final.device)
        everyone = Rows.of([i for i, _ in cells], [sweep.start(cell) for cell in cells], memory)
        for layer, (streams, rows) in {None: (final, everyone), **recorded}.items():
            cell = rows.cell if job.whole else torch.arange(len(rows.item), device=final.device)
            at = rows.position if job.whole else torch.zeros_like(cell)
            stored.of(layer)[slot[cell], item_of[rows.item[cell]], at] = streams
        job.advance(len(cells))

    job.advance(len(block) * len(chunk) - len(cells))  # what cannot differ
    sweep.run(cells, done)
    return moved


def _changing(job: Job, places: Iterable[Place], pairing: Pairing, runs: tuple[Memory, Memory]) -> Iterator[Cell]:
    """The cells that can differ: not those where both runs have the same activation, or that nothing reads."""
    memory, source = runs
    n_layers, ends = job.model.cfg.n_layers, [length - 1 for length in memory.lengths]
    for (component, layer), alike in groupby(places, key=lambda place: (place.component, place.layer)):
        cells = [
            (i, place)
            for place in alike
            for i, slots in enumerate(pairing.destination)
            if place.slot < len(slots) and (job.whole or place.entry < n_layers or _reaches(place, slots, ends[i]))
        ]
        same = [False] * len(cells)
        if not pairing.mean and cells:
            edits = Edits.of(cells, pairing, memory.final.device)
            same = unchanged(edits, component, layer, memory, source)
        yield from (cell for cell, equal in zip(cells, same, strict=True) if not equal)


def _reaches(place: Place, slots: Sequence[Slot], last: int) -> bool:
    """Whether a patch in the last block reaches the last token: its own tokens do, and keys and values."""
    return place.component in ("k", "v") or last in slots[place.slot]


def _evaluate(
    job: Job, block: range, stored: Ends, moved: np.ndarray, baseline: Tensor, destination: np.ndarray
) -> Iterator[np.ndarray]:
    """The outcomes of each place of a block, `[outcome, item]`; exactly the destination's where nothing was patched."""
    step = max(1, LOGIT_ROWS // (stored.final.shape[1] * stored.final.shape[2]))
    for start in range(0, len(block), step):
        patched = moved[start : start + step].any(1)
        rows = [start + offset for offset in np.flatnonzero(patched)]
        logits = iter(logits_of(job.model, stored.final[rows]) if rows else ())
        for slot in range(start, min(start + step, len(block))):
            values = destination.copy()
            if moved[slot].any():
                ends = Ends(stored.final[slot], {layer: x[slot] for layer, x in stored.recorded.items()})
                found = np.array(_outcomes(job, ends, next(logits), baseline))
                values[:, moved[slot]] = found[:, moved[slot]]
            missing = [job.places[block[slot]].slot >= len(slots) for slots in job.pairing.destination]
            values[:, missing] = np.nan
            yield values


def _outcomes(job: Job, ends: Ends, logits: Tensor, baseline: Tensor) -> list[list[float]]:
    """`[outcome][item]`."""
    with torch.no_grad():
        values = {name: read(job, outcome, ends, logits, baseline) for name, outcome in job.outcomes.items()}
    return [checked(value, job.pairing.n_items, name) for name, value in values.items()]


def read(job: Job, outcome: Outcome, ends: Ends, logits: Tensor, baseline: Tensor) -> object:
    """One outcome, `[item]`, unchecked."""
    sites = {site: ends.recorded[_before(site)] for site in outcome.sites}
    given = [logits, baseline, *sites.values()]
    if job.whole and outcome.positions == "last":
        given = [job.last(x) for x in given]
    return outcome(given[0], dict(zip(sites, given[2:], strict=True)), given[1])


def logits_of(model: "HookedTransformer", final: Tensor) -> Tensor:
    """`[..., d_vocab]` float32 of `[..., d_model]`, with gradients."""
    rows = final.reshape(-1, 1, final.shape[-1]).split(LOGIT_ROWS)
    return torch.cat([unembed(model, part) for part in rows]).view(*final.shape[:-1], -1)


def remembered(job: Job, chunk: list[int]) -> tuple[Memory, Memory]:
    """The destination's run and the source's run of some items."""
    components = {place.component for place in job.places}
    plain = [name for name in components if name not in ("resid_pre", "resid_post")]
    needs = {"rot_k", "v", *(name for component in components for name in NEEDS[component])}
    keep = sorted({*plain, *(needs if engine_of(job.model).in_parts(job.model) else ())})
    ids = job.pairing
    return (
        remember(job.model, [ids.destination_ids[i] for i in chunk], keep=keep),
        remember(job.model, [ids.source_ids[i] for i in chunk], keep=plain),
    )


def ends_of(job: Job, memory: Memory) -> Ends:
    """What outcomes are read from in an unpatched run."""
    layers = {None: memory.final, **{layer: memory.resid_pre(layer) for layer in job.recorded}}
    if not job.whole:
        last = torch.tensor(memory.lengths, device=memory.final.device) - 1
        item = torch.arange(len(last), device=last.device)
        layers = {layer: x[item, last][:, None] for layer, x in layers.items()}
    return Ends(layers.pop(None), layers)


def joined(parts: Sequence[Ends], chunks: Sequence[list[int]]) -> Ends:
    """Of all items, in their own order."""
    order = torch.tensor([i for chunk in chunks for i in chunk], device=parts[0].final.device).argsort()

    def join(streams: list[Tensor]) -> Tensor:
        width = max(x.shape[1] for x in streams)
        return torch.cat([torch.nn.functional.pad(x, (0, 0, 0, width - x.shape[1])) for x in streams])[order]

    recorded = {layer: join([part.recorded[layer] for part in parts]) for layer in parts[0].recorded}
    return Ends(join([part.final for part in parts]), recorded)


def chunks_of(job: Job) -> Iterator[list[int]]:
    """Items whose remembered runs fit into the memory, of like length."""
    pairing, cfg = job.pairing, job.model.cfg
    size = torch.finfo(cfg.dtype).bits // 8
    components = {place.component for place in job.places}
    kept = {"resid_pre", "rot_k", "v", *components, *(name for one in components for name in NEEDS[one])}
    most = int(job.budget * SHARES["runs"])

    def needed(width: int) -> int:
        wide = {"pattern": cfg.n_heads * width, **dict.fromkeys(("z", "q", "rot_q"), cfg.n_heads * cfg.d_head)}
        wide |= dict.fromkeys(("rot_k", "k", "v"), (cfg.n_key_value_heads or cfg.n_heads) * cfg.d_head)
        per_token = sum(wide.get(name, cfg.d_model) for name in kept)
        return 2 * size * cfg.n_layers * width * per_token

    lengths = [max(map(len, pair)) for pair in zip(pairing.source_ids, pairing.destination_ids, strict=True)]
    if needed(max(lengths)) > most:
        raise InputError(
            f"max_memory_gib: two runs of {max(lengths)} tokens take {needed(max(lengths)) / 2**30:.3g} GiB to "
            f"remember, but only {most / 2**30:.3g} GiB are for that; allow more, or patch fewer components"
        )
    chunk: list[int] = []
    for i in sorted(range(len(lengths)), key=lengths.__getitem__):
        if chunk and (len(chunk) + 1) * needed(lengths[i]) > most:
            yield chunk
            chunk = []
        chunk.append(i)
    yield chunk


def _blocks(job: Job) -> Iterator[range]:
    """Places whose ends fit into the memory while they wait for their outcomes."""
    cfg, n_items = job.model.cfg, job.pairing.n_items
    width = max(map(len, job.pairing.destination_ids)) if job.whole else 1
    size = torch.finfo(cfg.dtype).bits // 8
    most = int(job.budget * SHARES["ends"])
    rows = n_items * width
    logits = 4 * cfg.d_vocab * (2 * rows + 2 * max(rows, LOGIT_ROWS))
    each = rows * cfg.d_model * size * (1 + len(job.recorded))
    if logits + each > most:
        raise InputError(
            f"max_memory_gib: the outcomes of {n_items} items take {(logits + each) / 2**30:.3g} GiB, but only "
            f"{most / 2**30:.3g} GiB are for that; allow more, or take fewer items"
        )
    step = (most - logits) // each
    for start in range(0, len(job.places), step):
        yield range(start, min(start + step, len(job.places)))
