"""How far the work is, on stderr: a bar in a terminal or notebook, a line a minute in a log."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from time import monotonic

SECONDS = 60.0
"""Between two lines of a log."""


@contextmanager
def bar(text: str, total: int, *, show: bool, done: int = 0) -> Iterator[Callable[..., None]]:
    """Show progress while the block runs.

    Args:
        text: what is counted.
        total: how many there are.
        show: whether to.
        done: how many are done already.

    Yields:
        A function that advances by so many, or by one.
    """
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    if show and not (console.is_terminal or console.is_jupyter):
        log = _Log(console.file, text, total, done)
        try:
            yield log.advance
        finally:
            log.write()
        return
    columns = (
        TextColumn(text),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not show) as shown:
        task = shown.add_task("", total=total, completed=done)
        yield lambda n=1: shown.advance(task, n)


class _Log:
    """Lines for a file, where nothing can be drawn over."""

    def __init__(self, file, text: str, total: int, done: int):  # noqa: ANN001 - a text file
        self.file, self.text, self.total, self.done = file, text, total, done
        self.before, self.begun = done, monotonic()
        self.written = self.begun

    def advance(self, n: int = 1) -> None:
        self.done += n
        if monotonic() - self.written >= SECONDS and self.done < self.total:
            self.write()

    def write(self) -> None:
        self.written = monotonic()
        spent, new = self.written - self.begun, self.done - self.before
        said = f"{self.text} {self.done}/{self.total}, {_clock(spent)}"
        if 0 < new and self.done < self.total:
            said += f", left {_clock(spent / new * (self.total - self.done))}"
        self.file.write(f"{said}\n")
        self.file.flush()


def _clock(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
