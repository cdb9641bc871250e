"""Intervals and tests over items: against slow references, SciPy, and planted data with known coverage."""

import math

import numpy as np
import pytest
from references.bootstrap import exact_sign_flip_p, resampled_mean_interval
from scipy import stats


@pytest.fixture
def estimate():
    import mechmsc.estimate

    return mechmsc.estimate


def clustered(seed, n_clusters=40, rows=6, between=1.0, within=0.5):
    """Rows of an item share a part: the true mean is 0."""
    rng = np.random.default_rng(seed)
    clusters = np.repeat(np.arange(n_clusters), rows)
    return rng.normal(0, between, n_clusters)[clusters] + rng.normal(0, within, len(clusters)), clusters


def test_the_interval_is_that_of_a_slow_bootstrap_with_unequal_clusters_and_missing_values(estimate):
    rng = np.random.default_rng(1)
    clusters = np.array([f"task/{i}" for i in rng.integers(0, 25, size=160)])
    values = rng.normal(size=160) + np.array([len(c) for c in clusters])
    values[::17] = np.nan
    ours = estimate.cluster_bootstrap(values, clusters, n_boot=20_000, seed=0)
    value, low, high, n = resampled_mean_interval(values, clusters, level=0.95, n_boot=20_000, seed=0)
    assert ours.value == pytest.approx(value, abs=1e-12)
    assert (ours.n, ours.level) == (n, 0.95)
    assert ours.low == pytest.approx(low, abs=0.02)
    assert ours.high == pytest.approx(high, abs=0.02)


def test_with_one_row_per_item_the_interval_is_scipys_percentile_interval(estimate):
    values = np.random.default_rng(2).gamma(2.0, size=60)
    ours = estimate.cluster_bootstrap(values, np.arange(60), n_boot=20_000, level=0.9, seed=3)
    theirs = stats.bootstrap(
        (values,), np.mean, confidence_level=0.9, n_resamples=20_000, method="percentile", rng=np.random.default_rng(4)
    ).confidence_interval
    assert ours.low == pytest.approx(theirs.low, abs=0.02)
    assert ours.high == pytest.approx(theirs.high, abs=0.02)


def test_a_callable_mean_gives_exactly_the_fast_mean(estimate):
    values, clusters = clustered(5, n_clusters=12)
    values[3] = np.nan
    shuffled = np.random.default_rng(0).permutation(len(values))
    fast = estimate.cluster_bootstrap(values[shuffled], clusters[shuffled], n_boot=300, seed=6)
    slow = estimate.cluster_bootstrap(values[shuffled], clusters[shuffled], statistic=np.mean, n_boot=300, seed=6)
    assert (slow.value, slow.low, slow.high) == pytest.approx((fast.value, fast.low, fast.high), abs=1e-12)
    assert slow.n == fast.n == 12


def test_a_callable_may_read_several_columns(estimate):
    rng = np.random.default_rng(7)
    x = rng.normal(size=200)
    table = np.column_stack([x, 2.0 * x + rng.normal(0, 0.5, size=200)])
    slope = estimate.cluster_bootstrap(
        table,
        np.repeat(np.arange(50), 4),
        statistic=lambda rows: np.polyfit(rows[:, 0], rows[:, 1], 1)[0],
        n_boot=400,
        seed=8,
    )
    assert slope.low < 2.0 < slope.high
    assert slope.high - slope.low < 0.3


def test_columns_are_resampled_with_the_same_items(estimate):
    values, clusters = clustered(9)
    both = np.column_stack([values, values + 1.0, values])
    a, b, c = estimate.cluster_bootstrap_columns(both, clusters, n_boot=500, seed=10)
    assert (a.low, a.high) == pytest.approx((c.low, c.high), abs=1e-12)
    assert (b.low - a.low, b.high - a.high) == pytest.approx((1.0, 1.0), abs=1e-9)
    alone = estimate.cluster_bootstrap(values, clusters, n_boot=500, seed=10)
    assert (a.value, a.low, a.high) == pytest.approx((alone.value, alone.low, alone.high), abs=1e-12)


