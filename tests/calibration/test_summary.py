"""The interval of the calibration error, its null, and the coverage of the intervals of calibration."""

import math

import numpy as np
import pytest
from scipy import optimize, stats


@pytest.fixture
def calibration():
    import mechmsc.calibration

    return mechmsc.calibration


@pytest.fixture
def summary():
    import mechmsc.calibration.summary

    return mechmsc.calibration.summary


def meets(covered, trials, low=0.93, high=0.97):
    """Whether the 99 % binomial interval of the observed rate meets the band."""
    sure = stats.binomtest(int(covered), trials).proportion_ci(0.99)
    return sure.low <= high and sure.high >= low


def test_the_nearest_gaps_of_a_given_error_are_those_of_a_general_optimiser(summary):
    rng = np.random.default_rng(1)
    gaps, variance = rng.normal(0, 0.05, 5), rng.uniform(0.001, 0.01, 5)
    totals = np.array([0.02, 0.1, float(np.abs(gaps).sum()), 0.4])
    for total, ours in zip(totals, summary.nearest_with_sums(gaps, variance, totals), strict=True):
        assert np.abs(ours).sum() == pytest.approx(total)
        theirs = optimize.minimize(
            lambda size: (((np.sign(gaps) * size - gaps) ** 2) / variance).sum(),
            np.full(5, total / 5),
            bounds=[(0, None)] * 5,
            constraints={"type": "eq", "fun": lambda size, total=total: size.sum() - total},
        )
        assert ours == pytest.approx(np.sign(gaps) * theirs.x, abs=2e-4)
    assert not summary.nearest_with_sums(gaps, variance, np.zeros(1)).any()


def interval_coverage(summary, accuracy_of, draw, truth, *, n, trials, percentile=False):
    """How often the interval (or the percentile bootstrap's) covers the true error."""
    rng = np.random.default_rng(2)
    covered = 0
    for trial in range(trials):
        confidence = draw(rng, n)
        correct = (rng.random(n) < accuracy_of(confidence)).astype(float)
        if percentile:
            rows = rng.integers(0, n, (100, n))
            errors = [summary.expected_calibration_error(confidence[row], correct[row]) for row in rows]
            low, high = np.quantile(errors, [0.025, 0.975])
        else:
            one = summary.calibration_error_interval(confidence, correct, n_draws=200, seed=trial)
            low, high = one.low, one.high
        covered += low <= truth <= high
    return covered


def uniform(low, high):
    return lambda rng, n: rng.uniform(low, high, n)


@pytest.mark.parametrize(
    ("accuracy_of", "truth"),
    [
        pytest.param(lambda c: c, 0.0, id="calibrated"),
        pytest.param(lambda c: c - 0.15, 0.15, id="everywhere too sure"),
        pytest.param(lambda c: np.where(c < 0.6, c, c - 0.25), 0.25 * 2 / 3, id="too sure where sure"),
    ],
)
def test_the_interval_covers_the_error_at_its_level(summary, accuracy_of, truth):
    trials = 1000
    covered = interval_coverage(summary, accuracy_of, uniform(0.4, 1.0), truth, n=60, trials=trials)
    assert meets(covered, trials), covered / trials


def test_bootstrap_percentiles_do_not_cover_a_small_error(summary):
    covered = interval_coverage(summary, lambda c: c, uniform(0.4, 1.0), 0.0, n=60, trials=20, percentile=True)
    assert covered == 0


def test_the_interval_of_clustered_answers_is_wider(summary):
    rng = np.random.default_rng(3)
    clusters = np.repeat(np.arange(40), 5)
    confidence = rng.uniform(0.5, 0.9, 200)
    correct = np.repeat(rng.random(40) < 0.5, 5).astype(float)  # a family is right or wrong together
    family = summary.calibration_error_interval(confidence, correct, clusters=clusters, seed=0)
    alone = summary.calibration_error_interval(confidence, correct, seed=0)
    assert (family.n, alone.n, family.value) == (40, 200, pytest.approx(alone.value))
    assert family.high - family.low > 1.5 * (alone.high - alone.low)


