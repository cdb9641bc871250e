"""From labelled statements to directions that were tested, in one call."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from torch import Tensor

from mechmsc.directions.evaluation import evaluate
from mechmsc.directions.fitting import fit_direction, method_named
from mechmsc.directions.reading import read_letters, read_sides, read_statements
from mechmsc.directions.record import Direction
from mechmsc.directions.selection import select_layer

if TYPE_CHECKING:
    import pandas
    from transformer_lens import HookedTransformer

READERS = {"letters": read_letters, "sides": read_sides}
MAX_TOKENS = 128
"""Tokens of a statement that are read: the median comment of the Wikipedia set has 70."""


def train_probes(
    model: "HookedTransformer",
    statements: "pandas.DataFrame",
    *,
    methods: Sequence[str],
    position: str = "last",
    context: str = "chat",
    max_tokens: int | None = MAX_TOKENS,
    n_null: int = 20,
    seed: int = 0,
    progress: bool = True,
) -> "tuple[dict[str, Direction], pandas.DataFrame, Tensor]":
    """Directions fitted on all statements by several methods, and how such fits do on statements held out.

    Args:
        model: from `load_model`.
        statements: from `load_statements`.
        methods: keys of `METHODS`.
        position: where statements are read, see `read_statements`.
        context: `chat` or `raw`.
        max_tokens: where statements are cut; None: nowhere.
        n_null: fits on shuffled labels a method.
        seed: of folds, fits and nulls.
        progress: show bars on stderr.

    Returns:
        method -> `Direction` (its settings name the chosen layer), the table of `evaluate`, and the activations.

    Raises:
        InputError: an unknown method, or what reading, fitting and evaluation refuse.
    """
    fits = {name: method_named(name) for name in methods}
    options = {"context": context, "max_tokens": max_tokens, "progress": progress}
    activations = read_statements(model, statements, position=position, **options)
    read = {n: READERS[f.needs](model, statements, **options) for n, f in fits.items() if f.needs in READERS}
    table = evaluate(activations, statements, methods=fits, read=read, n_null=n_null, seed=seed, progress=progress)
    directions = {}
    for name in fits:
        direction = fit_direction(
            model, statements, method=name, position=position, activations=activations,
            fitted_on=read.get(name), seed=seed, **options,
        )  # fmt: skip
        settings = {**direction.settings, "layer": select_layer(table, method=name)}
        directions[name] = replace(direction, settings=settings)
    return directions, table, activations


def chosen_layers(directions: Mapping[str, Direction]) -> dict[str, int]:
    """Method -> the layer that `train_probes` chose."""
    return {name: int(direction.settings["layer"]) for name, direction in directions.items()}


def summary(table: "pandas.DataFrame", chosen: Mapping[str, int]) -> "pandas.DataFrame":
    """What a reader wants to know first: each method at its layer and nested, then the baselines.

    Args:
        table: from `evaluate`.
        chosen: method -> layer.

    Returns:
        method, part, layer, measure, value, low, high, n; nested rows have no layer.
    """
    import pandas as pd

    nested = table[(table["part"] == "nested") & (table["measure"] != "layer_share")]
    layer = table["method"].map(chosen).astype("Int64")
    at_layer = table[(table["part"] == "held_out") & (table["layer"] == layer).fillna(False)]
    best = next(iter(chosen.values()))
    beside = table[
        table["method"].isin(("bag_of_words", "text_length"))
        | ((table["method"] == "random_direction") & (table["layer"] == best).fillna(False))
    ]
    rows = pd.concat([at_layer, nested, beside])
    return rows[["method", "part", "layer", "measure", "value", "low", "high", "n"]].reset_index(drop=True)
