"""The predictive test of the paper: against scikit-learn, on planted effects, on rounds and texts that explain all."""

import numpy as np
import pandas as pd
import pytest
from convergence.tables import rate_meets
from references.simulation import changes_by_hand, cross_validated

ARMS = ("moral", "neutral")
QUICK = {"n_boot": 100, "n_perm": 99, "repeats": 2}


@pytest.fixture(scope="module")
def predictive_test():
    from mechmsc.causal.simulation import predictive_test

    return predictive_test


@pytest.fixture(scope="module")
def logistic():
    import mechmsc.causal.simulation.logistic

    return mechmsc.causal.simulation.logistic


def made(seed, *, effect=0.0, length=0.0, drift=0.0, n=30, rounds=4):
    """Concept and uncertainty that follow each other, the length of a text, and the number of the round."""
    rng = np.random.default_rng(seed)
    rows = []
    for item in range(n):
        for arm in ARMS:
            for t in range(1, rounds + 1):
                w = rng.normal()
                course = drift * (t % 2)  # up and down: the round says which
                z = length * w + course + rng.normal(0, 0.35)
                u = effect * z - length * w - course + rng.normal(0, 0.35)
                rows.append((f"t/{item}", arm, t, z, u, w))
    return pd.DataFrame(rows, columns=["item_id", "arm", "round", "concept", "uncertainty", "length"])


def of(found, predictor, measure="accuracy"):
    return found[(found["predictor"] == predictor) & (found["measure"] == measure)].iloc[0]


def test_many_fits_at_once_are_those_of_scikit_learn(logistic):
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(0)
    features = rng.standard_normal((3, 80, 2))
    labels = (rng.random(80) < 0.3).astype(int)
    weights = (rng.random((3, 80)) < 0.8).astype(float)
    for penalty in (1.0, 0.2):
        ours = logistic.fit_logistic(features, labels, weights, penalty=penalty)
        for x, w, found in zip(features, weights, ours, strict=True):
            theirs = LogisticRegression(C=1 / penalty, tol=1e-12, max_iter=5000).fit(x, labels, sample_weight=w)
            assert found == pytest.approx([*theirs.coef_[0], theirs.intercept_[0]], abs=1e-5)


def test_one_class_and_separable_classes_have_finite_fits(logistic):
    x = np.linspace(-1, 1, 40)[:, None]
    for labels in (np.ones(40, dtype=int), (x[:, 0] > 0).astype(int)):
        found = logistic.fit_logistic(x, labels, np.ones(40))
        right = (logistic.with_intercept(x) @ found > 0) == (labels == 1)
        assert np.isfinite(found).all() and right.all()


def test_all_rows_of_an_item_are_in_one_fold_and_folds_are_of_equal_size(logistic):
    groups = np.repeat(np.arange(13), [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9])
    folds = logistic.grouped_folds(groups, folds=4, repeats=3, seed=0)
    assert folds.shape == (3, len(groups)) and not np.array_equal(folds[0], folds[1])
    for division in folds:
        of_item = [set(division[groups == g]) for g in range(13)]
        assert all(len(one) == 1 for one in of_item)
        assert sorted(np.bincount([one.pop() for one in of_item])) == [3, 3, 3, 4]


def test_accuracy_and_auroc_are_those_of_a_slow_cross_validation(predictive_test, logistic):
    from sklearn.metrics import roc_auc_score

    table = made(1, effect=-0.7, length=0.5).sample(frac=1, random_state=0)
    table.loc[table.index[:5], "length"] = np.nan
    found = predictive_test(table, repeats=1, n_perm=0, n_boot=50, seed=3)
    changes = {name: changes_by_hand(table, name) for name in ("concept", "uncertainty", "length")}
    keys = sorted(set(changes["concept"]) & set(changes["uncertainty"]) & set(changes["length"]))
    labels = np.array([changes["uncertainty"][key] > 0 for key in keys]).astype(int)
    items = np.unique([key[0] for key in keys], return_inverse=True)[1]
    division = np.random.default_rng(np.random.SeedSequence(3).spawn(3)[0])
    (folds,) = logistic.grouped_folds(items, folds=5, repeats=1, seed=division)
    columns = {name: np.array([[changes[name][key]] for key in keys]) for name in ("concept", "length")}
    columns["round"] = np.array([[float(key[2] == t) for t in (3, 4)] for key in keys])
    columns["others"] = np.hstack([columns["round"], columns["length"]])
    columns["all"] = np.hstack([columns["others"], columns["concept"]])
    assert (found["n"] == 30).all() and (found["n_rows"] == len(keys)).all() and found["p"].isna().all()
    majority = np.mean([labels[k] == (labels[folds != folds[k]].mean() > 0.5) for k in range(len(keys))])
    assert of(found, "majority")["value"] == pytest.approx(majority)
    for name, x in columns.items():
        margins = cross_validated((x - x.mean(axis=0)) / x.std(axis=0), labels, folds)
        assert of(found, name)["value"] == pytest.approx(np.mean((margins > 0) == labels))
        assert of(found, name, "gain")["value"] == pytest.approx(np.mean((margins > 0) == labels) - majority)
        pairs = [labels[folds == f].sum() * (1 - labels[folds == f]).sum() for f in range(5)]
        areas = [roc_auc_score(labels[folds == f], margins[folds == f]) for f in range(5)]
        assert of(found, name, "auroc")["value"] == pytest.approx(np.average(areas, weights=pairs), abs=1e-6)


