"""What the scripts in `experiments/` share: their arguments, their direction, and the way from a figure to files."""

import argparse
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import matplotlib.figure
    import pandas
    from transformer_lens import HookedTransformer

    from mechmsc.directions import Direction


def experiment_parser(
    doc: str, *, run: str = "run folder", seed: str, model: bool = False, **of_run: Any
) -> argparse.ArgumentParser:
    """The arguments that every script in `experiments/` takes.

    Args:
        doc: the script's docstring; its first line is the help.
        run: help of the run folder.
        seed: what the seed is of.
        model: whether the script loads the run's model.
        **of_run: more about the argument of the run folder, e.g. nargs.
    """
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("run", help=run, **of_run)
    if model:
        parser.add_argument("--model", help="left out: the model of the run, by its name")
        parser.add_argument("--device", help="cpu, cuda, cuda:1, mps")
    parser.add_argument("--out", default="experiments/figures", help="folder for the figures and their numbers")
    parser.add_argument("--seed", type=int, default=0, help=f"of {seed}")
    parser.add_argument("--format", default="png", help="png, pdf, svg, separated by commas")
    return parser


def direction_for(model: "HookedTransformer", path: str | None, *, concept: str = "stereotyping") -> "Direction":
    """A direction from a file of `mechmsc fit`, or one fitted here on the statements inside the package.

    Args:
        model: that it has to fit.
        path: of the file; None fits.
        concept: that is fitted.

    Raises:
        InputError: the file's direction is not of this model.
    """
    from mechmsc.directions import fit_direction, load_direction
    from mechmsc.statements import load_statements

    return load_direction(path, model=model) if path else fit_direction(model, load_statements(concept))


def save_drawn(
    figure: "matplotlib.figure.Figure", table: "pandas.DataFrame", args: argparse.Namespace, name: str
) -> None:
    """The figure and its numbers into the folder and formats that were asked for; says their names."""
    from mechmsc.figures.saving import save_figure

    for path in save_figure(figure, table, args.out, name, formats=args.format.split(",")):
        sys.stdout.write(f"{path}\n")
