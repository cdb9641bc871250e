"""mechmsc: open a language model while it corrects itself morally, and intervene.

    items -> transcripts -> activations -> directions -> interventions -> effects -> figures

Names are loaded when they are first used, so that importing the package is quick.
"""

from importlib import import_module

_HOMES = {
    "Direction": "mechmsc.directions",
    "Estimate": "mechmsc.estimate",
    "FetchError": "mechmsc.errors",
    "InputError": "mechmsc.errors",
    "Intervention": "mechmsc.interventions",
    "Item": "mechmsc.tasks",
    "MechmscError": "mechmsc.errors",
    "Run": "mechmsc.runs",
    "RunError": "mechmsc.errors",
    "Scorer": "mechmsc.scorers",
    "Site": "mechmsc.sites",
    "TemplateError": "mechmsc.errors",
    "Transcript": "mechmsc.transcripts",
    "ablate": "mechmsc.interventions",
    "add": "mechmsc.interventions",
    "applied": "mechmsc.interventions",
    "attribution_patch": "mechmsc.attribution",
    "bias": "mechmsc.bias",
    "calibration": "mechmsc.calibration",
    "clamp": "mechmsc.interventions",
    "convergence": "mechmsc.convergence",
    "dose_response": "mechmsc.causal",
    "figures": "mechmsc.figures",
    "fit_direction": "mechmsc.directions",
    "load_direction": "mechmsc.directions",
    "load_items": "mechmsc.tasks",
    "load_model": "mechmsc.model",
    "load_statements": "mechmsc.statements",
    "measure": "mechmsc.interventions",
    "measure_run": "mechmsc.measures",
    "mediate": "mechmsc.causal",
    "open_run": "mechmsc.runs",
    "outcome": "mechmsc.patching",
    "patch_grid": "mechmsc.patching",
    "patching_effect": "mechmsc.patching",
    "planted_model": "mechmsc.model",
    "replace": "mechmsc.interventions",
    "respond": "mechmsc.interventions",
    "self_correct": "mechmsc.rounds",
    "uncertainty": "mechmsc.uncertainty",
}
"""The public names and where they live; a name that is the end of its home is that module."""

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> object:
    """Load a public name from its module, or the module of that name."""
    if name not in _HOMES:
        raise AttributeError(f"module 'mechmsc' has no attribute {name!r}")
    module = import_module(_HOMES[name])
    return module if _HOMES[name] == f"mechmsc.{name}" else getattr(module, name)


def __dir__() -> list[str]:
    """The public names, for completion."""
    return __all__
