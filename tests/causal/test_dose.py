"""Dose-response recovers what was planted; slopes and curvatures are least squares; placebos are compared by size."""

import numpy as np
import pytest
import xarray as xr
from planted_runs import planted_direction, planted_run

from mechmsc.errors import InputError

pytestmark = pytest.mark.filterwarnings("ignore:.*items are few")
QUICK = {"permutations": 1, "progress": False}
STRENGTHS = [-1.0, -0.5, 0.0, 0.5, 1.0]


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    model, run = planted_run(tmp_path_factory.mktemp("dose") / "run", n=5, rounds=1, arms="neutral", effect=-0.4)
    return model, run, planted_direction(model)


def test_every_strength_gives_the_entropy_of_the_formula_and_placebos_do_less(planted):
    from mechmsc.causal import dose_response, dose_table

    model, run, direction = planted
    doses = dose_response(
        model, run, direction, outcome="first_token_entropy", strengths=STRENGTHS, layers=3, placebos=20, **QUICK
    )
    truth, base = model.planted, model.planted.coordinate(0.0)
    for item in doses["item"].values:
        expected = [float(truth.entropy(base + a, 0.0, case=item.split("-")[1])) for a in STRENGTHS]
        assert doses["response"].sel(item=item).values.ravel() == pytest.approx(expected, abs=1e-4)
    table = dose_table(doses).set_index("effect")
    assert table.loc["slope", "value"] < -0.2 and table.loc["slope", "high"] < -0.2
    assert table.loc["slope", "p"] <= 3 / 21 and table.loc["slope", "excess_low"] > 0
    clean = doses["placebo_response"].sel(strength=0.0)
    np.testing.assert_array_equal(clean, clean.isel(placebo=0).broadcast_like(clean))


def test_the_concept_of_a_model_without_effect_is_no_more_than_a_placebo(tmp_path):
    from mechmsc.causal import dose_response, dose_table

    model, run = planted_run(tmp_path / "null", n=5, rounds=1, arms="neutral", effect=0.0)
    doses = dose_response(
        model,
        run,
        planted_direction(model),
        outcome="first_token_entropy",
        strengths=[-1, 0, 1],
        layers=3,
        placebos=20,
        **QUICK,
    )
    table = dose_table(doses).set_index("effect")
    assert (table["p"] > 0.5).all() and (table["value"].abs() < 1e-4).all()


def test_guards_of_text_stand_beside_outcomes_through_text(planted):
    from mechmsc.causal import Sampling, dose_response

    model, run, direction = planted
    doses = dose_response(
        model,
        run,
        direction,
        outcome="semantic_entropy",
        strengths=[-1, 0, 1],
        layers=3,
        placebos=1,
        sampling=Sampling(samples=3, max_new_tokens=3, clusterer="exact"),
        **QUICK,
    )
    assert list(doses["outcome"].values) == ["semantic_entropy", "perplexity", "distinct_2", "length"]
    assert np.isfinite(doses["response"].sel(outcome="perplexity")).all()
    assert doses["placebo_response"].sel(outcome="perplexity").isnull().all()


def test_slope_and_curvature_are_the_least_squares_of_the_odd_and_the_even_part():
    from mechmsc.causal import odd_and_even

    a, draw = np.array([-2.0, -1.0, 0.0, 1.0, 2.0]), np.random.default_rng(0)
    y = xr.DataArray(draw.normal(size=(3, 5)), dims=("item", "strength"), coords={"strength": a})
    found = odd_and_even(y)
    for row, slope, curvature in zip(y.values, found["slope"].values, found["curvature"].values, strict=True):
        odd, even = (row - row[::-1]) / 2, (row + row[::-1]) / 2 - row[2]
        assert slope == pytest.approx(np.linalg.lstsq(a[:, None], odd, rcond=None)[0][0])
        assert curvature == pytest.approx(np.linalg.lstsq(a[:, None] ** 2, even, rcond=None)[0][0])
    line = odd_and_even(xr.DataArray(3 * a + 0.5 * a**2 + 7, dims="strength", coords={"strength": a}))
    assert (line["slope"].item(), line["curvature"].item()) == (pytest.approx(3), pytest.approx(0.5))


