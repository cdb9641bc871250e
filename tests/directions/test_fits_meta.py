"""One step of each fit on the "meta" device, where mixing devices raises; nothing may be made on another device."""

import pytest
import torch
from devices import refuse_mixed_devices

from mechmsc.directions.fits import caa, ccs, lda, newton, pair_svd, pairs, training

N, LAYERS, D = 12, 3, 5


@pytest.fixture
def data():
    return torch.ones(N, LAYERS, D, device="meta"), torch.ones(N, dtype=torch.long, device="meta")


def test_mass_mean(data):
    with refuse_mixed_devices():
        means = training.class_means(*data)
    assert (means.device.type, means.shape) == ("meta", (2, LAYERS, D))


def test_logistic_takes_a_gradient_and_a_step_of_its_search(data):
    activations, labels = data
    with refuse_mixed_devices():
        features, _, _ = training.standardised(activations)
        weights = features.new_ones(4, N)
        problem = newton.Problem.of(features, labels.float(), weights, weights.sum(1).expand(LAYERS, -1))
        point = newton.Point.zero(problem)
        m = newton.margins(problem, point)
        slope = newton.gradient(problem, point, m)
        curvature = problem.weights * torch.sigmoid(m) * (1 - torch.sigmoid(m))
        search = newton.search_step(problem, newton.begin_search(problem, slope, curvature), curvature)
        value = newton.objective(problem, point.plus(search.step, slope.dot(search.step)), m)
    assert (value.device.type, value.shape) == ("meta", (LAYERS, 4))


def test_lda(data):
    activations, _ = data
    with refuse_mixed_devices():
        vectors = lda.discriminant(lda.shrunk_covariance(activations), activations[0])
    assert (vectors.device.type, vectors.shape) == ("meta", (LAYERS, D))


def test_caa_and_pair_svd(data):
    activations, labels = data
    codes = torch.tensor(pairs.pair_codes(["a", "a", None] * 4)[0], device="meta")
    with refuse_mixed_devices():
        differences, complete = pairs.pair_differences(activations, labels, codes, 1)
        mean, first = caa.mean_difference(differences, complete), pair_svd.first_singular(differences)
    assert {x.device.type for x in (mean, first)} == {"meta"}
    assert mean.shape == first.shape == (LAYERS, D)


def test_ccs_takes_a_step(data):
    activations, _ = data
    with refuse_mixed_devices():
        sides, _ = ccs.normalised_sides(torch.stack([activations, activations], 1))
        w, b = (start.to("meta") for start in ccs.starting_points(LAYERS, D, seed=0))
        _, *slopes = ccs.ccs_loss(sides, w, b)
        moments = (torch.zeros_like(w), torch.zeros_like(w), torch.zeros_like(b), torch.zeros_like(b))
        (w, b), _ = ccs.adam_step((w, b), tuple(slopes), moments, 1)
        vectors = ccs.signed(w[:, 0], sides, data[1])
    assert (vectors.device.type, vectors.shape) == ("meta", (LAYERS, D))
