"""Nulls keep the structure of the labels and lose their meaning; control labels belong to types; baselines are fair."""

import numpy as np
import pytest
import torch
from planted_activations import mass_mean, planted
from scipy import stats


@pytest.fixture
def baselines():
    import mechmsc.directions.baselines

    return mechmsc.directions.baselines


@pytest.fixture
def heldout():
    import mechmsc.directions.heldout

    return mechmsc.directions.heldout


def structured():
    """Ten pairs, ten pure groups of three, ten mixed groups of four."""
    pairs = [f"pair {i}" for i in range(10) for _ in range(2)] + [None] * 70
    groups = np.array([i // 2 for i in range(20)] + [10 + i // 3 for i in range(30)] + [20 + i // 4 for i in range(40)])
    labels = np.array([0, 1] * 10 + [i // 3 % 2 for i in range(30)] + [0, 1, 1, 1] * 10)
    return labels, groups, np.array(pairs, dtype=object)


def test_shuffled_labels_keep_pairs_contrastive_and_groups_as_pure_as_they_were(baselines):
    labels, groups, pairs = structured()
    seen = set()
    for seed in range(30):
        shuffled = baselines.shuffled_labels(labels, groups, pairs, seed=seed)
        for group in np.unique(groups):
            rows = groups == group
            if group < 10 or group >= 20:
                assert sorted(shuffled[rows]) == sorted(labels[rows])
            else:
                assert len(set(shuffled[rows])) == 1
        assert shuffled.sum() == labels.sum()
        seen.add(tuple(shuffled))
    assert len(seen) == 30
    assert np.array_equal(
        baselines.shuffled_labels(labels, groups, pairs, seed=[1, 2]),
        baselines.shuffled_labels(labels, groups, pairs, seed=[1, 2]),
    )


def test_shuffled_labels_carry_nothing_of_the_true_ones(baselines):
    labels, groups, pairs = structured()
    draws = [baselines.shuffled_labels(labels, groups, pairs, seed=seed) for seed in range(400)]
    mean = np.mean(draws, axis=0)
    assert mean[:20] == pytest.approx(np.full(20, 0.5), abs=0.1)
    assert mean[20:50] == pytest.approx(np.full(30, labels[20:50].mean()), abs=0.1)
    assert mean[50:] == pytest.approx(np.full(40, 0.75), abs=0.1)


def test_a_null_that_shuffles_rows_would_be_too_narrow_where_groups_are_pure(baselines):
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(20), 20)
    labels = (np.arange(20) % 2)[groups]
    style = rng.normal(size=(20, 1, 8))[groups]  # templates differ, labels say nothing
    activations = torch.tensor(style + 0.3 * rng.normal(size=(400, 1, 8)), dtype=torch.float32)
    none = np.full(400, None)

    def spread(units):
        gaps = []
        for seed in range(100):
            shuffled = torch.tensor(baselines.shuffled_labels(labels, units, none, seed=seed))
            gaps.append(float(mass_mean(activations, shuffled, groups=None, pairs=None, seed=0).norm()))
        return np.mean(gaps)

    true = float(mass_mean(activations, torch.tensor(labels), groups=None, pairs=None, seed=0).norm())
    assert spread(np.arange(400)) < 0.5 * true < spread(groups) < 2.0 * true


def test_control_labels_are_fixed_per_type_and_as_frequent_as_the_concept(baselines):
    rng = np.random.default_rng(1)
    types = np.array([f"word {i}" for i in rng.integers(0, 60, size=600)], dtype=object)
    labels = (rng.random(600) < 0.2).astype(int)
    control = baselines.control_labels(types, labels, seed=0)
    for name in set(types):
        assert len(set(control[types == name])) == 1
    assert control.mean() == pytest.approx(labels.mean(), abs=0.02)
    assert not np.array_equal(control, baselines.control_labels(types, labels, seed=1))
    draws = np.mean([baselines.control_labels(types, labels, seed=s)[0] for s in range(300)])
    assert draws == pytest.approx(labels.mean(), abs=0.08)


def test_control_labels_have_both_values_however_few_the_types(baselines):
    types = np.array(["the"] * 9 + ["a"], dtype=object)
    for seed in range(10):
        assert set(baselines.control_labels(types, np.arange(10) % 2, seed=seed)) == {0, 1}
    with pytest.raises(ValueError, match="all 3 statements are of type 'the'"):
        baselines.control_labels(types[:3], np.array([0, 1, 0]), seed=0)


def test_first_words_are_read_without_capitals_and_marks(baselines):
    assert baselines.first_words(['"The end', "the start", "  !", "I'm"]).tolist() == ["the", "the", "", "i"]


def test_a_control_label_can_be_learned_where_its_type_is_in_another_fold(baselines):
    types, folds = np.array(list("aabbc"), dtype=object), np.array([0, 1, 0, 0, 1])
    assert baselines.learnable(types, folds).tolist() == [True, True, False, False, False]


def test_a_probe_that_reads_types_fails_the_control_task_and_one_that_reads_the_concept_passes(monkeypatch):
    from mechmsc.directions.evaluation import evaluate

    monkeypatch.setattr("mechmsc.directions.baselines.PENALTIES", (1.0,))
    activations, statements = planted(400, layers=1, best=0, strength=3.0, seed=2, width=32)
    rng = np.random.default_rng(3)
    types = rng.integers(0, 12, size=400)
    centres = torch.tensor(rng.normal(size=(12, 1, 32)), dtype=torch.float32)
    loud = activations + 6.0 * centres[types]  # the type is written large: any labelling of types can be read

    def ridge(activations, labels, *, groups, pairs, seed):  # noqa: ARG001 - the signature of every fit
        x, y = activations[:, 0] - activations[:, 0].mean(dim=0), labels.float() - labels.float().mean()
        return torch.linalg.solve(x.T @ x + torch.eye(32), x.T @ y)[None]

    options = {"control_types": [str(t) for t in types], "n_null": 1, "n_random": 2, "n_boot": 200, "progress": False}
    numbers = {}
    for name, read in (("quiet", activations), ("loud", loud)):
        table = evaluate(read, statements, methods={"ridge": ridge}, **options)
        rows = table[(table["method"] == "ridge") & (table["part"] == "held_out")]
        numbers[name] = {row.measure: row for row in rows.itertuples()}
    assert numbers["quiet"]["control_accuracy"].low <= 0.5 <= numbers["quiet"]["control_accuracy"].high
    assert numbers["loud"]["control_accuracy"].low > 0.8
    assert numbers["quiet"]["selectivity"].low > 0.3 > numbers["loud"]["selectivity"].high
    assert numbers["loud"]["accuracy"].value > 0.8


def test_random_directions_are_chance_where_there_is_nothing_and_get_their_sign_from_the_training_part(
    baselines, heldout
):
    activations, statements = planted(300, strength=0.0, seed=4)
    labels, folds = statements["label"].to_numpy(copy=True), np.arange(300) % 5
    examples = heldout.Examples(activations, labels, np.arange(300), np.full(300, None), {})
    areas = baselines.random_direction_areas(examples, folds, n=50, seed=0)
    assert areas.shape == (50, 3)
    low, high = stats.bootstrap((areas.mean(axis=1),), np.mean, rng=np.random.default_rng(0)).confidence_interval
    assert abs(areas.mean() - 0.5) < 0.03 and low < 0.52 and high > 0.48
    activations, statements = planted(300, strength=6.0, seed=4)
    labels = statements["label"].to_numpy(copy=True)
    strong = heldout.Examples(activations, labels, np.arange(300), np.full(300, None), {})
    areas = baselines.random_direction_areas(strong, folds, n=50, seed=0)
    assert areas[:, 1].mean() > 0.7
    assert np.array_equal(areas, baselines.random_direction_areas(strong, folds, n=50, seed=0))


def test_a_random_directions_area_is_that_of_the_direction_scored_as_a_fit(baselines, heldout):
    from mechmsc.directions.detection import auroc

    activations, statements = planted(120, seed=5)
    labels, folds = statements["label"].to_numpy(copy=True), np.arange(120) % 4
    examples = heldout.Examples(activations, labels, np.arange(120), np.full(120, None), {})
    vectors = torch.randn(1, 3, 16, generator=torch.Generator().manual_seed(9))[0]
    scores = heldout.cross_validated(lambda *_, **__: vectors, examples, folds, seed=0)
    ours = baselines.random_direction_areas(examples, folds, n=1, seed=9)
    assert ours[0] == pytest.approx(auroc(scores, labels, folds=folds)[0], abs=1e-9)


def test_the_bag_of_words_sees_no_held_out_word_and_chooses_its_penalty_inside(baselines):
    rng = np.random.default_rng(6)
    labels = np.arange(120) % 2
    texts = [f"{'grim' if y else 'fine'} {' '.join(rng.choice(list('abcdefgh'), 4))}" for y in labels]
    folds = np.arange(120) // 2 % 4
    scores = baselines.bag_of_words_scores(texts, labels, groups=np.arange(120), folds=folds, seed=0)
    assert ((scores > 0) == labels).all()
    only = [f"row{i} {text}" if folds[i] else f"row{i}" for i, text in enumerate(texts)]  # fold 0: unknown words only
    unknown = baselines.bag_of_words_scores(only, labels, groups=np.arange(120), folds=folds, seed=0)
    assert len(set(np.round(unknown[folds == 0], 9))) == 1


def test_the_length_is_a_detector_in_class_gaps(baselines):
    labels, folds = np.arange(40) % 2, np.arange(40) // 2 % 4
    texts = ["a" * (30 if y else 10) for y in labels]
    assert baselines.length_scores(texts, labels, folds=folds) == pytest.approx(labels - 0.5)
    assert baselines.length_scores(["same"] * 40, labels, folds=folds) == pytest.approx(np.zeros(40))


def test_a_band_is_the_mean_and_the_percentiles_and_needs_a_finite_draw(baselines):
    draws = np.stack([np.linspace(0, 1, 101), np.full(101, 0.5)], axis=1)
    found = baselines.band(draws, 0.9)
    assert found[:, 0] == pytest.approx([0.5, 0.05, 0.95]) and found[:, 1] == pytest.approx([0.5] * 3)
    with pytest.raises(ValueError, match="no finite draw"):
        baselines.band(np.full((3, 2), np.nan), 0.95)
