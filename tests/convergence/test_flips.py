"""Flip rate: counted by hand, against statsmodels' Wilson interval, with coverage."""

import math

import numpy as np
import pandas as pd
import pytest
from convergence.tables import curve_table, rate_meets
from statsmodels.stats.proportion import proportion_confint


@pytest.fixture
def flips():
    import mechmsc.convergence.flips

    return mechmsc.convergence.flips


def choices(values, **options):
    return curve_table(values, **options).rename(columns={"score": "choice"})


def test_flips_are_counted_between_neighbouring_rounds(flips):
    table = flips.flip_rate(choices([[0, 1, 1], [2, 2, 2], [1, 0, 1], [0, 0, 2]]))
    assert table["round"].tolist() == [2, 3]
    assert table["value"].tolist() == [0.5, 0.5]
    assert table["n"].tolist() == [4, 4]
    low, high = proportion_confint(2, 4, method="wilson")
    assert table[["low", "high"]].to_numpy() == pytest.approx(np.array([[low, high]] * 2))


def test_where_nothing_flips_the_interval_is_not_a_point(flips):
    table = flips.flip_rate(choices(np.zeros((40, 2))))
    assert table["value"].item() == 0.0 and table["low"].item() == 0.0
    assert 0.05 < table["high"].item() < 0.12


def test_an_answer_that_could_not_be_read_counts_in_no_transition(flips):
    table = flips.flip_rate(choices([[0, np.nan, 1], [0, 1, 1], [0, 0, 0]]))
    assert table["n"].tolist() == [2, 2] and table["value"].tolist() == [0.5, 0.0]
    gone = flips.flip_rate(choices([[0, np.nan, 1], [np.nan, 1, 1]]))
    assert gone["n"].tolist() == [0, 1] and math.isnan(gone["value"][0])
    assert gone[["low", "high"]].isna().all(axis=None)


def test_labels_may_be_text_and_arms_stay_apart(flips):
    table = pd.concat([choices([["a", "b"], ["a", "a"]]), choices([["a", "a"]] * 3, arm="neutral")])
    found = flips.flip_rate(table, level=0.8)
    assert found[["arm", "value", "n"]].to_numpy().tolist() == [["moral", 0.5, 2], ["neutral", 0.0, 3]]
    assert found["low"][0] > flips.flip_rate(table)["low"][0]


def test_one_round_is_too_few(flips):
    with pytest.raises(ValueError, match="at least 2 rounds, got 1"):
        flips.flip_rate(choices([[0], [1]]))


@pytest.mark.parametrize(("rate", "n"), [(0.05, 100), (0.3, 40)])
def test_the_interval_covers_the_rate_at_its_level(flips, rate, n):
    trials = 2000
    counts = np.random.default_rng(1).binomial(n, rate, trials)
    low, high = flips.proportion_interval(counts / n, np.full(trials, n))
    assert rate_meets(((low <= rate) & (rate <= high)).sum(), trials, 0.93, 0.97)
