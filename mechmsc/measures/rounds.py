"""Measures that stand in the transcripts, or follow from a round's probabilities: scores, choices, the first token."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from mechmsc.figures.performance import UNITS
from mechmsc.measures.catalogue import SOURCES, Measure
from mechmsc.measures.table import Block, Table

if TYPE_CHECKING:
    import pandas

COLUMNS = (
    *("task", "item_id", "arm", "round", "group", "question", "choice", "permutation_probs", "gold"),
    *("first_token_entropy", "score", "score_name", "score_direction"),
)
"""What measuring reads of the transcripts."""


def add_scores(table: Table, transcripts: "pandas.DataFrame") -> None:
    """The score of every response, under its scorer's name."""
    for name, rows in transcripts[transcripts["score_name"].notna()].groupby("score_name"):
        source = SOURCES["choice"] if name == "accuracy" else str(name)
        block = Block(str(name), source, None, UNITS.get(str(name), "score"), {})
        left = rows[table.lacks(block, rows)]
        if len(left):
            table.add(block, left, left["score"])


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
