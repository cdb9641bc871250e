"""ETHICS: five files, told apart by their fields, with three different concepts.

Hendrycks et al. 2021, arXiv:2008.02275; hendrycks/ethics, MIT.
"""

import csv
import io
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from mechmsc.errors import InputError
from mechmsc.statements.fields import NO_HEADER, Statement, field_names, place, statement
from mechmsc.statements.grouping import kin
from mechmsc.tasks.reading import Row, read_csv, read_text

CONCEPTS = ("immorality", "disutility", "trait_fit")
COMMONSENSE = ("label", "input", "is_short")
DEONTOLOGY = ("label", "scenario", "excuse")
SCENARIO = ("label", "scenario")
LAYOUTS = (COMMONSENSE, DEONTOLOGY, SCENARIO, (NO_HEADER,))
LABEL = (
    "immorality: clearly wrong (commonsense), unreasonable (deontology, justice); disutility: the less pleasant "
    "(utilitarianism); trait_fit: the trait fits (virtue)"
)


def read(path: Path) -> Iterator[Statement]:
    """Statements of one of the five files.

    - commonsense: immorality is the published label, 1 = clearly wrong. group: neighbours written from one another;
      pair: two such of opposite labels.
    - deontology: scenario and excuse (or duty); immorality where the published label is 0, unreasonable. group: the
      scenario.
    - justice: immorality where the published label is 0, unreasonable. group: neighbours with one opening.
    - utilitarianism (no header): disutility is the second column, the less pleasant. group and pair: the row;
      the published rows share scenarios, so that one group holds more than half of the test file.
    - virtue: scenario and trait; trait_fit is the published label. It says whether the trait fits, for virtues and
      vices alike, and so carries no morality. group: the scenario.

    Raises:
        InputError: not the format; names file and line.
    """
    found = field_names(path)
    if set(COMMONSENSE) <= found:
        yield from _commonsense(path)
    elif set(DEONTOLOGY) <= found:
        yield from _deontology(path)
    elif NO_HEADER in found:
        yield from _utilitarianism(path)
    else:
        rows = list(read_csv(path, layouts=(SCENARIO,), expected="ETHICS justice or virtue as CSV"))
        virtue = bool(rows) and "[SEP]" in rows[0].text("scenario")
        yield from _virtue(rows) if virtue else _justice(rows)


def _label(row: Row) -> int:
    return int(row.one_of("label", ("0", "1")))


def _commonsense(path: Path) -> Iterator[Statement]:
    rows = list(read_csv(path, layouts=(COMMONSENSE,), expected="ETHICS commonsense as CSV"))
    texts = [row.text("input") for row in rows]
    runs = kin(texts)
    members, wrong = Counter(runs), Counter()
    for row, first in zip(rows, runs, strict=True):
        wrong[first] += _label(row)
    for row, text, first in zip(rows, texts, runs, strict=True):
        group = place(rows[first])
        pair = group if (members[first], wrong[first]) == (2, 1) else None
        yield statement(text, _label(row), group=group, source="ethics/commonsense", pair=pair, concept="immorality")


def _deontology(path: Path) -> Iterator[Statement]:
    for row in read_csv(path, layouts=(DEONTOLOGY,), expected="ETHICS deontology as CSV"):
        scenario, excuse = row.text("scenario").strip(), row.text("excuse").strip()
        yield statement(
            f"{scenario} {excuse}",
            1 - _label(row),
            group=f"scenario: {scenario.casefold()}",
            source="ethics/deontology",
            concept="immorality",
        )


def _justice(rows: list[Row]) -> Iterator[Statement]:
    texts = [row.text("scenario") for row in rows]
    for row, text, first in zip(rows, texts, kin(texts), strict=True):
        group = place(rows[first])
        yield statement(text, 1 - _label(row), group=group, source="ethics/justice", concept="immorality")


def _virtue(rows: list[Row]) -> Iterator[Statement]:
    for row in rows:
        scenario, mark, trait = (part.strip() for part in row.text("scenario").rpartition("[SEP]"))
        if not (scenario and mark and trait):
            raise row.wrong(f"'scenario' must be a scenario, [SEP] and a trait, got {row.text('scenario')[:60]!r}")
        yield statement(
            f"{scenario} Trait: {trait}",
            _label(row),
            group=f"scenario: {scenario.casefold()}",
            source="ethics/virtue",
            concept="trait_fit",
        )


def _utilitarianism(path: Path) -> Iterator[Statement]:
    for row in _headless(path):
        for key, label in (("less pleasant", 1), ("more pleasant", 0)):
            text = row.text(key)
            name = place(row)
            yield statement(text, label, group=name, source="ethics/utilitarianism", pair=name, concept="disutility")


def _headless(path: Path) -> Iterator[Row]:
    """The rows of a CSV file of two columns without header: the more pleasant scenario, the less pleasant one."""
    expected = "ETHICS utilitarianism as CSV: two scenarios a row, no header"
    reader = csv.reader(io.StringIO(read_text(path, expected=expected), newline=""), strict=True)
    number, line = 0, 1
    try:
        for fields in reader:
            line, begun = reader.line_num + 1, line
            if not fields:
                continue
            number += 1
            if len(fields) != 2:
                raise InputError(f"{path}:{begun}: expected {expected}; got {len(fields)} fields")
            yield Row(dict(zip(("more pleasant", "less pleasant"), fields, strict=True)), path, begun, number)
    except csv.Error as error:
        raise InputError(f"{path}:{line}: broken CSV ({error}); expected {expected}") from None
