"""Which token carries the instruction, and at which layer does its meaning reach the token that is answered from?

Activations of the moral conversation are written into the neutral one, token by token and layer by layer, where both
share the history and differ in the last instruction alone. Aligned by the tokens that both have, span by span.

    python experiments/which_position_carries_the_instruction.py runs/demo --out experiments/figures

Cost: minutes on two cores for 8 items of the embedded model (`--limit`, `--every`). Output: the figure's .png and .csv.
"""

from collections.abc import Sequence
from pathlib import Path

import mechmsc as mm
from mechmsc.figures.patching import patching_table
from mechmsc.patching import patch_run
from mechmsc.report import caption
from mechmsc.report.scripts import experiment_parser, save_drawn
from mechmsc.runs.model import load_model_of

NAME = Path(__file__).stem
SPANS = ("instruction", "template", "prefix")


def compute(model, run, *, limit: int, every: int, seed: int):
    """Effect of every shared token of the last round's prompt on the choice entropy; tokens before it left out."""
    import xarray

    last = run.manifest["config"]["rounds"]
    layers = range(0, model.cfg.n_layers, every)
    where = {"source_arm": "moral", "destination_arm": "neutral", "round": last, "align": "shared", "seed": seed}
    options = where | {"component": "resid_pre", "layers": list(layers), "limit": limit}
    grids = [patch_run(model, run, span=span, **options, name=f"patch_{span}")["patched"] for span in SPANS]
    grids = [grid.assign_coords(position=range(grid.sizes["position"])) for grid in grids]
    whole = xarray.concat(grids, "position", join="override", combine_attrs="override")
    whole = whole.assign_coords(position=range(whole.sizes["position"]))
    reached = (abs(whole - whole.destination) > 0).any(["item", "component", "layer"])
    return mm.patching_effect(whole.isel(position=reached.values.nonzero()[0]), seed=seed)


def draw(effect, *, caption: str):
    """Layer x token, a dot where the effect survives the correction over the map."""
    said = "Tokens that moral and neutral instructions share; what stands before the instruction is the same in both."
    return mm.figures.patch_grid(effect, caption=f"{said} Read in canonical order of the options. {caption}")


def main(argv: Sequence[str] | None = None) -> None:
    """Compute, draw, save."""
    parser = experiment_parser(
        __doc__,
        model=True,
        run="run folder with the arms moral and neutral, and questions with options",
        seed="bootstrap and permutations",
    )
    parser.add_argument("--limit", type=int, default=8, help="items")
    parser.add_argument("--every", type=int, default=2, help="take every n-th layer")
    args = parser.parse_args(argv)
    run = mm.open_run(args.run)
    model = load_model_of(run, model=args.model, device=args.device)
    effect = compute(model, run, limit=args.limit, every=args.every, seed=args.seed)
    figure = draw(effect, caption=caption(run))
    save_drawn(figure, patching_table(effect), args, NAME)


if __name__ == "__main__":
    main()
