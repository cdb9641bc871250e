"""Does the activated moral concept follow the instruction, round by round and layer by layer?

The question of Figure 4 of Liu et al. (arXiv:2510.07290), with a neutral arm, a baseline and intervals. Directions come
from `mechmsc fit toxicity --out toxicity.safetensors`; without one, a direction is fitted here for the concept of each
task in the run, on the statements inside the package.

    python experiments/does_concept_follow_instruction.py runs/demo --direction toxicity.safetensors

Cost: seconds with directions, else a pass over some hundred statements a concept (minutes on two cores). Output:
does_concept_follow_instruction.png and .csv.
"""

from collections.abc import Sequence
from pathlib import Path

import mechmsc as mm
from mechmsc.figures.concept import concept_table, draw_concept
from mechmsc.report import caption
from mechmsc.report.scripts import experiment_parser, save_drawn
from mechmsc.runs.model import load_model_of
from mechmsc.tasks import TASKS

NAME = Path(__file__).stem


def directions(model, run, *, method: str):
    """A direction for the concept of each task in the run."""
    concepts = {TASKS[task].concept for task in run.manifest["config"]["tasks"]} - {None}
    return {name: mm.fit_direction(model, mm.load_statements(name), method=method) for name in sorted(concepts)}


def compute(run, *, directions, layers, seed: int):
    """Mean concept by task, arm, round and layer, with its cluster-bootstrap interval over items."""
    measured = mm.measure_run(run, direction=directions, positions=["prompt_end"], layers=layers, seed=seed)
    return concept_table(measured.measures, layers=layers, seed=seed)


def draw(table, *, caption: str):
    """Panels of a band of layers and of single layers, one line an arm."""
    return draw_concept(table, caption=caption)


def main(argv: Sequence[str] | None = None) -> None:
    """Compute, draw, save."""
    parser = experiment_parser(__doc__, model=True, seed="the bootstrap")
    parser.add_argument("--direction", nargs="+", help="files of `mechmsc fit`")
    parser.add_argument("--method", default="mass_mean", help="fit, where no file is given")
    parser.add_argument("--layers", type=int, nargs=2, help="first and last layer of the band; left out: middle half")
    args = parser.parse_args(argv)
    run = mm.open_run(args.run)
    read = args.direction
    if not read:
        model = load_model_of(run, model=args.model, device=args.device)
        read = directions(model, run, method=args.method)
    table = compute(run, directions=read, layers=args.layers and tuple(args.layers), seed=args.seed)
    save_drawn(draw(table, caption=caption(run)), table, args, NAME)


if __name__ == "__main__":
    main()
