"""Outcomes against SciPy and plain loops."""

import numpy as np
import pytest
import scipy.stats
import torch

from mechmsc.errors import InputError
from mechmsc.outcomes import OUTCOMES, named_outcome, one_number_an_item, option_log_odds, option_probabilities

LABELS = [[3, 9], [4, 9], [5]]
ORDERS = [(0, 1, 2), (1, 2, 0), (2, 0, 1)]


@pytest.fixture
def logits():
    return 3 * torch.randn(4, 3, 20, generator=torch.Generator().manual_seed(0))


def slow_q(logits, orders=ORDERS) -> np.ndarray:
    """`[item, order, choice]` by loops."""
    out = np.zeros((len(logits), len(orders), 3))
    for item in range(len(logits)):
        for o, order in enumerate(orders):
            p = np.exp([float(logits[item, o, label[0]]) for label in LABELS])
            for letter, option in enumerate(order):
                out[item, o, option] = p[letter] / p.sum()
    return out


def test_choice_entropies_are_those_of_probabilities_that_are_mapped_back_to_options(logits):
    q = slow_q(logits)
    total = named_outcome("choice_entropy", labels=LABELS, orders=ORDERS)(logits)
    within = named_outcome("choice_entropy_within", labels=LABELS, orders=ORDERS)(logits)
    assert total.numpy() == pytest.approx(scipy.stats.entropy(q.mean(1), axis=1), abs=1e-5)
    assert within.numpy() == pytest.approx(scipy.stats.entropy(q, axis=2).mean(1), abs=1e-5)
    assert (total > within).all()
    unmapped = named_outcome("choice_entropy", labels=LABELS, orders=[(0, 1, 2)] * 3)(logits)
    assert not torch.allclose(total, unmapped, atol=1e-2)


@pytest.mark.parametrize("name", ["choice_entropy", "choice_entropy_within"])
def test_in_one_order_both_entropies_are_that_of_the_choice(logits, name):
    expected = scipy.stats.entropy(slow_q(logits[:, :1], [(0, 1, 2)])[:, 0], axis=1)
    for given in (logits[:, 0], logits[:, :1]):
        assert named_outcome(name, labels=LABELS)(given).numpy() == pytest.approx(expected, abs=1e-5)


def test_log_odds_are_those_of_the_mean_over_orders_and_exact_where_a_probability_rounds_to_one(logits):
    mean = slow_q(logits).mean(1)
    for option in (0, 2, [0, 1, 2, 1]):
        chosen = np.array([option] * 4 if isinstance(option, int) else option)
        p = mean[np.arange(4), chosen]
        found = named_outcome("log_odds", labels=LABELS, orders=ORDERS, option=option)(logits)
        assert found.numpy() == pytest.approx(np.log(p / (1 - p)), abs=1e-4)
    extreme = torch.tensor([[[0.0, -40.0, -50.0]]])
    assert float(option_log_odds(extreme, option=0)) == pytest.approx(40.0 - np.log1p(np.exp(-10)), abs=1e-4)


def test_first_token_entropy_and_kl_are_scipys(logits):
    p, other = logits.softmax(-1).double().numpy(), torch.roll(logits, 1, 0)
    found = OUTCOMES["first_token_entropy"](logits)
    assert found.numpy() == pytest.approx(scipy.stats.entropy(p, axis=2).mean(1), abs=1e-4)
    clean = other.softmax(-1).double().numpy()
    found = named_outcome("kl", clean=other)(logits)
    assert found.numpy() == pytest.approx(scipy.stats.entropy(clean, p, axis=2).mean(1), abs=1e-4)
    assert named_outcome("kl", clean=logits)(logits).abs().max() < 1e-6


@pytest.mark.parametrize("name", OUTCOMES)
def test_gradients_are_those_of_finite_differences(logits, name):
    bound = named_outcome(name, labels=LABELS, orders=ORDERS, option=1, clean=torch.roll(logits, 1, 0))
    x = logits.clone().requires_grad_()
    bound(x).sum().backward()
    direction = torch.randn(logits.shape, generator=torch.Generator().manual_seed(1))
    step = 1e-2
    slope = (bound(logits + step * direction) - bound(logits - step * direction)).sum() / (2 * step)
    assert float((x.grad * direction).sum()) == pytest.approx(float(slope), rel=2e-2, abs=1e-3)


def test_probabilities_sum_to_one_and_half_precision_is_computed_in_float32(logits):
    q = option_probabilities(logits[..., :3], ORDERS)
    assert torch.allclose(q.sum(-1), torch.ones(4, 3))
    rounded = logits.to(torch.bfloat16)
    for name in OUTCOMES:
        bound = named_outcome(name, labels=LABELS, orders=ORDERS, option=1, clean=logits)
        assert bound(rounded).dtype == torch.float32
        assert torch.equal(bound(rounded), bound(rounded.float()))


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda _: named_outcome("choice_entrpy"), "unknown outcome 'choice_entrpy': did you mean choice_entropy"),
        (lambda _: named_outcome("choice_entropy"), "needs labels, got none"),
        (lambda _: named_outcome("log_odds", labels=LABELS), "needs option, got none"),
        (lambda _: named_outcome("kl"), "needs clean, got none"),
        (lambda x: named_outcome("choice_entropy", labels=[[3, 1], [3, 2]])(x), "first tokens that differ"),
        (lambda x: named_outcome("choice_entropy", labels=LABELS)(x), "expected 3 permutations of 0..2"),
        (lambda x: named_outcome("log_odds", labels=LABELS, orders=ORDERS, option=3)(x), "an option from 0 to 2"),
        (lambda x: named_outcome("log_odds", labels=LABELS, orders=ORDERS, option=[0])(x), "each of 4 items"),
        (lambda x: one_number_an_item(x, 4, "mine"), r"outcome 'mine': expected one number an item, shape \(4,\)"),
        (lambda _: one_number_an_item(3.0, 4, "mine"), "got float"),
    ],
)
def test_what_is_missing_or_no_outcome_is_refused_in_one_line(logits, call, error):
    with pytest.raises(InputError, match=error) as raised:
        call(logits)
    assert "\n" not in str(raised.value)
