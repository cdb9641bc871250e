"""Sequence entropies, lexical similarity and the first token: by hand, by autograd, and against the libraries."""

import math
import warnings

import numpy as np
import pytest
import torch
from references import uncertainty as slow
from scipy import stats

TEXTS = ["Be kind to others.", "Be kind to all others!", "I do not know.", "", "Be kind to others."]


@pytest.fixture(scope="module")
def u():
    import mechmsc

    return mechmsc.uncertainty


def test_predictive_entropy_is_minus_the_mean_and_that_per_token_divides_by_each_length(u):
    l, n = np.array([[-2.0, -8.0], [-3.0, -3.0]]), np.array([[1, 4], [3, 1]])  # noqa: E741 - as in the formula
    np.testing.assert_allclose(u.predictive_entropy(l), [5.0, 3.0])
    np.testing.assert_allclose(u.length_normalised_entropy(l, n), [2.0, 2.0])
    np.testing.assert_allclose(u.per_token(l, n), [[-2.0, -2.0], [-1.0, -3.0]])
    assert u.predictive_entropy([-1.0, -3.0]) == 2.0


def test_predictive_entropy_finds_the_entropy_of_the_distribution_that_was_sampled(u):
    p = np.array([0.6, 0.3, 0.1])
    draws = np.random.default_rng(0).choice(3, p=p, size=(200, 500))
    values = u.predictive_entropy(np.log(p)[draws])
    assert values.mean() == pytest.approx(stats.entropy(p), abs=0.01)


@pytest.mark.parametrize(
    ("likelihoods", "lengths", "message"),
    [
        ([-1.0, 0.5], [1, 1], r"at most 0, got 0\.5"),
        ([-1.0], [1], "at least 2 samples, got 1"),
        ([-1.0, math.nan], [1, 1], "got nan"),
        ([-1.0, -1.0], [1, 0], "at least 1, got 0"),
        ([-1.0, -1.0], [1, math.nan], "at least 1, got nan"),
        ([-1.0, -1.0], [1], "one shape"),
    ],
)
def test_what_are_no_likelihoods_or_lengths_are_refused(u, likelihoods, lengths, message):
    from mechmsc.errors import InputError

    with pytest.raises(InputError, match=message):
        u.length_normalised_entropy(likelihoods, lengths)


def test_lexical_similarity_is_the_mean_over_all_pairs_by_the_library(u):
    assert u.lexical_similarity(TEXTS) == pytest.approx(slow.mean_rouge_l(TEXTS), abs=1e-12)
    assert u.lexical_similarity(["one two three four", "one three"]) == pytest.approx(2 / 3)
    assert u.lexical_similarity(["a b", "c d"]) == 0.0
    assert u.lexical_similarity(["", ""]) == u.lexical_similarity(["same", "same"]) == 1.0


def test_many_sets_are_measured_as_each_alone_and_a_pair_is_compared_once(u, monkeypatch):
    from rouge_score import rouge_scorer

    sets = [TEXTS, TEXTS[::-1], ["Be kind to others.", "I do not know."]]
    alone = [u.lexical_similarity(texts) for texts in sets]
    compared, done = [], []
    score = rouge_scorer.RougeScorer.score
    monkeypatch.setattr(
        rouge_scorer.RougeScorer, "score", lambda self, a, b: compared.append((a, b)) or score(self, a, b)
    )
    together = u.lexical_similarities(sets, progress=lambda now, total: done.append((now, total)))
    np.testing.assert_array_equal(together, alone)
    assert together[0] == pytest.approx(together[1], abs=1e-12)
    assert len(compared) == len({tuple(sorted(pair)) for pair in compared}) == 6  # 4 distinct texts
    assert done == [(1, 3), (2, 3), (3, 3)]


def test_one_text_is_refused(u):
    from mechmsc.errors import InputError

    with pytest.raises(InputError, match="at least 2 samples, got 1"):
        u.lexical_similarities([["a", "b"], ["a"]])


