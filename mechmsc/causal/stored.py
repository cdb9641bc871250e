"""Analyses of a run, stored in it: compute, write RUN/effects/NAME, say what was found.

Done before means not again; interrupted before means going on.
"""

import importlib.metadata
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from mechmsc.causal.dose import dose_response
from mechmsc.causal.dose_effects import dose_table
from mechmsc.causal.filling import Kept
from mechmsc.causal.mediation import mediate
from mechmsc.causal.mediation_effects import mediation_table
from mechmsc.causal.outcomes import Sampling
from mechmsc.causal.steering import select_steering, steering_table, validation_items
from mechmsc.directions import Direction
from mechmsc.errors import InputError
from mechmsc.model import identity
from mechmsc.runs import Run
from mechmsc.runs.effects import effect_names, read_effect, write_effect

if TYPE_CHECKING:
    import pandas
    import xarray
    from transformer_lens import HookedTransformer

VERSIONED = ("mechmsc", "torch", "transformers", "transformer-lens", "numpy")


def store_steering(
    model: "HookedTransformer", run: Run, direction: Direction, *, name: str = "steering", **options: Any
) -> "tuple[pandas.DataFrame, list[str]]":
    """`select_steering` with these options, in RUN/effects/NAME.nc; its table and the files."""
    return _stored(select_steering, steering_table, model, run, direction, name, options)


def store_dose(
    model: "HookedTransformer",
    run: Run,
    direction: Direction,
    *,
    name: str = "dose",
    validation: float | None = None,
    **options: Any,
) -> "tuple[pandas.DataFrame, list[str]]":
    """`dose_response` with these options, in RUN/effects/NAME.nc; its table and the files.

    Repeated with the same settings it reads what is stored. With `validation`, layer and strength are chosen first on
    this share of the items (`select_steering`, in RUN/effects/NAME_steering.nc), and the others are reported.
    """
    before: list[str] = []
    if validation is not None:
        shared = {key: options[key] for key in ("arm", "site", "seed", "progress") if key in options}
        asked = options.get("items")
        known = [item for item in run.items if asked is None or item.item_id in asked]
        items = validation_items(known, share=validation, seed=options.get("seed", 0))
        if asked is not None:
            options["items"] = [item for item in asked if item not in items]
        layers = options.pop("layers", None)
        shared |= {"items": items, "layers": list(layers) if isinstance(layers, range) else layers}
        _, before = store_steering(model, run, direction, name=f"{name}_steering", **shared)
        options["steering"], _ = read_effect(run.folder, f"{name}_steering")
    table, paths = _stored(dose_response, dose_table, model, run, direction, name, options)
    return table, [*before, *paths]


def store_mediation(
    model: "HookedTransformer", run: Run, direction: Direction | None, *, name: str = "mediation", **options: Any
) -> "tuple[pandas.DataFrame, list[str]]":
    """`mediate` with these options, in RUN/effects/NAME.nc; its table and the files."""
    return _stored(mediate, mediation_table, model, run, direction, name, options)


def _stored(
    analysis: "Callable[..., xarray.Dataset]",
    table: "Callable[[xarray.Dataset], pandas.DataFrame]",
    model: "HookedTransformer",
    run: Run,
    direction: Direction | None,
    name: str,
    options: Mapping[str, Any],
) -> "tuple[pandas.DataFrame, list[str]]":
    settings = settings_of(model, direction, analysis.__name__, options)
    if name in effect_names(run.folder):
        effect, before = read_effect(run.folder, name)
        if before == settings:
            return table(effect), [run.folder.at(f"effects/{name}.{kind}") for kind in ("nc", "json")]
    effect = analysis(model, run, direction, **options, kept=Kept(run.folder, name, settings))
    return table(effect), write_effect(run.folder, name, effect, settings)


def settings_of(
    model: "HookedTransformer", direction: Direction | None, analysis: str, options: Mapping[str, Any]
) -> dict[str, Any]:
    """What makes two calls of an analysis the same, as JSON."""
    plain = {}
    for key, value in options.items():
        if key in ("progress", "batch_size"):
            continue
        if callable(value):
            raise InputError(f"{key}: a function cannot be stored with its effect; call {analysis} itself")
        plain[key] = asdict(value) if isinstance(value, Sampling) else value
        if key == "steering":
            plain[key] = {"items": value["item"].values.tolist(), **value.attrs}
    made = {
        "analysis": analysis,
        "arguments": {key: str(value) if isinstance(value, range) else value for key, value in plain.items()},
        "direction": None if direction is None else _direction(direction),
        "model": asdict(identity(model)),
        "versions": {package: importlib.metadata.version(package) for package in VERSIONED},
    }
    return json.loads(json.dumps(made, default=str))


def _direction(direction: Direction) -> dict[str, Any]:
    return {
        "concept": direction.concept,
        "method": direction.method,
        "component": direction.component,
        "position": direction.position,
        "data": direction.data.get("sha256"),
    }
