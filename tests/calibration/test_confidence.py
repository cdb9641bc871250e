"""Calibration error, reliability and proper scores: against loops, torchmetrics, scikit-learn and hand-worked cases."""

import math

import numpy as np
import pytest
from references.calibration import equal_count_bins, expected_calibration_error
from scipy import stats


@pytest.fixture
def calibration():
    import mechmsc.calibration

    return mechmsc.calibration


def answers(seed, n=500, shift=0.1):
    """Confidences, and answers right less often than stated."""
    rng = np.random.default_rng(seed)
    confidence = rng.beta(4, 2, n)
    return confidence, (rng.random(n) < confidence - shift).astype(float)


def test_four_answers_worked_by_hand(calibration):
    # (0.6, 0.7]: confidence 0.65, accuracy 0.5, gap 0.15; (0.9, 1]: confidence 0.95, accuracy 1, gap 0.05
    assert calibration.expected_calibration_error([0.62, 0.68, 0.92, 0.98], [1, 0, 1, 1]) == pytest.approx(0.1)


@pytest.mark.parametrize("n_bins", [1, 7, 10, 15])
def test_the_error_is_that_of_a_slow_loop_and_of_torchmetrics(calibration, n_bins):
    import torch
    from torchmetrics.functional.classification import binary_calibration_error

    confidence, correct = answers(1)
    ours = calibration.expected_calibration_error(confidence, correct, n_bins=n_bins)
    assert ours == pytest.approx(expected_calibration_error(confidence, correct, n_bins), abs=1e-12)
    theirs = binary_calibration_error(torch.tensor(confidence), torch.tensor(correct).long(), n_bins=n_bins, norm="l1")
    assert ours == pytest.approx(float(theirs), abs=1e-6)


def test_an_edge_belongs_to_the_bin_below_it_and_the_ends_to_the_first_and_last(calibration):
    edges = np.arange(11) / 10
    table = calibration.reliability_diagram(edges, np.ones(11))
    assert table["n"].tolist() == [2] + [1] * 9
    assert table["confidence"].tolist() == pytest.approx([0.05, *edges[2:]])
    assert table[["bin_low", "bin_high"]].to_numpy().T == pytest.approx(np.stack([edges[:-1], edges[1:]]))
    # floats next to an edge: 0.7 is below 0.1 * 7 = 0.7000000000000001
    assert calibration.reliability_diagram([0.7], [1])["bin_high"].item() == 0.7
    assert calibration.reliability_diagram([np.nextafter(0.7, 1)], [1])["bin_high"].item() == 0.8


def test_confidence_of_exactly_0_and_1_and_all_correct(calibration):
    assert calibration.expected_calibration_error([0.0, 1.0], [0, 1]) == 0.0
    assert calibration.expected_calibration_error([0.0, 1.0], [1, 0]) == 1.0
    assert calibration.expected_calibration_error([0.7, 0.8, 0.9], [1, 1, 1]) == pytest.approx(0.2)
    assert calibration.expected_calibration_error([1.0, 1.0], [True, True], debiased=True) == 0.0


def test_empty_bins_are_skipped(calibration):
    table = calibration.reliability_diagram([0.05, 0.95, 0.96], [0, 1, 1])
    assert table["bin_low"].tolist() == [0.0, 0.9]
    assert table["n"].sum() == 3
    assert not table.drop(columns=["low", "high"]).isna().any(axis=None)


@pytest.mark.parametrize("binning", ["equal_width", "equal_mass"])
def test_the_error_is_the_one_drawn_in_the_diagram(calibration, binning):
    confidence, correct = answers(2)
    table = calibration.reliability_diagram(confidence, correct, binning=binning)
    gap = (table["n"] / table["n"].sum() * (table["accuracy"] - table["confidence"]).abs()).sum()
    assert calibration.expected_calibration_error(confidence, correct, binning=binning) == pytest.approx(gap, abs=1e-12)
    assert (table["low"] <= table["accuracy"]).all() and (table["accuracy"] <= table["high"]).all()


