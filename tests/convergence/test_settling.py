"""The convergence round: against a slow bootstrap, and its stated error on curves of known course."""

import numpy as np
import pandas as pd
import pytest
from convergence.tables import curve_table, decay, noisy, rate_meets
from references.convergence import convergence_round as slow_convergence_round


@pytest.fixture
def settling():
    import mechmsc.convergence.settling

    return mechmsc.convergence.settling


def found(settling, values, **options):
    return settling.convergence_round(curve_table(values), **{"margin": 0.06, "n_boot": 400} | options).iloc[0]


@pytest.mark.parametrize(
    "curve", [decay(0.7, 0.2, 1.0), [0.3] * 10, 0.6 - 0.05 * np.arange(10), [0.5, 0.3, 0.3, 0.3, 0.3]]
)
def test_the_round_is_that_of_a_slow_bootstrap(settling, curve):
    values = noisy(curve, 30, np.random.default_rng(1), within=0.05)
    slow = slow_convergence_round({i: list(row) for i, row in enumerate(values)}, 0.06, n_boot=400, seed=2)
    ours = found(settling, values)["round"]
    assert (None if pd.isna(ours) else ours) == slow


def test_noiseless_curves_settle_where_one_sees_it(settling):
    def round_of(curve, **options):
        return found(settling, np.tile(np.asarray(curve, dtype=float), (5, 1)), **options)

    assert round_of([0.5, 0.3, 0.2, 0.2, 0.2, 0.2])["round"] == 3
    assert round_of([0.2] * 6)["round"] == 1
    assert round_of([0.5, 0.3, 0.25, 0.22, 0.2, 0.2], margin=0.04)["round"] == 4
    late = round_of([0.5, 0.5, 0.5, 0.5, 0.2, 0.2])  # settles in round 5 of 6, with one round left to see it
    assert pd.isna(late["round"]) and late["verdict"] == "not converged by 6" and pd.isna(late["earliest"])
    back = round_of([0.5, 0.2, 0.2, 0.5, 0.5, 0.5])  # equal to the next round is not enough
    assert back["round"] == 4
    edge = round_of([0.25, 0.0, 0.0, 0.0], margin=0.25)  # on the margin is outside
    assert edge["round"] == 2


@pytest.mark.parametrize(("rounds", "stable"), [(3, 2), (4, 2), (8, 2), (9, 3), (10, 3), (20, 5)])
def test_enough_rounds_must_follow(settling, rounds, stable):
    flat, late = np.full((6, rounds), 0.3), np.full((6, rounds), 0.3)
    assert (found(settling, flat)["stable_rounds"], found(settling, flat)["rounds"]) == (stable, rounds)
    late[:, : rounds - stable - 1] = 0.9
    assert found(settling, late)["round"] == rounds - stable
    late[:, : rounds - stable] = 0.9
    assert pd.isna(found(settling, late)["round"])


def test_an_uncertain_curve_is_not_a_settled_one(settling):
    flat = noisy([0.3] * 8, 20, np.random.default_rng(3), within=0.4)
    one = found(settling, flat)
    assert pd.isna(one["round"]) and one["earliest"] == 1


def test_arms_and_tasks_are_treated_by_themselves_and_short_arms_are_named(settling):
    rng = np.random.default_rng(4)
    settled, drifting = noisy([0.3] * 6, 30, rng, within=0.02), noisy(0.9 - 0.1 * np.arange(6), 30, rng, within=0.02)
    tables = [
        curve_table(settled, task="a"),
        curve_table(drifting, arm="neutral", task="a"),
        curve_table(settled[:, :1], arm="none", task="a"),
        curve_table(drifting, task="b"),
    ]
    table = settling.convergence_round(pd.concat(tables), margin=0.06)
    assert table["task"].tolist() == ["a", "a", "a", "b"]
    assert table["verdict"].tolist() == ["1", "not converged by 6", "too few rounds", "not converged by 6"]
    assert table["earliest"].tolist()[0] == 1 and pd.isna(table["earliest"].tolist()[2])
    assert table["n"].tolist() == [30] * 4
    alone = settling.convergence_round(tables[0].drop(columns="task"), margin=0.06)
    assert alone["task"].item() == "" and alone["round"].item() == 1


