"""The decay fit: against SciPy's least squares, planted courses, and the coverage of its intervals."""

import numpy as np
import pandas as pd
import pytest
from convergence.tables import curve_table, decay, noisy, rate_meets
from scipy import optimize


@pytest.fixture
def fits():
    import mechmsc.convergence.decay

    return mechmsc.convergence.decay


def parameters(fits, values, **options):
    table = fits.decay_fit(curve_table(values), **{"n_boot": 300} | options)
    return table.set_index("parameter")


@pytest.mark.parametrize("tau", [0.3, 1.0, 2.5, 8.0])
def test_an_exact_course_is_read_back(fits, tau):
    start, limit, gap, found = fits.fitted(decay(0.7, 0.2, tau)[None], np.arange(1.0, 11.0))[0]
    assert (start, limit, gap) == (
        pytest.approx(0.7, abs=1e-3),
        pytest.approx(0.2, abs=2e-3),
        pytest.approx(0.5, abs=2e-3),
    )
    assert found == pytest.approx(tau, rel=0.01)


def test_the_fit_is_that_of_a_general_optimiser_also_with_gaps_between_rounds(fits):
    rng = np.random.default_rng(1)
    rounds = np.array([1.0, 2.0, 3.0, 5.0, 8.0, 12.0])
    for curve in 0.2 + 0.5 * np.exp(-(rounds - 1) / 2) + rng.normal(0, 0.02, (5, 6)):
        ours = fits.fitted(curve[None], rounds)[0]
        theirs, _ = optimize.curve_fit(
            lambda t, start, limit, tau: limit + (start - limit) * np.exp(-(t - 1) / tau),
            rounds,
            curve,
            p0=[0.7, 0.2, 2.0],
            bounds=([-9, -9, 0.2], [9, 9, 22]),
        )
        assert ours[[0, 1, 3]] == pytest.approx(theirs, rel=0.01)
        assert ours[2] == pytest.approx(ours[0] - ours[1])


def test_rising_and_falling_courses_mirror_each_other(fits):
    curve = decay(0.7, 0.2, 2.0) + np.random.default_rng(2).normal(0, 0.01, 10)
    down, up = fits.fitted(np.stack([curve, 1 - curve]), np.arange(1.0, 11.0))
    assert up == pytest.approx([1 - down[0], 1 - down[1], -down[2], down[3]])


def test_a_flat_course_has_no_tau_and_a_straight_one_has_its_tau_at_the_end_of_the_search(fits):
    rng = np.random.default_rng(3)
    flat = parameters(fits, noisy([0.3] * 10, 60, rng))
    assert flat.loc["gap", "low"] < 0 < flat.loc["gap", "high"]
    assert flat.loc["tau", ["value", "low", "high"]].isna().all() and flat.loc["tau", "n"] == 60
    assert not flat.loc[["start", "limit"], "value"].isna().any()
    straight = parameters(fits, np.tile(0.8 - 0.05 * np.arange(10), (20, 1)))
    assert straight.loc["tau", "value"] == pytest.approx(18.0)


def test_intervals_hold_the_planted_course_and_missing_values_are_left_out(fits):
    rng = np.random.default_rng(4)
    values = noisy(decay(0.7, 0.2, 2.0), 200, rng)
    values[rng.random(values.shape) < 0.05] = np.nan
    table = parameters(fits, values)
    for name, truth in (("start", 0.7), ("limit", 0.2), ("gap", 0.5), ("tau", 2.0)):
        assert table.loc[name, "low"] < truth < table.loc[name, "high"], name
    assert (table["n"] == 200).all()


def test_arms_short_or_of_one_item_have_nan(fits):
    rng = np.random.default_rng(5)
    tables = [
        curve_table(noisy(decay(0.7, 0.2, 2.0), 20, rng)),
        curve_table(np.full((20, 1), 0.5), arm="none"),
        curve_table(decay(0.7, 0.2, 2.0)[None], arm="one"),
    ]
    table = fits.decay_fit(pd.concat(tables), n_boot=100).set_index(["arm", "parameter"])
    assert table.loc["none", "value"].isna().all()
    assert table.loc[("one", "gap"), "value"] == pytest.approx(0.5, abs=2e-3)
    assert table.loc["one", ["low", "high"]].isna().all(axis=None) and np.isnan(table.loc[("one", "tau"), "value"])


def test_each_option_matters_and_the_seed_fixes_the_result(fits):
    values = noisy(decay(0.7, 0.2, 2.0), 30, np.random.default_rng(6))
    frame = curve_table(values).rename(columns={"score": "entropy"})
    table = fits.decay_fit(frame, value="entropy", n_boot=100)
    assert table.equals(fits.decay_fit(frame, value="entropy", n_boot=100))
    for options in ({"seed": 1}, {"level": 0.8}, {"n_boot": 50}):
        assert not table.equals(fits.decay_fit(frame, value="entropy", **{"n_boot": 100} | options)), options


def test_too_few_rounds_are_named(fits):
    with pytest.raises(ValueError, match="needs at least 4 rounds, got 3"):
        fits.decay_fit(curve_table(np.full((5, 3), 0.5)))


def test_intervals_cover_the_planted_course_at_their_level(fits):
    trials, rng, truth = 1000, np.random.default_rng(7), np.array([0.7, 0.2, 0.5, 2.0])
    covered = np.zeros(4)
    for _ in range(trials):
        values = noisy(decay(0.7, 0.2, 2.0), 60, rng, within=0.3)
        found = fits.estimates(values, np.arange(1.0, 11.0), 0.95, 200, rng)
        covered += [one.low <= true <= one.high for one, true in zip(found, truth, strict=True)]
    for count in covered:
        assert rate_meets(count, trials, 0.93, 0.97), covered / trials


def test_a_gap_is_rarely_seen_where_there_is_none(fits):
    trials, rng = 400, np.random.default_rng(8)
    seen = sum(
        not np.isnan(
            fits.estimates(noisy([0.3] * 10, 60, rng, within=0.3), np.arange(1.0, 11.0), 0.95, 200, rng)[3].value
        )
        for _ in range(trials)
    )
    assert rate_meets(seen, trials, 0.03, 0.07), seen / trials
