import numpy as np
import pytest
import torch
from planted_statements import cosine, planted
from references import slow_fits

from mechmsc.directions.fits import choose_penalty, fit_logistic
from mechmsc.directions.fits.logistic import N_FOLDS, PENALTIES, logistic_at
from mechmsc.directions.fits.training import standardised
from mechmsc.directions.splitting import grouped_folds
from mechmsc.errors import InputError


@pytest.fixture(scope="module")
def awkward():
    """Correlated features on very different scales, classes of unequal size."""
    generator = torch.Generator().manual_seed(3)
    activations, labels, _ = planted(n=300, d_model=40, strength=2.0, mixing=torch.randn(40, 40, generator=generator))
    keep = torch.rand(300, generator=generator) < torch.where(labels == 1, 0.4, 1.0)
    return activations[keep], labels[keep]


@pytest.mark.parametrize("penalty", [10.0, 0.1, 0.001])
def test_decision_values_equal_those_of_scikit_learn_at_the_same_penalty(awkward, penalty):
    activations, labels = awkward
    features = standardised(activations)[0].transpose(0, 1)
    weights, intercepts = logistic_at(features, labels, penalty=torch.full((2,), penalty))
    ours = torch.einsum("sld,ld->sl", features, weights) + intercepts
    for layer, model in enumerate(slow_fits.logistic(features, labels, penalty=penalty)):
        theirs = model.decision_function(features[:, layer].double().numpy())
        np.testing.assert_allclose(ours[:, layer], theirs, atol=1e-3)
        assert np.abs(theirs).max() > 0.1


def test_raw_features_are_solved_too_without_standardising(awkward):
    activations, labels = awkward
    weights, intercepts = logistic_at(activations, labels, penalty=torch.full((2,), 1.0))
    ours = torch.einsum("sld,ld->sl", activations, weights) + intercepts
    for layer, model in enumerate(slow_fits.logistic(activations, labels, penalty=1.0)):
        theirs = model.decision_function(activations[:, layer].double().numpy())
        np.testing.assert_allclose(ours[:, layer], theirs, atol=1e-3)


def test_more_features_than_statements_are_solved_too():
    activations, labels, _ = planted(n=40, d_model=90)
    weights, intercepts = logistic_at(activations, labels, penalty=torch.full((2,), 0.1))
    ours = torch.einsum("sld,ld->sl", activations, weights) + intercepts
    for layer, model in enumerate(slow_fits.logistic(activations, labels, penalty=0.1)):
        theirs = model.decision_function(activations[:, layer].double().numpy())
        np.testing.assert_allclose(ours[:, layer], theirs, atol=1e-3)


def test_the_penalty_chosen_has_the_smallest_held_out_log_loss_of_a_plain_search(awkward):
    activations, labels = awkward
    groups = [i // 3 for i in range(len(labels))]
    chosen = choose_penalty(activations, labels, groups=groups, seed=4)["penalty"]
    features = standardised(activations)[0].transpose(0, 1)
    folds = grouped_folds(labels.numpy(), groups, n_folds=N_FOLDS, seed=4)
    loss = np.zeros((len(PENALTIES), 2))
    for row, penalty in enumerate(PENALTIES):
        for fold in range(N_FOLDS):
            new = folds == fold
            models = slow_fits.logistic(features[~new], labels[~new], penalty=penalty)
            for layer, model in enumerate(models):
                p = model.predict_proba(features[new, layer].double().numpy())
                loss[row, layer] -= np.log(p[np.arange(new.sum()), labels[new].numpy()]).sum()
    picked = [PENALTIES.index(pytest.approx(float(penalty))) for penalty in chosen]
    for layer, row in enumerate(picked):
        assert loss[row, layer] <= loss[:, layer].min() * 1.001
    assert len(set(picked)) == 2  # what is chosen depends on the data


def test_noise_gets_a_stronger_penalty_than_a_strong_signal():
    signal, labels, _ = planted(n=200, strength=6.0)
    noise = planted(n=200, strength=0.0)[0]
    groups = list(range(200))
    both = torch.cat([signal[:, :1], noise[:, :1]], dim=1)
    strong, weak = choose_penalty(both, labels, groups=groups, seed=0)["penalty"]
    assert weak > strong


def test_a_feature_that_never_varies_and_one_with_a_massive_scale_do_no_harm():
    activations, labels, truth = planted()
    truth, scale = truth.clone(), torch.ones(24)
    scale[3] = 1000.0
    activations[:, :, 5], truth[:, 5] = 7.0, 0.0
    vectors = fit_logistic(activations * scale, labels, groups=range(800), pairs=[None] * 800, seed=0)
    assert torch.isfinite(vectors).all()
    assert cosine(vectors * scale, truth).min() > 0.94


def test_a_penalty_given_is_taken_and_changes_the_result():
    activations, labels, _ = planted(n=200)
    given = {"groups": range(200), "pairs": [None] * 200, "seed": 0}
    soft = fit_logistic(activations, labels, **given, penalty=torch.full((2,), 0.01))
    hard = fit_logistic(activations, labels, **given, penalty=torch.full((2,), 10.0))
    assert (soft.norm(dim=1) > 5 * hard.norm(dim=1)).all()


def test_fewer_groups_than_folds_are_refused():
    activations, labels, _ = planted(n=40)
    with pytest.raises(InputError, match="5-fold cross-validation: 3 groups cannot be split into 5"):
        choose_penalty(activations, labels, groups=[i % 3 for i in range(40)], seed=0)
