"""Which responses mean the same: texts in, cluster ids out. A new clusterer is one file and one line of `CLUSTERERS`.

clusterer = CLUSTERERS["embedding"]()
ids = clusterer(questions, responses)      # [set] and [set][sample] -> [set], integers [sample]
"""

from collections.abc import Callable

from mechmsc.uncertainty.clusterers.embeddings import embedding
from mechmsc.uncertainty.clusterers.equality import exact
from mechmsc.uncertainty.clusterers.inference import entailment, non_contradiction
from mechmsc.uncertainty.clusterers.record import Clusterer

__all__ = ["CLUSTERERS", "Clusterer"]

CLUSTERERS: dict[str, Callable[..., Clusterer]] = {
    "embedding": embedding,
    "entailment": entailment,
    "exact": exact,
    "non_contradiction": non_contradiction,
}
"""The public list: name -> function that makes the clusterer. Two of them need an NLI model: `entailment(model)`."""
