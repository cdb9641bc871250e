"""Published files -> rows that know where they stand, so that every complaint about a file names its line."""

import csv
import io
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mechmsc.errors import InputError

KINDS = {str: "text", int: "a whole number", list: "a list", dict: "an object"}


@dataclass(frozen=True)
class Row:
    """One record of a file, with its place."""

    values: Mapping[str, Any]
    """Field name -> value, as read."""
    path: Path
    """The file."""
    line: int | None
    """Line at which the record begins, from 1; None in a JSON file, whose records are named by their place in it."""
    number: int
    """Number of the record in the file, from 1; headers and blank lines do not count."""
    parent: str = ""
    """Name of the object that holds these fields, with a dot; empty at the top."""

    @property
    def id(self) -> str:
        """The row number with zeros before it, for formats whose records have no id; the same whatever the limit."""
        return f"{self.number:04d}"

    def wrong(self, problem: str) -> InputError:
        """The error to raise about this record."""
        return InputError(f"{self.path}{'' if self.line is None else f':{self.line}'}: {problem}")

    def require(self, keys: tuple[str, ...], *, expected: str) -> None:
        """Refuses a record that lacks one of the keys.

        Raises:
            InputError: says what was expected, what is missing and what was found.
        """
        missing = [key for key in keys if key not in self.values]
        if missing:
            raise self.wrong(f"expected {expected}; missing {', '.join(missing)}; found {listed(self.values)}")

    def text(self, key: str) -> str:
        """A field that must hold text with something in it.

        Raises:
            InputError: absent, not text, blank, or with half a surrogate pair, which no tokenizer takes.
        """
        value = self._typed(key, str)
        if not value.strip():
            raise self.wrong(f"'{self.parent}{key}' must hold some text, got {value!r}")
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise self.wrong(f"'{self.parent}{key}' is not valid text: {error.reason}") from None
        return value

    def integer(self, key: str) -> int:
        """A field that must hold a whole number."""
        return self._typed(key, int)

    def one_of(self, key: str, choices: tuple[str, ...]) -> str:
        """A field that must hold one of the given texts; spaces around it and capitals do not count.

        Raises:
            InputError: something else; the message lists the choices.
        """
        value = self.text(key).strip()
        for choice in choices:
            if choice.casefold() == value.casefold():
                return choice
        raise self.wrong(f"'{self.parent}{key}' must be {' or '.join(choices)}, got {value!r}")

    def texts(self, key: str) -> list[str]:
        """A field that must hold a list of texts, at least one."""
        values = self._typed(key, list)
        if not values:
            raise self.wrong(f"'{self.parent}{key}' must name at least one, got an empty list")
        return [self.inside(key, {str(place): value}).text(str(place)) for place, value in enumerate(values)]

    def numbers(self, key: str, count: int) -> list[float]:
        """A field that must hold a list of this many finite numbers.

        Raises:
            InputError: something else.
        """
        values = self._typed(key, list)
        if len(values) != count or not all(_is_number(value) for value in values):
            raise self.wrong(f"'{self.parent}{key}' must be {count} numbers, got {json.dumps(values)[:60]}")
        return [float(value) for value in values]

    def rows(self, key: str) -> Iterator["Row"]:
        """The objects of a list, each as a row of its own.

        Raises:
            InputError: not a list, or something in it is not an object.
        """
        for place, values in enumerate(self._typed(key, list)):
            where = f"{self.parent}{key}[{place}]"
            if not isinstance(values, dict):
                raise self.wrong(f"'{where}' must be {KINDS[dict]}, got {json.dumps(values)[:60]}")
            yield Row(values, self.path, self.line, place + 1, f"{where}.")

    def inside(self, key: str, values: Mapping[str, Any] | None = None) -> "Row":
        """The object at a field, as a row of its own in the same place."""
        found = self._typed(key, dict) if values is None else values
        return Row(found, self.path, self.line, self.number, f"{self.parent}{key}.")

    def _typed(self, key: str, kind: type) -> Any:
        if key not in self.values:
            raise self.wrong(f"'{self.parent}{key}' is missing; found {listed(self.values)}")
        value = self.values[key]
        if not isinstance(value, kind) or isinstance(value, bool):
            raise self.wrong(f"'{self.parent}{key}' must be {KINDS[kind]}, got {json.dumps(value)[:60]}")
        return value