def test_the_intervals_of_the_diagram_are_statsmodels_wilson_intervals(calibration):
    from statsmodels.stats.proportion import proportion_confint

    confidence, correct = answers(3)
    table = calibration.reliability_diagram(confidence, correct, level=0.9)
    table = table[table["n"] > 1]
    low, high = proportion_confint(table["accuracy"] * table["n"], table["n"], alpha=0.1, method="wilson")
    assert table["low"].to_numpy() == pytest.approx(low.to_numpy())
    assert table["high"].to_numpy() == pytest.approx(high.to_numpy())


def test_bins_of_equal_mass_are_those_of_a_slow_deal_and_equal_confidences_stay_together(calibration):
    rng = np.random.default_rng(4)
    confidence, correct = rng.integers(0, 30, 101) / 30, rng.integers(0, 2, 101)
    table = calibration.reliability_diagram(confidence, correct, binning="equal_mass", n_bins=8)
    slow = equal_count_bins(confidence, 8)
    assert table["n"].tolist() == [len(rows) for rows in slow]
    assert table["accuracy"].tolist() == pytest.approx([correct[rows].mean() for rows in slow])
    assert (table["bin_high"].to_numpy()[:-1] < table["bin_low"].to_numpy()[1:]).all()
    distinct = calibration.reliability_diagram(rng.random(80), np.ones(80), binning="equal_mass", n_bins=8)
    assert distinct["n"].tolist() == [10] * 8


@pytest.mark.parametrize("binning", ["equal_width", "equal_mass"])
@pytest.mark.parametrize("debiased", [False, True])
def test_the_order_of_rows_does_not_matter(calibration, binning, debiased):
    rng = np.random.default_rng(5)
    confidence, correct = rng.integers(0, 12, 90) / 11, rng.integers(0, 2, 90)
    values = set()
    for _ in range(5):
        order = rng.permutation(90)
        error = calibration.expected_calibration_error(
            confidence[order], correct[order], binning=binning, debiased=debiased
        )
        values.add(round(error, 12))
    assert len(values) == 1


def test_debiasing_takes_away_two_fifths_of_what_noise_adds_to_calibrated_confidences(calibration):
    rng = np.random.default_rng(6)
    plain, debiased = [], []
    for _ in range(400):
        confidence = rng.beta(2, 1, 100)
        correct = rng.random(100) < confidence
        plain.append(calibration.expected_calibration_error(confidence, correct))
        debiased.append(calibration.expected_calibration_error(confidence, correct, debiased=True))
    assert np.mean(plain) > 0.08
    assert 0.5 < np.mean(debiased) / np.mean(plain) < 0.7  # 1 - (sqrt(2) - 1) where all gaps are noise
    assert min(debiased) < 0  # not clipped


def test_where_gaps_are_as_large_as_their_noise_debiasing_takes_away_most_of_the_excess(calibration):
    rng = np.random.default_rng(60)
    truth, plain, debiased = 0.15, [], []
    for _ in range(400):
        confidence = rng.uniform(0.4, 0.9, 40)
        correct = rng.random(40) < confidence - truth
        plain.append(calibration.expected_calibration_error(confidence, correct))
        debiased.append(calibration.expected_calibration_error(confidence, correct, debiased=True))
    assert abs(np.mean(debiased) - truth) < 0.5 * (np.mean(plain) - truth)


def test_where_the_error_is_large_debiasing_changes_nothing(calibration):
    confidence, correct = np.full(400, 0.95), np.tile([0.0, 1.0], 200)
    plain = calibration.expected_calibration_error(confidence, correct)
    assert plain == pytest.approx(0.45)
    assert calibration.expected_calibration_error(confidence, correct, debiased=True) == pytest.approx(plain, abs=1e-9)


def test_the_part_taken_out_is_the_mean_of_a_folded_normal(calibration):
    # one bin, confidence 0.75, accuracy 0.7 of 40: gap 0.05, standard error sqrt(0.21 / 40)
    confidence, correct = np.full(40, 0.75), np.repeat([1, 0], [28, 12])
    folded = stats.foldnorm(0.05 / math.sqrt(0.21 / 40), scale=math.sqrt(0.21 / 40)).mean()
    debiased = calibration.expected_calibration_error(confidence, correct, debiased=True)
    assert debiased == pytest.approx(2 * 0.05 - folded, abs=1e-12)


