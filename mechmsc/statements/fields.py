"""What the readers share: a statement, the names of the fields in a file, and the objects of a JSON list."""

import csv
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypedDict

from mechmsc.errors import InputError
from mechmsc.tasks.reading import Row, read_text

NO_HEADER = "no header"
"""The field name of a CSV file whose first record is two sentences."""


class Statement(TypedDict):
    """A row of the frame before groups are joined."""

    text: str
    label: int
    group: str
    pair: str | None
    source: str
    concept: str | None
    """Where a format carries several concepts: the one of this file; None: the one that the caller asked for."""


def statement(
    text: str, label: int, *, group: str, source: str, pair: str | None = None, concept: str | None = None
) -> Statement:
    """A statement, without spaces around its text."""
    return {"text": text.strip(), "label": label, "group": group, "pair": pair, "source": source, "concept": concept}


def place(row: Row) -> str:
    """Where a record stands, as a name that is its own in a folder of files: FILE:NUMBER."""
    return f"{row.path.stem}:{row.id}"


def field_names(path: Path) -> set[str]:
    """The header of a CSV file, or the keys of the first object of a JSON or JSON Lines file; empty where neither.

    Keys of an object inside the first object are there too, with its name before them: `data.intrasentence`.

    Raises:
        InputError: no such file, or not text.
    """
    text = read_text(path, expected="labelled statements").lstrip()
    if text.startswith(("{", "[")):
        return _keys(text)
    try:
        header = next((fields for fields in csv.reader(io.StringIO(text, newline="")) if fields), [])
    except csv.Error:
        return set()
    if path.suffix == ".csv" and len(header) == 2 and all(len(name.split()) > 2 for name in header):
        return {NO_HEADER}
    return {name.strip() for name in header}


def _keys(text: str) -> set[str]:
    """Keys of the first object: of a list, of JSON Lines, or the whole document; what follows it may be broken."""
    candidates = [text[1:].lstrip()] if text.startswith("[") else [text.split("\n", 1)[0], text]
    for candidate in candidates:
        try:
            first, _ = json.JSONDecoder().raw_decode(candidate)
        except (ValueError, RecursionError):
            continue
        if not isinstance(first, dict):
            return set()
        return set(first) | {
            f"{key}.{name}" for key, value in first.items() if isinstance(value, dict) for name in value
        }
    return set()


def read_list(path: Path, *, key: str | None = None, expected: str) -> Iterator[Row]:
    """The objects of a JSON list, each with the line at which it begins.

    Args:
        path: the file.
        key: None: the file is the list; else the name of the field, at any depth, that holds the list.
        expected: what the file should hold, in words, for the error text.

    Raises:
        InputError: unreadable, not JSON, not a list there, or an entry that is no object; names file and line.
    """
    text = read_text(path, expected=expected)
    start = re.search(r"\s*\[" if key is None else rf'"{re.escape(key)}"\s*:\s*\[', text)
    if start is None or (key is None and start.start() != 0):
        raise InputError(f"{path}: expected {expected}; found no list {f'called {key}' if key else 'at the top'}")
    decoder, at, line, counted, number = json.JSONDecoder(), start.end(), 1, 0, 0
    gap = re.compile(r"[\s,]*")
    while True:
        at = gap.match(text, at).end()  # type: ignore[union-attr]  # it matches nothing, too
        line, counted = line + text.count("\n", counted, at), at
        if text[at : at + 1] == "]":
            return
        number += 1
        value = _decoded(decoder, text, at, f"{path}:{line}", expected)
        yield Row(value[0], path, line, number)
        at = value[1]


def _decoded(decoder: json.JSONDecoder, text: str, at: int, where: str, expected: str) -> tuple[dict[str, Any], int]:
    try:
        value, end = decoder.raw_decode(text, at)
    except (ValueError, RecursionError) as error:
        reason = getattr(error, "msg", error)
        raise InputError(f"{where}: not JSON ({reason}); expected {expected}") from None
    if not isinstance(value, dict):
        raise InputError(f"{where}: expected an object, {expected}; got {json.dumps(value)[:60]}")
    return value, end