def test_a_column_with_gaps_counts_only_the_items_it_has(estimate):
    values = np.array([[1.0, np.nan], [2.0, np.nan], [3.0, 5.0], [4.0, np.nan]])
    full, gaps = estimate.cluster_bootstrap_columns(values, ["a", "b", "c", "d"], seed=0)
    assert (full.n, gaps.n, gaps.value) == (4, 1, 5.0)
    assert math.isnan(gaps.low) and math.isnan(gaps.high)


@pytest.mark.parametrize("statistic", ["mean", np.mean])
def test_fewer_than_two_items_have_no_interval(estimate, statistic):
    one = estimate.cluster_bootstrap([0.4, 0.6], ["a", "a"], statistic=statistic, seed=0)
    assert (one.value, one.n) == (0.5, 1)
    assert math.isnan(one.low) and math.isnan(one.high)
    none = estimate.cluster_bootstrap([np.nan], ["a"], statistic=statistic, seed=0)
    assert none.n == 0 and math.isnan(none.value) and math.isnan(none.low)
    assert estimate.cluster_bootstrap([], [], statistic=statistic, seed=0).n == 0


def covers(interval):
    return interval.low <= 0.0 <= interval.high


def test_the_interval_covers_the_truth_at_its_level_and_resampling_rows_does_not(estimate):
    trials = 600
    by_item, by_row = 0, 0
    for trial in range(trials):
        values, clusters = clustered(1000 + trial)
        by_item += covers(estimate.cluster_bootstrap(values, clusters, n_boot=400, seed=trial))
        by_row += covers(estimate.cluster_bootstrap(values, np.arange(len(values)), n_boot=400, seed=trial))
    sure = stats.binomtest(by_item, trials).proportion_ci(0.99)
    assert sure.low <= 0.98 and sure.high >= 0.90
    assert by_item / trials > 0.90
    assert stats.binomtest(by_row, trials).proportion_ci(0.99).high < 0.75


def test_each_option_changes_the_result_and_the_seed_fixes_it(estimate):
    values, clusters = clustered(11)

    def width(**options):
        interval = estimate.cluster_bootstrap(values, clusters, **{"seed": 0, **options})
        return interval.high - interval.low

    assert width() == width()
    assert width(seed=1) != width()
    assert width(n_boot=500) != width()
    assert width(level=0.8) < 0.8 * width()
    assert width(seed=np.random.default_rng(0)) == width()


def test_the_result_does_not_depend_on_how_much_fits_into_memory(estimate, monkeypatch):
    values, clusters = clustered(12)
    whole = estimate.cluster_bootstrap(values, clusters, seed=0), estimate.permutation_test(values, clusters, seed=0)
    monkeypatch.setattr("mechmsc.estimate.resampling.DRAWS_AT_ONCE", 1000)
    assert whole == (
        estimate.cluster_bootstrap(values, clusters, seed=0),
        estimate.permutation_test(values, clusters, seed=0),
    )


def test_nothing_touches_the_global_generator_or_the_arguments(estimate):
    values, clusters = clustered(13)
    before, state = values.copy(), np.random.get_state()[1].copy()  # noqa: NPY002
    estimate.cluster_bootstrap(values, clusters, seed=0)
    estimate.permutation_test(values, clusters, seed=0)
    assert np.array_equal(values, before)
    assert np.array_equal(np.random.get_state()[1], state)  # noqa: NPY002


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"values": [1.0, 2.0], "clusters": ["a"]}, "one cluster a row"),
        ({"values": [1.0], "clusters": ["a"], "level": 95.0}, "between 0 and 1, got 95"),
        ({"values": [1.0], "clusters": ["a"], "n_boot": 0}, "at least 1 resample"),
        ({"values": [[1.0]], "clusters": ["a"]}, "cluster_bootstrap_columns"),
    ],
)
def test_wrong_arguments_are_named(estimate, arguments, says):
    with pytest.raises(ValueError, match=says):
        estimate.cluster_bootstrap(**arguments, seed=0)


