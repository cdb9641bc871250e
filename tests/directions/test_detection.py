"""AUROC and accuracy equal scikit-learn's, ties and weights included; their intervals are those of a slow bootstrap."""

import math

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import accuracy_score, balanced_accuracy_score, roc_auc_score


@pytest.fixture
def detection():
    import mechmsc.directions.detection

    return mechmsc.directions.detection


@pytest.fixture
def estimate():
    import mechmsc.estimate

    return mechmsc.estimate


def made(seed, n=120, columns=3, decimals=1):
    """Rounded scores: many ties."""
    rng = np.random.default_rng(seed)
    labels = (rng.random(n) < 0.3).astype(int)
    return np.round(rng.normal(size=(n, columns)) + labels[:, None], decimals), labels


@pytest.mark.parametrize("decimals", [0, 1, 12])
def test_auroc_is_scikit_learns_with_ties_and_weights(detection, decimals):
    scores, labels = made(0, decimals=decimals)
    weights = np.random.default_rng(1).integers(0, 4, size=(6, len(labels))).astype(float)
    ours = detection.auroc(scores, labels, weights=weights)
    for resample in range(6):
        for column in range(3):
            theirs = roc_auc_score(labels, scores[:, column], sample_weight=weights[resample])
            assert ours[resample, column] == pytest.approx(theirs, abs=1e-12)
    alone = detection.auroc(scores, labels)
    assert alone.shape == (1, 3)
    assert alone[0, 0] == pytest.approx(roc_auc_score(labels, scores[:, 0]), abs=1e-12)


def test_with_folds_only_statements_of_one_fold_are_compared(detection):
    scores, labels = made(2)
    folds = np.arange(len(labels)) % 4
    shifted = scores + 100.0 * folds[:, None]  # fits whose zero points differ
    apart = detection.auroc(shifted, labels, folds=folds)
    assert apart == pytest.approx(detection.auroc(scores, labels, folds=folds), abs=1e-12)
    assert abs(detection.auroc(shifted, labels)[0, 0] - apart[0, 0]) > 0.05
    pairs = [(labels[folds == f] == 1).sum() * (labels[folds == f] == 0).sum() for f in range(4)]
    by_fold = [roc_auc_score(labels[folds == f], scores[folds == f, 0]) for f in range(4)]
    assert apart[0, 0] == pytest.approx(np.average(by_fold, weights=pairs), abs=1e-12)


def test_constant_scores_have_auroc_one_half_and_missing_ones_none(detection):
    scores, labels = made(3)
    scores[:, 0], scores[5, 1] = 2.0, np.nan
    found = detection.auroc(scores, labels)[0]
    assert found[0] == 0.5 and math.isnan(found[1]) and found[2] > 0.5
    one_class = detection.auroc(scores[labels == 1], labels[labels == 1])
    assert np.isnan(one_class).all()


def test_accuracies_are_scikit_learns_at_the_midpoint(detection):
    scores, labels = made(4, decimals=12)
    found = detection.detection_estimates(scores, labels, groups=np.arange(len(labels)), seed=0)
    for column in range(3):
        predicted = (scores[:, column] > 0).astype(int)
        assert found["accuracy"][column].value == pytest.approx(accuracy_score(labels, predicted))
        assert found["balanced_accuracy"][column].value == pytest.approx(balanced_accuracy_score(labels, predicted))
    assert detection.correct(np.zeros((2, 1)), np.array([0, 1])).tolist() == [[0.5], [0.5]]


def test_the_intervals_are_exactly_those_of_the_slow_bootstrap_with_the_same_seed(detection, estimate):
    scores, labels = made(5)
    groups = np.random.default_rng(6).integers(0, 30, size=len(labels))
    against, control = scores[:, 1] + scores[:, 2], np.random.default_rng(7).random((len(labels), 3)).round()
    options = {"level": 0.9, "n_boot": 100, "seed": 8}
    found = detection.detection_estimates(scores, labels, groups=groups, against=against, control=control, **options)
    table = np.column_stack([labels, scores[:, 0], against, control[:, 0]])
    slow = {
        "auroc": lambda t: roc_auc_score(t[:, 0], t[:, 1]),
        "accuracy": lambda t: np.mean(((t[:, 1] > 0) == t[:, 0]) * (t[:, 1] != 0) + 0.5 * (t[:, 1] == 0)),
        "auroc_difference": lambda t: roc_auc_score(t[:, 0], t[:, 1]) - roc_auc_score(t[:, 0], t[:, 2]),
        "control_accuracy": lambda t: t[:, 3].mean(),
    }
    for measure, statistic in slow.items():
        expected = estimate.cluster_bootstrap(table, groups, statistic=statistic, **options)
        ours = found[measure][0]
        assert (ours.value, ours.low, ours.high) == pytest.approx((expected.value, expected.low, expected.high))
        assert (ours.n, ours.level) == (expected.n, 0.9)
    gain = found["selectivity"][0]
    assert gain.value == pytest.approx(found["accuracy"][0].value - found["control_accuracy"][0].value)


def test_the_weighted_bootstrap_of_means_is_that_of_columns_whatever_fits_into_memory(estimate, monkeypatch):
    rng = np.random.default_rng(9)
    values, clusters = rng.normal(size=(90, 2)), rng.integers(0, 20, size=90)

    def means(weights):
        return weights @ values / weights.sum(axis=1, keepdims=True)

    ours = estimate.cluster_bootstrap_weighted(means, clusters, n_boot=400, seed=0)
    theirs = estimate.cluster_bootstrap_columns(values, clusters, n_boot=400, seed=0)
    for one, other in zip(ours, theirs, strict=True):
        assert (one.value, one.low, one.high, one.n) == pytest.approx((other.value, other.low, other.high, other.n))
    monkeypatch.setattr("mechmsc.estimate.resampling.DRAWS_AT_ONCE", 500)
    assert estimate.cluster_bootstrap_weighted(means, clusters, n_boot=400, seed=0) == ours
    (alone, _) = estimate.cluster_bootstrap_weighted(lambda w: w @ values[:3], ["a"] * 3, seed=0)
    assert alone.n == 1 and math.isnan(alone.low) and alone.value == pytest.approx(values[:3, 0].sum())


def test_the_interval_of_the_auroc_covers_the_truth_by_groups_and_not_by_rows(detection):
    trials, by_group, by_row = 120, 0, 0
    for trial in range(trials):
        rng = np.random.default_rng(10_000 + trial)
        groups = np.repeat(np.arange(40), 6)
        labels = np.tile([0, 1], 120)
        style = rng.normal(size=40)[groups]  # how a template moves both classes, in opposite ways
        scores = (rng.normal(size=240) + 2.0 * style * (labels - 0.5))[:, None]  # on average nothing: AUROC 0.5
        for unit, name in ((groups, "group"), (np.arange(240), "row")):
            area = detection.detection_estimates(scores, labels, groups=unit, n_boot=120, seed=trial)["auroc"][0]
            covered = area.low <= 0.5 <= area.high
            by_group, by_row = by_group + covered * (name == "group"), by_row + covered * (name == "row")
    sure = stats.binomtest(by_group, trials).proportion_ci(0.99)
    assert sure.low <= 0.97 and sure.high >= 0.92
    assert stats.binomtest(by_row, trials).proportion_ci(0.99).high < 0.8


def test_one_label_only_is_refused(detection):
    with pytest.raises(ValueError, match="both labels"):
        detection.detection_estimates(np.zeros((2, 1)), np.array([1, 1]), groups=[0, 1], seed=0)
