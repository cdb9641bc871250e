"""Bounding boxes in the words of a model, and how far two boxes are one."""

import re
from collections.abc import Sequence

from mechmsc.errors import InputError, nearest

Box = tuple[float, float, float, float]
"""x1, y1, x2, y2 in pixels: left, top, right, bottom."""

CONVENTIONS = ("pixels", "fractions", "thousandths")
"""Units in which models give boxes: pixels; 0 to 1, and 0 to 1000, of the picture's width and height."""

_N = r"([-+]?(?:\d+(?:\.\d*)?|\.\d+))"
_COMMA = r"(?:\s*,\s*|\s+)"
_PAIR = rf"[\[(]\s*{_N}{_COMMA}{_N}\s*[\])]"
_MARKS = re.compile(r"<\|box_start\|>(.*?)<\|box_end\|>|<box>(.*?)</box>", re.DOTALL)
_COUNTED = r"\s+(?!(?:px|pixels?|is|are|in|as|for)\b)[a-z]"
"""What makes bare numbers a count of something: a word behind them."""
_WRITTEN = [
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"[\[(]\s*{_COMMA.join([_N] * 4)}\s*[\])]",
        rf"{_PAIR}[^\d\[\](){{}}]{{0,40}}{_PAIR}",
        r"\W{1,8}".join(rf"\b{name}\W{{1,6}}?{_N}" for name in ("x1", "y1", "x2", "y2")),
        r"\W{1,8}".join(rf"\b{name}\W{{1,6}}?{_N}" for name in ("x_?min", "y_?min", "x_?max", "y_?max")),
        rf"(?<![\w.,+-])(?<!\d,\s){_N}" + rf"\s*,\s*{_N}" * 3 + rf"(?!\w|\.\d|\s*,\s*[-+.\d]|{_COUNTED})",
    )
]
"""[x1, y1, x2, y2]; (x1, y1) to (x2, y2); x1: ..., y1: ...; xmin ..., ymin ...; four numbers with commas alone."""
_BARE = re.compile(_COMMA.join([_N] * 4))
"""Inside marks, four numbers are enough."""
_OTHERWISE = re.compile(
    r"\bw(?:idth)?\W+h(?:eight)?\b|\bsize\s*[:=]?\s*[\[(]|\bcent(?:er|re)\s*[:=]?\s*[\[(]|\by(?:1|_?min)\W+x(?:1|_?min)\b",
    re.IGNORECASE,
)
"""Text that states another layout: a corner and a size, a centre and a size, y before x."""
SLACK = 0.02
"""Share of a side by which pixels may overshoot the picture and still be pixels."""


def parse_box(text: str, *, size: tuple[int, int], convention: str | None = None) -> Box | None:
    """The box that a free answer gives, or None where it gives none or several.

    A box is four numbers x1, y1, x2, y2 in one of the ways of writing in `_WRITTEN`, also inside JSON ("bbox_2d") or
    marks (<|box_start|>, <box>). The first way that occurs decides, and all boxes written so must agree. Four numbers
    that do not run from left to right and from top to bottom are no box, nor is what the text says to be laid out in
    another way (a corner or a centre and a size, y before x).

    Args:
        text: what the model wrote.
        size: width and height of the picture in pixels.
        convention: one of `CONVENTIONS`. None reads it off the numbers: all within 0 and 1 are fractions; inside marks,
            or where they do not fit in the picture (give or take `SLACK`) but within 1000, they are thousandths; else
            pixels. So thousandths that fit in the picture are taken for pixels: name the convention of a model that
            answers in them (scorer `iou_thousandths`).

    Returns:
        In pixels, not cut at the edges of the picture.

    Raises:
        InputError: unknown convention.
    """
    if convention is not None and convention not in CONVENTIONS:
        raise InputError(f"unknown convention of boxes {convention!r}: {nearest(convention, CONVENTIONS)}")
    if _OTHERWISE.search(text):
        return None
    marked = _MARKS.findall(text)
    if marked:
        text = " ; ".join(a or b for a, b in marked)
    for pattern in [*_WRITTEN, _BARE] if marked else _WRITTEN:
        found = {tuple(map(float, numbers)) for numbers in pattern.findall(text)}
        if found:
            numbers = found.pop()
            if found or not (numbers[0] < numbers[2] and numbers[1] < numbers[3]):
                return None
            return _in_pixels(numbers, size, convention or _convention(numbers, size, marked=bool(marked)))
    return None


def _convention(numbers: Sequence[float], size: tuple[int, int], *, marked: bool) -> str:
    if all(0 <= number <= 1 for number in numbers):
        return "fractions"
    fits = all(number <= side * (1 + SLACK) for number, side in zip(numbers[2:], size, strict=True))
    return "thousandths" if max(numbers) <= 1000 and (marked or not fits) else "pixels"


def _in_pixels(numbers: Sequence[float], size: tuple[int, int], convention: str) -> Box:
    of = {"pixels": 0, "fractions": 1, "thousandths": 1000}[convention]
    scale = [side / of if of else 1.0 for side in (*size, *size)]
    x1, y1, x2, y2 = (number * by for number, by in zip(numbers, scale, strict=True))
    return x1, y1, x2, y2


def overlap(one: Box, other: Box) -> float:
    """Intersection over union of two boxes, in [0, 1].

    IoU = |A and B| / |A or B|, areas in pixels; 0 for boxes that only touch.
    """
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    both = max(width, 0.0) * max(height, 0.0)
    return both / (_area(one) + _area(other) - both)


def _area(box: Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])
