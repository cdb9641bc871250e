"""Does turning the concept up or down move the model's uncertainty, by more than random directions do?

Layer and strength are chosen first, on a quarter of the items, by their effect on the concept further on and their cost
in KL and perplexity; the dose-response is that of the other items (Liu et al., arXiv:2510.07290, never intervened).

    python experiments/does_steering_move_uncertainty.py runs/demo --direction stereotyping.safetensors

Cost: a pass a conversation, strength and direction (the concept and its placebos); minutes on two cores for the demo's
items. Output: RUN/effects/steering_dose.nc and steering_dose_steering.nc, does_steering_move_uncertainty.png and .csv.
"""

from collections.abc import Sequence
from pathlib import Path

import mechmsc as mm
from mechmsc.causal import dose_curves, store_dose
from mechmsc.figures.dose import draw_dose
from mechmsc.report import caption
from mechmsc.report.scripts import direction_for, experiment_parser, save_drawn
from mechmsc.runs.effects import read_effect
from mechmsc.runs.model import load_model_of

NAME = Path(__file__).stem


def compute(model, run, direction, *, outcomes, rounds, placebos: int, seed: int):
    """(curves, tests, where it was steered), on items that had no part in the choice."""
    options = {"outcome": outcomes, "rounds": rounds, "placebos": placebos, "seed": seed}
    tests, _ = store_dose(model, run, direction, name="steering_dose", validation=0.25, **options)
    doses, _ = read_effect(run.folder, "steering_dose")
    return dose_curves(doses, seed=seed), tests, doses.attrs


def draw(curves, tests, where, *, concept: str, caption: str):
    """Change of each outcome against strength, with the band of the placebos."""
    said = f"Layers {where['layers']} and the largest strength were chosen on other items. Arm {where['arm']}."
    return draw_dose(curves, tests, concept=concept, caption=f"{said} {caption}")


def main(argv: Sequence[str] | None = None) -> None:
    """Compute, draw, save."""
    parser = experiment_parser(
        __doc__,
        model=True,
        run="run folder with the arm neutral, and questions with options",
        seed="the split, the placebos and the bootstrap",
    )
    parser.add_argument("--direction", help="file of `mechmsc fit`; left out: stereotyping, fitted here")
    parser.add_argument("--outcome", default="choice_entropy,choice_entropy_within", help="separated by commas")
    parser.add_argument("--rounds", type=int, nargs="*", default=[1], help="rounds that are steered")
    parser.add_argument("--placebos", type=int, default=99, help="random directions")
    args = parser.parse_args(argv)
    run = mm.open_run(args.run)
    model = load_model_of(run, model=args.model, device=args.device)
    direction = direction_for(model, args.direction)
    options = {"outcomes": args.outcome.split(","), "rounds": args.rounds, "placebos": args.placebos}
    curves, tests, where = compute(model, run, direction, **options, seed=args.seed)
    figure = draw(curves, tests, where, concept=direction.concept, caption=caption(run))
    save_drawn(figure, curves, args, NAME)
    print(tests.to_string(index=False))


if __name__ == "__main__":
    main()
