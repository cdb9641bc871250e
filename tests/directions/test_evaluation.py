"""A planted direction is found at its theoretical AUROC, nothing where there is nothing, and no group is seen twice."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from planted_activations import mass_mean, planted
from scipy import stats
from sklearn.metrics import roc_auc_score

QUICK = {"n_null": 5, "n_random": 10, "n_boot": 200, "progress": False}


@pytest.fixture
def evaluation():
    import mechmsc.directions.evaluation

    return mechmsc.directions.evaluation


@pytest.fixture
def one_penalty(monkeypatch):
    """A bag of words that has nothing to choose: fewer fits, where it is not what is tested."""
    monkeypatch.setattr("mechmsc.directions.baselines.PENALTIES", (1.0,))


@pytest.fixture
def heldout():
    import mechmsc.directions.heldout

    return mechmsc.directions.heldout


def cell(table, method, measure, layer=None, part="held_out"):
    rows = table[(table["method"] == method) & (table["measure"] == measure) & (table["part"] == part)]
    rows = rows[rows["layer"].isna()] if layer is None else rows[rows["layer"] == layer]
    (row,) = rows.itertuples()
    return row


def test_a_planted_direction_has_its_theoretical_auroc_and_the_baselines_have_none(evaluation):
    activations, statements = planted(600, strength=2.0, seed=1)
    table = evaluation.evaluate(activations, statements, methods={"mass_mean": mass_mean}, seed=0, progress=False)
    assert list(table.columns) == evaluation.COLUMNS
    for layer, apart in ((0, 1.0), (1, 2.0), (2, 1.0)):
        found = cell(table, "mass_mean", "auroc", layer)
        cosine = 1 / math.sqrt(1 + 15 * (4 / 480) / apart**2)  # of a mean difference of 480 statements in 16 dimensions
        assert found.low <= stats.norm.cdf(apart * cosine / math.sqrt(2)) <= found.high
        assert found.n == 600 and found.high - found.low < 0.1
        null = cell(table, "mass_mean", "shuffled_auroc", layer)
        assert null.low <= 0.5 <= null.high < found.low and null.n == 20
    accuracy = cell(table, "mass_mean", "accuracy", 1)
    assert accuracy.low <= stats.norm.cdf(1.0) <= accuracy.high
    for name in ("bag_of_words", "text_length"):
        area = cell(table, name, "auroc")
        assert area.low - 0.03 <= 0.5 <= area.high + 0.03
    gain = cell(table, "mass_mean", "auroc_difference", 1)
    assert gain.value == pytest.approx(
        cell(table, "mass_mean", "auroc", 1).value - cell(table, "bag_of_words", "auroc").value
    )
    assert gain.low > 0.3
    random = cell(table, "random_direction", "auroc", 1)
    assert 0.5 < random.value < cell(table, "mass_mean", "auroc", 1).low and random.n == 100


def test_words_that_tell_the_class_are_found_by_the_bag_of_words(evaluation):
    activations, statements = planted(200, seed=2)
    mean = ["awful" if label else "lovely" for label in statements["label"]]
    statements["text"] = [f"{text} {word}" for text, word in zip(statements["text"], mean, strict=True)]
    table = evaluation.evaluate(activations, statements, methods={"mass_mean": mass_mean}, **QUICK)
    assert cell(table, "bag_of_words", "auroc").value > 0.99
    assert cell(table, "mass_mean", "auroc_difference", 1).high < 0.0
    statements["text"] = [f"river {row:03}" + "!" * (10 * label) for row, label in enumerate(statements["label"])]
    table = evaluation.evaluate(activations, statements, methods={"mass_mean": mass_mean}, **QUICK)
    assert cell(table, "text_length", "auroc").value > 0.99


def test_where_there_is_nothing_the_interval_covers_one_half_in_about_95_of_100_data_sets(heldout):
    from mechmsc.directions.detection import detection_estimates
    from mechmsc.directions.splitting import grouped_folds

    trials, covered = 120, 0
    for trial in range(trials):
        activations, statements = planted(150, layers=1, best=0, strength=0.0, seed=500 + trial)
        labels, groups = statements["label"].to_numpy(), np.arange(150)
        folds = grouped_folds(labels, groups, seed=trial)
        examples = heldout.Examples(activations, labels, groups, np.full(150, None), {})
        scores = heldout.cross_validated(mass_mean, examples, folds, seed=0)
        options = {"groups": groups, "folds": folds, "n_boot": 80, "seed": trial}
        (area,) = detection_estimates(scores, labels, **options)["auroc"]
        covered += area.low <= 0.5 <= area.high
    sure = stats.binomtest(covered, trials).proportion_ci(0.99)
    assert sure.low <= 0.98 and sure.high >= 0.92


def leaky(seed=0, n_groups=40, copies=5):
    """Every group is one statement in near-copies, with a label of its own; nothing else is in the activations."""
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(n_groups), copies)
    centres = rng.normal(size=(n_groups, 1, 64))
    activations = centres[groups] + 0.01 * rng.normal(size=(len(groups), 1, 64))
    labels = rng.permutation(np.arange(n_groups) % 2)[groups]
    texts = [f"text {row}" for row in range(len(groups))]
    frame = pd.DataFrame({"text": texts, "label": labels, "group": groups, "pair": None})
    return torch.tensor(activations, dtype=torch.float32), frame


def ridge(activations, labels, *, groups, pairs, seed):  # noqa: ARG001 - a fit that can learn groups by heart
    x = activations[:, 0] - activations[:, 0].mean(dim=0)
    y = labels.float() - labels.float().mean()
    return torch.linalg.solve(x.T @ x + 1e-3 * torch.eye(x.shape[1]), x.T @ y)[None]


@pytest.mark.usefixtures("one_penalty")
def test_groups_that_carry_the_label_are_not_learned_by_heart_unless_rows_are_split(evaluation):
    activations, statements = leaky()
    options = {"methods": {"ridge": ridge}, "control_types": [str(row % 7) for row in range(200)], **QUICK}
    held = cell(evaluation.evaluate(activations, statements, **options), "ridge", "auroc", 0)
    assert held.value < 0.75 and held.low <= 0.5 and held.n == 40
    split = evaluation.evaluate(activations, statements.assign(group=range(200)), **options)
    assert cell(split, "ridge", "auroc", 0).value > 0.95
    tied = statements.assign(group=range(200), text=[f"Copy, {g}!" for g in statements["group"]])
    assert cell(evaluation.evaluate(activations, tied, **options), "ridge", "auroc", 0).n == 40  # equal texts
    paired = statements.assign(group=range(200), pair=[f"pair {row // 2}" for row in range(200)])
    assert cell(evaluation.evaluate(activations, paired, **options), "ridge", "auroc", 0).n == 100


def test_held_out_scores_are_those_of_a_slow_loop(heldout):
    activations, statements = planted(90, seed=3)
    labels, groups = statements["label"].to_numpy(), np.arange(90) // 3
    folds = (groups % 5).astype(np.int64)
    examples = heldout.Examples(activations, labels, groups, np.full(90, None), {})
    ours = heldout.cross_validated(mass_mean, examples, folds, seed=0)
    h = activations.double().numpy()
    for row in range(90):
        for layer in range(3):
            seen = folds != folds[row]
            high, low = h[seen & (labels == 1), layer].mean(axis=0), h[seen & (labels == 0), layer].mean(axis=0)
            unit = (high - low) / np.linalg.norm(high - low)
            expected = (h[row, layer] - (high + low) / 2) @ unit / ((high - low) @ unit)
            assert ours[row, layer] == pytest.approx(expected, abs=1e-4)


def test_scores_do_not_depend_on_the_sign_or_length_of_the_direction_and_no_gap_is_nan(heldout):
    activations, statements = planted(60, seed=4)
    labels = torch.tensor(statements["label"].to_numpy())
    vectors = torch.randn(3, 16, generator=torch.Generator().manual_seed(0))
    scores = heldout.in_class_gaps(activations, vectors, activations, labels)
    turned = heldout.in_class_gaps(activations, -7.0 * vectors, activations, labels)
    assert torch.allclose(scores, turned, atol=1e-4)
    means = [scores[labels == label].mean(dim=0) for label in (1, 0)]
    assert torch.allclose(means[0], torch.full((3,), 0.5), atol=1e-4)
    assert torch.allclose(means[1], torch.full((3,), -0.5), atol=1e-4)
    flat = torch.cat([activations, torch.zeros(60, 1, 16)], dim=1)
    lone = heldout.in_class_gaps(flat, torch.ones(4, 16), flat, labels)
    assert lone[:, 3].isnan().all() and lone[:, :3].isfinite().all()


def test_the_layer_is_chosen_without_the_fold_that_it_scores(heldout):
    activations, statements = planted(200, seed=5)
    labels, groups = statements["label"].to_numpy(), np.arange(200)
    folds = np.arange(200) % 5
    examples = heldout.Examples(activations, labels, groups, np.full(200, None), {})
    areas = heldout.validation_areas(mass_mean, examples, folds, seed=0)
    assert areas.shape == (5, 3) and (areas.argmax(axis=1) == 1).all()
    changed, noise = labels.copy(), activations.clone()
    changed[folds == 2] = 1 - changed[folds == 2]
    noise[folds == 2] = torch.randn(40, 3, 16, generator=torch.Generator().manual_seed(1))
    other = heldout.Examples(noise, changed, groups, np.full(200, None), {})
    again = heldout.validation_areas(mass_mean, other, folds, seed=0)
    assert np.array_equal(again[2], areas[2])  # fold 2 is the test part of row 2: whatever it holds
    assert not np.array_equal(again[1], areas[1])


def test_validation_is_a_cross_validation_among_the_other_folds(heldout):
    activations, statements = planted(100, seed=6)
    labels, groups, folds = statements["label"].to_numpy(), np.arange(100), np.arange(100) % 4
    examples = heldout.Examples(activations, labels, groups, np.full(100, None), {})
    areas = heldout.validation_areas(mass_mean, examples, folds, seed=0)
    inside = folds != 3
    part = heldout.Examples(activations[inside], labels[inside], groups[inside], np.full(75, None), {})
    scores = heldout.cross_validated(mass_mean, part, folds[inside], seed=0)
    by_fold = [roc_auc_score(labels[folds == f], scores[folds[inside] == f, 1]) for f in range(3)]
    pairs = [(labels[folds == f] == 1).sum() * (labels[folds == f] == 0).sum() for f in range(3)]
    assert areas[3, 1] == pytest.approx(np.average(by_fold, weights=pairs), abs=1e-12)
    with pytest.raises(ValueError, match="at least 3 folds, got 2"):
        heldout.validation_areas(mass_mean, examples, np.arange(100) % 2, seed=0)


@pytest.mark.usefixtures("one_penalty")
def test_the_nested_rows_score_each_fold_at_the_layer_and_method_that_the_others_chose(evaluation):
    activations, statements = planted(400, strength=2.0, seed=7)

    def backwards(activations, labels, *, groups, pairs, seed):  # noqa: ARG001 - useless: noise
        return torch.randn(activations.shape[1:], generator=torch.Generator().manual_seed(seed))

    methods = {"useless": backwards, "mass_mean": mass_mean}
    table = evaluation.evaluate(activations, statements, methods=methods, **QUICK)
    at_best, nested = cell(table, "mass_mean", "auroc", 1), cell(table, "mass_mean", "auroc", None, "nested")
    assert (nested.value, nested.low, nested.high) == (at_best.value, at_best.low, at_best.high)
    assert cell(table, "mass_mean", "layer_share", 1, "nested").value == 1.0
    assert cell(table, "best_of_methods", "auroc", None, "nested").value == at_best.value
    alone = evaluation.evaluate(activations, statements, methods={"mass_mean": mass_mean}, **QUICK)
    assert "best_of_methods" not in set(alone["method"])
    mine = table[table["method"] == "mass_mean"].reset_index(drop=True)
    pd.testing.assert_frame_equal(mine, alone[alone["method"] == "mass_mean"].reset_index(drop=True))


@pytest.mark.usefixtures("one_penalty")
def test_where_folds_choose_different_layers_each_is_scored_at_its_own(evaluation, heldout):
    from mechmsc.directions.detection import auroc
    from mechmsc.directions.splitting import grouped_folds

    activations, statements = planted(80, layers=6, strength=1.0, best=0, seed=13)
    table = evaluation.evaluate(activations, statements, methods={"mass_mean": mass_mean}, seed=3, **QUICK)
    labels, groups = statements["label"].to_numpy(copy=True), np.arange(80)
    folds = grouped_folds(labels, groups, seed=3)
    examples = heldout.Examples(activations, labels, groups, np.full(80, None), {})
    best = heldout.validation_areas(mass_mean, examples, folds, seed=3).argmax(axis=1)
    assert len(set(best)) > 1  # or this test could not tell
    scores = heldout.cross_validated(mass_mean, examples, folds, seed=3)
    own = np.array([scores[row, best[folds[row]]] for row in range(80)])
    expected = auroc(own[:, None], labels, folds=folds)[0, 0]
    assert cell(table, "mass_mean", "auroc", None, "nested").value == pytest.approx(expected)
    for layer in set(best):
        share = cell(table, "mass_mean", "layer_share", layer, "nested").value
        assert share == pytest.approx((best == layer).mean())


@pytest.mark.usefixtures("one_penalty")
def test_a_method_that_reads_other_activations_is_fitted_on_them_and_scored_on_the_plain_ones(evaluation):
    activations, statements = planted(120, seed=8)
    shapes = []

    def of_sides(activations, labels, *, groups, pairs, seed):
        shapes.append(tuple(activations.shape[1:]))
        return mass_mean(activations[:, 0], labels, groups=groups, pairs=pairs, seed=seed)

    sides = torch.stack([activations, -activations], dim=1)
    both = evaluation.evaluate(
        activations, statements, methods={"sides": of_sides, "mass_mean": mass_mean}, read={"sides": sides}, **QUICK
    )
    assert set(shapes) == {(2, 3, 16)}
    assert cell(both, "sides", "auroc", 1).value == cell(both, "mass_mean", "auroc", 1).value


def test_each_option_changes_the_result_and_the_seed_fixes_it(evaluation, monkeypatch):
    activations, statements = planted(60, layers=2, seed=9)
    monkeypatch.setattr("mechmsc.directions.baselines.bag_of_words_scores", lambda *_, **__: np.zeros(60))

    def table(**options):
        return evaluation.evaluate(activations, statements, methods={"mass_mean": mass_mean}, **{**QUICK, **options})

    plain = table()
    pd.testing.assert_frame_equal(plain, table())
    for options in (
        {"seed": 1}, {"n_folds": 4}, {"n_null": 6}, {"n_random": 11}, {"level": 0.8}, {"n_boot": 300},
        {"control_types": [str(row % 9) for row in range(60)]}, {"layers": [4, 8]},
    ):  # fmt: skip
        assert not plain.equals(table(**options)), options
    assert set(table(layers=[4, 8])["layer"].dropna()) == {4, 8}


@pytest.mark.usefixtures("one_penalty")
def test_the_bar_goes_to_stderr_and_only_when_asked_for(evaluation, capsys):
    activations, statements = planted(60, seed=10)
    evaluation.evaluate(activations, statements, methods={"mass_mean": mass_mean}, **QUICK)
    assert capsys.readouterr() == ("", "")
    evaluation.evaluate(activations, statements, methods={"mass_mean": mass_mean}, **{**QUICK, "progress": True})
    out, err = capsys.readouterr()
    assert out == "" and "fits" in err and "25/25" in err


def test_bad_input_is_named(evaluation):
    activations, statements = planted(60, seed=11)
    methods = {"mass_mean": mass_mean}
    broken = activations.clone()
    broken[7, 2, 3] = torch.nan
    for arguments, says in (
        ((activations, statements.drop(columns="pair")), "statements lack pair"),
        ((activations[:5], statements), "activations of 60 statements, got 5"),
        ((broken, statements), "statement 7, layer 2"),
        ((activations, statements.assign(label=1)), r"both labels 0 and 1, got labels \[1\]"),
        ((activations, statements.assign(group=[row % 3 for row in range(60)])), "3 groups cannot be split into 5"),
    ):
        with pytest.raises(ValueError, match=says):
            evaluation.evaluate(*arguments, methods=methods, **QUICK)
    with pytest.raises(ValueError, match="at least one method"):
        evaluation.evaluate(activations, statements, methods={}, **QUICK)
