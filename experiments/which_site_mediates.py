"""At which token and layer does an instruction act on uncertainty, and is it the concept that passes its effect on?

Mediation, layer by layer, at the end of the instruction and at the end of the prompt: once with the concept's
coordinate as mediator, once with the whole activation, which bounds what any concept there could mediate.

    python experiments/which_site_mediates.py runs/demo --direction stereotyping.safetensors

Cost: two passes a conversation, layer, site and mediator; minutes on two cores for the demo's items. Output:
RUN/effects, which_site_mediates.png and .csv.
"""

from collections.abc import Sequence
from pathlib import Path

import mechmsc as mm
from mechmsc.causal import mediation_table, store_mediation
from mechmsc.figures.mediating_sites import draw_mediating_sites
from mechmsc.report import caption
from mechmsc.report.scripts import direction_for, experiment_parser, save_drawn
from mechmsc.runs.effects import read_effect
from mechmsc.runs.model import load_model_of

NAME = Path(__file__).stem
SITES = ("instruction_end", "prompt_end")


def compute(model, run, direction, *, outcome: str, every: int, items, rounds, seed: int):
    """Effects by site, mediator and layer, over all rounds, with intervals over items."""
    import pandas as pd

    layers, parts = list(range(0, model.cfg.n_layers, every)), []
    for mediator in ("concept", "activation"):
        for site in SITES:
            name = f"site_{mediator}_{site}"
            options = {"mediator": mediator, "site": site, "layers": layers, "outcome": [outcome], "seed": seed}
            store_mediation(model, run, direction, name=name, items=items, rounds=rounds, **options)
            table = mediation_table(read_effect(run.folder, name)[0], seed=seed)
            what = direction.concept if mediator == "concept" else "whole activation"
            parts.append(table[table["round"].isna()].assign(site=site.replace("_", " "), mediator=what))
    return pd.concat(parts, ignore_index=True)


def draw(table, *, caption: str):
    """Indirect effect against layer, a line a site."""
    return draw_mediating_sites(table, caption=caption)


def main(argv: Sequence[str] | None = None) -> None:
    """Compute, draw, save."""
    parser = experiment_parser(
        __doc__, model=True, run="run folder with the arms moral and neutral", seed="the bootstrap"
    )
    parser.add_argument("--direction", help="file of `mechmsc fit`; left out: stereotyping, fitted here")
    parser.add_argument("--outcome", default="choice_entropy", help="what the instruction is to move")
    parser.add_argument("--every", type=int, default=3, help="take every n-th layer")
    parser.add_argument("--limit", type=int, help="items; left out: all")
    parser.add_argument("--rounds", type=int, nargs="*", help="left out: all")
    args = parser.parse_args(argv)
    run = mm.open_run(args.run)
    model = load_model_of(run, model=args.model, device=args.device)
    direction = direction_for(model, args.direction)
    items = [item.item_id for item in run.items if item.options][: args.limit]
    table = compute(
        model, run, direction, outcome=args.outcome, every=args.every, items=items, rounds=args.rounds, seed=args.seed
    )
    figure = draw(table, caption=caption(run))
    save_drawn(figure, table, args, NAME)


if __name__ == "__main__":
    main()
