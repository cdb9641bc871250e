"""One pass over the samples of a set: each joins the first cluster whose first member means the same, or opens one.

Kuhn et al. 2023 (arXiv:2302.09664), algorithm 1: a sample is compared with the first member of each cluster, in order.
"Means the same" need not be transitive, so the clusters may depend on the order of the samples; that order is the one
they were drawn in. Two more rules: identical texts share a cluster, blank texts have one of their own, and a judge is
asked about neither.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mechmsc.uncertainty.clusterers.record import Texts

Judge = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""(first, second) -> whether they mean the same; entries of `Entries` [pair], two of one set, none of them blank."""


@dataclass(frozen=True, eq=False)
class Entries:
    """The distinct texts of every set, one after the other, in order of appearance."""

    texts: list[str]
    """[entry], without white space around them."""
    sets: np.ndarray
    """[entry], the set of each; ascending."""
    of_sample: list[np.ndarray]
    """[set], the entry of each of its samples."""

    @classmethod
    def of(cls, responses: Texts) -> "Entries":
        """The entries of these responses."""
        texts: list[str] = []
        sets: list[int] = []
        of_sample = []
        for s, samples in enumerate(responses):
            here: dict[str, int] = {}
            for text in (sample.strip() for sample in samples):
                if text not in here:
                    here[text] = len(texts)
                    texts.append(text)
                    sets.append(s)
            of_sample.append(np.array([here[sample.strip()] for sample in samples], dtype=int))
        return cls(texts, np.array(sets, dtype=int), of_sample)


def single_pass(entries: Entries, judge: Judge) -> list[np.ndarray]:
    """Cluster all sets together, so that a judge may work in large batches.

    In wave w the first entry of each set that has no cluster yet opens cluster w and takes with it all later ones that
    mean the same: the same clusters, by the same comparisons, as sample after sample.

    Args:
        entries: the texts.
        judge: decides pairs; asked once a wave, never twice for a pair.

    Returns:
        [set], cluster ids [sample], from 0 in order of appearance.
    """
    blank = np.array([not text for text in entries.texts], dtype=bool)
    cluster = np.full(len(entries.texts), -1)
    wave = 0
    while len(left := np.flatnonzero(cluster < 0)):
        _, first, set_of = np.unique(entries.sets[left], return_index=True, return_inverse=True)
        representative = left[first][set_of]  # [left]
        cluster[left[first]] = wave
        asked = (left != representative) & ~blank[left] & ~blank[representative]
        joins = left[asked][judge(representative[asked], left[asked])]
        cluster[joins] = wave
        wave += 1
    return [cluster[samples] for samples in entries.of_sample]
