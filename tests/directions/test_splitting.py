"""Whole groups fall on one side, both classes reach every side, and the seed alone decides the rest."""

import numpy as np
import pytest


@pytest.fixture
def splitting():
    import mechmsc.directions.splitting

    return mechmsc.directions.splitting


def made(seed, n_groups=60):
    """Groups of unequal size and unequal class balance."""
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(n_groups), rng.integers(1, 9, size=n_groups))
    rate = rng.beta(0.5, 1.5, size=n_groups)
    return (rng.random(len(groups)) < rate[groups]).astype(int), np.array([f"template {g}" for g in groups])


@pytest.mark.parametrize("seed", range(5))
def test_no_group_is_on_two_sides_and_classes_are_balanced(splitting, seed):
    labels, groups = made(seed)
    folds = splitting.grouped_folds(labels, groups, n_folds=5, seed=seed)
    assert set(folds) == set(range(5))
    for group in np.unique(groups):
        assert len(set(folds[groups == group])) == 1
    for label in (0, 1):
        share = np.bincount(folds[labels == label], minlength=5) / (labels == label).sum()
        assert share == pytest.approx(np.full(5, 0.2), abs=0.06)


@pytest.mark.parametrize("seed", range(5))
def test_parts_have_the_shares_that_were_asked_for(splitting, seed):
    labels, groups = made(seed)
    part = splitting.split_by_group(labels, groups, seed=seed)
    for name, share in splitting.SHARES.items():
        assert (part == name).mean() == pytest.approx(share, abs=0.06)
        assert labels[part == name].mean() == pytest.approx(labels.mean(), abs=0.06)
    for group in np.unique(groups):
        assert len(set(part[groups == group])) == 1


def test_the_seed_fixes_the_split_and_another_seed_changes_it(splitting):
    labels, groups = made(0)
    one, same, other = (splitting.grouped_folds(labels, groups, seed=s) for s in (1, 1, 2))
    assert np.array_equal(one, same) and not np.array_equal(one, other)
    order = np.random.default_rng(0).permutation(len(labels))
    assert np.array_equal(splitting.grouped_folds(labels[order], groups[order], seed=1), one[order])


def test_statements_without_groups_are_stratified_exactly(splitting):
    labels = np.array([0] * 40 + [1] * 10)
    folds = splitting.grouped_folds(labels, np.arange(50), n_folds=5, seed=0)
    assert np.bincount(folds[labels == 0]).tolist() == [8] * 5
    assert np.bincount(folds[labels == 1]).tolist() == [2] * 5


def test_a_shared_pair_or_text_joins_groups_also_by_way_of_others(splitting):
    group = ["a", "a", "b", "c", "d", "e"]
    pair = [None, 1, 1, 2.0, np.nan, None]
    text = ["s", "t", "u", "v", "v", "w"]
    joined = splitting.joined_groups(group, pair, text)
    assert joined.tolist() == [0, 0, 0, 1, 1, 2]
    assert splitting.joined_groups([None, None, "x"]).tolist() == [0, 1, 2]  # missing keys tie nothing
    with pytest.raises(ValueError, match="one length, got 1, 2"):
        splitting.joined_groups(["a"], ["a", "b"])


@pytest.mark.parametrize(
    ("labels", "groups", "says"),
    [
        ([0, 1, 0, 1], ["a", "a", "b", "b"], "2 groups cannot be split into 5 parts"),
        ([1, 1, 1, 1, 1], list("abcde"), r"both labels 0 and 1, got labels \[1\]"),
        ([0, 1], ["a", "b", "c"], "one group a statement"),
        ([1, 1, 0, 0, 0, 0, 0], list("aabcdef"), "label 1 are in one group"),
    ],
)
def test_what_cannot_be_split_is_refused_with_the_reason(splitting, labels, groups, says):
    with pytest.raises(ValueError, match=says):
        splitting.grouped_folds(labels, groups, n_folds=5, seed=0)


def test_one_fold_and_a_class_that_misses_a_part_are_refused(splitting):
    with pytest.raises(ValueError, match="at least 2 folds, got 1"):
        splitting.grouped_folds([0, 1], ["a", "b"], n_folds=1, seed=0)
    with pytest.raises(ValueError, match="no statement with label 1 is left for the part"):
        splitting.split_by_group([1, 1, 0, 0, 0, 0], list("abcdef"), seed=0)
