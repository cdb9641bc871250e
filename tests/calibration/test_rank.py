"""Rank calibration: against exact fractions in loops, scikit-learn, SciPy, and the numbers that science states."""

import math

import numpy as np
import pytest
from references.calibration import rank_calibration_error
from scipy import stats


@pytest.fixture
def calibration():
    import mechmsc.calibration

    return mechmsc.calibration


def graded(seed, n=200, ties=False):
    """Answers that are wrong more often where uncertainty is higher."""
    rng = np.random.default_rng(seed)
    uncertainty = rng.integers(0, 12, n) / 4 if ties else rng.gamma(2.0, size=n)
    return uncertainty, (rng.random(n) > uncertainty / (uncertainty + 2)).astype(float)


@pytest.mark.parametrize("ties", ["definition", "mid"])
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("n_bins", [1, 7, 20, 1000])
def test_the_error_is_that_of_exact_fractions(calibration, ties, tied, n_bins):
    uncertainty, correctness = graded(1, n=97, ties=tied)
    ours = calibration.rank_calibration_error(uncertainty, correctness, n_bins=n_bins, ties=ties)
    assert ours == pytest.approx(rank_calibration_error(uncertainty, correctness, n_bins, ties), abs=1e-12)
    scores = np.random.default_rng(2).random(97)
    ours = calibration.rank_calibration_error(uncertainty, scores, n_bins=n_bins, ties=ties)
    assert ours == pytest.approx(rank_calibration_error(uncertainty, scores, n_bins, ties), abs=1e-12)


def test_four_bins_worked_by_hand(calibration):
    # correctness of the bins 1, 1/2, 1, 0: shares of bins at least as good 2/4, 3/4, 2/4, 1; bins up to here 1/4 .. 1
    uncertainty, correctness = np.arange(8.0), [1, 1, 1, 0, 1, 1, 0, 0]
    by_hand = (abs(2 / 4 - 1 / 4) + abs(3 / 4 - 2 / 4) + abs(2 / 4 - 3 / 4) + abs(1 - 1)) / 4
    assert calibration.rank_calibration_error(uncertainty, correctness, n_bins=4) == pytest.approx(by_hand)


@pytest.mark.parametrize("errors", [1, 4, 10])
def test_a_perfect_ranking_of_few_errors_scores_badly_and_half_as_badly_with_mid_ranks(calibration, errors):
    uncertainty, correctness = np.arange(400.0), np.repeat([1, 0], [400 - errors, errors])
    definition = calibration.rank_calibration_error(uncertainty, correctness)
    assert definition == pytest.approx(0.4275) and round(definition, 2) == 0.43
    mid = calibration.rank_calibration_error(uncertainty, correctness, ties="mid")
    assert mid == pytest.approx(0.225)


def test_a_ranking_without_ties_scores_0_if_perfect_and_half_if_reversed(calibration):
    uncertainty = np.arange(100.0)
    for ties in ("definition", "mid"):
        assert calibration.rank_calibration_error(uncertainty, -uncertainty, ties=ties) == pytest.approx(0.0)
    assert calibration.rank_calibration_error(uncertainty, uncertainty, ties="mid") == pytest.approx(0.5)
    assert calibration.rank_calibration_error(uncertainty, uncertainty) == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("ties", ["definition", "mid"])
def test_tied_uncertainty_gives_the_same_value_in_any_order_of_rows(calibration, ties):
    rng = np.random.default_rng(3)
    uncertainty, correctness = rng.integers(0, 9, 150) / 3, rng.integers(0, 2, 150) * 0.1
    values = set()
    for _ in range(10):
        order = rng.permutation(150)
        values.add(calibration.rank_calibration_error(uncertainty[order], correctness[order], ties=ties))
    assert len(values) == 1
    # without merging the value does depend on the order
    worst_last = np.lexsort([-correctness, uncertainty])
    split = [rank_calibration_error(np.arange(150), correctness[order], 20) for order in (worst_last, order)]
    assert split[0] != pytest.approx(split[1], abs=1e-3)


