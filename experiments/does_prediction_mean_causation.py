"""Does an accurate prediction of the change in uncertainty mean that the concept causes it?

The simulation of Liu et al. (arXiv:2510.07290) in worlds whose answer is known: with and without an effect, with and
without a confounder. With a measured run, the same test on its rounds, beside what predicts without the concept.

    python experiments/does_prediction_mean_causation.py --datasets 500 --out experiments/figures
    python experiments/does_prediction_mean_causation.py runs/demo --out experiments/figures

Cost: 15 cells of data sets at about 10 ms each, so 500 take a minute on two cores. Output:
does_prediction_mean_causation.png and .csv, and for a run does_prediction_mean_causation_in_run.png and .csv.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import mechmsc as mm
from mechmsc.causal.simulation import simulate, table_of_run
from mechmsc.figures.saving import save_figure
from mechmsc.figures.simulation import draw_predictive, draw_structural
from mechmsc.report import caption

NAME = Path(__file__).stem


def compute(*, datasets: int, confounder: str, seed: int):
    """Accuracy of the predictive test, and bias, coverage and power of estimators, by true effect and confounder."""
    return simulate(datasets=datasets, confounder=confounder, seed=seed)["structural"]


def compute_in_run(run, *, seed: int):
    """The predictive test on a run's rounds."""
    return simulate(table=table_of_run(run), seed=seed)["predictive"]


def draw(table, *, caption: str | None = None):
    """A column of panels for each strength of the confounder."""
    return draw_structural(table, caption=caption)


def main(argv: Sequence[str] | None = None) -> None:
    """Compute, draw, save."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", nargs="?", help="run folder, measured; left out: simulated worlds alone")
    parser.add_argument("--out", default="experiments/figures", help="folder for the figures and their numbers")
    parser.add_argument("--datasets", type=int, default=30, help="simulated data sets of each cell")
    parser.add_argument("--confounder", default="length", help="length or round")
    parser.add_argument("--seed", type=int, default=0, help="of data sets, folds, permutations and bootstrap")
    parser.add_argument("--format", default="png", help="png, pdf, svg, separated by commas")
    args = parser.parse_args(argv)
    formats = args.format.split(",")
    table = compute(datasets=args.datasets, confounder=args.confounder, seed=args.seed)
    files = save_figure(draw(table), table, args.out, NAME, formats=formats)
    if args.run:
        run = mm.open_run(args.run)
        try:
            found = compute_in_run(run, seed=args.seed)
        except mm.InputError as error:  # a run without a direction still has the simulated worlds
            sys.stderr.write(f"{error}\n")
        else:
            figure = draw_predictive(found, caption=caption(run))
            files += save_figure(figure, found, args.out, f"{NAME}_in_run", formats=formats)
    for path in files:
        print(path)


if __name__ == "__main__":
    main()
