"""Labelled statements for concept directions: published formats and sets of our own, as one pandas frame.

A new concept is one line of `CONCEPTS`; a new format is one reader and one line of `FORMATS`.
"""

from collections import Counter
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mechmsc.errors import InputError, nearest
from mechmsc.statements.fields import field_names
from mechmsc.statements.formats import CONCEPTS, FORMATS, Format, Statement
from mechmsc.statements.grouping import joined, normalised
from mechmsc.tasks.reading import listed

if TYPE_CHECKING:
    import pandas

__all__ = ["CONCEPTS", "FORMATS", "Format", "load_statements"]

DATA = Path(__file__).parent / "data"
SUFFIXES = (".csv", ".json", ".jsonl", ".txt")
"""What is looked at inside a folder."""


def load_statements(
    concept: str, *, path: str | Path | None = None, format: str | None = None, limit: int | None = None
) -> "pandas.DataFrame":
    """Statements with and without a concept, in file order; files of a folder take turns, a pair stays together.

    A text that an earlier file of the folder holds under the same label counts once. Statements whose texts are equal
    but for capitals, punctuation and spaces are always in one group, whatever the format.

    Args:
        concept: a name in `CONCEPTS`; with format="pairs" any name of your own.
        path: a file, or a folder whose files of the format are read together; None is the set of our own inside the
            package, which toxicity, stereotyping and harmfulness have.
        format: a name in `FORMATS`; None recognises it by the names of the fields.
        limit: how many statements to take from the start; None takes all. Text, label and group of a statement are the
            same with and without it; a pair that it cuts in two is no pair any more.

    Returns:
        A frame with the index 0..n-1 and the columns concept; source (name of the set or format); text; label (1 = the
        concept is present, see `FORMATS[name].label`); group (what a split must keep together); pair (None, or a name
        that exactly two statements share, one of each label).

    Raises:
        InputError: unknown concept or format, limit below 1, no such file, a file of another format or one that does
            not carry the concept (names what it looks like), a broken record (file and line), no statements.

    Example:
        >>> load_statements("toxicity", limit=4).columns.tolist()
        ['concept', 'source', 'text', 'label', 'group', 'pair']
    """
    if concept not in CONCEPTS and format != "pairs":
        raise InputError(f"no concept '{concept}': {nearest(concept, CONCEPTS)}")
    if not concept.strip():
        raise InputError("a concept needs a name, got a blank one")
    if format is not None and format not in FORMATS:
        raise InputError(f"no format '{format}' of statements: {nearest(format, FORMATS)}")
    if limit is not None and limit < 1:
        raise InputError(f"limit must be at least 1 statement, got {limit}")
    own = path is None
    path = _own_set(concept, format) if path is None else Path(path)
    files = {file: field_names(file) for file in _files(path)}
    form = _recognised(path, files, concept) if format is None else FORMATS[format]
    fitting = [file for file, fields in files.items() if form.fits(file, fields)]
    if not fitting:
        raise InputError(f"{path} is not {form.name}: expected {form.expected}; {_found(files)}{_nearest(files)}")
    if form.concepts and concept not in form.concepts:
        raise InputError(f"{form.name} carries {' and '.join(form.concepts)}, not {concept}; {form.name}: {form.label}")
    statements = _read(form, fitting, concept)
    if not statements:
        raise InputError(f"{path} holds no statements of {concept}; expected {form.expected}")
    return _frame(statements, concept, source="mechmsc" if own else None, limit=limit)


def _own_set(concept: str, format: str | None) -> Path:
    path = DATA / f"{concept}.jsonl"
    if not path.is_file():
        having = [name for name, form in FORMATS.items() if concept in form.concepts]
        where = f"in the format {' or '.join(having)}" if having else "of your own pairs"
        raise InputError(f"there is no set of our own for {concept}; give the path of a file {where}")
    if format not in (None, "pairs"):
        raise InputError(f"format '{format}' needs a path; without one the set of our own is read, in the format pairs")
    return path


def _files(path: Path) -> list[Path]:
    """The file itself, or all data files below a folder in the order of their names."""
    if not path.exists():
        raise InputError(f"{path}: no such file or folder; expected labelled statements")
    if not path.is_dir():
        return [path]
    files = sorted(file for file in path.rglob("*") if file.suffix in SUFFIXES and file.is_file())
    if not files:
        raise InputError(f"{path} is a folder without {', '.join(SUFFIXES)} files; expected statements")
    return files


