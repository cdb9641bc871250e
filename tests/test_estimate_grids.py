"""Tests of a grid of cells at once: against slow flips, single tests, SciPy, and planted cells."""

import math

import numpy as np
import pytest
from references.bootstrap import exact_sign_flip_max_p, exact_sign_flip_p
from scipy import stats


@pytest.fixture
def estimate():
    import mechmsc.estimate

    return mechmsc.estimate


def grid(seed, n=30, cells=(3, 4), shared=1.0):
    """Differences of cells that resemble each other within an item."""
    rng = np.random.default_rng(seed)
    return rng.normal(0, shared, (n, 1, 1)) + rng.normal(0, 1, (n, *cells))


def test_corrected_p_are_those_of_all_flips(estimate):
    rng = np.random.default_rng(1)
    differences, clusters = rng.normal(0.4, 1, (20, 3)), np.repeat(np.arange(10), 2)
    differences[4, 1] = np.nan
    ours = estimate.max_statistic_test(differences, clusters, n_perm=20_000, seed=0)
    assert ours == pytest.approx(exact_sign_flip_max_p(differences, clusters), abs=0.012)


def test_uncorrected_p_are_those_of_single_tests(estimate):
    differences = grid(2, n=10, cells=(2, 2))
    ours = estimate.permutation_test_cells(differences, n_perm=20_000, seed=0)
    assert ours.shape == (2, 2)
    for cell in np.ndindex(2, 2):
        assert ours[cell] == pytest.approx(exact_sign_flip_p(differences[:, *cell], np.arange(10)), abs=0.012)


def test_one_cell_needs_no_correction_and_copies_of_it_none_either(estimate):
    one = grid(3, cells=(1, 1)) + 0.4
    alone = estimate.permutation_test_cells(one, n_perm=999, seed=0)
    assert estimate.max_statistic_test(one, n_perm=999, seed=0) == pytest.approx(alone)
    copies = np.concatenate([one, 3 * one, -one], axis=2)
    corrected = estimate.max_statistic_test(copies, n_perm=999, seed=0)
    assert corrected.ravel() == pytest.approx([alone.item()] * 3)


def test_planted_cells_survive_and_no_others(estimate):
    differences = grid(4, n=60)
    differences[:, 1, 2] += 1.5
    corrected = estimate.max_statistic_test(differences, n_perm=999, seed=0)
    assert corrected[1, 2] == 0.001
    assert (np.delete(corrected.ravel(), 6) > 0.05).all()
    assert (corrected >= estimate.permutation_test_cells(differences, n_perm=999, seed=0)).all()


def test_where_no_cell_differs_some_cell_is_called_in_five_percent_and_without_correction_often(estimate):
    trials, corrected, plain = 500, 0, 0
    for trial in range(trials):
        differences = grid(1000 + trial, n=25, shared=0.5)
        corrected += estimate.max_statistic_test(differences, n_perm=99, seed=trial).min() <= 0.05
        plain += estimate.permutation_test_cells(differences, n_perm=99, seed=trial).min() <= 0.05
    sure = stats.binomtest(corrected, trials).proportion_ci(0.99)
    assert sure.low <= 0.05 <= sure.high
    assert plain / trials > 0.2


def test_cells_without_data_or_without_difference(estimate):
    differences = grid(5)
    differences[:, 0, 0], differences[1:, 0, 1], differences[:, 0, 2] = np.nan, np.nan, 0.0
    for test in (estimate.max_statistic_test, estimate.permutation_test_cells):
        p = test(differences, n_perm=99, seed=0)
        assert math.isnan(p[0, 0]) and math.isnan(p[0, 1]) and p[0, 2] == 1.0
        assert np.isfinite(p[1:]).all()
        assert np.isnan(test(differences[:1], n_perm=99, seed=0)).all()
        assert np.array_equal(p, test(differences, n_perm=99, seed=0), equal_nan=True)
        assert not np.array_equal(p, test(differences, n_perm=99, seed=1), equal_nan=True)
    empty = estimate.max_statistic_test(np.zeros((5, 0)), seed=0)
    assert empty.shape == (0,)


def test_the_result_does_not_depend_on_how_much_fits_into_memory(estimate, monkeypatch):
    differences = grid(6)
    whole = estimate.max_statistic_test(differences, n_perm=500, seed=0)
    monkeypatch.setattr("mechmsc.estimate.resampling.DRAWS_AT_ONCE", 700)
    assert np.array_equal(whole, estimate.max_statistic_test(differences, n_perm=500, seed=0))


def test_benjamini_hochberg_is_that_of_scipy_for_any_shape_and_leaves_nan_out(estimate):
    p = np.random.default_rng(7).random((4, 5)) ** 3
    assert estimate.benjamini_hochberg(p).ravel() == pytest.approx(stats.false_discovery_control(p.ravel()))
    holes = p.copy()
    holes[0, 0] = np.nan
    adjusted = estimate.benjamini_hochberg(holes)
    assert math.isnan(adjusted[0, 0])
    assert adjusted.ravel()[1:] == pytest.approx(stats.false_discovery_control(p.ravel()[1:]))
    assert np.isnan(estimate.benjamini_hochberg([np.nan])).all() and estimate.benjamini_hochberg([]).shape == (0,)
    assert np.isnan(holes).sum() == 1  # the argument stays as it was


def test_proportions_have_wilsons_interval(estimate):
    from statsmodels.stats.proportion import proportion_confint

    k, n = np.array([0, 3, 10]), np.array([10, 10, 10])
    low, high = estimate.proportion_interval(k / n, n, level=0.9)
    slow = proportion_confint(k, n, alpha=0.1, method="wilson")
    assert (low, high) == (pytest.approx(slow[0], abs=1e-12), pytest.approx(slow[1], abs=1e-12))
    assert np.isnan(estimate.proportion_interval(1.0, 1)).all()


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda e: e.max_statistic_test(np.zeros(3), seed=0), r"shape \[row, ...cells\], got \(3,\)"),
        (lambda e: e.max_statistic_test(np.zeros((3, 2)), ["a"], seed=0), "one cluster a row"),
        (lambda e: e.permutation_test_cells(np.zeros((3, 2)), n_perm=0, seed=0), "at least 1 resample"),
        (lambda e: e.benjamini_hochberg([0.5, 1.2]), r"in \[0, 1\], got 1.2"),
    ],
)
def test_wrong_arguments_are_named(estimate, call, says):
    with pytest.raises(ValueError, match=says):
        call(estimate)
