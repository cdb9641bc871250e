"""What a split must keep together: equal texts, near-duplicates, neighbours written from one template."""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

_WORD = re.compile(r"\w+")


def words(text: str) -> list[str]:
    """The words of a text without capitals and punctuation."""
    return _WORD.findall(text.casefold())


def normalised(text: str) -> str:
    """A text without capitals, punctuation and extra spaces; equal for texts that differ in nothing else."""
    return " ".join(words(text)) or text.strip()


def overlap(first: Iterable[str], second: Iterable[str]) -> float:
    """Jaccard overlap of two sets of words, |A and B| / |A or B|, in [0, 1]; 0 where both are empty."""
    a, b = set(first), set(second)
    return len(a & b) / len(a | b) if a or b else 0.0


def joined(keys: Sequence[Sequence[str]]) -> list[str]:
    """One name for all rows that are linked by shared keys, directly or over other rows.

    Args:
        keys: the keys of each row, at least one.

    Returns:
        For each row the first key of the first row it is linked with.
    """
    parent: dict[str, str] = {}

    def root(key: str) -> str:
        parent.setdefault(key, key)
        while parent[key] != key:
            parent[key] = parent[parent[key]]
            key = parent[key]
        return key

    for own in keys:
        for key in own[1:]:
            parent[root(key)] = root(own[0])
    names: dict[str, str] = {}
    return [names.setdefault(root(own[0]), own[0]) for own in keys]


def near_duplicates(texts: Sequence[str], *, threshold: float = 0.6) -> list[int]:
    """Families of near-duplicates: texts whose words overlap by at least the threshold, directly or over others.

    Only pairs that share one of their rarest words are compared (prefix filter: Chaudhuri et al. 2006), which misses
    none: with a Jaccard overlap of t or more, at most floor((1 - t) |A|) words of A are missing from B.

    Args:
        texts: texts in any number.
        threshold: Jaccard overlap of the sets of words, in (0, 1].

    Returns:
        For each text the index of the first text of its family.
    """
    bags = [set(words(text)) for text in texts]
    count = Counter(word for bag in bags for word in bag)
    seen: dict[str, list[int]] = defaultdict(list)
    links: list[list[str]] = [[str(number)] for number in range(len(texts))]
    for number, bag in enumerate(bags):
        rarest = sorted(bag, key=lambda word: (count[word], word))
        prefix = rarest[: len(bag) - math.ceil(threshold * len(bag) - 1e-9) + 1]
        for other in sorted({other for word in prefix for other in seen[word]}):
            if overlap(bag, bags[other]) >= threshold:
                links[number].append(str(other))
        for word in prefix:
            seen[word].append(number)
    return [int(name) for name in joined(links)]


def kin(texts: Sequence[str], *, opening: int = 4, threshold: float = 0.3) -> list[int]:
    """Runs of neighbours that look written from one template: the same opening words, or words that overlap.

    Args:
        texts: texts in file order.
        opening: number of first words that make kin when shared with the text before.
        threshold: Jaccard overlap with the text before that makes kin, in (0, 1].

    Returns:
        For each text the index of the first text of its run.
    """
    runs: list[int] = []
    before: list[str] = []
    for number, text in enumerate(texts):
        now = words(text)
        same = len(now) >= opening and now[:opening] == before[:opening]
        runs.append(runs[-1] if runs and (same or overlap(now, before) >= threshold) else number)
        before = now
    return runs