def _recognised(path: Path, files: dict[Path, set[str]], concept: str) -> Format:
    """The one format that the files have and that carries the concept."""
    found = [form for form in FORMATS.values() if any(form.fits(*each) for each in files.items())]
    carrying = [form for form in found if not form.concepts or concept in form.concepts]
    if len(carrying) == 1:
        return carrying[0]
    if carrying:
        names = " and ".join(form.name for form in carrying)
        raise InputError(f"{path} holds {names}, which all carry {concept}; state one as format")
    if found:
        carried = " and ".join(f"{form.name}, which carries {' and '.join(form.concepts)}" for form in found)
        raise InputError(f"{path} looks like {carried}; it has no statements of {concept}")
    known = ", ".join(sorted(FORMATS))
    raise InputError(f"{path} is in no known format; {_found(files)}{_nearest(files)}; known: {known}")


def _found(files: dict[Path, set[str]]) -> str:
    """What stands in the file, for an error text."""
    if len(files) > 1:
        return f"looked at {len(files)} files: {listed(file.name for file in files)}"
    ((file, fields),) = files.items()
    if not file.read_bytes().strip():
        return "the file is empty"
    return f"found the fields {listed(sorted(fields))}" if fields else "found no fields"


def _nearest(files: dict[Path, set[str]]) -> str:
    """The part of an error that says which format the first file has, or most of whose fields it has."""
    fields = next(iter(files.values()))
    for form in FORMATS.values():
        if any(form.fits(*each) for each in files.items()):
            return f"; this looks like {form.name}"
    shares = {
        form.name: max((len(fields & set(layout)) / len(layout) for layout in form.layouts), default=0.0)
        for form in FORMATS.values()
    }
    best = max(shares, key=lambda name: shares[name])
    return f"; nearest is {best}: {FORMATS[best].expected}" if shares[best] else ""


def _read(form: Format, files: list[Path], concept: str) -> list[Statement]:
    """The statements of the concept from all files, which take turns; what repeats another file is left out.

    Raises:
        InputError: files were read, but every statement in them is of another concept.
    """
    stems = [file.stem for file in files]
    read = [
        _units([_apart(statement, file.stem, stems[:number].count(file.stem)) for statement in form.read(file)])
        for number, file in enumerate(files)
    ]
    others = Counter(unit[0]["concept"] for units in read for unit in units)
    if others and all(name not in (None, concept) for name in others):
        carried = " and ".join(sorted(filter(None, others)))
        raise InputError(f"{', '.join(map(str, files))}: {form.name} that carries {carried}, not {concept}")
    first: dict[tuple[str, int], int] = {}
    kept: list[Statement] = []
    for turn in zip_longest(*read):
        for number, unit in enumerate(turn):
            if unit is None or unit[0]["concept"] not in (None, concept):
                continue
            if len(unit) == 1:
                key = normalised(unit[0]["text"]), unit[0]["label"]
                if first.setdefault(key, number) != number:
                    continue
            kept.extend(unit)
    return kept


def _apart(statement: Statement, stem: str, namesakes: int) -> Statement:
    """The statement with other names for its places where files before it in other folders have the same stem."""
    if not namesakes:
        return statement
    place, other = f"{stem}:", f"{stem}~{namesakes + 1}:"
    group, pair = statement["group"], statement["pair"]
    return {
        **statement,
        "group": other + group.removeprefix(place) if group.startswith(place) else group,
        "pair": pair and other + pair.removeprefix(place),
    }


def _units(statements: list[Statement]) -> list[list[Statement]]:
    """Statements, with the two members of a pair in one unit, at the place of the first."""
    units: dict[Any, list[Statement]] = {}
    for number, statement in enumerate(statements):
        units.setdefault(statement["pair"] or number, []).append(statement)
    return list(units.values())


def _frame(statements: list[Statement], concept: str, *, source: str | None, limit: int | None) -> "pandas.DataFrame":
    import pandas

    groups = joined([(each["group"], f"text: {normalised(each['text'])}") for each in statements])
    kept = list(zip(statements, groups, strict=True))[:limit]
    members = Counter(each["pair"] for each, _ in kept)
    return pandas.DataFrame(
        {
            "concept": pandas.Series([concept] * len(kept), dtype=object),
            "source": pandas.Series([source or each["source"] for each, _ in kept], dtype=object),
            "text": pandas.Series([each["text"] for each, _ in kept], dtype=object),
            "label": pandas.Series([each["label"] for each, _ in kept], dtype="int64"),
            "group": pandas.Series([group for _, group in kept], dtype=object),
            "pair": pandas.Series(
                [each["pair"] if members[each["pair"]] == 2 else None for each, _ in kept], dtype=object
            ),
        }
    )
