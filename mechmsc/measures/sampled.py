"""Measures of sample sets, read piece by piece: memory does not grow with the run."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from mechmsc.errors import InputError
from mechmsc.measures.catalogue import SOURCES, Measure, SampleSets
from mechmsc.measures.clustering import write_scores
from mechmsc.measures.table import Block, Table
from mechmsc.runs.results import sample_sets
from mechmsc.uncertainty import Clusterer, sequence_ids

if TYPE_CHECKING:
    import pandas

SAMPLES_AT_ONCE = 4000
"""Samples in a piece: about ten items with all their arms, rounds and samples, whose texts often repeat."""
SAMPLES_AT_ONCE_NLI = 200
"""The same for clusterers that ask a model about pairs, which is slow: little is lost when they are stopped."""


def blocks_of(wanted: Mapping[str, Measure], clusterer: Clusterer, config: Mapping[str, object]) -> dict[str, Block]:
    """A block for each measure of samples; the unit says where tempered samples make an entropy a cross-entropy."""
    plain = config.get("temperature", 1.0) == 1.0 and config.get("top_p", 1.0) == 1.0
    blocks = {}
    for name, measure in wanted.items():
        unit = measure.unit
        if measure.is_cross_entropy and not plain:
            unit += f" (cross-entropy: samples at temperature {config['temperature']:g}, top-p {config['top_p']:g})"
        if measure.needs == "samples":
            blocks[name] = Block(name, SOURCES["samples"], None, unit, {})
        if measure.needs == "clusters":
            blocks[name] = Block(name, clusterer.name, None, unit, clusterer.settings)
    return blocks


def add_sampled(
    table: Table,
    wanted: Mapping[str, Measure],
    blocks: Mapping[str, Block],
    *,
    clusterer: Clusterer,
    questions: Mapping[str, str],
    advance: Callable[[int], None],
) -> None:
    """Compute what the blocks lack, committing now and then.

    Args:
        table: held for writing.
        wanted: name -> measure.
        blocks: name -> block, from `blocks_of`.
        clusterer: called once a piece, only if a block that needs it lacks something; what it asked of a model is kept.
        questions: item_id -> what was asked.
        advance: called with the number of sample sets done.

    Raises:
        InputError: a set has one sample, or a log-probability that is none; names the item, arm and round.
    """
    rows = SAMPLES_AT_ONCE if clusterer.scores is None else SAMPLES_AT_ONCE_NLI
    try:
        for piece in sample_sets(table.run.folder, table.run.manifest, rows=rows):
            for sets, samples in _equal_sizes(piece):
                _add_piece(table, wanted, blocks, clusterer, questions, sets, samples)
                advance(len(sets))
            if table.commit(now=False):
                write_scores(table.run, clusterer)
    finally:
        write_scores(table.run, clusterer)


def _add_piece(
    table: Table,
    wanted: Mapping[str, Measure],
    blocks: Mapping[str, Block],
    clusterer: Clusterer,
    questions: Mapping[str, str],
    sets: "pandas.DataFrame",
    samples: SampleSets,
) -> None:
    lacking = {name: table.lacks(block, sets) for name, block in blocks.items()}
    needed = np.zeros(len(sets), dtype=bool)
    for name, missing in lacking.items():
        needed |= missing & (wanted[name].needs == "clusters")
    ids = np.zeros((len(sets), samples.lengths.shape[1]), dtype=int)
    if needed.any():
        rows = np.flatnonzero(needed)
        asked = [questions[sets["item_id"].iloc[i]] for i in rows]
        ids[rows] = np.stack([np.asarray(one) for one in clusterer(asked, [samples.texts[i] for i in rows])])
    for name, missing in lacking.items():
        if not missing.any():
            continue
        left = _some(samples, np.flatnonzero(missing))
        arguments = (left, ids[missing]) if wanted[name].needs == "clusters" else (left,)
        try:
            values = wanted[name].compute(*arguments)
        except InputError as error:
            first = sets[missing].iloc[0]
            where = f"{first['item_id']}, arm {first['arm']}, round {first['round']}"
            raise InputError(f"{name} of {table.run.path}, in the sample sets from {where} on: {error}") from error
        table.add(blocks[name], sets[missing], values)


def _equal_sizes(piece: "pandas.DataFrame") -> "list[tuple[pandas.DataFrame, SampleSets]]":
    """The sets of a piece, together with those of the same number of samples."""
    keys = ["item_id", "arm", "round"]
    starts = np.flatnonzero((piece[keys] != piece[keys].shift()).any(axis=1).to_numpy())
    sizes = np.diff([*starts, len(piece)])
    found = []
    for size in np.unique(sizes):
        first = starts[sizes == size]
        rows = (first[:, None] + np.arange(size)).ravel()
        part, shape = piece.iloc[rows], (len(first), int(size))
        texts = part["response"].to_numpy(object).reshape(shape)
        sequences = part["sequence"].to_numpy(object).reshape(shape)
        samples = SampleSets(
            part["log_likelihood"].to_numpy().reshape(shape),
            part["length"].to_numpy().reshape(shape),
            [list(one) for one in texts],
            np.stack([sequence_ids([key.hex() for key in one]) for one in sequences]),
        )
        found.append((piece.iloc[first][keys].reset_index(drop=True), samples))
    return found


def _some(samples: SampleSets, rows: np.ndarray) -> SampleSets:
    return SampleSets(
        samples.log_likelihoods[rows],
        samples.lengths[rows],
        [samples.texts[i] for i in rows],
        samples.sequences[rows],
    )
