"""Choice entropies over permuted options: by hand, against slow references and SciPy, and the laws between them."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from references import uncertainty as slow
from scipy import stats


@pytest.fixture(scope="module")
def u():
    import mechmsc

    return mechmsc.uncertainty


def distributions(seed, shape=(4, 2, 3, 3)):
    """[item, round, permutation, choice]"""
    return np.random.default_rng(seed).dirichlet(np.ones(shape[-1]), size=shape[:-1])


def shifted(row):
    """What each cyclic shift of the options gives, mapped back, for a model that only looks at the letter."""
    return np.stack([np.roll(row, shift) for shift in range(len(row))])


def test_a_model_that_always_says_c_is_sure_in_every_order_and_undecided_between_the_options(u):
    p = shifted(np.array([0.01, 0.01, 0.98]))
    within = stats.entropy([0.01, 0.01, 0.98])
    assert within == pytest.approx(0.11, abs=0.005)
    assert u.choice_entropy(p) == pytest.approx(math.log(3), abs=1e-12)
    assert u.choice_entropy_within(p) == pytest.approx(within, abs=1e-12)
    assert u.choice_entropy_order(p) == pytest.approx(math.log(3) - within, abs=1e-12)
    assert u.confidence(p) == pytest.approx(1 / 3)
    assert u.margin(p) == pytest.approx(0.0, abs=1e-12)


def test_a_model_that_knows_the_option_shows_no_order_entropy(u):
    p = np.tile([0.7, 0.2, 0.1], (3, 1))
    assert u.choice_entropy_order(p) == pytest.approx(0.0, abs=1e-12)
    assert u.choice_entropy(p) == pytest.approx(u.choice_entropy_within(p)) == pytest.approx(stats.entropy(p[0]))
    assert (u.confidence(p), u.margin(p)) == pytest.approx((0.7, 0.5))


def test_probabilities_of_exactly_zero_and_one_are_exact(u):
    p = np.array([[1.0, 0.0], [0.0, 1.0]])
    assert (u.choice_entropy(p), u.choice_entropy_within(p)) == (pytest.approx(math.log(2)), 0.0)
    sure = np.array([[0.0, 1.0, 0.0]])
    values = [f(sure) for f in (u.choice_entropy, u.choice_entropy_within, u.choice_entropy_order)]
    assert values == [0.0, 0.0, 0.0]
    assert not any(math.copysign(1, value) < 0 for value in values)
    assert (u.confidence(sure), u.margin(sure)) == (1.0, 1.0)


def test_whole_arrays_give_what_the_slow_version_gives_question_by_question(u):
    p = distributions(0)
    expected = np.array([slow.choice_entropies(rows.tolist()) for rows in p.reshape(-1, 3, 3)])
    for column, f in enumerate((u.choice_entropy, u.choice_entropy_within, u.choice_entropy_order)):
        assert f(p).shape == (4, 2)
        np.testing.assert_allclose(f(p).ravel(), expected[:, column], atol=1e-12)
    q = p.mean(axis=-2)
    np.testing.assert_allclose(u.choice_entropy(p), stats.entropy(q, axis=-1), atol=1e-12)
    np.testing.assert_allclose(u.confidence(p), q.max(-1))
    np.testing.assert_allclose(u.margin(p), q.max(-1) - np.median(q, axis=-1))


@settings(max_examples=80)
@given(weights=arrays.arrays(float, (3, 4), elements=st.floats(0, 1).filter(lambda w: w == 0 or w > 1e-9)))
def test_total_is_within_plus_order_and_all_lie_between_zero_and_log_of_the_choices(u, weights):
    weights[weights.sum(axis=1) == 0] = 1.0
    p = weights / weights.sum(axis=1, keepdims=True)
    total, within, order = u.choice_entropy(p), u.choice_entropy_within(p), u.choice_entropy_order(p)
    assert total == pytest.approx(within + order, abs=1e-12)
    assert min(total, within, order) >= 0
    assert total <= math.log(4) + 1e-12
    assert order <= math.log(3) + 1e-12  # information about which of three orders
    again = p[::-1][:, [2, 0, 3, 1]]
    assert u.choice_entropy(again) == pytest.approx(total, abs=1e-12)
    assert u.choice_entropy_order(p[:1]) == 0.0


def test_rounded_sums_pass_and_are_put_right(u):
    p = np.array([[0.5, 0.5]], dtype=np.float32) * np.float32(1.00005)
    assert u.choice_entropy(p) == pytest.approx(math.log(2), abs=1e-12)
    assert u.confidence(p) == pytest.approx(0.5, abs=1e-12)


@pytest.mark.parametrize(
    ("p", "message"),
    [
        ([[0.5, 0.6]], r"sum to 1 .* got a sum of 1\.1 at \[0\]"),
        ([[0.5, 0.5], [0.2, 0.2]], r"sum of 0\.4 at \[1\]"),
        ([[-0.7, -0.7]], r"from 0 to 1, got -0\.7 at \[0, 0\]"),
        ([[math.nan, 1.0]], "got nan"),
        ([0.5, 0.5], r"\[\.\.\., permutation, choice\], got shape \(2,\); .*probabilities\[None\]"),
        (np.zeros((0, 2)), r"got shape \(0, 2\)"),
        (np.zeros((2, 0)), r"array of shape \(2, 0\)"),
    ],
)
def test_what_are_no_distributions_are_refused(u, p, message):
    from mechmsc.errors import InputError

    for f in (u.choice_entropy, u.choice_entropy_within, u.choice_entropy_order, u.confidence, u.margin):
        with pytest.raises(InputError, match=message):
            f(p)


def test_a_margin_needs_two_choices(u):
    from mechmsc.errors import InputError

    assert u.confidence([[1.0]]) == 1.0
    with pytest.raises(InputError, match="at least 2 choices"):
        u.margin([[1.0]])