def test_placebos_are_compared_by_size_and_their_signs_prove_nothing():
    from mechmsc.causal.beyond import beyond_placebos

    draw = np.random.default_rng(1)
    placebos = np.tile(draw.choice([-1.0, 1.0], 40) * draw.uniform(0.5, 1.5, 40), (30, 1)) + draw.normal(
        0, 0.1, (30, 40)
    )
    small, large = np.full(30, 0.4) + draw.normal(0, 0.1, 30), np.full(30, 2.0) + draw.normal(0, 0.1, 30)
    assert abs(placebos.mean()) < 0.4  # subtracting the placebos' mean would leave the small effect standing
    excess, p = beyond_placebos(small, placebos, seed=0)
    assert excess.high < 0 and p == 1.0
    excess, p = beyond_placebos(-large, placebos, seed=0)
    assert excess.low > 0 and p == pytest.approx(1 / 41)
    root_mean_square = np.sqrt((placebos.mean(0) ** 2).mean())
    assert excess.value == pytest.approx(abs(large.mean()) - root_mean_square)


def test_the_interval_of_the_excess_covers_it():
    from mechmsc.causal.beyond import beyond_placebos
    from mechmsc.estimate import proportion_interval

    draw, covered, n = np.random.default_rng(7), 0, 300  # fixed before looking
    for number in range(n):
        effects = draw.normal(0, 1.0, 25)  # of the placebos of this data set, from a population with RMS 1
        placebos = effects + draw.normal(0, 0.2, (50, 25))
        concept = 2.0 + draw.normal(0, 1.0, 50)
        excess, _ = beyond_placebos(concept, placebos, n_boot=500, seed=number)
        covered += excess.low <= 1.0 <= excess.high
    low, high = proportion_interval(covered / n, n, level=0.99)
    assert low <= 0.97 and high >= 0.90  # RMS of 25 placebos is a skewed statistic: intervals run a little narrow


def test_placebos_keep_what_makes_them_comparable(planted):
    import torch

    from mechmsc.causal import random_directions, shuffled_directions, spanned_directions

    _, _, direction = planted
    generator = torch.Generator().manual_seed(0)
    n_layers, d_model = direction.vectors.shape
    activations = torch.randn(40, n_layers, d_model, generator=generator)
    activations[:, :, 5:] = 0.0  # all of them in five dimensions
    labels, groups = torch.tensor([0, 1] * 20), list(map(str, range(40)))
    kinds = {
        "random": random_directions(direction, 3, seed=0),
        "random within the span": spanned_directions(direction, activations, 3, seed=0),
        "shuffled labels": shuffled_directions(direction, activations, labels, 3, groups=groups, seed=0),
    }
    for kind, made in kinds.items():
        assert len(made) == 3 and {one.method for one in made} == {f"placebo: {kind}"}
        for one in made:
            assert torch.equal(one.gaps, direction.gaps) and torch.isfinite(one.units).all()
            assert (one.vectors[:, 5:].abs().max() < 1e-5) == (kind != "random")
    again = random_directions(direction, 3, seed=0)
    assert torch.equal(again[2].vectors, kinds["random"][2].vectors)
    assert not torch.equal(again[0].vectors, again[1].vectors)


@pytest.mark.parametrize(
    "strengths", [[0.0, 1.0, 2.0], [-1.0, 1.0], [-2.0, 0.0, 1.0]], ids=["one side", "no zero", "unequal"]
)
def test_a_grid_that_is_not_symmetric_is_refused(planted, strengths):
    from mechmsc.causal import dose_response

    model, run, direction = planted
    with pytest.raises(InputError, match="symmetric about 0"):
        dose_response(model, run, direction, strengths=strengths, layers=3, **QUICK)


def test_what_was_stored_is_not_computed_again(planted, monkeypatch):
    from mechmsc.causal import store_dose, stored

    model, run, direction = planted
    options = {"outcome": "first_token_entropy", "strengths": [-1.0, 0.0, 1.0], "layers": 3, "placebos": 2, **QUICK}
    table, paths = store_dose(model, run, direction, **options)
    assert [path.rsplit("/", 1)[-1] for path in paths] == ["dose.nc", "dose.json"]
    monkeypatch.setattr(stored, "dose_response", stored.dose_response)
    again, _ = store_dose(model, run, direction, **options)
    np.testing.assert_allclose(again["value"], table["value"])
