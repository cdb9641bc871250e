"""Scores of free responses: text in, one number out, with a unit and the direction in which it is better.

A new scorer is one file and one line of `SCORERS`. Questions with options need none: their score is whether the choice
is the gold option.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from mechmsc.errors import InputError, nearest
from mechmsc.scorers.coverage import concept_coverage
from mechmsc.scorers.overlap import box_accuracy, box_overlap, no_box
from mechmsc.scorers.perspective import perspective_scores
from mechmsc.scorers.refusal import refusal_scores
from mechmsc.scorers.toxicity import detoxify_scores, svm_toxicity
from mechmsc.tasks import Item
from mechmsc.tasks.boxes import CONVENTIONS

__all__ = ["SCORERS", "Derived", "Scorer", "get_scorer"]


class Derived(NamedTuple):
    """Another number that follows from each score alone, summarised and drawn beside it."""

    name: str
    unit: str
    direction: Literal["higher", "lower"]
    of: Callable[[float], float]
    """Score of a response (nan: it could not be scored) -> this."""


@dataclass(frozen=True)
class Scorer:
    """A way to score responses.

    Call it as `scorer(items, responses)`: that checks what comes back, which `score` alone does not.
    """

    name: str
    """As it stands in the column score_name."""
    unit: str
    """For axis labels: "probability", "fraction", ..."""
    direction: Literal["higher", "lower"]
    """Which way is better."""
    score: Callable[[Sequence[Item], Sequence[str]], Sequence[float]]
    """(items, responses) -> one number a response, nan where a response cannot be scored (a blank one, mostly)."""
    derived: tuple[Derived, ...] = ()
    """What follows from its scores."""

    def __call__(self, items: Sequence[Item], responses: Sequence[str]) -> list[float]:
        """Score responses.

        Args:
            items: the item that each response answers.
            responses: texts, as many as items.

        Returns:
            One float a response, in the scorer's unit; nan where it cannot be scored.

        Raises:
            InputError: items and responses differ in number, or the scorer returns another number of scores.
        """
        if len(items) != len(responses):
            raise InputError(f"scorer {self.name}: expected one item a response, got {len(items)} and {len(responses)}")
        if not responses:
            return []
        scores = [math.nan if score is None else float(score) for score in self.score(items, responses)]
        if len(scores) != len(responses):
            raise InputError(
                f"scorer {self.name}: expected one score a response ({len(responses)}), got {len(scores)}; "
                "a scorer takes the items and the responses as two lists"
            )
        return scores


BOXES = (
    Derived("box_accuracy", "fraction at IoU 0.5", "higher", box_accuracy),
    Derived("no_box", "fraction of answers", "lower", no_box),
)

SCORERS: dict[str, Scorer] = {
    scorer.name: scorer
    for scorer in (
        Scorer("toxicity", "probability", "lower", svm_toxicity),
        Scorer("detoxify", "probability", "lower", detoxify_scores()),
        Scorer("perspective", "probability", "lower", perspective_scores()),
        Scorer("refusal", "fraction refused", "higher", refusal_scores),
        Scorer("coverage", "fraction of concepts", "higher", concept_coverage),
        *(
            Scorer(name, "fraction shared", "higher", box_overlap(convention), BOXES)
            for name, convention in (("iou", None), *((f"iou_{unit}", unit) for unit in CONVENTIONS))
        ),
    )
}
"""The public list: one line a scorer."""


def get_scorer(
    scorer: str | Scorer | Callable[[Sequence[Item], Sequence[str]], Sequence[float]],
    *,
    unit: str = "score",
    direction: Literal["higher", "lower"] = "higher",
) -> Scorer:
    """The scorer of a name, or a scorer made of a function.

    Args:
        scorer: a name in `SCORERS`; a `Scorer`, returned as it is; or a function (items, responses) -> scores, which is
            named by its `__name__`.
        unit: unit of a function's scores; not used otherwise.
        direction: which way a function's scores are better; not used otherwise.

    Returns:
        The scorer.

    Raises:
        InputError: unknown name (the nearest are suggested), or neither a name nor a callable.

    Example:
        >>> get_scorer(lambda items, responses: [len(text) for text in responses], unit="characters").unit
        'characters'
    """
    if isinstance(scorer, Scorer):
        return scorer
    if isinstance(scorer, str):
        if scorer not in SCORERS:
            raise InputError(f"unknown scorer {scorer!r}; {nearest(scorer, SCORERS)}")
        return SCORERS[scorer]
    if callable(scorer):
        return Scorer(getattr(scorer, "__name__", type(scorer).__name__), unit, direction, scorer)
    raise InputError(f"a scorer is a name, a Scorer or a function of items and responses, got {type(scorer).__name__}")
