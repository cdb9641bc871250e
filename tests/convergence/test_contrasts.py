"""Contrasts of arms: against the tests they are made of, planted effects, and coverage."""

import numpy as np
import pandas as pd
import pytest
from convergence.tables import curve_table, decay, noisy, rate_meets


@pytest.fixture
def contrasts():
    import mechmsc.convergence.contrasts

    return mechmsc.convergence.contrasts


def two_arms(seed, difference, n=40):
    """Paired arms: the treatment is the control plus a difference in each round, and noise."""
    rng = np.random.default_rng(seed)
    control = noisy(decay(0.6, 0.3, 1.0, rounds=len(difference)), n, rng)
    treatment = control + np.asarray(difference) + rng.normal(0, 0.1, control.shape)
    return pd.concat([curve_table(treatment), curve_table(control, arm="neutral")]), treatment - control


def run(contrasts, table, **options):
    names = {"treatment": "moral", "control": "neutral", "n_boot": 300, "n_perm": 499}
    return contrasts.arm_contrasts(table, **names | options)


def test_values_intervals_and_p_are_those_of_the_paired_differences(contrasts):
    from mechmsc.estimate import benjamini_hochberg, cluster_bootstrap, permutation_test

    table, differences = two_arms(1, [0.0, 0.0, -0.05, -0.1])
    ours = run(contrasts, table, n_boot=4000, n_perm=4999)
    assert ours["round"].tolist() == [1, 2, 3, 4]
    for place, row in ours.iterrows():
        slow = cluster_bootstrap(differences[:, place], np.arange(40), n_boot=4000, seed=1)
        assert row["value"] == pytest.approx(slow.value) and row["n"] == 40
        assert (row["low"], row["high"]) == (pytest.approx(slow.low, abs=0.004), pytest.approx(slow.high, abs=0.004))
        assert row["p"] == pytest.approx(permutation_test(differences[:, place], n_perm=4999, seed=2), abs=0.03)
    assert (ours["p"] <= ours["p_adjusted"]).all()
    share = run(contrasts, table, n_boot=4000, n_perm=4999, correction="benjamini_hochberg")
    assert share["p_adjusted"].to_numpy() == pytest.approx(benjamini_hochberg(share["p"]))
    assert share["p"].equals(ours["p"])


def test_the_rounds_with_an_effect_survive_and_the_others_do_not(contrasts):
    table, _ = two_arms(2, [0.0, 0.0, -0.15, -0.15, -0.15])
    found = run(contrasts, table)
    assert (found["p_adjusted"] < 0.05).tolist() == [False, False, True, True, True]


def test_a_single_round_may_serve_all_rounds_and_an_arm_may_be_compared_with_its_own_start(contrasts):
    table, _ = two_arms(3, [0.0, -0.1, -0.2])
    question = curve_table(np.full((40, 1), 0.6), arm="none")
    table = pd.concat([table, question])
    against = run(contrasts, table, control="none", control_round=1)
    means = table[table["arm"] == "moral"].groupby("round")["score"].mean()
    assert against["value"].to_numpy() == pytest.approx(means.to_numpy() - 0.6)
    assert against["control_round"].tolist() == [1, 1, 1]
    start = run(contrasts, table, control="moral", control_round=1)
    assert start["value"][0] == 0.0 and start["p"][0] == 1.0 and start["p_adjusted"][2] < 0.05
    assert run(contrasts, table, control="none")["round"].tolist() == [1]
    assert pd.isna(run(contrasts, table)["control_round"]).all()


def test_only_items_in_both_arms_count_and_tasks_are_corrected_by_themselves(contrasts):
    table, differences = two_arms(4, [0.0, -0.2])
    short = table[(table["arm"] == "moral") | (table["item_id"] < "t/3")]
    assert set(run(contrasts, short)["n"]) == {short[short["arm"] == "neutral"]["item_id"].nunique()}
    both = pd.concat([table.assign(task="a"), table.assign(task="b", score=table["score"] * 2)])
    found = run(contrasts, both)
    assert found["task"].tolist() == ["a", "a", "b", "b"]
    assert found["value"].to_numpy() == pytest.approx([*differences.mean(axis=0), *(2 * differences.mean(axis=0))])


def test_each_option_matters_and_the_seed_fixes_the_result(contrasts):
    table, _ = two_arms(5, [0.0, -0.03, -0.05])
    first = run(contrasts, table)
    assert first.equals(run(contrasts, table))
    options = {"seed": 1, "level": 0.8, "n_boot": 100, "n_perm": 99, "correction": "benjamini_hochberg"}
    for name, value in options.items():
        assert not first.equals(run(contrasts, table, **{name: value})), name


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"treatment": "morral"}, "no arm 'morral' in the table; it has moral, neutral, late"),
        ({"control": "late"}, "share no round; for an arm of one round give control_round"),
        ({"control_round": 9}, "the control has no round 9; it has 1, 2"),
        ({"correction": "none"}, "unknown correction 'none'; known: max_statistic, benjamini_hochberg"),
        ({"value": "entropy"}, "the table lacks entropy"),
    ],
)
def test_wrong_arguments_are_named(contrasts, options, says):
    table, _ = two_arms(6, [0.0, 0.0])
    late = curve_table(np.full((40, 1), 0.6), arm="late").assign(round=7)
    with pytest.raises(ValueError, match=says):
        run(contrasts, pd.concat([table, late]), **options)


def test_without_an_effect_some_round_survives_in_five_percent_of_runs_and_intervals_cover(contrasts):
    trials, rng = 400, np.random.default_rng(7)
    covered, any_round = np.zeros(4), 0
    for _ in range(trials):
        shared = rng.normal(0, 1, (50, 1))
        tested = contrasts.tested(shared + rng.normal(0, 0.7, (50, 4)), "max_statistic", 0.95, 200, 99, rng)
        covered += [low <= 0 <= high for _, low, high, *_ in tested]
        any_round += min(row[-1] for row in tested) <= 0.05
    assert rate_meets(any_round, trials, 0.04, 0.05), any_round / trials
    for count in covered:
        assert rate_meets(count, trials, 0.93, 0.97), covered / trials


def test_intervals_of_paired_differences_cover_at_their_level_in_a_thousand_runs():
    from mechmsc.estimate import cluster_bootstrap_columns

    trials, rng = 1000, np.random.default_rng(8)
    arms = rng.gamma(2.0, size=(40, trials)) + rng.normal(0, 0.5, (2, 40, trials))  # a column is a run
    found = cluster_bootstrap_columns(arms[1] - arms[0], np.arange(40), n_boot=500, seed=9)
    covered = sum(one.low <= 0 <= one.high for one in found)
    assert rate_meets(covered, trials, 0.93, 0.97), covered / trials
