"""What a clusterer is: a named way to tell which responses mean the same."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from mechmsc.errors import InputError
from mechmsc.uncertainty.progress import Progress

if TYPE_CHECKING:
    import pandas as pd

Texts = Sequence[Sequence[str]]
"""[set][sample]; sets may differ in size."""


@dataclass(frozen=True, eq=False)
class Clusterer:
    """A way to group the responses to one question by meaning; many sets at once, so that each text is read once.

    Call it as `clusterer(questions, responses)`: that checks what goes in.
    """

    name: str
    """As it stands in the column `source` of measures: exact, embedding, entailment, non_contradiction."""
    cluster: Callable[[Sequence[str], Texts, Progress | None], list[np.ndarray]]
    """(questions, responses, progress) -> cluster ids of each set."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """All that its answers depend on, e.g. model and threshold; fit for JSON."""
    scores: Callable[[], "pd.DataFrame"] | None = None
    """What was asked of a model so far, to be stored and given back as `known`; None where nothing is worth keeping."""

    def __call__(
        self, questions: Sequence[str], responses: Texts, *, progress: Progress | None = None
    ) -> list[np.ndarray]:
        """Group the samples of each set.

        Args:
            questions: [set], what the responses answer.
            responses: [set][sample], texts; sets may differ in size, and be empty. White space around a text does not
                count; blank texts make a cluster of their own; identical texts always share one.
            progress: called as (done, total).

        Returns:
            [set], integers [sample]: every sample is in exactly one cluster; numbered from 0 in order of appearance.

        Raises:
            InputError: not one question a set, or a response that is not text.
        """
        if len(questions) != len(responses):
            raise InputError(
                f"clusterer {self.name}: expected one question a set of responses, "
                f"got {len(questions)} and {len(responses)}"
            )
        for s, texts in enumerate(responses):
            if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
                raise InputError(
                    f"clusterer {self.name}: expected the responses of a set as a list of texts, "
                    f"got {str(texts)[:60]!r} in set {s}"
                )
        return self.cluster(questions, responses, progress)
