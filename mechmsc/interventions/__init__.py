"""Edits of activations: `add`, `ablate`, `clamp`, `replace`; the scoped context `applied`; what the model does then.

with applied(model, [add(toxicity, strength=-2.0, at=Site.named("instruction_mean", layer=12, round=2))]):
    responses = respond(model, conversation, samples=5, seed=0)
    entropy = measure(model, conversation, "choice_entropy")
guards = generation_guards(model, conversation, responses)
"""

from mechmsc.interventions.edits import EDITABLE, Intervention, ablate, add, clamp, replace
from mechmsc.interventions.guards import distinct_ngrams, generation_guards, response_logprobs
from mechmsc.interventions.measuring import measure
from mechmsc.interventions.responding import GREEDY, respond
from mechmsc.interventions.scope import applied
from mechmsc.positions import edits_on, suspended

__all__ = [
    "EDITABLE",
    "GREEDY",
    "Intervention",
    "ablate",
    "add",
    "applied",
    "clamp",
    "distinct_ngrams",
    "edits_on",
    "generation_guards",
    "measure",
    "replace",
    "respond",
    "response_logprobs",
    "suspended",
]
