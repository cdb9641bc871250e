"""What can be measured of a run without the model: name -> what it needs, its unit, the function."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

from mechmsc import uncertainty as u
from mechmsc.errors import InputError, nearest

Needs = Literal["choice", "first_token", "samples", "clusters"]


class Measure(NamedTuple):
    """One measure of a conversation round."""

    needs: Needs
    """What it is computed from: probabilities of the options, the entropy stored with each round, the samples of a
    round, or the samples and which of them mean the same."""
    unit: str
    compute: Callable[..., Any]
    """choice: probabilities [row, permutation, choice] -> [row]; first_token: the stored values [row] -> [row];
    samples: a `SampleSets` -> [set]; clusters: a `SampleSets` and cluster ids [set, sample] -> [set]."""
    about: str
    """For the list of measures and axis labels."""
    is_cross_entropy: bool = False
    """Whether samples of a temperature or top-p other than 1 make it a cross-entropy."""
    sign: int = 1
    """1: higher is less sure, -1: higher is surer, 0: neither; rank calibration takes sign * value."""


class SampleSets(NamedTuple):
    """Sample sets of equal size; arrays [set, sample]."""

    log_likelihoods: Any
    """Summed over tokens, nats."""
    lengths: Any
    """Tokens, the end of turn included."""
    texts: list[list[str]]
    """[set][sample]."""
    sequences: Any
    """Integers: equal within a set where the token ids are equal."""

    @property
    def per_token(self) -> Any:
        """a_m = l_m / n_m."""
        return u.per_token(self.log_likelihoods, self.lengths)


MEASURES: dict[str, Measure] = {
    "choice_entropy": Measure("choice", "nats", u.choice_entropy, "entropy of the choice, mean over option orders"),
    "choice_entropy_within": Measure(
        "choice", "nats", u.choice_entropy_within, "entropy of the choice within an option order"
    ),
    "choice_entropy_order": Measure(
        "choice", "nats", u.choice_entropy_order, "entropy of the choice due to the order of the options", sign=0
    ),
    "confidence": Measure("choice", "probability", u.confidence, "probability of the chosen option", sign=-1),
    "margin": Measure("choice", "probability", u.margin, "probability of the chosen option above the next", sign=-1),
    "first_token_entropy": Measure(
        "first_token", "nats", lambda values: values, "entropy of the first token of the response"
    ),
    "predictive_entropy": Measure(
        "samples", "nats", lambda s: u.predictive_entropy(s.log_likelihoods), "entropy of the response", True
    ),
    "length_normalised_entropy": Measure(
        "samples",
        "nats per token",
        lambda s: u.length_normalised_entropy(s.log_likelihoods, s.lengths),
        "entropy of the response per token",
        True,
    ),
    "lexical_similarity": Measure(
        "samples",
        "mean ROUGE-L",
        lambda s: u.lexical_similarities(s.texts),
        "likeness of the samples' wording",
        sign=-1,
    ),
    "semantic_entropy": Measure(
        "clusters", "nats", lambda s, ids: u.semantic_entropy(s.per_token, ids), "entropy over meanings"
    ),
    "semantic_entropy_unique": Measure(
        "clusters",
        "nats",
        lambda s, ids: u.semantic_entropy(s.per_token, ids, unique=s.sequences),
        "entropy over meanings, equal samples counted once",
    ),
    "discrete_semantic_entropy": Measure(
        "clusters", "nats", lambda _, ids: u.discrete_semantic_entropy(ids), "entropy over meanings, counts alone"
    ),
    "miller_madow_semantic_entropy": Measure(
        "clusters",
        "nats",
        lambda _, ids: u.miller_madow_semantic_entropy(ids),
        "entropy over meanings, counts alone, bias-corrected",
    ),
    "number_of_clusters": Measure(
        "clusters", "meanings", lambda _, ids: u.number_of_clusters(ids), "number of meanings among the samples"
    ),
    "semantic_entropy_as_released": Measure(
        "clusters",
        "as released",
        lambda s, ids: u.semantic_entropy_as_released(s.per_token, ids),
        "as in the code of Kuhn et al.",
    ),
    "cluster_nll_as_released": Measure(
        "clusters",
        "nats per token",
        lambda s, ids: u.cluster_nll_as_released(s.per_token, ids),
        "as in the code of Liu et al.",
    ),
}
"""The public list, by name. `semantic_entropy` and its relatives take the clusterer that the caller names."""

SOURCES = {"choice": "options", "first_token": "model", "samples": "samples"}
"""What stands in the column `source` of measures that need no clusterer; else it is the clusterer's name."""


def find_measures(names: "str | list[str] | tuple[str, ...]") -> dict[str, Measure]:
    """Measures by name, from a list or a text with commas.

    Raises:
        InputError: an unknown name, with the nearest ones.
    """
    names = [name.strip() for name in names.split(",")] if isinstance(names, str) else list(names)
    for name in names:
        if name not in MEASURES:
            raise InputError(f"unknown measure {name!r}: {nearest(name, MEASURES)}")
    return {name: MEASURES[name] for name in dict.fromkeys(names)}
