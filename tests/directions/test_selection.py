"""The layer that detects best on validation rows, or does most; ties go to the earlier one, test rows are refused."""

import pandas as pd
import pytest


@pytest.fixture
def selection():
    import mechmsc.directions.selection

    return mechmsc.directions.selection


def table(values, *, half=0.05, method="mass_mean", measure="auroc", part="held_out"):
    rows = [
        (method, layer, measure, value, value - half, value + half, 0.95, 100, part)
        for layer, value in enumerate(values)
    ]
    frame = pd.DataFrame(rows, columns=["method", "layer", "measure", "value", "low", "high", "level", "n", "part"])
    return frame.astype({"layer": "Int64"})


def test_the_best_layer_is_taken_and_the_earliest_of_equals(selection):
    rows = table([0.6, 0.8, 0.9, 0.9, 0.7])
    assert selection.select_layer(rows, method="mass_mean") == 2
    assert selection.select_layer(rows.sample(frac=1, random_state=0), method="mass_mean") == 2
    nested = table([0.99], part="nested").assign(layer=pd.NA)
    other = table([0.1, 0.1, 0.1, 0.1, 1.0], method="lda")
    assert selection.select_layer(pd.concat([rows, nested, other]), method="mass_mean") == 2


def test_the_rule_of_one_standard_error_prefers_the_earliest_layer_that_is_not_worse(selection):
    rows = table([0.6, 0.86, 0.88, 0.9], half=1.96 * 0.03)
    assert selection.select_layer(rows, method="mass_mean", rule="one_standard_error") == 2
    wide = table([0.6, 0.86, 0.88, 0.9], half=1.96 * 0.05)
    assert selection.select_layer(wide, method="mass_mean", rule="one_standard_error") == 1
    unknown = table([0.6, 0.86, 0.88, 0.9], half=float("nan"))
    assert selection.select_layer(unknown, method="mass_mean", rule="one_standard_error") == 3


def test_layers_without_a_value_are_passed_over(selection):
    assert selection.select_layer(table([float("nan"), 0.6, 0.7]), method="mass_mean") == 2


def test_an_effect_chooses_by_its_size(selection):
    effect = {4: 0.2, 8: 0.5, 12: 0.5, 16: float("nan")}
    assert selection.select_layer_by_effect(effect.__getitem__, [16, 12, 8, 4]) == 8
    with pytest.raises(ValueError, match="no finite effect at any of the 1 layers"):
        selection.select_layer_by_effect(effect.__getitem__, [16])


@pytest.mark.parametrize(
    ("rows", "arguments", "says"),
    [
        (table([0.5], part="test"), {}, "never|validation part"),
        (table([0.5]), {"method": "lda"}, "no auroc of method 'lda' by layer in the table; it has auroc of mass_mean"),
        (table([0.5]), {"measure": "accuracy"}, "no accuracy"),
        (table([0.5]), {"rule": "bets"}, "did you mean best"),
        (pd.concat([table([0.5]), table([0.6])]), {}, "one row a layer"),
    ],
)
def test_what_cannot_be_chosen_from_is_refused(selection, rows, arguments, says):
    with pytest.raises(ValueError, match=says):
        selection.select_layer(rows, **{"method": "mass_mean", **arguments})
