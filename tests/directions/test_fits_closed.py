"""The fits with a closed form: mass_mean, lda, caa, pair_svd."""

import numpy as np
import pytest
import torch
from planted_statements import cosine, pair_names, planted
from references import slow_fits

from mechmsc.directions.fits import fit_caa, fit_lda, fit_mass_mean, fit_pair_svd
from mechmsc.errors import InputError


def given(n, pairs=None):
    return {"groups": range(n), "pairs": pair_names(n) if pairs is None else pairs, "seed": 0}


def test_mass_mean_is_the_difference_of_means():
    activations, labels, _ = planted(n=101)
    expected = activations[labels == 1].double().mean(0) - activations[labels == 0].double().mean(0)
    torch.testing.assert_close(fit_mass_mean(activations, labels, **given(101)), expected.float(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("n", "d_model"), [(300, 40), (40, 120)])
def test_lda_equals_scikit_learns_shrunk_discriminant(n, d_model):
    generator = torch.Generator().manual_seed(1)
    activations, labels, _ = planted(n=n, d_model=d_model, mixing=torch.randn(d_model, d_model, generator=generator))
    activations[:, :, 0] *= 300
    activations[:, :, 1] = 2.0
    labels[: n // 4] = 0
    expected = slow_fits.lda(activations, labels)
    ours = fit_lda(activations, labels, **given(n)).numpy()
    for layer in range(2):  # in units of the features, so that the massive one counts too
        scale = activations[:, layer].std(0).numpy()
        np.testing.assert_allclose(ours[layer] * scale, expected[layer] * scale, rtol=1e-3, atol=1e-4)


def test_lda_finds_the_discriminant_and_mass_mean_the_difference_where_noise_is_correlated():
    generator = torch.Generator().manual_seed(2)
    mixing = torch.randn(8, 8, generator=generator)
    activations, labels, truth = planted(n=20_000, d_model=8, layers=1, mixing=mixing)
    discriminant = torch.linalg.solve(mixing.T @ mixing, truth[0])
    lda, mean = (fit(activations, labels, **given(20_000))[0] for fit in (fit_lda, fit_mass_mean))
    assert cosine(lda, discriminant) > 0.95
    assert cosine(mean, truth[0]) > 0.95
    assert cosine(lda, truth[0]) < 0.9


def test_lda_refuses_a_class_of_one_statement():
    activations, labels, _ = planted(n=10)
    labels[:] = 0
    labels[3] = 1
    with pytest.raises(InputError, match="lda needs two statements of each class, got 9 and 1"):
        fit_lda(activations, labels, **given(10))


def test_caa_on_complete_plain_pairs_is_the_difference_of_means_exactly():
    activations, labels, _ = planted(n=64)
    activations = (activations * 64).round().double()  # whole numbers over a power of two: no sum is rounded
    caa, mean = fit_caa(activations, labels, **given(64)), fit_mass_mean(activations, labels, **given(64))
    assert torch.equal(caa, mean)


def test_caa_leaves_incomplete_pairs_and_statements_without_a_pair_out():
    activations, labels, _ = planted(n=12)
    pairs = pair_names(12)
    pairs[0], pairs[3], pairs[4] = None, "alone", np.nan
    whole = fit_caa(activations[6:], labels[6:], **given(6, pairs[6:]))
    torch.testing.assert_close(fit_caa(activations, labels, **given(12, pairs)), whole)
    mean = fit_mass_mean(activations, labels, **given(12, pairs))
    assert not torch.allclose(mean, whole)


def test_pairs_may_come_in_any_order_and_with_several_members_a_side():
    activations, labels, _ = planted(n=6, layers=1)
    labels = torch.tensor([0, 1, 1, 0, 0, 1])
    caa = fit_caa(activations, labels, **given(6, ["b", "b", "a", "a", "a", "c"]))
    a = activations
    expected = ((a[2] - (a[3] + a[4]) / 2) + (a[1] - a[0])) / 2
    torch.testing.assert_close(caa, expected)


@pytest.mark.parametrize("fit", [fit_caa, fit_pair_svd])
def test_statements_without_a_complete_pair_are_refused(fit):
    activations, labels, _ = planted(n=8)
    with pytest.raises(InputError, match="none of the 2 pairs among 8 statements has both labels"):
        fit(activations, labels, **given(8, ["a", None, "a", None, None, "b", None, "b"]))


@pytest.mark.parametrize(("n", "d_model"), [(40, 60), (200, 12)])
def test_pair_svd_is_the_first_singular_vector_with_the_sign_of_the_mean_difference(n, d_model):
    activations, labels, _ = planted(n=n, d_model=d_model, strength=1.0)
    pairs = pair_names(n)
    pairs[2] = None
    ours = fit_pair_svd(activations, labels, **given(n, pairs))
    expected = torch.tensor(slow_fits.pair_svd(activations, labels, pairs)).float()
    assert cosine(ours, expected).abs().min() > 0.9999
    assert (cosine(ours, fit_caa(activations, labels, **given(n, pairs))) > 0).all()
    torch.testing.assert_close(ours.norm(dim=1), torch.ones(2))


def test_centred_pair_differences_lose_the_direction_that_uncentred_ones_keep():
    generator = torch.Generator().manual_seed(0)
    activations, labels, truth = planted(n=400, layers=1, d_model=64, strength=4.0)
    pairs, loud = pair_names(400), torch.nn.functional.normalize(torch.randn(64, generator=generator), dim=0)
    # what pairs differ in besides the concept: one loud axis, of no sign
    activations += (2.0 * torch.randn(400, generator=generator))[:, None, None] * (loud - (loud @ truth[0]) * truth[0])
    uncentred = fit_pair_svd(activations, labels, **given(400, pairs))
    centred = torch.tensor(slow_fits.pair_svd(activations, labels, pairs, centred=True)).float()
    assert cosine(uncentred, truth) > 0.95
    assert cosine(centred, truth).abs() < 0.2
    assert cosine(fit_caa(activations, labels, **given(400, pairs)), truth) > 0.95
