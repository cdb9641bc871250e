"""Does prediction mean causation? The test of the paper, worlds in which the answer is known, and a posterior."""

from mechmsc.causal.simulation.asked import simulate
from mechmsc.causal.simulation.measured import table_of_run
from mechmsc.causal.simulation.posterior import posterior_curves, posterior_fit
from mechmsc.causal.simulation.predictive import predictive_test
from mechmsc.causal.simulation.stored import store_simulation
from mechmsc.causal.simulation.structural import structural_grid
from mechmsc.causal.simulation.worlds import Truth, World, draw_world, indirect_effects

__all__ = [
    "Truth",
    "World",
    "draw_world",
    "indirect_effects",
    "posterior_curves",
    "posterior_fit",
    "predictive_test",
    "simulate",
    "store_simulation",
    "structural_grid",
    "table_of_run",
]
