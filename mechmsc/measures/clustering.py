"""The clusterer of a measurement, and the scores of its model, which are kept with the run."""

from collections.abc import Mapping
from typing import Any

from mechmsc.errors import InputError, RunError, nearest
from mechmsc.runs import Run
from mechmsc.uncertainty import CLUSTERERS, Clusterer

SCORES = "nli_scores.parquet"
"""What an NLI model said of pairs of responses: model, question, premise, hypothesis, three probabilities."""


def open_clusterer(clusterer: str | Clusterer, options: Mapping[str, Any], run: Run) -> Clusterer:
    """A clusterer by name, which knows what was asked of its model in earlier measurements of this run.

    Raises:
        InputError: an unknown name, or options that it does not take or lacks.
    """
    if isinstance(clusterer, Clusterer):
        if options:
            raise InputError(f"options {', '.join(options)} belong to a clusterer by name, not to one that is made")
        return clusterer
    if clusterer not in CLUSTERERS:
        raise InputError(f"unknown clusterer {clusterer!r}: {nearest(clusterer, CLUSTERERS)}")
    known = {"known": read_scores(run)} if clusterer in ("entailment", "non_contradiction") else {}
    try:
        return CLUSTERERS[clusterer](**known, **options)
    except TypeError as error:
        advice = ", e.g. a folder or hub id of an NLI model as `model`" if known and "model" not in options else ""
        raise InputError(f"clusterer {clusterer}: {error}{advice}") from error


def read_scores(run: Run) -> "Any":
    """The scores that are kept with a run, or None.

    Raises:
        RunError: the file is damaged.
    """
    import io

    import pandas as pd

    data = run.folder.read(SCORES)
    if data is None:
        return None
    try:
        return pd.read_parquet(io.BytesIO(data))
    except (OSError, ValueError) as error:
        where = run.folder.at(SCORES)
        raise RunError(f"{where} is damaged: {' '.join(str(error).split())[:120]}; delete it and repeat") from error


def write_scores(run: Run, clusterer: Clusterer) -> None:
    """Keep what was asked of the clusterer's model, beside what other models said; the run's results are held."""
    import io

    import pandas as pd

    if clusterer.scores is None:
        return
    scores, before = clusterer.scores(), read_scores(run)
    if before is not None:
        others = before[~before["model"].isin(scores["model"].unique())]
        scores = pd.concat([others, scores], ignore_index=True) if len(others) else scores
    if len(scores):
        buffer = io.BytesIO()
        scores.to_parquet(buffer, index=False, compression="zstd")
        run.folder.write(SCORES, buffer.getvalue())
