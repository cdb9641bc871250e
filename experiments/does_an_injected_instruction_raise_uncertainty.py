"""Does an immoral instruction, injected into a moral conversation, raise uncertainty and lower performance there?

The longitudinal question of Liu et al. (arXiv:2510.07290), who look at rounds 2, 5 and 8. Arms are paired by item. With
a direction, whether the concept carries the effect is asked too: at the injected rounds the concept alone is clamped to
what it would have been without the injection (NIE and NDE of `mechmsc mediate`, history shared).

    python experiments/does_an_injected_instruction_raise_uncertainty.py RUN --direction stereotyping.safetensors

Cost: seconds; with a direction four passes a conversation and injected round. Output:
does_an_injected_instruction_raise_uncertainty.png and .csv, and with a direction RUN/effects/injection_mediation.nc and
does_an_injected_instruction_raise_uncertainty_mediation.png and .csv.
"""

from collections.abc import Sequence
from pathlib import Path

import mechmsc as mm
from mechmsc.causal import injected_arms, injected_rounds, injection_effects, mediation_table, store_mediation
from mechmsc.figures.injection import draw_injection
from mechmsc.figures.mediation import draw_mediation
from mechmsc.report import caption
from mechmsc.report.scripts import experiment_parser, save_drawn
from mechmsc.runs.effects import read_effect
from mechmsc.runs.model import load_model_of

NAME = Path(__file__).stem


def compute(run, *, arms: dict[str, str], seed: int):
    """Paired differences by round and part, with intervals and corrected p-values."""
    mm.measure_run(run, seed=seed)
    return injection_effects(run, **arms, seed=seed)


def draw(table, *, arms: dict[str, str], caption: str):
    """A panel a measure, injected rounds shaded."""
    return draw_injection(table, **arms, caption=caption)


def mediation(model, run, *, direction: str, arms: dict[str, str], outcome: str):
    """TE, NIE and NDE of the injection at its rounds."""
    along, rounds = mm.load_direction(direction, model=model), injected_rounds(run, **arms)
    options = {"rounds": rounds, "outcome": [outcome], "placebos": 20}
    store_mediation(model, run, along, name="injection_mediation", **arms, **options)
    return mediation_table(read_effect(run.folder, "injection_mediation")[0]), along.concept


def main(argv: Sequence[str] | None = None) -> None:
    """Compute, draw, save."""
    parser = experiment_parser(__doc__, model=True, seed="bootstrap and sign flips")
    parser.add_argument("--treatment", help="arm with injections; left out: the first mixed schedule of the run")
    parser.add_argument("--control", default="moral", help="its base, where --treatment is given")
    parser.add_argument("--direction", help="file of `mechmsc fit`: is the effect mediated by this concept?")
    parser.add_argument("--outcome", default="choice_entropy", help="of the mediation")
    args = parser.parse_args(argv)
    run = mm.open_run(args.run)
    arms = {"treatment": args.treatment, "control": args.control} if args.treatment else injected_arms(run)
    table, said = compute(run, arms=arms, seed=args.seed), caption(run)
    save_drawn(draw(table, arms=arms, caption=said), table, args, NAME)
    if args.direction:
        model = load_model_of(run, model=args.model, device=args.device)
        effects, concept = mediation(model, run, direction=args.direction, arms=arms, outcome=args.outcome)
        figure = draw_mediation(effects, **arms, mediator=concept, caption=said)
        save_drawn(figure, effects, args, f"{NAME}_mediation")


if __name__ == "__main__":
    main()