def test_scores_are_those_of_scikit_learn(calibration):
    from sklearn.metrics import brier_score_loss, log_loss

    rng = np.random.default_rng(7)
    probs, gold = rng.dirichlet(np.ones(3), 60), rng.integers(0, 3, 60)
    assert calibration.negative_log_likelihood(probs, gold) == pytest.approx(log_loss(gold, probs, labels=[0, 1, 2]))
    two = np.stack([probs[:, 0], 1 - probs[:, 0]], axis=1)
    assert calibration.brier_score(two, 1 - (gold == 0)) == pytest.approx(2 * brier_score_loss(gold == 0, probs[:, 0]))
    slow = sum((probs[i, k] - (k == gold[i])) ** 2 for i in range(60) for k in range(3))
    assert calibration.brier_score(probs, gold) == pytest.approx(slow / 60)


def test_scores_at_the_ends(calibration):
    sure = [[1.0, 0.0, 0.0]]
    assert calibration.brier_score(sure, [0]) == 0.0 and calibration.brier_score(sure, [2]) == 2.0
    assert calibration.negative_log_likelihood(sure, [0]) == 0.0
    assert calibration.negative_log_likelihood(sure, [2]) == math.inf
    assert math.isnan(calibration.brier_score(np.empty((0, 3)), []))


def test_missing_rows_are_left_out(calibration):
    confidence, correct = answers(8, n=50)
    whole = calibration.expected_calibration_error(confidence[2:], correct[2:])
    confidence[0], correct[1] = np.nan, np.nan
    assert calibration.expected_calibration_error(confidence, correct) == whole
    assert calibration.brier_score([[0.5, 0.5], [np.nan, np.nan], [1, 0]], [0, 0, np.nan]) == 0.5
    assert math.isnan(calibration.expected_calibration_error([], []))
    assert math.isnan(calibration.expected_calibration_error([np.nan], [1]))
    assert len(calibration.reliability_diagram([], [])) == 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (([0.5, 0.5], [1]), r"one confidence and one correct an item, got shapes \(2,\) and \(1,\)"),
        (([0.5, 1.2], [1, 1]), r"in \[0, 1\], got 1.2"),
        (([-0.1], [1]), "got -0.1"),
        (([0.5], [2]), "0 or 1 .* got 2"),
        (([np.inf], [1]), "finite or nan"),
    ],
)
def test_wrong_confidences_are_named(calibration, arguments, says):
    with pytest.raises(ValueError, match=says):
        calibration.expected_calibration_error(*arguments)


@pytest.mark.parametrize(
    ("probs", "gold", "says"),
    [
        ([[0.5, 0.5], [0.5, 0.4]], [0, 0], r"sum to 1, got \[0.5, 0.4\] \(sum 0.9\) in row 1"),
        ([[np.nan, 0], [1.2, -0.2]], [0, 0], "at least 0 and sum to 1, .* in row 1"),
        ([[0.5, 0.5]], [2], "index of a choice, 0 to 1, got 2 in row 0"),
        ([[0.5, 0.5]], [0.5], "index of a choice, 0 to 1, got 0.5"),
        ([[0.5, 0.5]], [0, 1], r"shapes \(1, 2\) and \(2,\)"),
    ],
)
def test_wrong_probabilities_are_named(calibration, probs, gold, says):
    for score in (calibration.brier_score, calibration.negative_log_likelihood):
        with pytest.raises(ValueError, match=says):
            score(probs, gold)


def test_wrong_bins_and_levels_are_named(calibration):
    with pytest.raises(ValueError, match="at least 1 bin, got 0"):
        calibration.expected_calibration_error([0.5], [1], n_bins=0)
    with pytest.raises(ValueError, match="unknown binning 'equal'; known: equal_width, equal_mass"):
        calibration.expected_calibration_error([0.5], [1], binning="equal")
    with pytest.raises(ValueError, match="between 0 and 1, got 95"):
        calibration.reliability_diagram([0.5], [1], level=95.0)
