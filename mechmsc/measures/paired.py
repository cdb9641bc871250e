"""Accuracy over pairs of items, such as MMVP's: a pair counts only if both of its answers are right."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from mechmsc.estimate import cluster_bootstrap_columns
from mechmsc.figures.performance import PAIRED, paired
from mechmsc.measures.measured import Job, Measured, Summary

if TYPE_CHECKING:
    import pandas


def pair_jobs(measured: Measured) -> Iterator[Job]:
    """By task, arm and round, pairs resampled as a whole; a run without pairs has none."""
    rows = measured.transcripts
    if "pair" not in rows:  # a run of an earlier version
        return
    for task, of in rows[(rows["score_name"] == "accuracy") & rows["pair"].notna()].groupby("task", sort=False):
        pairs = paired(of)
        if len(pairs):
            extra = pairs[["pair", "arm", "round", "score"]].to_json(orient="values")
            job = lambda task=task, pairs=pairs: list(_means(measured, str(task), pairs))  # noqa: E731
            yield Job(f"pairs {task}", [], job, extra)


def _means(measured: Measured, task: str, pairs: "pandas.DataFrame") -> Iterator[Summary]:
    s = measured.settings
    wide = pairs.pivot(index="pair", columns=["arm", "round"], values="score").astype(float)
    cells = sorted(wide.columns, key=lambda cell: (measured.cells.arms.index(cell[0]), cell[1]))
    values, names = wide[cells].to_numpy(), wide.index.to_numpy()
    estimates = cluster_bootstrap_columns(values, names, level=s.level, n_boot=s.n_boot, seed=s.seed)
    for (arm, round), estimate in zip(cells, estimates, strict=True):
        yield Summary(task, "", arm, int(round), PAIRED, "options", None, estimate)
