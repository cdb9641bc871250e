"""Does an accurate prediction of the change in uncertainty mean that the concept causes it?

The simulation of Liu et al. (arXiv:2510.07290) in worlds whose answer is known: with and without an effect, with and
without a confounder. With a measured run, the same test on its rounds, beside what predicts without the concept.

    python experiments/does_prediction_mean_causation.py --datasets 500 --out experiments/figures
    python experiments/does_prediction_mean_causation.py runs/demo --out experiments/figures

Cost: 15 cells of data sets at about 10 ms each, so 500 take a minute on two cores. Output:
does_prediction_mean_causation.png and .csv, and for a run does_prediction_mean_causation_in_run.png and .csv.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import mechmsc as mm
from mechmsc.causal.simulation import simulate, table_of_run
from mechmsc.figures.simulation import draw_predictive, draw_structural
from mechmsc.report import caption
from mechmsc.report.scripts import experiment_parser, save_drawn

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
    parser = experiment_parser(
        __doc__,
        run="run folder, measured; left out: simulated worlds alone",
        seed="data sets, folds, permutations and bootstrap",
        nargs="?",
    )
    parser.add_argument("--datasets", type=int, default=30, help="simulated data sets of each cell")
    parser.add_argument("--confounder", default="length", help="length or round")
    args = parser.parse_args(argv)
    table = compute(datasets=args.datasets, confounder=args.confounder, seed=args.seed)
    save_drawn(draw(table), table, args, NAME)
    if args.run:
        run = mm.open_run(args.run)
        try:
            found = compute_in_run(run, seed=args.seed)
        except mm.InputError as error:  # a run without a direction still has the simulated worlds
            sys.stderr.write(f"{error}\n")
        else:
            figure = draw_predictive(found, caption=caption(run))
            save_drawn(figure, found, args, f"{NAME}_in_run")


if __name__ == "__main__":
    main()
