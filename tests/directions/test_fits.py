"""Laws that all fits share: a planted direction is found, shuffled labels give chance, bad input is refused."""

import pytest
import torch
from planted_statements import cosine, pair_names, planted, planted_sides
from sklearn.metrics import roc_auc_score

from mechmsc.directions import METHODS
from mechmsc.errors import InputError

PLAIN = ("mass_mean", "logistic", "lda", "caa", "pair_svd")


def fitted(method, activations, labels, *, pairs=None, seed=0):
    n = len(labels)
    pairs = pair_names(n) if pairs is None else pairs
    return METHODS[method](activations, labels, groups=pair_names(n), pairs=pairs, seed=seed)


@pytest.mark.parametrize("method", PLAIN)
def test_a_planted_direction_is_recovered_at_every_layer_with_its_sign(method):
    activations, labels, truth = planted()
    assert cosine(fitted(method, activations, labels), truth).min() > 0.95
    assert cosine(fitted(method, activations, 1 - labels), truth).max() < -0.95


def test_ccs_recovers_the_axis_on_which_answers_exclude_each_other_with_the_sign_of_the_labels():
    sides, labels, truth = planted_sides()
    assert cosine(fitted("ccs", sides, labels), truth).min() > 0.95
    assert cosine(fitted("ccs", sides, 1 - labels), truth).max() < -0.95


@pytest.mark.parametrize("method", ["mass_mean", "logistic", "lda", "caa", "pair_svd", "ccs"])
def test_shuffled_labels_give_chance_on_statements_not_seen(method):
    make = planted_sides if method == "ccs" else planted
    activations, labels, _ = make(layers=6)
    shuffled = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(5))]
    areas = {}
    for name, given in (("shuffled", shuffled), ("own", labels)):
        vectors = fitted(method, activations[:400], given[:400])
        plain = activations[:, 0] - activations[:, 1] if method == "ccs" else activations
        scores = torch.einsum("sld,ld->sl", plain[400:], vectors)
        areas[name] = [roc_auc_score(given[400:], scores[:, layer]) for layer in range(6)]
    assert abs(sum(areas["shuffled"]) / 6 - 0.5) < 0.06  # 2 standard errors of one layer; layers share their labels
    assert min(areas["own"]) > 0.9


@pytest.mark.parametrize("method", METHODS)
def test_layers_are_fitted_independently_and_arguments_are_left_alone(method):
    make = planted_sides if method == "ccs" else planted
    activations, labels, _ = make(n=120, layers=3)
    before = activations.clone()
    together = fitted(method, activations, labels)
    assert torch.equal(activations, before)
    if method != "ccs":  # its starting points are drawn for all layers
        alone = fitted(method, activations[..., 1:2, :], labels)
        torch.testing.assert_close(together[1:2], alone, rtol=1e-3, atol=1e-4)
    other = activations.clone()
    other[..., 0, :] = torch.randn(other[..., 0, :].shape, generator=torch.Generator().manual_seed(9))
    torch.testing.assert_close(fitted(method, other, labels)[1:], together[1:], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_chunks_of_layers_change_nothing(method, monkeypatch):
    from mechmsc.directions.fits import training

    make = planted_sides if method == "ccs" else planted
    activations, labels, _ = make(n=120, layers=5)
    monkeypatch.setitem(training.CHUNK_BYTES, "cpu", 1)
    one_by_one = fitted(method, activations, labels)
    monkeypatch.setitem(training.CHUNK_BYTES, "cpu", 2**40)
    torch.testing.assert_close(fitted(method, activations, labels), one_by_one, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_one_class_is_refused(method):
    make = planted_sides if method == "ccs" else planted
    activations, _, _ = make(n=20)
    with pytest.raises(InputError, match=r"both classes, labels 0 and 1, got labels \[1\] in 20 statements"):
        fitted(method, activations, torch.ones(20, dtype=torch.long))


@pytest.mark.parametrize("method", METHODS)
def test_activations_that_are_not_finite_are_refused_by_layer_and_statement(method):
    make = planted_sides if method == "ccs" else planted
    activations, labels, _ = make(n=20, layers=3)
    activations[7, ..., 2, 4] = torch.nan
    activations[11, ..., 1, 0] = torch.inf
    with pytest.raises(InputError, match=r"not finite at layer 1 of statement 11 \(2 statements, 2 layers"):
        fitted(method, activations, labels)


def test_columns_of_another_length_are_refused():
    activations, labels, _ = planted(n=20)
    with pytest.raises(InputError, match=r"for each of 20 statements, got \[20, 20, 19\]"):
        fitted("mass_mean", activations, labels, pairs=[None] * 19)


def test_finite_activations_whose_sum_overflows_are_accepted():
    from mechmsc.directions.fits.training import check_finite

    check_finite(torch.full((4, 1, 2), 3e38))
