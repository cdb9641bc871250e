"""summaries.parquet: what the measures say of groups of items, with intervals. Only what changed is computed again."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from mechmsc.estimate import cluster_bootstrap_columns
from mechmsc.measures.biased import bias_jobs
from mechmsc.measures.calibrated import calibration_jobs, rank_jobs
from mechmsc.measures.measured import Cube, Job, Measured, Settings, Summary
from mechmsc.measures.paired import pair_jobs
from mechmsc.measures.settling import flip_jobs, settling_jobs
from mechmsc.measures.table import Table
from mechmsc.progress import bar
from mechmsc.runs.results import RESULTS, read_results, write_results

if TYPE_CHECKING:
    import pandas

COLUMNS = [column.name for column in RESULTS["summaries"]]


def summarise(
    table: Table,
    transcripts: "pandas.DataFrame",
    *,
    margin: float | Mapping[str, float] | None,
    band: tuple[int, int] | None,
    level: float,
    n_boot: int,
    seed: int,
    progress: bool,
) -> None:
    """Bring summaries.parquet up to date with the measures.

    Args:
        table: the measures, held for writing.
        transcripts: the columns that measuring reads.
        margin: of convergence, see `measure_run`.
        band: layers that layered measures are averaged over.
        level: of the intervals.
        n_boot: resamples.
        seed: of bootstraps and nulls.
        progress: show a bar on stderr.
    """
    import pandas as pd

    settings = Settings(level, n_boot, seed, margin, band)
    measured = Measured(table.cells, table.rows, transcripts, settings)
    old, record = read_results(table.run.folder, "summaries")
    there = dict(_split(old, record))
    made: list[tuple[Job, str, pandas.DataFrame]] = []
    jobs = [*all_jobs(measured), *bias_jobs(measured, table.run)]
    with bar("summaries", len(jobs), show=progress) as advance:
        for job in jobs:
            mark = _mark(job, measured)
            rows = there.get((job.name, mark))
            made.append((job, mark, _frame(job.compute()) if rows is None else rows))
            advance(1)
    now = {"jobs": [[job.name, mark, len(rows)] for job, mark, rows in made]}
    if now != record:
        parts = [rows for _, _, rows in made if len(rows)]
        rows = pd.concat(parts, ignore_index=True) if parts else old.iloc[:0]
        write_results(table.run.folder, "summaries", rows, now)


def all_jobs(measured: Measured) -> Iterator[Job]:
    """What is summarised of these measures."""
    for cube in measured.cubes.values():
        yield Job(f"mean {cube.key}", [cube], lambda cube=cube: list(means(measured, cube)))
    for cube in measured.curves:
        if cube.key not in {one.key for one in measured.cubes.values()}:
            yield Job(f"mean {cube.key}", [cube], lambda cube=cube: list(means(measured, cube)))
        yield from settling_jobs(measured, cube)
    yield from flip_jobs(measured)
    yield from pair_jobs(measured)
    yield from calibration_jobs(measured)
    yield from rank_jobs(measured)


def means(measured: Measured, cube: Cube) -> Iterator[Summary]:
    """Mean over items by task, group, arm, round and layer, all cells of a group from the same resamples of items."""
    s = measured.settings
    for task, group, items in measured.each_group():
        n_arms, n_rounds = cube.there.shape[1:]
        present = cube.there[items].any(axis=0)
        cells = [(a, r) for a in range(n_arms) for r in range(n_rounds) if present[a, r]]
        if not cells:
            continue
        columns = np.stack([cube.values[items, a, r] for a, r in cells], axis=1)  # [item, cell, layer]
        names = np.array(measured.cells.items)[items]
        flat = columns.reshape(len(items), -1)
        estimates = iter(cluster_bootstrap_columns(flat, names, level=s.level, n_boot=s.n_boot, seed=s.seed))
        for a, r in cells:
            for layer in cube.layers:
                arm = measured.cells.arms[a]
                yield Summary(task, group, arm, r + 1, cube.measure, cube.source, layer, next(estimates))


def _mark(job: Job, measured: Measured) -> str:
    """SHA-256 of all that the rows of a job depend on."""
    groups = {task: {name: items.tolist() for name, items in of.items()} for task, of in measured.groups.items()}
    parts = [job.name, [cube.digest() for cube in job.cubes], job.extra, asdict(measured.settings), groups]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _split(rows: "pandas.DataFrame", record: Mapping[str, Any]) -> "Iterator[tuple[tuple[str, str], pandas.DataFrame]]":
    """(job, mark) -> its rows, as they stand in the file one job after the other."""
    start = 0
    for name, mark, n in record.get("jobs", []):
        yield (name, mark), rows.iloc[start : start + n]
        start += n


def _frame(found: Sequence[Summary]) -> "pandas.DataFrame":
    import pandas as pd

    rows = [(*one[:7], e.value, e.low, e.high, e.level, e.n) for one in found for e in (one.estimate,)]
    frame = pd.DataFrame(rows, columns=COLUMNS)
    return frame.astype({"round": "Int32", "layer": "Int32", "n": "int32", "level": float})
