"""Responses mean the same when they are the same text, but for case, spacing and punctuation at the ends."""

import string
import unicodedata
from collections.abc import Sequence

import numpy as np

from mechmsc.uncertainty.clusterers.record import Clusterer, Texts
from mechmsc.uncertainty.progress import Progress
from mechmsc.uncertainty.semantic import sequence_ids


def exact() -> Clusterer:
    """Clusters of equal normalised texts; does not depend on the order of the samples.

    Fit for short answers. For free text nearly every sample is a meaning of its own, and the entropy near log M.

    Returns:
        The clusterer; the question is not used.
    """

    def cluster(questions: Sequence[str], responses: Texts, progress: Progress | None) -> list[np.ndarray]:  # noqa: ARG001
        ids = [sequence_ids([normalised(text) for text in texts]) for texts in responses]
        if progress is not None:
            progress(len(ids), len(ids))
        return ids

    return Clusterer("exact", cluster)


def normalised(text: str) -> str:
    """Unicode NFKC, case folded, white space as single blanks, no punctuation or blanks at the ends.

    A text of nothing but punctuation stays as it is.

    >>> normalised("  The  answer is (B). ")
    'the answer is (b'
    """
    words = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    return words.strip(string.punctuation + " ") or words
