"""Does performance settle over rounds of self-correction, and does it depend on what the instruction asks for?

The question of Figure 3 of Liu et al. (arXiv:2510.07290), with a neutral arm, a baseline and intervals.

    python experiments/does_performance_converge.py runs/demo --out experiments/figures

Cost: seconds, from a finished run (`make demo`). Output: does_performance_converge.png and .csv.
"""

from collections.abc import Sequence
from pathlib import Path

import mechmsc as mm
from mechmsc.figures.performance import draw_performance, performance_table
from mechmsc.report import caption
from mechmsc.report.scripts import experiment_parser, save_drawn

NAME = Path(__file__).stem


def compute(run, *, seed: int):
    """Mean score by task, arm and round, with its cluster-bootstrap interval over items."""
    return performance_table(run.transcripts, seed=seed)


def draw(table, *, caption: str):
    """One panel a task, one line an arm."""
    return draw_performance(table, caption=caption)


def main(argv: Sequence[str] | None = None) -> None:
    """Compute, draw, save."""
    parser = experiment_parser(__doc__, seed="the bootstrap")
    args = parser.parse_args(argv)
    run = mm.open_run(args.run)
    table = compute(run, seed=args.seed)
    figure = draw(table, caption=caption(run))
    save_drawn(figure, table, args, NAME)


if __name__ == "__main__":
    main()
