"""Commands that analyse: fit a direction, measure a run, draw."""

from collections.abc import Callable
from typing import Annotated

import typer


def figures(
    run: Annotated[str, typer.Argument(help="Run folder.")],
    names: Annotated[list[str] | None, typer.Argument(help="Figures; left out: all.")] = None,
    format: Annotated[str, typer.Option(help="png, pdf, svg, separated by commas.")] = "png",
) -> None:
    """Draw figures into RUN/figures, each with a table of the numbers in it."""
    from mechmsc.report import make_figures
    from mechmsc.runs import open_run

    for path in make_figures(open_run(run), names or None, formats=format.split(",")):
        typer.echo(path)


COMMANDS: tuple[Callable[..., None], ...] = (figures,)
"""In the order of the help."""
