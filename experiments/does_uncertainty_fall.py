"""Does uncertainty fall over rounds of self-correction, and does it depend on what the instruction asks for?

The question of Figure 5 of Liu et al. (arXiv:2510.07290), with a neutral arm, a baseline, intervals, and for questions
with options the part of the entropy that is not due to their order.

    python experiments/does_uncertainty_fall.py runs/demo --out experiments/figures

Cost: seconds, and the clustering of the samples (a minute) where the run was not measured before. Output:
does_uncertainty_fall.png and .csv.
"""

from collections.abc import Sequence
from pathlib import Path

import mechmsc as mm
from mechmsc.figures.uncertainty import draw_uncertainty, uncertainty_table
from mechmsc.report import caption
from mechmsc.report.scripts import experiment_parser, save_drawn

NAME = Path(__file__).stem


def compute(run, *, clusterer: str, seed: int):
    """Mean uncertainty by task, dimension, arm and round, with its cluster-bootstrap interval over items."""
    return uncertainty_table(mm.measure_run(run, clusterer=clusterer, seed=seed).summaries)


def draw(table, *, caption: str):
    """One panel a task or dimension, one line an arm."""
    return draw_uncertainty(table, caption=caption)


def main(argv: Sequence[str] | None = None) -> None:
    """Compute, draw, save."""
    parser = experiment_parser(__doc__, seed="the bootstrap")
    parser.add_argument("--clusterer", default="embedding", help="which samples mean the same: embedding or exact")
    args = parser.parse_args(argv)
    run = mm.open_run(args.run)
    table = compute(run, clusterer=args.clusterer, seed=args.seed)
    save_drawn(draw(table, caption=caption(run)), table, args, NAME)


if __name__ == "__main__":
    main()