def test_first_token_entropy_is_scipys_for_arrays_and_tensors_of_any_dtype(u):
    logits = np.random.default_rng(1).normal(0, 4, size=(3, 2, 50))
    logits[0, 0, 5:] = -np.inf
    expected = stats.entropy(np.exp(logits - logits.max(-1, keepdims=True)), axis=-1)
    np.testing.assert_allclose(u.first_token_entropy(logits), expected, atol=1e-12)
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 1e-5)):
        ours = u.first_token_entropy(torch.as_tensor(logits, dtype=dtype))
        assert ours.dtype == dtype
        np.testing.assert_allclose(ours, expected, atol=tolerance)
    half = torch.as_tensor(logits, dtype=torch.bfloat16)
    assert u.first_token_entropy(half).dtype == torch.float32
    torch.testing.assert_close(u.first_token_entropy(half), u.first_token_entropy(half.float()))
    assert u.first_token_entropy([1e4, 1e4, -np.inf]) == pytest.approx(math.log(2))


def test_gradients_of_first_token_entropy_are_those_of_the_formula_also_beside_impossible_tokens(u):
    logits = torch.tensor([0.3, -1.2, 2.0, -float("inf")], dtype=torch.float64, requires_grad=True)
    entropy = u.first_token_entropy(logits)
    entropy.backward()
    p = logits.detach().softmax(-1)[:3]
    torch.testing.assert_close(logits.grad[:3], -p * (p.log() + entropy.detach()))
    assert logits.grad[3] == 0
    assert torch.autograd.gradcheck(
        u.first_token_entropy,
        torch.randn(2, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_(),
    )


@pytest.mark.parametrize("bad", [math.nan, math.inf, None])
def test_logits_without_a_distribution_are_refused(u, bad):
    from mechmsc.errors import InputError

    row = [-math.inf, -math.inf] if bad is None else [bad, 0.0]
    for make in (np.array, torch.tensor):
        with pytest.raises(InputError, match="logits are finite"):
            u.first_token_entropy(make([[0.0, 1.0], row]))


def test_rank_correlation_is_scipys_spearman_with_an_interval_over_items(u):
    from mechmsc.estimate import cluster_bootstrap

    rng = np.random.default_rng(2)
    items = np.repeat(np.arange(60), 3)
    shared = rng.normal(size=60)[items]
    a, b = np.round(shared + rng.normal(size=180), 1), np.round(shared + rng.normal(size=180), 1)  # with ties
    a[7] = np.nan
    ours = u.rank_correlation(a, b, clusters=items, n_boot=300, seed=1)
    kept = ~np.isnan(a)
    assert ours.value == pytest.approx(stats.spearmanr(a[kept], b[kept]).statistic, abs=1e-12)
    assert ours.n == 60
    assert ours.low < 0.5 < ours.high  # Pearson's correlation is 0.5 by construction, Spearman's 0.48
    rows = u.rank_correlation(a, b, n_boot=300, seed=1)
    assert rows.high - rows.low < ours.high - ours.low  # rows of an item are no independent evidence
    by_scipy = cluster_bootstrap(
        np.column_stack([a, b]), items, statistic=lambda x: stats.spearmanr(x).statistic, n_boot=300, seed=1
    )
    assert (ours.low, ours.high) == pytest.approx((by_scipy.low, by_scipy.high), abs=1e-12)


def test_any_increasing_relation_correlates_fully_an_unrelated_one_not_and_a_constant_is_unknown(u):
    x = np.random.default_rng(3).gamma(2.0, size=80)
    assert u.rank_correlation(x, np.exp(x), n_boot=50, seed=0).low == pytest.approx(1.0)
    none = u.rank_correlation(x, np.random.default_rng(4).normal(size=80), n_boot=300, seed=0)
    assert none.low < 0 < none.high
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert math.isnan(u.rank_correlation(x, np.ones(80), n_boot=20, seed=0).value)


def test_columns_of_different_length_are_refused(u):
    from mechmsc.errors import InputError

    with pytest.raises(InputError, match=r"shapes \(2,\) and \(3,\)"):
        u.rank_correlation([1.0, 2.0], [1.0, 2.0, 3.0])
    with pytest.raises(InputError, match="one cluster a row"):
        u.rank_correlation([1.0, 2.0], [1.0, 2.0], clusters=[1])
