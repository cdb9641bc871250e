"""A run -> measures.parquet and summaries.parquet, from what is stored, without the model."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mechmsc.errors import InputError
from mechmsc.measures.catalogue import MEASURES, Measure, find_measures
from mechmsc.measures.clustering import open_clusterer
from mechmsc.measures.concept import add_concepts, check_readings, chosen_sites, open_directions
from mechmsc.measures.rounds import COLUMNS, add_rounds, add_scores
from mechmsc.measures.sampled import add_sampled, blocks_of
from mechmsc.measures.summaries import summarise
from mechmsc.measures.table import Table
from mechmsc.progress import bar
from mechmsc.runs import Run, open_run
from mechmsc.runs.results import held, read_columns
from mechmsc.uncertainty import Clusterer

if TYPE_CHECKING:
    import pandas

DEFAULT = (
    *("choice_entropy", "choice_entropy_within", "choice_entropy_order", "confidence", "first_token_entropy"),
    *("predictive_entropy", "length_normalised_entropy", "semantic_entropy", "discrete_semantic_entropy"),
)
"""What is measured where neither a direction nor a name is given, as far as the run has what it takes."""


def measure_run(
    run: Run | str | Path,
    *,
    direction: Any = None,
    uncertainty: str | Sequence[str] | None = None,
    clusterer: str | Clusterer = "embedding",
    clusterer_options: Mapping[str, Any] | None = None,
    positions: Sequence[str] | None = None,
    readings: Sequence[str] = ("concept",),
    margin: float | Mapping[str, float] | None = None,
    layers: tuple[int, int] | None = None,
    level: float = 0.95,
    n_boot: int = 2000,
    seed: int = 0,
    progress: bool = True,
) -> Run:
    """Measure a run: scores, uncertainty, concept by round and layer; then means with intervals and what follows.

    Computed from what is stored, without the model. What is there already is left as it is, so that the same call
    again does nothing, goes on where it was interrupted, and completes the measures of a run that has grown. Every call
    brings summaries.parquet up to date: means by group, calibration, bias, convergence.

    Args:
        run: a run or its folder, finished or not.
        direction: read the concept by this direction (or its file, several of them, or a mapping from names).
        uncertainty: names of `MEASURES`, or a text with commas. None: where no direction is given, all of `DEFAULT`
            that the run has the data for; else none.
        clusterer: which responses mean the same, a name of `uncertainty.CLUSTERERS` or a clusterer.
        clusterer_options: of a clusterer by name, e.g. {"threshold": 0.7}, or {"model": folder or hub id} for NLI.
        positions: where the direction reads, e.g. ["prompt_end"]; None: everywhere that activations were kept.
        readings: of `concept.READINGS`.
        margin: largest change that does not matter to convergence, in the unit of each measure: a number for all, or
            measure -> number; None takes `MARGINS` of the unit.
        layers: first and last layer of the band over which the concept is averaged; None: the middle half.
        level: of the intervals.
        n_boot: resamples of the bootstraps.
        seed: of bootstraps and nulls.
        progress: show bars on stderr.

    Returns:
        The run, opened again: `run.measures`, `run.summaries`.

    Raises:
        InputError: an unknown name; a measure that the run has no data for (says which command adds them); a direction
            of another model; a stored log-probability that is none.
        RunError: another process is measuring the run, or the disk refuses.
    """
    run = open_run(run.path if isinstance(run, Run) else run)
    check_readings(readings)
    directions = open_directions(direction, run)
    for one in directions.values():
        chosen_sites(run, one, positions)
    named = find_measures(uncertainty) if uncertainty is not None else {}
    maker = open_clusterer(clusterer, clusterer_options or {}, run)
    transcripts = read_columns(run.folder, run.manifest, COLUMNS)
    for name, measure in named.items():
        _check_data(name, measure, run, transcripts)
    if uncertainty is None and not directions:
        named = {name: MEASURES[name] for name in DEFAULT if not _lacking(MEASURES[name], run, transcripts)}
    with held(run.folder):
        table = Table.read(run)
        add_scores(table, transcripts)
        add_rounds(table, transcripts, named)
        table.commit()
        _read_concepts(table, transcripts, directions, positions, readings, progress)
        _measure_samples(table, transcripts, named, maker, progress)
        options = {"margin": margin, "band": layers, "level": level, "n_boot": n_boot, "seed": seed}
        summarise(table, transcripts, **options, progress=progress)
    return open_run(run.path)


def _read_concepts(
    table: Table,
    transcripts: "pandas.DataFrame",
    directions: Mapping[str, Any],
    positions: Sequence[str] | None,
    readings: Sequence[str],
    progress: bool,
) -> None:
    if not directions:
        return
    n_items = transcripts["item_id"].nunique()
    total = sum(n_items * len(chosen_sites(table.run, one, positions)) for one in directions.values())
    with bar("items read", total, show=progress) as advance:
        add_concepts(table, transcripts, directions, positions=positions, readings=readings, advance=advance)
    table.commit()


def _measure_samples(
    table: Table,
    transcripts: "pandas.DataFrame",
    named: Mapping[str, Measure],
    clusterer: Clusterer,
    progress: bool,
) -> None:
    wanted = {name: measure for name, measure in named.items() if measure.needs in ("samples", "clusters")}
    config = table.run.manifest["config"]
    blocks = blocks_of(wanted, clusterer, config)
    if all(not table.lacks(block, transcripts).any() for block in blocks.values()):
        return
    questions = dict(zip(transcripts["item_id"], transcripts["question"].fillna(""), strict=True))
    with bar("sample sets", len(transcripts), show=progress) as advance:
        add_sampled(table, wanted, blocks, clusterer=clusterer, questions=questions, advance=advance)
    table.commit()


def _check_data(name: str, measure: Measure, run: Run, transcripts: "pandas.DataFrame") -> None:
    if reason := _lacking(measure, run, transcripts):
        raise InputError(f"{name} cannot be measured of {run.path}: {reason}")


def _lacking(measure: Measure, run: Run, transcripts: "pandas.DataFrame") -> str | None:
    """Why a measure cannot be had from a run; None if it can."""
    if run.status != "complete" and measure.needs == "choice":
        return None  # they may come
    if measure.needs == "choice":
        if "permutation_probs" not in transcripts or transcripts["permutation_probs"].isna().all():
            return (
                "it needs questions with options, and the run has free generation alone; "
                "take a task with options, e.g. mechmsc run --task social_bias, or a measure of samples"
            )
    elif measure.needs == "first_token":
        if "first_token_entropy" not in transcripts or transcripts["first_token_entropy"].isna().all():
            return "the run is of an older mechmsc, which did not keep it; run it again into a new --out"
    elif run.manifest["config"].get("samples", 0) < 2:
        n = run.manifest["config"].get("samples", 0)
        return f"it needs at least 2 samples a round and the run has {n}; mechmsc run ... --samples 10 draws them"
    return None
