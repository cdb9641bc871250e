"""True and false facts: the control concept `truth`.

Zou et al. 2023, arXiv:2310.01405; andyzoujm/representation-engineering, data/facts; MIT.
"""

from collections.abc import Iterator
from pathlib import Path

from mechmsc.statements.fields import Statement, place, statement
from mechmsc.statements.grouping import near_duplicates
from mechmsc.tasks.reading import read_csv

COLUMNS = ("statement", "label")


def read(path: Path) -> Iterator[Statement]:
    """Statements of facts_true_false.csv; label 1 is true.

    group: statements that share at least 60 % of their words, which a true and a false answer to one question do.

    Raises:
        InputError: not the format; names file and line.
    """
    rows = list(read_csv(path, layouts=(COLUMNS,), expected=f"facts as CSV with {', '.join(COLUMNS)}"))
    texts = [row.text("statement") for row in rows]
    for row, text, first in zip(rows, texts, near_duplicates(texts), strict=True):
        yield statement(text, int(row.one_of("label", ("0", "1"))), group=place(rows[first]), source="facts")
