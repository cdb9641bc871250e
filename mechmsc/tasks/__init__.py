"""Tasks: published format -> `Item`. A new task is a file here, a line in `TASKS`, and wording in instructions.py."""

from itertools import islice
from pathlib import Path

from mechmsc.errors import InputError, nearest
from mechmsc.tasks import commonsense, detoxification, jailbreak, social_bias, visual_grounding, visual_qa
from mechmsc.tasks.images import check_images
from mechmsc.tasks.records import Item, Task, parse_choice

__all__ = ["TASKS", "Item", "Task", "load_items", "parse_choice"]

TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        detoxification.TASK,
        social_bias.TASK,
        jailbreak.TASK,
        commonsense.TASK,
        visual_qa.TASK,
        visual_grounding.TASK,
    )
}
"""The public list, by name."""

DATA = Path(__file__).parent / "data"


def load_items(task: str, *, path: str | Path | None = None, limit: int | None = None) -> list[Item]:
    """The items of a task, in file order; those with a picture have its size in their metadata.

    Args:
        task: a name in `TASKS`.
        path: a file in a published format of the task; None is the file of our own items inside the package.
        limit: how many items to take from the start; None takes all. An item is the same with and without it.

    Raises:
        InputError: unknown task, limit below 1, a file that cannot be read as this task (file, line, what was expected;
            names the task that the file looks like), no items, an id that occurs twice, or a picture that is missing or
            broken (item and file).
    """
    if task not in TASKS:
        raise InputError(f"no task '{task}': {nearest(task, TASKS)}")
    if limit is not None and limit < 1:
        raise InputError(f"limit must be at least 1 item, got {limit}")
    known = TASKS[task]
    path = DATA / known.data if path is None else Path(path)
    try:
        items = list(islice(known.read(path), limit))
    except InputError as error:
        raise InputError(f"{error}{_looks_like(path, task)}") from None
    if not items:
        raise InputError(f"{path} holds no items; expected {' or '.join(known.formats)} with one row an item")
    _refuse_duplicates(items, path)
    return check_images(items)


def _refuse_duplicates(items: list[Item], path: Path) -> None:
    first: dict[str, int | str] = {}
    for item in items:
        line = item.metadata.get("line", item.metadata.get("record", "?"))
        if item.item_id in first:
            where = f"line {first[item.item_id]}" if "line" in item.metadata else first[item.item_id]
            raise InputError(f"{path}:{line}: item id '{item.item_id}' occurs already in {where}; remove one")
        first[item.item_id] = line


def _looks_like(path: Path, task: str) -> str:
    """The end of an error: which other tasks could read the first row of the file."""
    others = []
    for name, other in TASKS.items():
        try:
            if name != task and next(other.read(path), None) is not None:
                others.append(name)
        except InputError:
            continue
    return f"; this looks like a file of task {' or '.join(others)}" if others else ""