def test_the_summary_holds_the_errors_the_null_and_the_means(calibration):
    rng = np.random.default_rng(4)
    confidence = rng.uniform(0.4, 1.0, 300)
    correct = (rng.random(300) < confidence - 0.2).astype(float)
    table = calibration.calibration_summary(confidence, correct, seed=0)
    assert table.columns.tolist() == ["measure", "value", "low", "high", "level", "n"]
    table = table.set_index("measure")
    for name, debiased in (("ece", False), ("ece_debiased", True)):
        error = calibration.expected_calibration_error(confidence, correct, debiased=debiased)
        assert table.loc[name, "value"] == pytest.approx(error, abs=1e-12)
        assert table.loc[name, "low"] < 0.2 < table.loc[name, "high"]
    assert table.loc["ece", "low"] > table.loc["ece_null", "high"]
    assert table.loc["accuracy", "value"] == pytest.approx(correct.mean())
    assert table.loc["confidence", "value"] == pytest.approx(confidence.mean())
    assert (table["n"] == 300).all()


def test_calibrated_answers_lie_within_their_null(calibration):
    rng = np.random.default_rng(5)
    outside, trials = 0, 100
    for trial in range(trials):
        confidence = rng.beta(2, 1, 50)
        table = calibration.calibration_summary(confidence, rng.random(50) < confidence, n_boot=100, seed=trial)
        value, null = table["value"][0], table.iloc[2]
        outside += not null["low"] <= value <= null["high"]
    sure = stats.binomtest(outside, trials).proportion_ci(0.99)
    assert sure.low <= 0.05 <= sure.high


def test_the_seed_fixes_the_summary_and_each_option_changes_it(calibration):
    rng = np.random.default_rng(6)
    confidence = rng.uniform(0.4, 1.0, 80)
    correct, clusters = rng.random(80) < 0.7, np.repeat(np.arange(40), 2)

    def table(**options):
        return calibration.calibration_summary(confidence, correct, **{"seed": 0, "n_boot": 200} | options)

    assert table().equals(table())
    options = {"seed": 1, "n_bins": 5, "binning": "equal_mass", "level": 0.8, "n_boot": 100, "clusters": clusters}
    for name, value in options.items():
        assert not table().equals(table(**{name: value})), name


def test_few_items_and_missing_values(calibration, summary):
    one = calibration.calibration_summary([0.7, np.nan], [1, 1], seed=0)
    assert one["low"].isna().all() and one["high"].isna().all() and (one["n"] == 1).all()
    assert one["value"][0] == pytest.approx(0.3)
    none = calibration.calibration_summary([], [], seed=0)
    assert none["value"].isna().all() and (none["n"] == 0).all()
    sure = summary.calibration_error_interval(np.ones(50), np.ones(50), seed=0)
    assert (sure.value, sure.low) == (0.0, 0.0) and sure.high < 0.01
    same = summary.calibration_error_interval([0.7, 0.7], [1, 0], clusters=["a", "a"], seed=0)
    assert same.n == 1 and math.isnan(same.low)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"clusters": ["a"]}, "one cluster an item"),
        ({"level": 95.0}, "level between 0 and 1"),
        ({"n_draws": 0}, "at least 1 draw"),
        ({"confidence": [0.5, 1.5]}, "got 1.5"),
    ],
)
def test_wrong_arguments_are_named(summary, options, says):
    arguments = {"confidence": [0.5, 0.6], "correct": [1, 0], "seed": 0} | options
    with pytest.raises(ValueError, match=says):
        summary.calibration_error_interval(**arguments)


def test_intervals_of_ranking_cover_the_truth_at_their_level():
    import mechmsc.calibration.rank as rank

    trials, n = 1000, 60
    # uncertainty of right answers N(0, 1), of wrong ones N(1, 1): AUROC = Phi(1 / sqrt 2); a third is wrong
    rng = np.random.default_rng(7)
    many = rng.random(400_000) < 2 / 3
    truth = {
        "auroc": stats.norm.cdf(1 / math.sqrt(2)),
        "spearman": stats.spearmanr(rng.normal(0, 1, 400_000) + ~many, many).statistic,
        "correctness": 2 / 3,
    }
    covered = dict.fromkeys(truth, 0)
    for _ in range(trials):
        correct = (rng.random(n) < 2 / 3).astype(float)
        found = rank.ranking(rng.normal(1, 1, n) - correct, correct, np.arange(n), 0.95, 200, rng)
        for name, value in truth.items():
            covered[name] += found[name].low <= value <= found[name].high
    assert {name: count / trials for name, count in covered.items() if not meets(count, trials)} == {}
