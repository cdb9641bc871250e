"""Does the concept cause the uncertainty? Dose-response, mediation, simulation."""

from mechmsc.causal.dose import dose_response
from mechmsc.causal.dose_effects import dose_curves, dose_table, odd_and_even
from mechmsc.causal.mediation import mediate
from mechmsc.causal.mediation_effects import mediation_table, natural_effects
from mechmsc.causal.outcomes import Sampling
from mechmsc.causal.placebos import random_directions, shuffled_directions, spanned_directions
from mechmsc.causal.stored import store_dose, store_mediation

__all__ = [
    "Sampling",
    "dose_curves",
    "dose_response",
    "dose_table",
    "mediate",
    "mediation_table",
    "natural_effects",
    "odd_and_even",
    "random_directions",
    "shuffled_directions",
    "spanned_directions",
    "store_dose",
    "store_mediation",
]
