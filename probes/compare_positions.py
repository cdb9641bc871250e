"""How much does the place where a statement is read matter, and what does the first token do to a mean?

    python probes/compare_positions.py --data toxicity_nonfuzzed_testset.csv --format wiki_toxicity

The first token of a sequence carries massive activations. A mean over positions that includes it hides everything else
from the difference of means; logistic regression on standardised features finds the concept all the same. `standardised
mass_mean` is the difference of means of standardised features, written back into raw space.

Cost: minutes on two cores. Output: CONCEPT_positions.png and .csv.
"""

from collections.abc import Sequence

import pandas as pd
import torch

import mechmsc as mm
from mechmsc.directions import METHODS, read_statements
from mechmsc.directions.evaluation import evaluate
from mechmsc.directions.scripts import caption, probe_parser
from mechmsc.figures.layer_sweep import draw_layer_sweep
from mechmsc.figures.saving import save_figure


def standardised_mass_mean(activations: torch.Tensor, labels: torch.Tensor, **options) -> torch.Tensor:
    """D = (mu+ - mu-) / variance: the difference of means of z = (h - mean) / sd, in raw space."""
    return METHODS["mass_mean"](activations, labels, **options) / activations.var(dim=0).clamp(min=1e-12)


LAST, MEAN, FIRST = {"position": "last"}, {"position": "mean"}, {"position": "mean", "first_token": True}
PLACES = (
    (LAST, {"mass_mean, last token": METHODS["mass_mean"]}),
    (MEAN, {"mass_mean, mean": METHODS["mass_mean"]}),
    (
        FIRST,
        {
            "mass_mean, mean with first token": METHODS["mass_mean"],
            "standardised mass_mean, same": standardised_mass_mean,
            "logistic, same": METHODS["logistic"],
        },
    ),
)
"""Where statements are read, and line of the figure -> fit."""


def main(argv: Sequence[str] | None = None) -> None:
    """Read at each position, evaluate, draw, save."""
    parser = probe_parser(__doc__)
    parser.add_argument("--concept", default="toxicity", help="concept of the statements")
    args = parser.parse_args(argv)
    statements = mm.load_statements(args.concept, path=args.data, format=args.format, limit=args.limit)
    model = mm.load_model(args.model, device=args.device)
    tables = []
    for place, methods in PLACES:  # activations of one place at a time in memory
        activations = read_statements(model, statements, max_tokens=args.max_tokens, **place)
        found = evaluate(activations, statements, methods=methods, n_null=args.null, seed=args.seed)
        tables.append(found if place is LAST else found[found["method"].isin(methods)])
    table = pd.concat(tables, ignore_index=True)
    said = caption(args.model, statements, "as named", args.seed)
    figure = draw_layer_sweep(table, concept=args.concept, caption=said)
    lines = [name for _, methods in PLACES for name in methods]
    by_layer = table[(table["measure"] == "auroc") & table["method"].isin(lines) & table["layer"].notna()]
    print(by_layer.pivot(index="layer", columns="method", values="value").round(3)[lines].to_string())
    print(*save_figure(figure, table, args.out, f"{args.concept}_positions"), sep="\n")


if __name__ == "__main__":
    main()
