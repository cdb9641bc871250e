"""Stereotypes about groups of people: CrowS-Pairs and StereoSet."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mechmsc.statements.fields import Statement, field_names, place, read_list, statement
from mechmsc.tasks.reading import Row, read_csv

CROWS = ("sent_more", "sent_less", "stereo_antistereo", "bias_type")
ITEM = ("id", "target", "bias_type", "context")
STEREOSET = (("data.intrasentence",), ("data.intersentence",), (*ITEM, "data"), (*ITEM, "sentences"))
LABELS = {"stereotype": 1, "anti-stereotype": 0}
KINDS = ("stereotype", "anti-stereotype", "unrelated")


def read_crows(path: Path) -> Iterator[Statement]:
    """Both sentences of each pair of crows_pairs_anonymized.csv; label 1 is `sent_more`, the more stereotyping one.

    In a pair of direction antistereo the author wrote `sent_less`, which goes against a stereotype; `sent_more` is the
    more stereotyping one all the same. The two differ in a word or two, so a statement alone says little.
    group and pair: the pair. Nangia et al. 2020, arXiv:2010.00133; CC BY-SA 4.0.

    Raises:
        InputError: not the format; names file and line.
    """
    for row in read_csv(path, layouts=(CROWS,), expected=f"CrowS-Pairs as CSV with {', '.join(CROWS)}"):
        row.one_of("stereo_antistereo", ("stereo", "antistereo"))
        for key, label in (("sent_more", 1), ("sent_less", 0)):
            yield statement(row.text(key), label, group=place(row), source="crows_pairs", pair=place(row))


def read_stereoset(path: Path) -> Iterator[Statement]:
    """The stereotype (label 1) and the anti-stereotype (0) of each StereoSet item; the unrelated one is left out.

    Read are the published nesting (data.intrasentence and data.intersentence, with gold labels) and lists of items in
    the layouts of EditBias. An intersentence item is its context and the sentence that follows.
    group: the context, so that all that is said in one frame stays together; the target would leave three groups in a
    category such as religion. pair: the item, where it has one of each. Nadeem et al. 2021, arXiv:2004.09456; CC BY-SA
    4.0.

    Raises:
        InputError: not the format; names file and line.
    """
    found = field_names(path)
    parts = [part for part in ("intrasentence", "intersentence") if f"data.{part}" in found]
    for part in parts or [None]:
        for row in read_list(path, key=part, expected="StereoSet items"):
            row.require(ITEM, expected="a StereoSet item")
            yield from _members(row, follows=part == "intersentence")


def _members(row: Row, *, follows: bool) -> Iterator[Statement]:
    context = row.text("context").strip()
    told = [(kind, sentence.text("sentence").strip()) for kind, sentence in _sentences(row) if kind in LABELS]
    paired = sorted(kind for kind, _ in told) == sorted(LABELS)
    for kind, text in told:
        yield statement(
            f"{context} {text}" if follows else text,
            LABELS[kind],
            group=f"context: {context.casefold()}",
            source="stereoset",
            pair=f"{row.path.stem}:{row.text('id')}" if paired else None,
        )


def _sentences(row: Row) -> Iterator[tuple[str, Row]]:
    """(kind, sentence) of an item, whichever layout it has; stereotype and anti-stereotype in a fixed order."""
    if "data" in row.values:
        data = row.inside("data")
        for kind in KINDS:
            yield kind, data.inside(kind)
        return
    sentences: Any = row.values.get("sentences")
    if not isinstance(sentences, list) or not all(isinstance(each, dict) for each in sentences):
        raise row.wrong("'sentences' must be a list of objects with sentence and gold_label")
    inner = [row.inside("sentences", each) for each in sentences]
    labelled = [(each.one_of("gold_label", (*KINDS, "related")), each) for each in inner]
    yield from sorted(labelled, key=lambda each: (*KINDS, "related").index(each[0]))