def test_a_planted_effect_is_found_and_none_where_there_is_none(predictive_test):
    planted = predictive_test(made(2, effect=-1.5, n=40), **QUICK)
    assert of(planted, "concept")["low"] > 0.7 and of(planted, "concept", "gain")["low"] > 0.2
    assert of(planted, "concept")["p"] == of(planted, "all", "auroc")["p"] == 0.01
    absent = predictive_test(made(2, n=40), **QUICK)
    assert abs(of(absent, "concept")["value"] - 0.5) < 0.08 and of(absent, "concept")["p"] > 0.05
    assert of(absent, "concept", "auroc")["low"] < 0.5


def test_what_the_round_explains_is_no_credit_to_the_concept(predictive_test):
    found = predictive_test(made(3, drift=1.0, n=40), **QUICK)
    assert of(found, "concept")["value"] > 0.8 and of(found, "concept", "gain")["low"] > 0.1
    assert of(found, "round")["value"] >= of(found, "concept")["value"]
    assert of(found, "concept")["p"] > 0.05 and of(found, "concept", "auroc")["p"] > 0.05
    assert of(found, "all")["value"] - of(found, "others")["value"] < 0.01


def test_a_text_that_moves_both_makes_the_test_pass_until_it_is_measured(predictive_test):
    found = predictive_test(made(4, length=1.0, n=60), **QUICK)
    assert of(found, "concept")["value"] > 0.8 and of(found, "concept")["p"] == 0.01
    assert of(found, "length")["value"] > of(found, "concept")["value"]
    assert of(found, "all")["value"] - of(found, "others")["value"] < 0.01


@pytest.mark.parametrize(("world", "predictor"), [({"drift": 0.5}, "concept"), ({"length": 0.7}, "all")])
def test_the_permutation_rejects_no_more_than_it_says(predictive_test, world, predictor):
    trials, options = 70, {"n_perm": 19, "n_boot": 1, "repeats": 1, "folds": 2}
    p = np.array(
        [
            [of(found, predictor, measure)["p"] for measure in ("accuracy", "auroc")]
            for found in (predictive_test(made(900 + k, n=16, rounds=3, **world), **options) for k in range(trials))
        ]
    )
    for rejected in (p <= 0.05).sum(axis=0):
        assert rate_meets(rejected, trials, 0.0, 0.05), rejected / trials


def test_items_are_exchanged_only_for_items_known_in_the_same_cells(predictive_test):
    del predictive_test  # the import through the type-checking hook
    from mechmsc.causal.simulation.predictive import _exchanged

    grid = np.arange(24.0).reshape(8, 3)
    grid[:3, 1] = np.nan
    orders = np.stack([_exchanged(grid, np.random.default_rng(seed)) for seed in range(50)])
    assert (np.sort(orders, axis=1) == np.arange(8)).all()
    assert (np.sort(orders[:, :3], axis=1) == np.arange(3)).all()
    assert all(len(set(orders[:, place])) > 2 for place in range(8))


def test_rounds_without_a_change_are_counted_and_gaps_are_not_bridged(predictive_test):
    table = made(5)
    table.loc[(table["round"] == 4) & (table["arm"] == "moral"), "uncertainty"] = table.loc[
        (table["round"] == 3) & (table["arm"] == "moral"), "uncertainty"
    ].to_numpy()
    found = predictive_test(table, **QUICK)
    assert set(found["n_left_out"]) == {30} and set(found["n_rows"]) == {30 * 5}
    gap = predictive_test(table[table["round"] != 2], **QUICK)
    assert set(gap["n_left_out"]) == {30} and set(gap["n_rows"]) == {30}
    assert found.equals(predictive_test(table.sample(frac=1, random_state=1), **QUICK))


def test_several_concept_quantities_stand_beside_each_other(predictive_test):
    table = made(6, effect=-1.5)
    table["as_released"] = 0.8 + 0.01 * table["concept"]
    found = predictive_test(table, concepts=["concept", "as_released"], others=(), **QUICK)
    same = [of(found, name).drop("predictor").to_dict() for name in ("concept", "as_released")]
    assert same[0] == pytest.approx(same[1], nan_ok=True)
    assert "length" not in set(found["predictor"])


@pytest.mark.parametrize(
    "changed",
    [{"folds": 3}, {"repeats": 1}, {"n_perm": 19}, {"level": 0.5}, {"n_boot": 30}, {"seed": 1}, {"others": ()}],
)
def test_every_option_matters(predictive_test, changed):
    table = made(7, effect=-0.3, n=12)
    assert not predictive_test(table, **QUICK).equals(predictive_test(table, **(QUICK | changed)))


def test_one_class_alone_has_an_accuracy_and_no_auroc(predictive_test):
    table = made(8)
    table["uncertainty"] = -1.0 * table["round"]
    found = predictive_test(table, **QUICK)
    assert of(found, "majority")["value"] == of(found, "concept")["value"] == 1.0
    assert found.loc[found["measure"] == "auroc", ["value", "low", "p"]].isna().all(axis=None)


def test_too_few_items_and_wrong_tables_are_named(predictive_test):
    table = made(9, n=4)
    with pytest.warns(UserWarning, match="has 4 items: expected 5 or more"):
        predictive_test(table, **QUICK)
    with pytest.warns(UserWarning), pytest.raises(ValueError, match="has 1 item"):
        predictive_test(table[table["item_id"] == "t/0"], **QUICK)
    with pytest.raises(ValueError, match="lacks length; expected item_id"):
        predictive_test(table.drop(columns="length"))
    with pytest.raises(ValueError, match="two rows for item t/0, arm moral, round 1"):
        predictive_test(pd.concat([table, table[:1]]))
    with pytest.raises(ValueError, match="no pair of consecutive rounds"):
        predictive_test(table[table["round"] == 2])
    with pytest.raises(ValueError, match="expected folds >= 2"):
        predictive_test(table, folds=1)
    with pytest.raises(ValueError, match="none named"):
        predictive_test(table.rename(columns={"concept": "all"}), concepts=["all"])
