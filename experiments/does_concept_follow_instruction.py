"""Does the activated moral concept follow the instruction, round by round and layer by layer?

The question of Figure 4 of Liu et al. (arXiv:2510.07290), with a neutral arm, a baseline and intervals. Directions come
from `mechmsc fit toxicity --out toxicity.safetensors`; without one, a direction is fitted here for the concept of each
task in the run, on the statements inside the package.

    python experiments/does_concept_follow_instruction.py runs/demo --direction toxicity.safetensors

Cost: seconds with directions, else a pass over some hundred statements a concept (minutes on two cores). Output:
does_concept_follow_instruction.png and .csv.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import mechmsc as mm
from mechmsc.figures.concept import concept_table, draw_concept
from mechmsc.figures.saving import save_figure
from mechmsc.report import caption
from mechmsc.tasks import TASKS

NAME = Path(__file__).stem


def directions(run, *, method: str):
    """A direction for the concept of each task in the run."""
    made_by = run.manifest["model"]
    model = mm.load_model(name_or_path=made_by["name"], revision=made_by["revision"])
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
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", help="run folder")
    parser.add_argument("--direction", nargs="+", help="files of `mechmsc fit`")
    parser.add_argument("--method", default="mass_mean", help="fit, where no file is given")
    parser.add_argument("--layers", type=int, nargs=2, help="first and last layer of the band; left out: middle half")
    parser.add_argument("--out", default="experiments/figures", help="folder for the figure and its numbers")
    parser.add_argument("--seed", type=int, default=0, help="of the bootstrap")
    parser.add_argument("--format", default="png", help="png, pdf, svg, separated by commas")
    args = parser.parse_args(argv)
    run = mm.open_run(args.run)
    read = args.direction or directions(run, method=args.method)
    table = compute(run, directions=read, layers=args.layers and tuple(args.layers), seed=args.seed)
    for path in save_figure(draw(table, caption=caption(run)), table, args.out, NAME, formats=args.format.split(",")):
        print(path)


if __name__ == "__main__":
    main()
