"""Does the concept cause the uncertainty? Dose-response, mediation, simulation.

Names are loaded when they are first used: processes that only simulate need no torch.
"""

from importlib import import_module

_HOMES = {
    "Sampling": "outcomes",
    "dose_curves": "dose_effects",
    "dose_response": "dose",
    "dose_table": "dose_effects",
    "injected_arms": "injection",
    "injected_rounds": "injection",
    "injection_effects": "injection",
    "mediate": "mediation",
    "mediation_table": "mediation_effects",
    "natural_effects": "mediation_effects",
    "odd_and_even": "dose_effects",
    "posterior_curves": "simulation",
    "posterior_fit": "simulation",
    "predictive_test": "simulation",
    "random_directions": "placebos",
    "select_steering": "steering",
    "shuffled_directions": "placebos",
    "simulate": "simulation",
    "spanned_directions": "placebos",
    "store_dose": "stored",
    "steering_table": "steering",
    "store_mediation": "stored",
    "store_steering": "stored",
    "structural_grid": "simulation",
    "table_of_run": "simulation",
    "validation_items": "steering",
}
"""The public names and the modules they live in."""

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> object:
    """Load a public name from its module."""
    if name not in _HOMES:
        raise AttributeError(f"module 'mechmsc.causal' has no attribute {name!r}")
    return getattr(import_module(f"mechmsc.causal.{_HOMES[name]}"), name)
