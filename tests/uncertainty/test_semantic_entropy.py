"""Semantic entropies: worked by hand, against slow references and SciPy, and the laws that any of them keeps."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from references import uncertainty as slow
from scipy import stats

FIVE = [-1.0] * 5
ONE, TWO, ALL = [3, 3, 3, 3, 3], [7, 7, 7, 2, 2], [4, 0, 9, 1, 2]
"""Five samples in one, two and five clusters."""


@pytest.fixture(scope="module")
def u():
    import mechmsc

    return mechmsc.uncertainty


def sets(max_samples=8):
    """Log-likelihoods and cluster ids of one set."""
    sample = st.tuples(st.floats(-30, 0), st.integers(0, 4))
    return st.lists(sample, min_size=2, max_size=max_samples).map(
        lambda rows: tuple(map(list, zip(*rows, strict=True)))
    )


def many(seed, shape=(3, 2, 4, 6)):
    rng = np.random.default_rng(seed)
    return -rng.gamma(2.0, size=shape), rng.integers(-2, 3, size=shape)


def test_five_samples_in_one_two_and_five_clusters(u):
    two = -(0.6 * math.log(0.6) + 0.4 * math.log(0.4))
    for ids, entropy, clusters in ((ONE, 0.0, 1), (TWO, two, 2), (ALL, math.log(5), 5)):
        assert u.semantic_entropy(FIVE, ids) == pytest.approx(entropy, abs=1e-12)
        assert u.discrete_semantic_entropy(ids) == pytest.approx(entropy, abs=1e-12)
        assert u.miller_madow_semantic_entropy(ids) == pytest.approx(entropy + (clusters - 1) / 10, abs=1e-12)
        assert u.number_of_clusters(ids) == clusters


def test_unequal_likelihoods_weigh_the_clusters(u):
    # 0.5 + 0.25 against 0.125 + 0.125: p = 0.75, 0.25
    a = np.log([0.5, 0.25, 0.125, 0.125])
    assert u.semantic_entropy(a, [0, 0, 1, 1]) == pytest.approx(0.75 * math.log(4 / 3) + 0.25 * math.log(4), abs=1e-12)


def test_as_released_by_kuhn_is_minus_the_mean_shifted_log_mass(u):
    assert u.semantic_entropy_as_released(FIVE, ONE) == pytest.approx(5 + 1 - math.log(5), abs=1e-12)
    two = 5 + 1 - (math.log(3) + math.log(2)) / 2
    assert u.semantic_entropy_as_released(FIVE, TWO) == pytest.approx(two, abs=1e-12)
    assert u.semantic_entropy_as_released(FIVE, ALL) == pytest.approx(6.0, abs=1e-12)


def test_as_released_by_the_paper_is_one_for_any_clusters_of_equal_likelihood_so_it_does_not_measure_meaning(u):
    assert [u.cluster_nll_as_released(FIVE, ids) for ids in (ONE, TWO, ALL)] == pytest.approx([1.0] * 3, abs=1e-12)
    assert u.cluster_nll_as_released([-1.0, -1.0, -4.0], [0, 0, 1]) == pytest.approx(2.5, abs=1e-12)
    assert u.semantic_entropy(FIVE, ONE) < u.semantic_entropy(FIVE, TWO) < u.semantic_entropy(FIVE, ALL)


def test_whole_arrays_give_what_the_slow_versions_give_set_by_set(u, monkeypatch):
    a, ids = many(0)
    pairs = (
        (u.semantic_entropy, slow.semantic_entropy),
        (u.semantic_entropy_as_released, slow.kuhn_released),
        (u.cluster_nll_as_released, slow.cluster_nll),
    )
    for ours, theirs in pairs:
        expected = [theirs(x, i) for x, i in zip(a.reshape(-1, 6), ids.reshape(-1, 6), strict=True)]
        whole = ours(a, ids)
        assert whole.shape == (3, 2, 4)
        np.testing.assert_allclose(whole.ravel(), expected, atol=1e-12)
        from mechmsc.uncertainty import semantic

        with monkeypatch.context() as small:
            small.setattr(semantic, "_PAIRS_AT_ONCE", 100)
            np.testing.assert_array_equal(ours(a, ids), whole)
    for ours, theirs in (
        (u.discrete_semantic_entropy, slow.discrete_semantic_entropy),
        (u.miller_madow_semantic_entropy, slow.miller_madow),
    ):
        np.testing.assert_allclose(ours(ids).ravel(), [theirs(i.tolist()) for i in ids.reshape(-1, 6)], atol=1e-12)


def test_discrete_entropy_is_scipys_entropy_of_the_counts(u):
    _, ids = many(1, (50, 10))
    expected = [stats.entropy(np.unique(row, return_counts=True)[1]) for row in ids]
    np.testing.assert_allclose(u.discrete_semantic_entropy(ids), expected, atol=1e-12)


def test_miller_madow_is_nearer_the_truth_than_the_plain_estimate(u):
    p = np.array([0.5, 0.3, 0.2])
    draws = np.random.default_rng(2).choice(3, p=p, size=(20_000, 10))
    truth = stats.entropy(p)
    plain, corrected = u.discrete_semantic_entropy(draws).mean(), u.miller_madow_semantic_entropy(draws).mean()
    assert plain < truth - 0.08  # the bias is about 2 / (2 * 10)
    assert abs(corrected - truth) < 0.02


def test_repeated_sequences_count_once_when_asked(u):
    a, ids = many(3, (40, 6))
    sequences = np.random.default_rng(4).integers(0, 3, size=ids.shape)
    expected = [
        slow.semantic_entropy_without_repeats(*map(np.ndarray.tolist, row))
        for row in zip(a, ids, sequences, strict=True)
    ]
    np.testing.assert_allclose(u.semantic_entropy(a, ids, unique=sequences), expected, atol=1e-12)
    assert u.semantic_entropy([-1.0, -1.0, -1.0], [0, 0, 1]) == pytest.approx(stats.entropy([2, 1]))
    tokens = [[5, 2], [5, 2], [8, 2]]
    assert u.semantic_entropy([-1.0] * 3, [0, 0, 1], unique=u.sequence_ids(tokens)) == pytest.approx(math.log(2))


def test_sequences_are_numbered_by_first_appearance(u):
    assert u.sequence_ids([[1, 2], [3], [1, 2], [1], [3]]).tolist() == [0, 1, 0, 2, 1]
    assert u.sequence_ids(["a", "b", "a"]).tolist() == [0, 1, 0]


def test_likelihoods_that_underflow_are_still_weighed(u):
    assert u.semantic_entropy([-2000.0, -2000.0, -2000.0], [0, 1, 1]) == pytest.approx(stats.entropy([1, 2]))
    assert u.semantic_entropy([-1.0, -1.0, -5000.0], [0, 0, 1]) == 0.0
    released = u.semantic_entropy_as_released([-1.0, -3000.0], [0, 1])
    assert released == pytest.approx(5 + (1 + 3000) / 2)


@settings(max_examples=80)
@given(data=sets(), seed=st.integers(0, 100))
def test_entropies_lie_between_zero_and_log_m_and_ignore_order_and_names_of_clusters(u, data, seed):
    a, ids = map(np.array, data)
    order = np.random.default_rng(seed).permutation(len(a))
    names = np.random.default_rng(seed).permutation(5) * 10 - 7
    for f in (u.semantic_entropy, lambda _, i: u.discrete_semantic_entropy(i)):
        value = f(a, ids)
        assert 0 <= value <= math.log(len(a)) + 1e-12
        assert f(a[order], names[ids][order]) == pytest.approx(value, abs=1e-9)
    for f in (u.semantic_entropy_as_released, u.cluster_nll_as_released):
        assert f(a[order], names[ids][order]) == pytest.approx(f(a, ids), abs=1e-9)


@settings(max_examples=60)
@given(data=sets())
def test_a_set_has_the_same_entropy_alone_and_in_a_batch(u, data):
    a, ids = map(np.array, data)
    batch = u.semantic_entropy(np.stack([a[::-1], a, a - 1]), np.stack([ids, ids, ids[::-1]]))
    assert batch[1] == u.semantic_entropy(a, ids)


@settings(max_examples=60)
@given(data=sets(), merged=st.tuples(st.integers(0, 4), st.integers(0, 4)))
def test_merging_two_clusters_never_raises_the_entropy(u, data, merged):
    a, ids = map(np.array, data)
    fewer = np.where(ids == merged[0], merged[1], ids)
    assert u.discrete_semantic_entropy(fewer) <= u.discrete_semantic_entropy(ids) + 1e-12
    assert u.semantic_entropy(a, fewer) <= u.semantic_entropy(a, ids) + 1e-12


def test_merging_can_raise_what_was_released_so_that_test_can_fail(u):
    a = [-1.0, -6.0, -1.0, -1.0]
    assert u.cluster_nll_as_released(a, [0, 1, 0, 0]) > u.cluster_nll_as_released(a, [0, 1, 2, 2])


@pytest.mark.parametrize(
    ("likelihoods", "ids", "message"),
    [
        ([-1.0, 0.2], [0, 1], r"at most 0, got 0\.2 at \[1\]"),
        ([-1.0, math.nan], [0, 1], r"finite values .* got nan at \[1\]"),
        ([-1.0, -math.inf], [0, 1], "got -inf"),
        ([-1.0], [0], "at least 2 samples, got 1 .*--samples"),
        ([], [], "at least 2 samples, got 0"),
        (np.float64(-1.0), np.int64(0), "at least 2 samples, got 0"),
        ([-1.0, -1.0], [0, 1, 2], r"one shape.*\(2,\) and \(3,\)"),
        ([-1.0, -1.0], [0.5, 1.0], "integers, one a sample; got values of type float64"),
    ],
)
def test_what_cannot_be_measured_is_refused(u, likelihoods, ids, message):
    from mechmsc.errors import InputError

    for f in (u.semantic_entropy, u.semantic_entropy_as_released, u.cluster_nll_as_released):
        with pytest.raises(InputError, match=message):
            f(likelihoods, ids)


def test_one_sample_or_none_is_refused_by_the_discrete_entropies_too(u):
    from mechmsc.errors import InputError

    for f in (u.discrete_semantic_entropy, u.miller_madow_semantic_entropy, u.number_of_clusters):
        for ids in ([1], [], np.zeros((3, 1), int)):
            with pytest.raises(InputError, match="at least 2 samples"):
                f(ids)


def test_unique_needs_the_sequences_and_says_so(u):
    from mechmsc.errors import InputError

    with pytest.raises(InputError, match="sequence_ids; got a bool"):
        u.semantic_entropy([-1.0, -1.0], [0, 1], unique=np.True_)
    with pytest.raises(InputError, match="one shape"):
        u.semantic_entropy([-1.0, -1.0], [0, 1], unique=[0, 1, 2])


def test_a_probability_rounded_just_above_one_passes_and_one_well_above_does_not(u):
    from mechmsc.errors import InputError

    assert u.semantic_entropy([1e-8, -1.0], [0, 0]) == 0.0
    with pytest.raises(InputError, match="at most 0"):
        u.semantic_entropy([1e-4, -1.0], [0, 0])
