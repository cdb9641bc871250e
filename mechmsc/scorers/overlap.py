"""How well a box that a model gives in words fits the right one."""

import math
from collections.abc import Callable, Sequence

from mechmsc.errors import InputError
from mechmsc.tasks import Item
from mechmsc.tasks.boxes import overlap, parse_box

ENOUGH = 0.5
"""Intersection over union from which on a box counts as right."""


def box_overlap(convention: str | None = None) -> Callable[[Sequence[Item], Sequence[str]], list[float]]:
    """A scorer: intersection over union of the box in each response with the item's.

    Args:
        convention: the unit that the model answers in (`boxes.CONVENTIONS`); None: read off the numbers.

    Returns:
        (items, responses) -> fractions in [0, 1]; nan where no box could be read (`boxes.parse_box`), so that a mean is
        one over boxes: see it beside `no_box`, how often there was none, and `box_accuracy`, for which none is wrong.
        It raises InputError for an item without `box` and `image_size` in its metadata.
    """

    def score(items: Sequence[Item], responses: Sequence[str]) -> list[float]:
        return [_overlap(item, text, convention) for item, text in zip(items, responses, strict=True)]

    return score


def _overlap(item: Item, text: str, convention: str | None) -> float:
    box, size = item.metadata.get("box"), item.metadata.get("image_size")
    if box is None or size is None:
        raise InputError(f'scorer iou: item {item.item_id} needs metadata["box"] and metadata["image_size"]')
    found = parse_box(text, size=tuple(size), convention=convention)
    return math.nan if found is None else overlap(found, tuple(box))


def box_accuracy(score: float) -> float:
    """1 where the overlap reaches `ENOUGH`, else 0, also where there is no box."""
    return float(score >= ENOUGH)


def no_box(score: float) -> float:
    """1 where no box could be read, else 0."""
    return float(math.isnan(score))
