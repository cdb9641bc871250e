"""Worlds in which the answer is known: the predictive test is fooled, the intervention is not, at its stated error."""

from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace

import numpy as np
import pytest
from convergence.tables import rate_meets
from references.bootstrap import resampled_mean_interval
from references.simulation import observed_slope


@pytest.fixture(scope="module")
def simulation():
    import mechmsc.causal.simulation

    return mechmsc.causal.simulation


def small(simulation, **options):
    made = {"betas": (0.0, -0.3), "gammas": (0.0, 1.0), "n_items": (20,), "datasets": 30, "n_boot": 60}
    return simulation.structural_grid(**(made | {"progress": False, "workers": 1} | options))


def number(found, estimator, quantity, **cell):
    rows = found[(found["estimator"] == estimator) & (found["quantity"] == quantity)]
    for name, value in cell.items():
        rows = rows[rows[name] == value]
    return rows.iloc[0]


@pytest.mark.parametrize("confounder", ["length", "round"])
def test_the_true_effect_is_what_a_very_large_data_set_shows(simulation, confounder):
    truth = simulation.Truth(-0.3, 0.8, 40_000, confounder=confounder)
    world = simulation.draw_world(truth, np.random.default_rng(0))
    control, treatment = world.uncertainty[..., 0], world.uncertainty[..., 1]
    assert np.mean(world.clamped - control) == pytest.approx(truth.indirect, abs=0.004)
    assert np.mean(treatment - control) == pytest.approx(truth.indirect + truth.direct, abs=0.004)
    assert truth.indirect == pytest.approx(-0.3 * np.mean([1 - np.exp(-t / 2) for t in range(1, 7)]))
    moved = (world.concept[..., 1] - world.concept[..., 0]).mean(axis=0)
    assert moved == pytest.approx(truth.approach, abs=0.02)
    assert np.corrcoef(world.concept[..., 0].ravel(), world.confounder.ravel())[0, 1] > 0.5


def test_estimators_are_those_of_a_loop_and_their_intervals_of_a_slow_bootstrap(simulation):
    world = simulation.draw_world(simulation.Truth(-0.3, 0.8, 25), np.random.default_rng(1))
    found = simulation.indirect_effects(world, n_boot=5000, level=0.9, seed=0)
    change = np.mean(world.concept[..., 1] - world.concept[..., 0])
    assert found["observational"].value == pytest.approx(observed_slope(world, adjust=False) * change)
    assert found["adjusted"].value == pytest.approx(observed_slope(world, adjust=True) * change)
    effects = (world.clamped - world.uncertainty[..., 0]).ravel()
    items = np.repeat(np.arange(25), 6)
    value, low, high, n = resampled_mean_interval(effects, items, level=0.9, n_boot=5000, seed=0)
    ours = found["interventional"]
    assert (ours.value, ours.n, ours.level) == (pytest.approx(value), n, 0.9)
    assert (ours.low, ours.high) == (pytest.approx(low, abs=0.005), pytest.approx(high, abs=0.005))


def test_a_slope_resampled_is_that_of_the_resampled_items(simulation):
    from mechmsc.causal.simulation.worlds import World

    world = simulation.draw_world(simulation.Truth(-0.3, 0.8, 8), np.random.default_rng(2))
    drawn = np.random.default_rng(3).multinomial(8, np.full(8, 1 / 8))
    again = np.repeat(np.arange(8), drawn)
    twice = World(*(values[again] for values in vars(world).values()))
    whole = simulation.indirect_effects(twice, n_boot=1, seed=0)["adjusted"].value
    change = np.mean(twice.concept[..., 1] - twice.concept[..., 0])
    assert whole == pytest.approx(observed_slope(twice, adjust=True) * change)


def test_intervals_cover_the_truth_and_reject_where_there_is_none_as_often_as_they_say(simulation):
    trials = 1000
    for beta in (-0.2, 0.0):
        truth = simulation.Truth(beta, 1.0, 40)
        covered = {"interventional": 0, "adjusted": 0, "observational": 0}
        for trial in range(trials):
            rng = np.random.default_rng([6, trial, int(beta < 0)])
            found = simulation.indirect_effects(simulation.draw_world(truth, rng), n_boot=300, seed=rng)
            for name, estimate in found.items():
                covered[name] += estimate.low <= truth.indirect <= estimate.high
        for name in ("interventional", "adjusted"):
            assert rate_meets(covered[name], trials, 0.93, 0.97), (beta, name, covered)
            assert beta or rate_meets(trials - covered[name], trials, 0.0, 0.05), (name, covered)
        assert covered["observational"] == 0


@pytest.mark.parametrize("confounder", ["length", "round"])
def test_without_an_effect_the_predictive_test_passes_and_the_intervention_finds_none(simulation, confounder):
    found = small(simulation, gammas=(0.0, 1.2), n_items=(60,), confounder=confounder)
    fooled, honest = ({"beta": 0.0, "gamma": gamma} for gamma in (1.2, 0.0))
    assert number(found, "concept", "accuracy", **fooled)["low"] > 0.8
    assert number(found, "concept", "accuracy", **honest)["high"] < 0.6
    bias = number(found, "interventional", "bias", **fooled)
    assert bias["low"] < 0.0 < bias["high"]
    assert number(found, "observational", "bias", **fooled)["high"] < -0.2
    assert number(found, "observational", "rejection", **fooled)["value"] == 1.0
    assert number(found, "interventional", "rejection", **fooled)["value"] < 0.3
    assert number(found, "interventional", "rejection", beta=-0.3, gamma=1.2)["value"] == 1.0
    if confounder == "round":
        gain = number(found, "concept", "accuracy", **fooled)["value"]
        assert gain - number(found, "majority", "accuracy", **fooled)["value"] < 0.01


