"""Calibration of a run: confidence against correctness, uncertainty against the score, by arm and round."""

from collections.abc import Iterator

import numpy as np

from mechmsc.calibration import calibration_summary, rank_calibration
from mechmsc.estimate import Estimate
from mechmsc.measures.catalogue import MEASURES
from mechmsc.measures.measured import Cube, Job, Measured, Summary

CALIBRATION = ("ece", "ece_debiased", "ece_null")
RANKS = ("rce", "rce_null", "rce_perfect", "auroc", "spearman")


def calibration_jobs(measured: Measured) -> Iterator[Job]:
    """Expected calibration error of the choices, by task, group, arm and round, with its null."""
    confidence, accuracy = (measured.cubes.get((name, "options")) for name in ("confidence", "accuracy"))
    if confidence is not None and accuracy is not None:
        yield Job("calibration", [confidence, accuracy], lambda: list(_calibration(measured, confidence, accuracy)))


def rank_jobs(measured: Measured) -> Iterator[Job]:
    """Rank calibration of every uncertainty against the score, and first-token against semantic entropy."""
    scores = _scores(measured)
    first = measured.cubes.get(("first_token_entropy", "model"))
    for cube in measured.cubes.values():
        if cube.measure not in MEASURES:
            continue
        sign = MEASURES[cube.measure].sign
        if sign and scores:
            against = [score for _, score, _ in scores]
            job = lambda cube=cube, sign=sign: list(_ranks(measured, cube, sign, scores))  # noqa: E731
            yield Job(f"ranks {cube.key}", [cube, *against], job, [(task, up) for task, _, up in scores])
        if cube.measure == "semantic_entropy" and first is not None:
            job = lambda cube=cube: list(_first_token(measured, first, cube))  # noqa: E731
            yield Job(f"first token {cube.key}", [first, cube], job)


def _scores(measured: Measured) -> list[tuple[str, Cube, int]]:
    """(task, its score, 1 where higher is better, else -1)."""
    named = measured.transcripts[measured.transcripts["score_name"].notna()]
    found = []
    for (task, name, direction), _ in named.groupby(["task", "score_name", "score_direction"], sort=False):
        source = "options" if name == "accuracy" else name
        found.append((str(task), measured.cubes[name, source], 1 if direction == "higher" else -1))
    return found


def _calibration(measured: Measured, confidence: Cube, accuracy: Cube) -> Iterator[Summary]:
    s = measured.settings
    for task, group, items in measured.each_group():
        for arm, round, (stated, right) in _pairs(measured, items, confidence, accuracy):
            rows = calibration_summary(stated, right, level=s.level, n_boot=s.n_boot, seed=s.seed)
            for row in rows[rows["measure"].isin(CALIBRATION)].itertuples():
                estimate = Estimate(row.value, row.low, row.high, row.level, row.n)
                yield Summary(task, group, arm, round, row.measure, confidence.label, None, estimate)


def _ranks(measured: Measured, cube: Cube, sign: int, scores: list[tuple[str, Cube, int]]) -> Iterator[Summary]:
    s = measured.settings
    for task, score, up in scores:
        items = measured.groups[task][""]
        for arm, round, (unsure, good) in _pairs(measured, items, cube, score):
            settings = {"level": s.level, "n_boot": s.n_boot, "n_null": max(1, s.n_boot // 2), "seed": s.seed}
            for row in rank_calibration(sign * unsure, up * good, **settings).itertuples():
                if row.measure in RANKS:
                    estimate = Estimate(row.value, row.low, row.high, row.level, row.n)
                    yield Summary(task, "", arm, round, row.measure, cube.label, None, estimate)


def _first_token(measured: Measured, first: Cube, semantic: Cube) -> Iterator[Summary]:
    """Over all rounds of an arm together, resampled by item."""
    s, names = measured.settings, np.array(measured.cells.items)
    for task, of in measured.groups.items():
        for a, arm in enumerate(measured.cells.arms):
            one, other = (cube.values[of[""], a, :, 0] for cube in (first, semantic))
            known = ~np.isnan(one + other)
            if known.any():
                clusters = np.broadcast_to(names[of[""]][:, None], known.shape)[known]
                settings = {"level": s.level, "n_boot": s.n_boot, "n_null": 1, "seed": s.seed}
                rows = rank_calibration(one[known], other[known], clusters=clusters, **settings)
                (row,) = rows[
                    rows["measure"] == "spearman"
                ].itertuples()  # that of uncertainty.rank_correlation, faster
                estimate = Estimate(row.value, row.low, row.high, row.level, row.n)
                source = f"{first.label}, {semantic.label}"
                yield Summary(task, "", arm, None, "rank_correlation", source, None, estimate)


def _pairs(
    measured: Measured, items: np.ndarray, one: Cube, other: Cube
) -> Iterator[tuple[str, int, tuple[np.ndarray, np.ndarray]]]:
    """(arm, round, values of both for the items that have both)."""
    for a, arm in enumerate(measured.cells.arms):
        for r in range(measured.cells.rounds):
            values = one.values[items, a, r, 0], other.values[items, a, r, 0]
            known = ~np.isnan(values[0] + values[1])
            if known.any():
                yield arm, r + 1, (values[0][known], values[1][known])
