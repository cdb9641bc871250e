"""How unsure a model is: choice, semantic and sequence entropies. Arrays in, nats out; no model is needed.

choice      between the options of a question, from probabilities [..., permutation, choice]
sequence    of whole responses, their wording, the first token
semantic    over meanings, from log-likelihoods and cluster ids [..., sample]
clusterers  texts -> cluster ids: which responses mean the same
"""

from mechmsc.uncertainty.choice import (
    choice_entropy,
    choice_entropy_order,
    choice_entropy_within,
    confidence,
    margin,
)
from mechmsc.uncertainty.clusterers import CLUSTERERS, Clusterer
from mechmsc.uncertainty.semantic import (
    cluster_nll_as_released,
    discrete_semantic_entropy,
    miller_madow_semantic_entropy,
    number_of_clusters,
    semantic_entropy,
    semantic_entropy_as_released,
    sequence_ids,
)
from mechmsc.uncertainty.sequence import (
    first_token_entropy,
    length_normalised_entropy,
    lexical_similarities,
    lexical_similarity,
    per_token,
    predictive_entropy,
    rank_correlation,
)

__all__ = [
    "CLUSTERERS",
    "Clusterer",
    "choice_entropy",
    "choice_entropy_order",
    "choice_entropy_within",
    "cluster_nll_as_released",
    "confidence",
    "discrete_semantic_entropy",
    "first_token_entropy",
    "length_normalised_entropy",
    "lexical_similarities",
    "lexical_similarity",
    "margin",
    "miller_madow_semantic_entropy",
    "number_of_clusters",
    "per_token",
    "predictive_entropy",
    "rank_correlation",
    "semantic_entropy",
    "semantic_entropy_as_released",
    "sequence_ids",
]