def test_the_share_predicted_is_that_of_the_predictive_test(simulation):
    import pandas as pd

    from mechmsc.causal.simulation.worlds import predicted_share

    world = simulation.draw_world(simulation.Truth(-0.3, 0.8, 50), np.random.default_rng(4))
    item, t, arm = (axis.ravel() for axis in np.indices(world.concept.shape))
    length = np.broadcast_to(world.confounder[..., None], world.concept.shape)
    table = pd.DataFrame({"item_id": item.astype(str), "arm": arm.astype(str), "round": t + 1})
    table = table.assign(concept=world.concept.ravel(), uncertainty=world.uncertainty.ravel(), length=length.ravel())
    slow = simulation.predictive_test(table, n_perm=0, n_boot=2)
    slow = slow[slow["measure"] == "accuracy"].set_index("predictor")["value"]
    shares = predicted_share(world, seed=0)
    assert shares == pytest.approx(slow[["concept", "length", "majority"]].to_numpy(), abs=0.02)


def test_the_grid_sums_up_its_data_sets(simulation):
    from mechmsc.causal.simulation.structural import simulated

    found = small(simulation, betas=(-0.3,), gammas=(0.5,), level=0.9)
    truth = simulation.Truth(-0.3, 0.5, 20)
    raw = simulated(truth, range(30), 0.9, 60, 0)
    value, low, high = raw[:, :3].T
    assert number(found, "interventional", "estimate")["value"] == pytest.approx(value.mean())
    assert number(found, "interventional", "bias")["value"] == pytest.approx(value.mean() - truth.indirect)
    inside = np.mean((low <= truth.indirect) & (truth.indirect <= high))
    assert number(found, "interventional", "coverage")["value"] == pytest.approx(inside)
    assert number(found, "interventional", "rejection")["value"] == pytest.approx(np.mean((low > 0) | (high < 0)))
    assert number(found, "concept", "accuracy")["value"] == pytest.approx(raw[:, -3].mean())
    assert set(found["n_datasets"]) == {30} and set(found["level"]) == {0.9}


def test_a_cell_depends_on_the_seed_and_not_on_the_grid_or_the_number_of_processes(simulation):
    whole = small(simulation)
    alone = small(simulation, betas=(-0.3,), gammas=(1.0,))
    here = whole[(whole["beta"] == -0.3) & (whole["gamma"] == 1.0)].reset_index(drop=True)
    assert here.equals(alone)
    assert alone.equals(small(simulation, betas=(-0.3,), gammas=(1.0,), workers=2))
    assert not alone.equals(small(simulation, betas=(-0.3,), gammas=(1.0,), seed=1))


def test_every_option_matters(simulation):
    from mechmsc.causal.simulation.structural import simulated

    truth = simulation.Truth(-0.3, 0.5, 10)
    base = simulated(truth, range(2), 0.9, 60, 0)
    other = {"rounds": 4, "confounder": "round", "response": 2.0, "direct": 0.5, "tau": 1.0, "noise": 1.0}
    for name, value in {**other, "unshared": 0.4}.items():
        world, changed = (
            simulation.draw_world(one, np.random.default_rng(0)) for one in (truth, replace(truth, **{name: value}))
        )
        assert any(not np.array_equal(a, b) for a, b in zip(vars(world).values(), vars(changed).values(), strict=True))
    assert not np.array_equal(base, simulated(truth, range(2), 0.8, 60, 0))
    assert not np.array_equal(base, simulated(truth, range(2), 0.9, 30, 0))


def test_terms_that_cannot_be_told_apart_are_nan(simulation):
    from mechmsc.causal.simulation.worlds import World

    world = simulation.draw_world(simulation.Truth(-0.3, 0.5, 10), np.random.default_rng(0))
    same = World(world.concept, world.uncertainty, world.clamped, np.zeros_like(world.confounder))
    found = simulation.indirect_effects(same, n_boot=20, seed=0)
    assert np.isnan(found["adjusted"].value) and np.isfinite(found["observational"].value)


def test_a_process_that_dies_and_wrong_options_are_named(simulation, monkeypatch):
    import mechmsc.causal.simulation.structural as structural
    from mechmsc.errors import MechmscError

    for wrong in ({"betas": ()}, {"datasets": 1}, {"workers": 0}):
        with pytest.raises(ValueError, match="2 data sets and 1 worker or more"):
            small(simulation, **wrong)
    for wrong in ({"rounds": 2}, {"n_items": (1,)}):
        with pytest.raises(ValueError, match="expected 2 items, 3 rounds or more"):
            small(simulation, **wrong)

    def die(_):
        raise BrokenProcessPool("a process was terminated abruptly")

    monkeypatch.setattr(structural, "_job", die)
    monkeypatch.setattr(structural, "ProcessPoolExecutor", lambda workers, mp_context: ThreadPoolExecutor(workers))  # noqa: ARG005
    with pytest.raises(MechmscError, match="a process of the simulation died: put the call under"):
        small(simulation, workers=2)
