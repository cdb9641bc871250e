"""Measures that stand in the transcripts, or follow from a round's probabilities: scores, choices, the first token."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from mechmsc.figures.performance import DERIVED, UNITS
from mechmsc.measures.catalogue import SOURCES, Measure
from mechmsc.measures.table import Block, Table

if TYPE_CHECKING:
    import pandas

COLUMNS = (
    *("task", "item_id", "arm", "round", "group", "pair", "question", "choice", "permutation_probs", "gold"),
    *("first_token_entropy", "score", "score_name", "score_direction"),
)
"""What measuring reads of the transcripts."""


def add_scores(table: Table, transcripts: "pandas.DataFrame") -> None:
    """The score of every response, under its scorer's name, and what follows from it under names of its own."""
    for name, rows in transcripts[transcripts["score_name"].notna()].groupby("score_name"):
        source = SOURCES["choice"] if name == "accuracy" else str(name)
        _add(table, str(name), source, rows, rows["score"])
        for one in DERIVED.get(str(name), ()):
            _add(table, one.name, source, rows, rows["score"].map(one.of))


def _add(table: Table, name: str, source: str, rows: "pandas.DataFrame", values: "pandas.Series") -> None:
    block = Block(name, source, None, UNITS.get(name, "score"), {})
    left = table.lacks(block, rows)
    if left.any():
        table.add(block, rows[left], values[left])


def add_rounds(table: Table, transcripts: "pandas.DataFrame", wanted: Mapping[str, Measure]) -> None:
    """Measures of choices and of the first token."""
    for name, measure in wanted.items():
        if measure.needs not in ("choice", "first_token"):
            continue
        column = "permutation_probs" if measure.needs == "choice" else "first_token_entropy"
        rows = transcripts[transcripts[column].notna()]
        block = Block(name, SOURCES[measure.needs], None, measure.unit, {})
        left = rows[table.lacks(block, rows)].reset_index(drop=True)
        if not len(left):
            continue
        if measure.needs == "first_token":
            table.add(block, left, measure.compute(left[column].to_numpy(float)))
        else:
            table.add(block, left, _over_choices(measure, left[column]))


def _over_choices(measure: Measure, column: "pandas.Series") -> np.ndarray:
    """Questions with the same numbers of orders and options are computed together."""
    probabilities = [np.stack([np.asarray(order, dtype=float) for order in orders]) for orders in column]
    values = np.full(len(probabilities), np.nan)
    for shape in {p.shape for p in probabilities}:
        rows = [i for i, p in enumerate(probabilities) if p.shape == shape]
        values[rows] = measure.compute(np.stack([probabilities[i] for i in rows]))
    return values
