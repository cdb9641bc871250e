import pytest
import torch
from planted_statements import cosine, planted, planted_sides
from references import slow_fits

from mechmsc.directions.fits import ccs
from mechmsc.errors import InputError


def fitted(sides, labels, seed=0):
    return ccs.fit_ccs(sides, labels, groups=range(len(labels)), pairs=[None] * len(labels), seed=seed)


def test_all_layers_and_restarts_at_once_equal_a_slow_loop_with_autograd(monkeypatch):
    monkeypatch.setattr(ccs, "STEPS", 25)
    sides, _, _ = planted_sides(n=60, d_model=10, strength=2.0)
    w, b = ccs.starting_points(2, 10, seed=3)
    expected, losses = slow_fits.ccs(sides, w, b, steps=25, rate=ccs.RATE, decay=ccs.DECAY)
    ours, _, our_losses = ccs.minimised(ccs.normalised_sides(sides)[0], w, b)
    torch.testing.assert_close(ours, expected, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(our_losses, losses, rtol=1e-4, atol=1e-6)


def test_the_gradient_is_that_of_autograd():
    sides, _, _ = planted_sides(n=30, d_model=6)
    z, _ = ccs.normalised_sides(sides)
    w, b = (start.double().requires_grad_() for start in ccs.starting_points(2, 6, seed=1))
    losses, in_w, in_b = ccs.ccs_loss(z.double(), w, b)
    by_hand = torch.autograd.grad(losses.sum(), (w, b))
    torch.testing.assert_close((in_w, in_b), by_hand)


def test_the_best_of_at_least_ten_restarts_is_kept():
    sides, labels, _ = planted_sides(n=100, d_model=12, strength=1.0)
    z, deviation = ccs.normalised_sides(sides)
    w, b = ccs.starting_points(2, 12, seed=0)
    assert w.shape[1] >= 10
    found, _, losses = ccs.minimised(z, w, b)
    best = torch.stack([found[layer, losses[layer].argmin()] for layer in range(2)]) / deviation
    assert (losses.max(1).values > losses.min(1).values).all()
    torch.testing.assert_close(cosine(fitted(sides, labels), best).abs(), torch.ones(2))


def test_what_tells_the_answers_apart_goes_with_the_means():
    sides, labels, _ = planted_sides(n=200)
    apart = sides.clone()
    apart[:, 0] += 50.0
    torch.testing.assert_close(fitted(apart, labels), fitted(sides, labels), rtol=1e-2, atol=1e-3)


def test_a_direction_that_both_answers_share_is_not_taken_for_the_concept():
    """A topic that raises both sides alike breaks p+ = 1 - p-: louder than the concept, it is left alone."""
    sides, labels, truth = planted_sides(n=600)
    topic = torch.nn.functional.normalize(torch.randn(2, 24, generator=torch.Generator().manual_seed(8)), dim=1)
    loud = 12.0 * torch.randint(0, 2, (600,), generator=torch.Generator().manual_seed(7)).float()
    vectors = fitted(sides + loud[:, None, None, None] * topic, labels)
    assert cosine(vectors, truth).min() > 0.8
    assert cosine(vectors, topic).abs().max() < 0.3


def test_the_same_seed_gives_the_same_direction_and_another_one_other_starting_points():
    assert torch.equal(ccs.starting_points(2, 5, seed=1)[0], ccs.starting_points(2, 5, seed=1)[0])
    assert not torch.equal(ccs.starting_points(2, 5, seed=1)[0], ccs.starting_points(2, 5, seed=2)[0])


def test_plain_activations_are_refused():
    activations, labels, _ = planted(n=20)
    with pytest.raises(
        InputError, match=r"needs activations \[statement, 2 sides, layer, d_model\], got \[20, 2, 24\]"
    ):
        fitted(activations, labels)
