"""What commands share: given options, tables on stdout."""

import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer

Permutations = Annotated[int | None, typer.Option(help="Cyclic shifts of the options; 1: canonical order.")]

WIDE = 400
"""Columns of a table that goes into a file or a pipe, where nobody's screen cuts it."""


def given(**options: Any) -> dict[str, Any]:
    """The options that were given; the library knows the defaults of the others."""
    return {name: value for name, value in options.items() if value is not None}


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table of texts on stdout, its columns under `head`."""
    from rich.console import Console
    from rich.table import Table

    table = Table(*head, box=None, header_style="bold", pad_edge=False)
    for row in rows:
        table.add_row(*row)
    Console(width=None if sys.stdout.isatty() else WIDE).print(table)


def print_frame(frame: Any) -> None:
    """A pandas frame as a table on stdout; numbers to three significant digits, nothing where there is no number."""
    import pandas as pd

    def shown(value: Any) -> str:
        if pd.isna(value):
            return ""
        return f"{value:.3g}" if isinstance(value, float) else str(value)

    print_table(
        [str(name) for name in frame.columns], [[shown(v) for v in row] for row in frame.itertuples(index=False)]
    )
