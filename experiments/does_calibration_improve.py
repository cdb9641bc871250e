"""Does calibration improve over rounds, beyond what chance would show at the same accuracy?

Liu et al. (arXiv:2510.07290) report that calibration error falls with uncertainty. Here each error is drawn with what
it would be by chance, and rank calibration with AUROC or a rank correlation beside it.

    python experiments/does_calibration_improve.py runs/demo --out experiments/figures

Cost: seconds, and the clustering of the samples (a minute) where the run was not measured before. Output:
does_calibration_improve.png and .csv.
"""

from collections.abc import Sequence
from pathlib import Path

import mechmsc as mm
from mechmsc.figures.calibration import calibration_table, draw_calibration
from mechmsc.report import caption
from mechmsc.report.scripts import experiment_parser, save_drawn

NAME = Path(__file__).stem


def compute(run, *, clusterer: str, seed: int):
    """Calibration errors by task, arm and round with their nulls, and the reliability of the last round."""
    measured = mm.measure_run(run, clusterer=clusterer, seed=seed)
    return calibration_table(measured.summaries, measured.measures)


def draw(table, *, caption: str):
    """Panels of errors, reliability and ranking, one line an arm."""
    return draw_calibration(table, caption=caption)


def main(argv: Sequence[str] | None = None) -> None:
    """Compute, draw, save."""
    parser = experiment_parser(__doc__, seed="bootstraps and nulls")
    parser.add_argument("--clusterer", default="embedding", help="which samples mean the same: embedding or exact")
    args = parser.parse_args(argv)
    run = mm.open_run(args.run)
    table = compute(run, clusterer=args.clusterer, seed=args.seed)
    save_drawn(draw(table, caption=caption(run)), table, args, NAME)


if __name__ == "__main__":
    main()
