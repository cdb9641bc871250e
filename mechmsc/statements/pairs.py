"""Contrastive pairs: one JSON object a line with `positive`, `negative` and `group`; the format of our own sets.

Our own sets were written by hand for this project, under its licence: mild, without slurs, balanced in length.
"""

from collections.abc import Iterator
from pathlib import Path

from mechmsc.statements.fields import Statement, place, statement
from mechmsc.tasks.reading import read_jsonl

LAYOUTS = (("positive", "negative", "group"),)


def read(path: Path) -> Iterator[Statement]:
    """Both members of each pair, the positive (label 1) first; other fields, as `topic`, are not read.

    The positive has more of the concept that the caller names. `group` keeps together what shares a topic or template.

    Raises:
        InputError: not the format, or two equal members; names file and line.
    """
    expected = f"one pair a line with {', '.join(LAYOUTS[0])}"
    for row in read_jsonl(path, expected=expected):
        row.require(LAYOUTS[0], expected=expected)
        positive, negative = row.text("positive"), row.text("negative")
        if positive.strip() == negative.strip():
            raise row.wrong(
                "'positive' and 'negative' are the same text; a pair needs one with the concept and one without"
            )
        for text, label in ((positive, 1), (negative, 0)):
            yield statement(text, label, group=row.text("group"), source="pairs", pair=place(row))