def test_only_the_ranks_of_uncertainty_and_of_correctness_matter(calibration):
    uncertainty, correctness = graded(4)
    error = calibration.rank_calibration_error(uncertainty, correctness)
    assert calibration.rank_calibration_error(np.exp(uncertainty), 7 * correctness - 3) == pytest.approx(error)


def test_one_value_of_uncertainty_all_correct_and_fewer_items_than_bins(calibration):
    assert calibration.rank_calibration_error(np.ones(50), np.repeat([0, 1], 25)) == 0.0
    assert calibration.rank_calibration_error(np.arange(400.0), np.ones(400)) == pytest.approx(0.475)
    assert calibration.rank_calibration_error(np.arange(400.0), np.ones(400), ties="mid") == pytest.approx(0.25)
    assert calibration.rank_calibration_error([1.0, 2.0, 3.0], [1, 1, 0]) == pytest.approx(1 / 9)
    assert math.isnan(calibration.rank_calibration_error([], []))
    assert calibration.rank_calibration_error([1.0, np.nan], [1, 0]) == 0.0


def summary(calibration, uncertainty, correctness, **options):
    table = calibration.rank_calibration(
        uncertainty, correctness, **{"seed": 0, "n_boot": 300, "n_null": 200} | options
    )
    assert table.columns.tolist() == ["measure", "value", "low", "high", "level", "n"]
    return table.set_index("measure")


@pytest.mark.parametrize("ties", [False, True])
def test_the_summary_agrees_with_scikit_learn_and_scipy(calibration, ties):
    from sklearn.metrics import roc_auc_score

    uncertainty, correctness = graded(5, ties=ties)
    table = summary(calibration, uncertainty, correctness)
    assert table.loc["rce", "value"] == calibration.rank_calibration_error(uncertainty, correctness)
    assert table.loc["auroc", "value"] == pytest.approx(roc_auc_score(1 - correctness, uncertainty))
    assert table.loc["spearman", "value"] == pytest.approx(stats.spearmanr(uncertainty, correctness).statistic)
    assert table.loc["correctness", "value"] == pytest.approx(correctness.mean())


def test_its_intervals_are_those_of_a_slow_bootstrap_over_clusters(calibration):
    from mechmsc.estimate import cluster_bootstrap

    uncertainty, correctness = graded(6, n=60, ties=True)
    clusters = np.repeat(np.arange(30), 2)
    table = summary(calibration, uncertainty, correctness, clusters=clusters, n_boot=4000)
    slow = cluster_bootstrap(
        np.stack([uncertainty, correctness], axis=1),
        clusters,
        statistic=lambda rows: float(np.corrcoef(stats.rankdata(rows[:, 0]), stats.rankdata(rows[:, 1]))[0, 1]),
        n_boot=1500,
        seed=1,
    )
    ours = table.loc["spearman"]
    assert (ours["value"], ours["n"]) == (pytest.approx(slow.value), 30)
    assert (ours["low"], ours["high"]) == (pytest.approx(slow.low, abs=0.03), pytest.approx(slow.high, abs=0.03))
    rows = summary(calibration, uncertainty, correctness)
    assert rows.loc["spearman", "n"] == 60 and rows.loc["spearman", "low"] != ours["low"]


def test_a_good_ranking_stands_out_from_its_null_and_a_random_one_does_not(calibration):
    uncertainty, correctness = graded(7, n=400)
    good = summary(calibration, uncertainty, correctness)
    assert good.loc["rce", "value"] < good.loc["rce_null", "low"]
    assert good.loc["auroc", "low"] > 0.5 and good.loc["spearman", "high"] < 0
    random = summary(calibration, np.random.default_rng(8).random(400), correctness)
    null = random.loc["rce_null"]
    assert null["low"] < random.loc["rce", "value"] < null["high"]
    assert random.loc["auroc", "low"] < 0.5 < random.loc["auroc", "high"]


