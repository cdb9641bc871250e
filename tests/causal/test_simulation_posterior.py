"""The concept posterior: planted evidence is recovered, curves that follow no instruction are not mistaken for it."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from convergence.tables import rate_meets

ARMS = ("moral", "neutral", "moral+immoral@2/5", "none")
EVIDENCE = {"moral": -0.1, "immoral": 0.3, "neutral": 0.02}


@pytest.fixture(scope="module")
def simulation():
    import mechmsc.causal.simulation

    return mechmsc.causal.simulation


def made(seed, *, evidence=EVIDENCE, leak=1.0, drift=0.0, n=30, rounds=6, noise=0.25, arms=ARMS):
    """Scores of items with a level of their own, that gather evidence over rounds."""
    from mechmsc.instructions import parse_arms

    rng, rows = np.random.default_rng(seed), []
    for item in range(n):
        level = 0.5 + rng.normal(0, 0.7)
        for arm in arms:
            (schedule,), gathered = parse_arms(arm, rounds=rounds), 0.0
            for t in range(1, 2 if arm == "none" else rounds + 1):
                gathered = leak * gathered + evidence.get(schedule.stance(t), 0.0)
                rows.append((f"t/{item}", arm, t, level + gathered + drift * t + rng.normal(0, noise)))
    return pd.DataFrame(rows, columns=["item_id", "arm", "round", "concept"])


def of(found, model, quantity):
    return found[(found["model"] == model) & (found["quantity"] == quantity)].iloc[0]


def test_the_posterior_is_least_squares_with_a_level_for_each_item(simulation):
    table = made(1, n=8).sample(frac=1, random_state=0)
    table.loc[table.index[:6], "concept"] = np.nan
    found = simulation.posterior_fit(table, n_boot=2)
    known = table[table["concept"].notna()]
    counts = {"moral": {}, "neutral": {}, "immoral": {}}
    for arm in ARMS:
        for t in range(1, 7):
            speakers = ["immoral" if "+" in arm and s in (2, 5) else arm.split("+")[0] for s in range(1, t + 1)]
            for stance in counts:
                counts[stance][arm, t] = float(speakers.count(stance))
    stances = ["moral", "immoral", "neutral"]
    keys = list(zip(known["arm"], known["round"], strict=True))
    evidence = np.array([[counts[stance][key] for stance in stances] for key in keys])
    levels = np.eye(8)[known["item_id"].str.removeprefix("t/").astype(int)]
    slow = np.linalg.lstsq(np.hstack([evidence, levels]), known["concept"].to_numpy(), rcond=None)[0]
    for stance, value in zip(stances, slow, strict=False):
        assert of(found, "posterior", f"llr_{stance}")["value"] == pytest.approx(value)
    assert of(found, "posterior", "moral_minus_neutral")["value"] == pytest.approx(slow[0] - slow[2])
    prior = np.mean(known["concept"].to_numpy() - evidence @ slow[:3])
    assert of(found, "posterior", "prior")["value"] == pytest.approx(prior)
    number = known["round"].to_numpy(float)[:, None]
    slope = np.linalg.lstsq(np.hstack([number, levels]), known["concept"].to_numpy(), rcond=None)[0][0]
    assert of(found, "linear", "slope")["value"] == pytest.approx(slope)


@pytest.mark.parametrize("leak", [1.0, 0.6, 0.0])
def test_planted_evidence_and_leak_are_recovered(simulation, leak):
    fits = [simulation.posterior_fit(made(20 + k, leak=leak, n=60), n_boot=20, repeats=1) for k in range(8)]
    for stance, value in EVIDENCE.items():
        assert np.mean([of(one, "leaky", f"llr_{stance}")["value"] for one in fits]) == pytest.approx(value, abs=0.025)
    assert np.mean([of(one, "leaky", "leak")["value"] for one in fits]) == pytest.approx(leak, abs=0.05)
    better = [of(one, "posterior", "mse")["value"] - of(one, "leaky", "mse")["value"] for one in fits]
    assert min(better) > 0 if leak < 1 else max(np.abs(better)) < 0.001
    if leak == 1.0:
        assert all(of(one, "posterior", "r2")["low"] > 0.2 for one in fits)
        assert all(of(one, "posterior", "beyond_linear")["low"] > 0 for one in fits)
        assert np.mean([of(one, "posterior", "prior")["value"] for one in fits]) == pytest.approx(0.5, abs=0.15)


def test_a_curve_that_follows_the_round_and_not_the_instruction_is_no_posterior(simulation):
    found = simulation.posterior_fit(made(3, evidence={}, drift=0.1, n=60), n_boot=200)
    difference = of(found, "posterior", "moral_minus_neutral")
    assert difference["low"] < 0 < difference["high"]
    assert of(found, "posterior", "beyond_linear")["low"] <= 0
    slope = of(found, "linear", "slope")
    assert slope["low"] < 0.1 < slope["high"]
    flat = simulation.posterior_fit(made(4, evidence={}, n=60), n_boot=200)
    assert of(flat, "posterior", "r2")["value"] < 0.01 and of(flat, "posterior", "r2")["low"] < 0


def test_the_intervals_cover_planted_evidence_at_their_level(simulation):
    del simulation
    from mechmsc.causal.simulation.evidence import Fitter, curves_of
    from mechmsc.estimate import cluster_bootstrap_weighted

    trials, rng = 1000, np.random.default_rng(5)
    table = made(0, n=40, arms=("moral", "neutral"), rounds=3)
    curves = curves_of(table, "concept")
    number, truth = curves.cells["round"].to_numpy(), curves.cells["arm"].map(EVIDENCE).to_numpy()
    covered = 0
    for _ in range(trials):
        own = truth + rng.normal(0, 0.1, 40)[curves.items]  # items differ in how they respond
        fitter = Fitter(replace(curves, scores=own * number + rng.normal(0, 0.25, len(own))), "posterior")
        told = lambda weights, fitter=fitter: fitter.fit(weights).terms  # noqa: E731
        moral, _ = cluster_bootstrap_weighted(told, np.arange(40), n_boot=300, seed=rng)
        covered += moral.low <= EVIDENCE["moral"] <= moral.high
    assert rate_meets(covered, trials, 0.93, 0.97), covered / trials


def test_held_out_errors_are_those_of_fits_to_the_other_items(simulation):
    from mechmsc.causal.simulation.logistic import grouped_folds

    table = made(6, n=10)
    found = simulation.posterior_fit(table, n_boot=2, repeats=1, folds=3, seed=4)
    division = np.random.default_rng(np.random.SeedSequence(4).spawn(2)[0])
    (folds,) = grouped_folds(np.arange(10), folds=3, repeats=1, seed=division)
    names, errors = np.unique(table["item_id"]), []
    for fold in range(3):
        held = table["item_id"].isin(names[folds == fold])
        fit = simulation.posterior_fit(table[~held], n_boot=2)
        slope = of(fit, "linear", "slope")["value"]
        for _, rows in table[held].groupby("item_id"):
            left = rows["concept"] - slope * rows["round"]
            errors += list((left - left.mean()) ** 2)
    assert of(found, "linear", "mse")["value"] == pytest.approx(np.mean(errors))
    within = table["concept"] - table.groupby("item_id")["concept"].transform("mean")
    assert of(found, "constant", "mse")["value"] == pytest.approx(np.mean(within**2))
    assert of(found, "linear", "r2")["value"] == pytest.approx(1 - np.mean(errors) / np.mean(within**2))


def test_fitted_curves_stand_beside_the_measured_means(simulation):
    table = made(7, noise=0.0)
    curves = simulation.posterior_curves(table, n_boot=50)
    means = table.groupby(["arm", "round"])["concept"].mean()
    for row in curves.itertuples():
        assert row.value == pytest.approx(means[row.arm, row.round])
        assert (row.posterior, row.leaky, row.low, row.high) == pytest.approx((row.value,) * 4)
        assert row.n == 30
    assert curves["constant"].nunique() == 1 and not np.allclose(curves["linear"], curves["value"])


@pytest.mark.parametrize("changed", [{"folds": 3}, {"repeats": 1}, {"level": 0.5}, {"n_boot": 20}, {"seed": 1}])
def test_every_option_matters(simulation, changed):
    table, base = made(8, n=12), {"n_boot": 40}
    assert not simulation.posterior_fit(table, **base).equals(simulation.posterior_fit(table, **(base | changed)))


def test_what_cannot_be_fitted_is_named(simulation):
    table = made(9, n=6)
    one_round = table[(table["round"] == 1) & table["arm"].isin(["moral", "neutral"])]
    with pytest.raises(ValueError, match="cannot be told apart from the level of an item in 1 rounds"):
        simulation.posterior_fit(one_round)
    with pytest.raises(ValueError, match="two items or more with a concept, got 1"):
        simulation.posterior_fit(table[table["item_id"] == "t/0"])
    with pytest.raises(ValueError, match="lacks concept"):
        simulation.posterior_fit(table.rename(columns={"concept": "score"}))
    with pytest.raises(ValueError, match="two rows for item t/0, arm moral, round 1"):
        simulation.posterior_fit(pd.concat([table, table[:1]]))
    with pytest.raises(ValueError, match="no stance 'kind'"):
        simulation.posterior_fit(table.assign(arm="kind").drop_duplicates(["item_id", "round"]))
    with pytest.warns(UserWarning, match="has 3 items: expected 5"):
        simulation.posterior_fit(table[table["item_id"].isin(["t/0", "t/1", "t/2"])], n_boot=20)
