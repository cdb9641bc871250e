"""Lag regression: against a sandwich by hand, planted effects, and the round as a confounder."""

import numpy as np
import pytest
from convergence.tables import rate_meets
from references.convergence import cluster_sandwich


@pytest.fixture
def lag():
    import mechmsc.convergence.lag

    return mechmsc.convergence.lag


def simulated(seed, *, effect, n=60, rounds=8, trend=0.0):
    """Uncertainty that follows itself, the concept of the round before, and the number of the round."""
    rng = np.random.default_rng(seed)
    concept = rng.normal(0, 1, (n, rounds)) + trend * np.arange(rounds)
    uncertainty = np.zeros((n, rounds))
    uncertainty[:, 0] = rng.normal(0, 1, n)
    for t in range(rounds - 1):
        carried = effect * concept[:, t] + 0.4 * uncertainty[:, t]
        uncertainty[:, t + 1] = carried + trend * (t + 1) + rng.normal(0, 0.5, n)
    return concept, uncertainty


def of(table, model="lag", term="concept"):
    return table[(table["model"] == model) & (table["term"] == term)].iloc[0]


@pytest.mark.parametrize("model", ["lag", "lag + round"])
def test_coefficients_and_standard_errors_are_those_of_a_sandwich_by_hand(lag, model):
    from scipy import stats

    concept, uncertainty = simulated(1, effect=-0.3, n=24)
    concept[3, 4], uncertainty[5, 0] = np.nan, np.nan
    clusters = np.repeat(np.arange(12), 2)
    table = lag.lag_regression(concept, uncertainty, clusters=clusters, level=0.9)
    rows = [
        (concept[i, t], uncertainty[i, t], *(float(t == r) for r in range(7)), uncertainty[i, t + 1], clusters[i])
        for i in range(24)
        for t in range(7)
        if not np.isnan(concept[i, t] + uncertainty[i, t] + uncertainty[i, t + 1])
    ]
    rows = np.array(rows)
    design = rows[:, :9] if model == "lag + round" else np.column_stack([rows[:, :2], np.ones(len(rows))])
    coefficients, errors = cluster_sandwich(design, rows[:, 9], list(rows[:, 10]))
    for place, term in enumerate(("concept", "uncertainty")):
        one = of(table, model, term)
        assert (one["value"], one["se"]) == (pytest.approx(coefficients[place]), pytest.approx(errors[place]))
        assert (one["n"], one["n_rows"]) == (12, len(rows))
        half = stats.t(11).ppf(0.95) * errors[place]
        assert (one["low"], one["high"]) == pytest.approx((one["value"] - half, one["value"] + half))
        assert one["p"] == pytest.approx(2 * stats.t(11).sf(abs(coefficients[place] / errors[place])))


def test_a_planted_effect_is_recovered_and_none_is_found_where_there_is_none(lag):
    planted = of(lag.lag_regression(*simulated(2, effect=-0.3)))
    assert planted["low"] < -0.3 < planted["high"] < 0 and planted["p"] < 0.001
    carried = of(lag.lag_regression(*simulated(2, effect=-0.3)), term="uncertainty")
    assert carried["low"] < 0.4 < carried["high"]
    absent = of(lag.lag_regression(*simulated(3, effect=0.0)))
    assert absent["low"] < 0 < absent["high"]


def test_a_concept_that_only_follows_the_round_predicts_until_the_round_is_given(lag):
    table = lag.lag_regression(*simulated(4, effect=0.0, n=300, trend=-0.3))
    assert of(table)["p"] < 0.001
    assert of(table, "lag + round")["p"] > 0.05


def test_the_interval_covers_a_planted_effect_at_its_level(lag):
    trials = 1000
    covered = 0
    for trial in range(trials):
        concept, uncertainty = simulated(100 + trial, effect=-0.3, n=40, rounds=5)
        design = np.column_stack([concept[:, :-1].ravel(), uncertainty[:, :-1].ravel(), np.ones(160)])
        one = lag.fit(design, uncertainty[:, 1:].ravel(), np.repeat(np.arange(40), 4), 0.95)[0]
        covered += one[1] <= -0.3 <= one[2]
    assert rate_meets(covered, trials, 0.93, 0.97), covered / trials


def test_what_cannot_be_told_apart_is_nan(lag):
    concept, uncertainty = simulated(5, effect=-0.3, n=10)
    constant = lag.lag_regression(np.ones_like(concept), uncertainty)
    assert constant["value"].isna().all() and (constant["n"] == 10).all()
    assert lag.lag_regression(uncertainty, uncertainty)["value"].isna().all()
    assert lag.lag_regression(concept, uncertainty, clusters=np.zeros(10))["value"].isna().all()
    assert (lag.lag_regression(concept[:0], uncertainty[:0])["n"] == 0).all()


@pytest.mark.parametrize(
    ("concept", "uncertainty", "options", "says"),
    [
        (np.zeros((4, 3)), np.zeros((4, 2)), {}, "of one shape"),
        (np.zeros(4), np.zeros(4), {}, r"\[item, round\]"),
        (np.zeros((4, 3)), np.zeros((4, 3)), {"clusters": [1, 2]}, "a cluster an item"),
        (np.zeros((4, 1)), np.zeros((4, 1)), {}, "at least 2 rounds, got 1"),
    ],
)
def test_wrong_shapes_are_named(lag, concept, uncertainty, options, says):
    with pytest.raises(ValueError, match=says):
        lag.lag_regression(concept, uncertainty, **options)