def test_the_null_holds_what_it_says(calibration):
    rng = np.random.default_rng(9)
    outside, trials = 0, 200
    for trial in range(trials):
        uncertainty, correctness = rng.random(60), rng.random(60) < 0.8
        table = summary(calibration, uncertainty, correctness, n_boot=1, n_null=99, seed=trial)
        outside += not table.loc["rce_null", "low"] <= table.loc["rce", "value"] <= table.loc["rce_null", "high"]
    sure = stats.binomtest(outside, trials).proportion_ci(0.99)
    assert sure.low <= 0.05 <= sure.high


def test_at_high_accuracy_a_perfect_ranking_is_no_better_than_its_null_and_the_summary_says_so(calibration):
    uncertainty, correctness = np.arange(400.0), np.repeat([1, 0], [390, 10])
    table = summary(calibration, uncertainty, correctness)
    assert table.loc["rce", "value"] == table.loc["rce_perfect", "value"] == pytest.approx(0.4275)
    assert table.loc["rce_null", "value"] < 0.4
    assert table.loc["auroc", "value"] == 1.0
    # nor is it the least: errors that fall off from bin to bin score less
    graded_errors = np.ones(400)
    for place, count in zip(range(320, 400, 20), (1, 2, 3, 4), strict=True):
        graded_errors[place : place + count] = 0
    assert calibration.rank_calibration_error(uncertainty, graded_errors) == pytest.approx(0.3)


def test_what_cannot_be_known_is_nan(calibration):
    right = summary(calibration, np.arange(40.0), np.ones(40))
    assert math.isnan(right.loc["auroc", "value"]) and math.isnan(right.loc["spearman", "value"])
    assert right.loc["correctness", "value"] == 1.0 and right.loc["rce", "n"] == 40
    scores = summary(calibration, np.arange(40.0), np.linspace(1, 0, 40))
    assert math.isnan(scores.loc["auroc", "value"]) and scores.loc["spearman", "value"] == pytest.approx(-1.0)
    one = summary(calibration, [1.0], [1.0])
    assert one["low"].isna().all() and one["high"].isna().all() and (one["n"] == 1).all()
    none = summary(calibration, [np.nan], [1.0])
    assert none["value"].isna().all() and (none["n"] == 0).all()
    assert right[["low", "high"]].loc["rce"].isna().all()


def test_the_seed_fixes_the_summary_and_each_option_changes_it(calibration):
    uncertainty, correctness = graded(10)
    first = summary(calibration, uncertainty, correctness)
    assert first.equals(summary(calibration, uncertainty, correctness))
    for options in ({"seed": 1}, {"n_bins": 5}, {"ties": "mid"}, {"level": 0.8}, {"n_boot": 100}, {"n_null": 50}):
        assert not first.equals(summary(calibration, uncertainty, correctness, **options)), options


@pytest.mark.parametrize(
    ("uncertainty", "correctness", "options", "says"),
    [
        ([1.0, 2.0], [1], {}, "one uncertainty and one correctness an item"),
        ([np.inf], [1], {}, "uncertainty must be finite or nan"),
        ([1.0], [1], {"ties": "high"}, "unknown ties 'high'; known: definition, mid"),
        ([1.0], [1], {"n_bins": 0}, "at least 1 bin, got 0"),
    ],
)
def test_wrong_arguments_are_named(calibration, uncertainty, correctness, options, says):
    with pytest.raises(ValueError, match=says):
        calibration.rank_calibration_error(uncertainty, correctness, **options)


def test_wrong_arguments_of_the_summary_are_named(calibration):
    with pytest.raises(ValueError, match="one cluster an item"):
        calibration.rank_calibration([1.0, 2.0], [1, 0], clusters=["a"], seed=0)
    with pytest.raises(ValueError, match="n_null of at least 1"):
        calibration.rank_calibration([1.0, 2.0], [1, 0], n_null=0, seed=0)
    with pytest.raises(ValueError, match="one uncertainty and one correctness"):
        calibration.rank_calibration([1.0, 2.0], [1, 0, 1], seed=0)
