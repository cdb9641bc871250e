"""A measured run -> the tidy table that the predictive test and the posterior are computed from."""

from typing import TYPE_CHECKING

import numpy as np

from mechmsc.errors import InputError, nearest
from mechmsc.figures.concept import in_band
from mechmsc.runs import Run
from mechmsc.tasks import TASKS

if TYPE_CHECKING:
    import pandas

PREFERRED = ("choice_entropy", "semantic_entropy", "length_normalised_entropy", "first_token_entropy")
"""The uncertainty of a task where none is named: the first that was measured."""
READINGS = {"concept": "concept", "concept_cosine_as_released": "concept_as_released"}
"""Measure -> column."""
COLUMNS = [
    "task",
    "item_id",
    "arm",
    "round",
    "concept",
    "uncertainty",
    "length",
    "concept_source",
    "uncertainty_measure",
]


def table_of_run(
    run: Run,
    *,
    source: str | None = None,
    layers: tuple[int, int] | None = None,
    position: str | None = None,
    uncertainty: str | None = None,
) -> "pandas.DataFrame":
    """Concept, uncertainty and length of every conversation round that has the first two.

    Args:
        run: measured with a direction and an uncertainty.
        source: which direction, by its name in the measures; None: of each task the one for its concept, else the
            first.
        layers: first and last layer of the band over which the concept is averaged; None: the middle half.
        position: where the concept was read; None: prompt_end, else the first that there is.
        uncertainty: a measure, with its source where there are several: "semantic_entropy/embedding"; None: of each
            task the first of `PREFERRED` that was measured.

    Returns:
        task, item_id, arm, round, concept (class gaps), uncertainty (unit of the measure), length (tokens of the
        prompt), concept_source, uncertainty_measure; concept_as_released (cosine) where it was measured.

    Raises:
        InputError: the run was not measured, or not so; the message says which command does.
    """
    import pandas as pd

    command = f"mechmsc measure {run.path} --direction FILE --uncertainty {(uncertainty or 'NAME').split('/')[0]}"
    measures = run.measures
    if measures is None or measures.empty:
        raise InputError(f"{run.path} was not measured yet: `{command}` does")
    measures = measures.assign(task=measures["item_id"].str.split("/").str[0])
    parts = []
    for task in measures["task"].unique():
        rows = measures[measures["task"] == task]
        concept = _concepts(rows, task, source, layers, position)
        unsure = _uncertainties(rows, uncertainty)
        if concept is not None and unsure is not None:
            parts.append(concept.merge(unsure, on=["item_id", "arm", "round"]).assign(task=task))
    if not parts or all(part.empty for part in parts):
        what = sorted(measures["measure"].unique())
        raise InputError(
            f"{run.path} has no round with both a concept and {uncertainty or 'an uncertainty'}, it has "
            f"{', '.join(what)}: `{command}` adds them"
        )
    lengths = run.transcripts[["item_id", "arm", "round"]].assign(length=run.transcripts["prompt_ids"].map(len))
    table = pd.concat(parts, ignore_index=True).merge(lengths, on=["item_id", "arm", "round"])
    order = [*COLUMNS, *(name for name in READINGS.values() if name in table and name not in COLUMNS)]
    return table.sort_values(["task", "item_id", "arm", "round"]).reset_index(drop=True)[order]


def _concepts(
    rows: "pandas.DataFrame", task: str, source: str | None, layers: tuple[int, int] | None, position: str | None
) -> "pandas.DataFrame | None":
    """item_id, arm, round, concept, concept_source, perhaps concept_as_released; None where none was measured."""
    rows = rows[rows["measure"].isin(READINGS) & rows["layer"].notna()]
    if (rows["measure"] == "concept").sum() == 0:
        return None
    sources = list(rows.loc[rows["measure"] == "concept", "source"].unique())
    fitting = (
        rows["unit"].str.endswith(f"positive = more {TASKS[task].concept}") if task in TASKS else rows["unit"] == ""
    )
    name = source or next(iter(rows.loc[fitting, "source"]), sources[0])
    if name not in sources:
        raise InputError(f"no concept was read by direction {name!r}: {nearest(name, sources)}")
    rows = rows[rows["source"] == name]
    places = list(rows["position"].unique())
    place = position or ("prompt_end" if "prompt_end" in places else places[0])
    if place not in places:
        raise InputError(f"the concept was not read at {place!r}: {nearest(place, places)}")
    rows = rows[rows["position"] == place]
    found = None
    for measure, column in READINGS.items():
        wide = rows[rows["measure"] == measure].pivot(
            index=["item_id", "arm", "round"], columns="layer", values="value"
        )
        if wide.empty:
            continue
        numbers = wide.columns.to_numpy(int)
        order = np.argsort(numbers)
        band = wide.iloc[:, order[in_band(numbers[order], layers)]]
        mean = band.mean(axis=1, skipna=False).rename(column).reset_index()
        found = mean if found is None else found.merge(mean, on=["item_id", "arm", "round"], how="left")
    return found.assign(concept_source=name)


def _uncertainties(rows: "pandas.DataFrame", asked: str | None) -> "pandas.DataFrame | None":
    """item_id, arm, round, uncertainty, uncertainty_measure; None where the task has none."""
    measured = set(rows["measure"])
    name, _, source = (asked or next((one for one in PREFERRED if one in measured), "")).partition("/")
    rows = rows[(rows["measure"] == name) & rows["layer"].isna()]
    sources = list(rows["source"].unique())
    if source:
        if sources and source not in sources:
            raise InputError(f"{name} was not measured with {source!r}: {nearest(source, sources)}")
        rows = rows[rows["source"] == source]
    elif len(sources) > 1:
        raise InputError(f"{name} was measured with {', '.join(sources)}: choose one, such as {name}/{sources[0]}")
    if rows.empty:
        return None
    found = rows[["item_id", "arm", "round"]].assign(uncertainty=rows["value"].astype(float), uncertainty_measure=name)
    return found[found["uncertainty"].notna()]
