"""Directions carry over between sets of one concept and not of another; a text in both sets never helps."""

import numpy as np
import pandas as pd
import pytest
import torch
from planted_activations import mass_mean, planted
from sklearn.metrics import roc_auc_score


@pytest.fixture
def transfer():
    import mechmsc.directions.transfer

    return mechmsc.directions.transfer


def value(table, train, test, layer=1, measure="auroc"):
    rows = table[(table["train"] == train) & (table["test"] == test) & (table["measure"] == measure)]
    (row,) = rows[rows["layer"] == layer].itertuples()
    return row


def halves(seed, n=500):
    """Two data sets of one distribution."""
    activations, statements = planted(n, strength=2.0, seed=seed)
    first = np.arange(n) < n // 2
    return {
        name: (activations[torch.tensor(rows)], statements[rows].reset_index(drop=True))
        for name, rows in (("one", first), ("two", ~first))
    }


def test_between_sets_of_one_distribution_a_direction_does_as_well_as_held_out(transfer):
    table = transfer.transfer_table(halves(0), methods={"mass_mean": mass_mean})
    assert list(table.columns) == transfer.COLUMNS
    for train, test in (("one", "two"), ("two", "one")):
        across, inside = value(table, train, test), value(table, test, test)
        assert across.low <= inside.value <= across.high
        assert (across.part, inside.part, across.n) == ("transfer", "held_out", 250)
        assert across.value > 0.85


def test_another_concept_does_not_carry_over_and_the_opposite_one_is_below_chance(transfer):
    sets = halves(1)
    activations, statements = planted(250, strength=2.0, seed=99)
    other = statements.assign(text=[f"other {text}" for text in statements["text"]])
    sets["other"] = (activations, other)
    opposite = sets["two"][1]
    sets["opposite"] = (
        sets["two"][0],
        opposite.assign(label=1 - opposite["label"], text=[f"no {t}" for t in opposite["text"]]),
    )
    table = transfer.transfer_table(sets, methods={"mass_mean": mass_mean}, n_boot=200)
    assert abs(value(table, "other", "one").value - 0.5) < 0.25 < value(table, "one", "two").value - 0.5
    assert value(table, "one", "opposite").value == pytest.approx(1 - value(table, "one", "two").value)
    assert value(table, "one", "opposite").high < 0.5


def test_the_transfer_is_that_of_a_fit_on_one_set_scored_on_the_other_in_its_gaps(transfer):
    sets = halves(2)
    table = transfer.transfer_table(sets, methods={"mass_mean": mass_mean}, n_boot=50)
    (h, seen), (g, new) = sets["one"], sets["two"]
    y = torch.tensor(seen["label"].to_numpy(copy=True))
    high, low = h[y == 1].mean(dim=0)[1], h[y == 0].mean(dim=0)[1]
    scores = ((g[:, 1] - (high + low) / 2) @ (high - low)).numpy()
    found = value(table, "one", "two")
    assert found.value == pytest.approx(roc_auc_score(new["label"], scores), abs=1e-9)
    accuracy = value(table, "one", "two", measure="accuracy").value
    assert accuracy == pytest.approx(((scores > 0) == new["label"]).mean(), abs=1e-9)


def by_heart(activations, labels, *, groups, pairs, seed):  # noqa: ARG001 - a fit that learns single statements
    x, y = activations[:, 0] - activations[:, 0].mean(dim=0), labels.float() - labels.float().mean()
    return torch.linalg.solve(x.T @ x + 1e-3 * torch.eye(x.shape[1]), x.T @ y)[None]


def test_texts_that_are_in_both_sets_are_left_out_of_training(transfer):
    rng = np.random.default_rng(3)
    activations = torch.tensor(rng.normal(size=(80, 1, 300)), dtype=torch.float32)
    frame = pd.DataFrame(
        {"text": [f"text {i}" for i in range(80)], "label": np.arange(80) % 2, "group": range(80), "pair": None}
    )
    more = torch.cat([activations, torch.tensor(rng.normal(size=(80, 1, 300)), dtype=torch.float32)])
    copied = pd.concat([frame.assign(text=frame["text"] + "!"), frame.assign(text=[f"new {i}" for i in range(80)])])
    sets = {"copies": (more, copied.assign(group=range(160))), "test": (activations, frame)}
    found = value(transfer.transfer_table(sets, methods={"h": by_heart}, n_boot=20), "copies", "test", layer=0)
    assert found.value < 0.8
    renamed = copied.assign(group=range(160), text=[f"another {i}" for i in range(160)])
    sets["copies"] = (more, renamed)
    leaky = value(transfer.transfer_table(sets, methods={"h": by_heart}, n_boot=20), "copies", "test", layer=0)
    assert leaky.value > 0.99
    sets["copies"] = (activations, frame)
    nothing = value(transfer.transfer_table(sets, methods={"h": by_heart}, n_boot=20), "copies", "test", layer=0)
    assert np.isnan([nothing.value, nothing.low, nothing.high]).all()


def test_each_option_of_the_transfer_changes_the_result(transfer):
    sets = halves(4, n=120)

    def table(**options):
        return transfer.transfer_table(sets, methods={"mass_mean": mass_mean}, **{"n_boot": 30, **options})

    plain = table()
    pd.testing.assert_frame_equal(plain, table())
    read = {"one": {"mass_mean": -sets["one"][0] + torch.randn(60, 3, 16, generator=torch.Generator().manual_seed(0))}}
    for options in (
        {"seed": 1},
        {"n_folds": 4},
        {"level": 0.8},
        {"n_boot": 40},
        {"layers": [4, 8, 12]},
        {"read": read},
    ):
        assert not plain.equals(table(**options)), options


def test_cosines_are_those_of_the_vectors(transfer):
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(3, 8, generator=generator), torch.randn(3, 8, generator=generator)
    table = transfer.method_cosines({"a": a, "b": 3.0 * b, "c": -a}, layers=[2, 5, 9]).set_index(
        ["method", "other_method", "layer"]
    )["cosine"]
    assert len(table) == 9 * 3
    assert table["a", "b", 5] == pytest.approx(float(torch.cosine_similarity(a[1], b[1], dim=0)), abs=1e-6)
    assert table["a", "c", 9] == pytest.approx(-1.0) and table["b", "b", 2] == pytest.approx(1.0)
    layers = transfer.layer_cosines({"a": a}, layers=[2, 5, 9]).set_index(["method", "layer", "other_layer"])["cosine"]
    assert layers["a", 2, 9] == pytest.approx(float(torch.cosine_similarity(a[0], a[2], dim=0)), abs=1e-6)
    assert layers["a", 9, 2] == layers["a", 2, 9] and len(layers) == 9
