"""items.jsonl: the questions of a run as they were asked, so that measures need no file but the run's own."""

import json
from collections.abc import Sequence
from dataclasses import asdict

from mechmsc.errors import InputError, RunError
from mechmsc.runs.folder import Folder
from mechmsc.tasks import Item

NAME = "items.jsonl"


def write_items(folder: Folder, items: Sequence[Item]) -> None:
    """Write the items, one JSON object a line, unless they are there."""
    if items and not folder.is_file(NAME):
        lines = [json.dumps(asdict(item), ensure_ascii=False) for item in items]
        folder.write(NAME, ("\n".join(lines) + "\n").encode())


def read_items(folder: Folder) -> list[Item]:
    """The items of a run, in its order.

    Raises:
        InputError: the run was written before items were kept; says how to add them.
        RunError: the file is damaged.
    """
    data = folder.read(NAME)
    if data is None:
        raise InputError(f"{folder.path} has no {NAME}: repeat its `mechmsc run` command, which adds the file")
    try:
        rows = [json.loads(line) for line in data.decode().split("\n") if line]
        return [Item(**{**row, "options": tuple(row["options"])}) for row in rows]
    except (UnicodeDecodeError, json.JSONDecodeError, TypeError, KeyError) as error:
        raise RunError(f"{folder.at(NAME)} is damaged: {' '.join(str(error).split())[:120]}") from error