def test_missing_values_count_in_no_difference(settling):
    rng = np.random.default_rng(5)
    values = noisy([0.9, 0.3, 0.3, 0.3, 0.3], 40, rng, within=0.02)
    values[:10, 1] = np.nan
    one = found(settling, values)
    assert (one["round"], one["n"]) == (2, 40)
    values[:, 1] = np.nan  # a round without any value is left out
    one = found(settling, values)
    assert (one["round"], one["rounds"]) == (3, 4)
    single = found(settling, np.full((1, 5), 0.3))
    assert pd.isna(single["round"]) and single["n"] == 1


def test_each_option_matters_and_the_seed_fixes_the_result(settling):
    values = noisy(decay(0.6, 0.3, 1.0), 40, np.random.default_rng(6), within=0.08)
    frame = curve_table(values).rename(columns={"score": "entropy"})
    table = settling.convergence_round(frame, value="entropy", margin=0.06)
    assert table.equals(settling.convergence_round(frame, value="entropy", margin=0.06))
    assert table["round"].item() > settling.convergence_round(frame, value="entropy", margin=0.2)["round"].item()
    assert pd.isna(settling.convergence_round(frame, value="entropy", margin=0.06, level=0.999999)["round"].item())


def declared(settling, curve, margin, *, n, trials):
    """The round declared and the first not ruled out, in each of many simulated runs; nan where there is none."""
    rng = np.random.default_rng(7)
    pairs = [settling.settled(noisy(curve, n, rng, within=0.25), 2, margin, 0.9, 200, rng) for _ in range(trials)]
    return 1.0 + np.array([[np.nan if place is None else place for place in pair] for pair in pairs], dtype=float).T


@pytest.mark.parametrize(
    ("curve", "n"),
    [
        pytest.param(decay(0.6, 0.3, 1.5, rounds=8), 60, id="converges"),
        pytest.param(0.6 - 0.03 * np.arange(8), 60, id="drifts slowly"),
        pytest.param([0.3, 0.3, 0.4, 0.3, 0.3, 0.4, 0.3, 0.4], 40, id="never settles"),
    ],
)
def test_a_round_outside_the_margin_is_declared_in_at_most_five_percent(settling, curve, n):
    margin, trials, curve = 0.1, 600, np.asarray(curve)
    first, earliest = declared(settling, curve, margin, n=n, trials=trials)
    inside = [np.abs(curve[t + 1 :] - curve[t]).max() < margin - 1e-9 for t in range(7)]
    for t in range(6):
        if not inside[t]:
            assert rate_meets((first == t + 1).sum(), trials, 0.0, 0.05), (t + 1, (first == t + 1).mean())
    truth = inside.index(True) + 1 if any(inside) else len(curve)
    assert rate_meets((earliest > truth).sum(), trials, 0.0, 0.05), (earliest > truth).mean()


def test_a_curve_that_settles_is_found_to_do_so_if_there_are_items_enough(settling):
    first, earliest = declared(settling, decay(0.6, 0.3, 1.0, rounds=8), 0.1, n=300, trials=100)
    assert np.isfinite(first).mean() > 0.9
    assert np.median(first) in (3, 4)  # the truth is 3: 0.041 above the limit, after 0.110 in round 2
    assert (earliest <= first).all() and np.median(earliest) in (2, 3)


@pytest.mark.parametrize(
    ("change", "options", "says"),
    [
        (lambda t: t.drop(columns="arm"), {}, "the table lacks arm"),
        (lambda t: t, {"value": "entropy"}, "the table lacks entropy"),
        (lambda t: pd.concat([t, t]), {}, "two rows for item t/0, arm moral, round 1"),
        (lambda t: t.assign(score=np.nan), {}, "no value in column 'score', in 15 rows"),
        (lambda t: t[t["round"] < 3], {}, "at least 3 rounds, got 2"),
        (lambda t: t, {"margin": 0.0}, "above 0, got 0.0"),
    ],
)
def test_wrong_tables_are_named(settling, change, options, says):
    table = curve_table(np.full((5, 3), 0.5))
    with pytest.raises(ValueError, match=says):
        settling.convergence_round(change(table), **options)
