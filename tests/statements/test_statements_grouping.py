import random

import numpy as np
import pytest
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from mechmsc.statements.grouping import joined, kin, near_duplicates, normalised, overlap


def same_partition(first, second) -> bool:
    return len(set(zip(first, second, strict=True))) == len(set(first)) == len(set(second))


def slow_families(texts, threshold):
    """Every pair compared, components by SciPy."""
    links = [[overlap(normalised(a).split(), normalised(b).split()) >= threshold for b in texts] for a in texts]
    return connected_components(coo_matrix(np.array(links)), directed=False)[1].tolist()


def random_texts(seed: int, n: int) -> list[str]:
    """Texts of few words, so that many overlaps lie near any threshold."""
    draw = random.Random(seed)
    return [" ".join(draw.choices("abcdefghijklmnopqr", k=draw.randint(1, 8))) for _ in range(n)]


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.6, 2 / 3, 0.8, 1.0])
@pytest.mark.parametrize("seed", range(3))
def test_the_fast_search_for_near_duplicates_finds_the_families_of_the_slow_one(seed, threshold):
    texts = random_texts(seed, 60)
    assert same_partition(near_duplicates(texts, threshold=threshold), slow_families(texts, threshold))


def test_a_family_is_named_by_its_first_text():
    texts = ["the sun is hot", "rain is wet", "the sun is very hot", "so the sun is very hot"]
    assert near_duplicates(texts, threshold=0.7) == [0, 1, 0, 0]
    assert near_duplicates([], threshold=0.7) == []


def test_rows_linked_over_others_are_joined_and_unlinked_ones_are_not():
    rows = [["a", "1"], ["b", "2"], ["c", "1"], ["d", "3"], ["b", "3"]]
    assert joined(rows) == ["a", "b", "a", "b", "b"]
    assert joined([["x"], ["y"]]) == ["x", "y"]


def test_texts_without_words_are_told_apart():
    assert normalised("  ?! ") == "?!" and normalised(":-)") != normalised("...")
    assert normalised("You're  LATE.") == normalised("you're late")
    assert overlap([], []) == 0.0


def test_neighbours_with_one_opening_or_shared_words_are_kin_and_distant_ones_are_not():
    texts = [
        "I used to greet Ann because she smiled.",
        "I used to greet Bob although nobody else did.",
        "Ducks swim.",
        "I used to greet Ann because she smiled.",
    ]
    assert kin(texts) == [0, 0, 2, 3]