def read_jsonl(path: Path, *, expected: str) -> Iterator[Row]:
    """The records of a JSON Lines file; blank lines are skipped.

    Args:
        path: the file, UTF-8 with or without a byte order mark.
        expected: what the file should hold, in words, for the error text.

    Raises:
        InputError: unreadable, not text, or a line that is not a JSON object; names file, line and column.
    """
    number = 0
    for line, text in enumerate(read_text(path, expected=expected).split("\n"), start=1):
        if not text.strip():
            continue
        number += 1
        yield Row(_json_object(text, f"{path}:{line}", expected), path, line, number)


def read_json(path: Path, *, expected: str) -> Row:
    """A JSON file as one row; that of a list has it under the name `records`.

    Raises:
        InputError: unreadable, not text, not JSON (with line and column), or neither an object nor a list.
    """
    text = read_text(path, expected=expected)
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        where = f"{path}:{error.lineno}:{error.colno}"
        raise InputError(f"{where}: not JSON ({error.msg}); expected {expected}") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not JSON that can be read ({error}); expected {expected}") from None
    if isinstance(value, list):
        value = {"records": value}
    if not isinstance(value, dict):
        raise InputError(f"{path}: expected {expected}; got {json.dumps(value)[:60]}")
    return Row(value, path, None, 1)


def read_csv(path: Path, *, layouts: tuple[tuple[str, ...], ...], expected: str) -> Iterator[Row]:
    """The records of a CSV file under the names of its header; fields may hold line breaks.

    Args:
        path: the file, UTF-8 with or without a byte order mark.
        layouts: the header must hold all names of one of these; other columns are allowed.
        expected: what the file should hold, in words, for the error text.

    Raises:
        InputError: unreadable, not text, another header, broken quoting, or a record with more or fewer fields than
            the header.
    """
    reader = csv.reader(io.StringIO(read_text(path, expected=expected), newline=""), strict=True)
    header: list[str] | None = None
    number, line = 0, 1
    try:
        for fields in reader:
            line, begun = reader.line_num + 1, line
            if not fields:
                continue
            if header is None:
                header = [name.strip() for name in fields]
                if not any(set(layout) <= set(header) for layout in layouts):
                    raise InputError(f"{path}:{begun}: expected {expected}; found the header {listed(header)}")
                continue
            if len(fields) != len(header):
                raise InputError(
                    f"{path}:{begun}: expected {len(header)} fields ({listed(header)}), got {len(fields)}; "
                    "a field with commas or line breaks needs quotes"
                )
            number += 1
            yield Row(dict(zip(header, fields, strict=True)), path, begun, number)
    except csv.Error as error:
        raise InputError(f"{path}:{line}: broken CSV ({error}); expected {expected}") from None


def read_text(path: Path, *, expected: str) -> str:
    """The text of a file, or one line that says why there is none.

    Raises:
        InputError: no such file, a folder, not permitted, or not UTF-8 text (with the place of the first bad byte).
    """
    if path.is_dir():
        raise InputError(f"{path} is a folder; expected a file: {expected}")
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; expected {expected}") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error}); expected {expected}") from None
    try:
        text = data.decode("utf-8")
        bad = text.encode().find(b"\0") if "\0" in text else -1
    except UnicodeDecodeError as error:
        bad = error.start
    if bad >= 0:
        raise InputError(f"{path}: not UTF-8 text (byte 0x{data[bad]:02x} at offset {bad}); expected {expected}")
    return text.removeprefix("\ufeff")


def listed(names: Any, *, most: int = 8, width: int = 30) -> str:
    """Names for an error text, cut short."""
    cut = [str(name)[:width].replace("\n", " ") for name in names]
    return ", ".join(cut[:most]) + (f" and {len(cut) - most} more" if len(cut) > most else "") or "nothing"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _json_object(text: str, where: str, expected: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        hint = "; one object a line, not an array over many" if text.lstrip().startswith("[") else ""
        raise InputError(f"{where}:{error.colno}: not JSON ({error.msg}); expected {expected}{hint}") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: not JSON that can be read ({error}); expected {expected}") from None
    if not isinstance(value, dict):
        raise InputError(f"{where}: expected {expected}, one JSON object a line; got {json.dumps(value)[:60]}")
    return value