def test_an_estimate_prints_as_a_reader_expects(estimate):
    assert str(estimate.Estimate(0.41, 0.32, 0.5, 0.95, 16)) == "0.41 [0.32, 0.5] (n=16)"


def test_the_permutation_test_agrees_with_all_flips_and_with_scipy(estimate):
    rng = np.random.default_rng(14)
    differences, clusters = rng.normal(0.4, 1.0, size=30), np.repeat(np.arange(10), 3)
    ours = estimate.permutation_test(differences, clusters, n_perm=50_000, seed=0)
    assert ours == pytest.approx(exact_sign_flip_p(differences, clusters), abs=0.01)
    theirs = stats.permutation_test(
        (differences,), np.mean, permutation_type="samples", n_resamples=50_000, rng=np.random.default_rng(0)
    ).pvalue
    assert estimate.permutation_test(differences, n_perm=50_000, seed=0) == pytest.approx(theirs, abs=0.01)


def test_the_permutation_test_is_never_zero_counts_ties_and_is_undefined_for_one_item(estimate):
    assert estimate.permutation_test(np.full(40, 1.0), n_perm=99, seed=0) == 0.01
    assert estimate.permutation_test(np.zeros(8), n_perm=99, seed=0) == 1.0
    assert estimate.permutation_test([0.1, 0.2, 0.3, np.nan], n_perm=9999, seed=0) == pytest.approx(0.25, abs=0.02)
    assert math.isnan(estimate.permutation_test([1.0, 2.0], ["a", "a"], seed=0))


def test_flipping_items_rejects_at_its_level_and_flipping_rows_rejects_too_often(estimate):
    trials, by_item, by_row = 400, 0, 0
    for trial in range(trials):
        values, clusters = clustered(3000 + trial, n_clusters=20)
        by_item += estimate.permutation_test(values, clusters, n_perm=199, seed=trial) <= 0.05
        by_row += estimate.permutation_test(values, n_perm=199, seed=trial) <= 0.05
    sure = stats.binomtest(by_item, trials).proportion_ci(0.99)
    assert sure.low <= 0.05 <= sure.high
    assert stats.binomtest(by_row, trials).proportion_ci(0.99).low > 0.2


def test_equivalence_is_shown_by_an_interval_inside_the_margin_only(estimate):
    rng = np.random.default_rng(15)
    small = rng.normal(0.0, 0.01, size=50)
    shown = estimate.equivalence_test(small, margin=0.02, seed=0)
    assert shown and shown.equivalent and -0.02 < shown.difference.low < shown.difference.high < 0.02
    assert shown.difference == estimate.cluster_bootstrap(small, np.arange(50), level=0.9, seed=0)
    assert not estimate.equivalence_test(small + 0.02, margin=0.02, seed=0)
    assert not estimate.equivalence_test(small - 0.02, margin=0.02, seed=0)
    assert not estimate.equivalence_test(
        rng.normal(0.0, 1.0, size=50), margin=0.02, seed=0
    )  # no evidence of a difference is not equivalence
    assert not estimate.equivalence_test([0.0, 0.0], ["a", "a"], margin=1.0, seed=0)
    with pytest.raises(ValueError, match="above 0, got 0.0"):
        estimate.equivalence_test(small, margin=0.0, seed=0)


def test_with_the_truth_on_the_margin_equivalence_is_rarely_declared(estimate):
    trials = 500
    rng = np.random.default_rng(16)
    declared = sum(
        bool(estimate.equivalence_test(rng.normal(0.5, 1.0, size=60), margin=0.5, n_boot=400, seed=t))
        for t in range(trials)
    )
    assert stats.binomtest(declared, trials).proportion_ci(0.99).low <= 0.05
    assert declared / trials < 0.09
