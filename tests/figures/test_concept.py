"""The concept by round and layer: the numbers are those of slow loops, and only what was planted survives."""

import numpy as np
import pytest
from made_tables import ARMS, assert_nothing_is_cut_off_or_covered, caption_of, line_of, made_measures


def test_the_band_and_every_layer_are_means_over_items_read_by_the_direction_of_the_tasks_concept():
    from mechmsc.figures.concept import concept_table

    measures = made_measures(layers=8)
    table = concept_table(measures)
    assert list(table["task"].unique()) == ["social_bias", "detoxification"]  # with options first
    assert dict(zip(table["task"], table["source"], strict=True)) == {
        "social_bias": "stereotyping",
        "detoxification": "toxicity",
    }
    assert list(table["layers"].unique()) == ["2-5", *map(str, range(8))]
    for row in table[table["layers"].isin(["2-5", "7"])].itertuples():
        mine = measures[measures["item_id"].str.startswith(row.task) & (measures["source"] == row.source)]
        mine = mine[(mine["arm"] == row.arm) & (mine["round"] == row.round)]
        inside = [2, 3, 4, 5] if row.layers == "2-5" else [7]
        values = [np.mean([x for x, k in zip(one["value"], one["layer"], strict=True) if k in inside])
                  for _, one in mine.groupby("item_id")]  # fmt: skip
        assert row.value == pytest.approx(np.mean(values)) and row.n == len(values) == 12
        assert row.low < row.value < row.high
    chosen = concept_table(measures, layers=(3, 99))
    assert chosen["layers"].iloc[0] == "3-7"


def test_names_that_do_not_exist_are_refused():
    from mechmsc.errors import InputError
    from mechmsc.figures.concept import concept_table
    from mechmsc.figures.concept_layers import concept_layers_table

    measures = made_measures(rounds=2, items=2, layers=2)
    with pytest.raises(InputError, match="known: prompt_end"):
        concept_table(measures, position="response_mean")
    with pytest.raises(InputError, match="no layer from 7 to 9"):
        concept_table(measures, layers=(7, 9))
    with pytest.raises(InputError, match="mechmsc measure RUN --direction FILE"):
        concept_table(measures[measures["measure"] == "accuracy"])
    with pytest.raises(InputError, match="did you mean neutral"):
        concept_layers_table(measures, control="neutrall")
    with pytest.raises(InputError, match="two arms with several rounds"):
        concept_layers_table(measures[measures["arm"] == "moral"])


def test_lines_show_the_table_with_the_unit_and_the_direction_of_more():
    from mechmsc.figures.concept import concept_table, draw_concept

    table = concept_table(made_measures())
    figure = draw_concept(table, caption="Model m.")
    axis = figure.axes[0]
    assert (axis.get_title(loc="left"), axis.get_title(loc="right")) == ("(a) Social bias", "n = 12")
    assert axis.get_ylabel() == "activated stereotyping, prompt end\n(class gaps, + is more)"
    rows = table[(table["task"] == "social_bias") & (table["layers"] == "1-3") & (table["arm"] == "moral")]
    assert line_of(axis, "moral").get_ydata().tolist() == rows["value"].tolist()
    assert len(figure.axes) == 12 and figure.axes[6].get_title(loc="left") == "(b) Text detoxification"
    assert "mean over layers 1\u20133" in caption_of(figure) and caption_of(figure).endswith("Model m.")


def test_a_planted_difference_survives_correction_where_it_was_planted_and_nothing_else_does():
    from mechmsc.figures.concept_layers import concept_layers_table, draw_concept_layers

    table = concept_layers_table(made_measures(shift=("moral", 4, 2, 0.5)), n_perm=999)
    sure = table[table["p_adjusted"] <= 0.05]
    assert set(zip(sure["arm"], sure["layer"], sure["round"], strict=True)) == {("moral", 4, t) for t in (2, 3, 4)}
    assert sure["value"].to_numpy() == pytest.approx(np.full(len(sure), 0.5), abs=0.25)
    none = concept_layers_table(made_measures(), n_perm=999)
    assert (none["p_adjusted"] > 0.05).mean() > 0.97
    assert set(table["control"]) == {"neutral"} and set(table["arm"]) == {"moral", "immoral"}
    axis = draw_concept_layers(table).axes[0]
    (image,), (dots,) = axis.images, axis.lines
    mine = table[(table["task"] == "social_bias") & (table["arm"] == "moral")]
    expected = mine.pivot(index="layer", columns="round", values="value").to_numpy()
    np.testing.assert_allclose(image.get_array(), expected)
    assert list(zip(dots.get_xdata(), dots.get_ydata(), strict=True)) == [(2, 4), (3, 4), (4, 4)]


@pytest.mark.parametrize(
    ("rounds", "arms", "items", "layers"),
    [(1, ("moral",), 1, 1), (2, ARMS, 1, 3), (20, ("moral", "moral+immoral@2/5/8", "neutral", "none"), 3, 30)],
)
def test_figures_are_drawn_of_one_round_one_item_one_layer_and_of_twenty_rounds_of_thirty_layers(
    rounds, arms, items, layers
):
    from mechmsc.figures import concept, concept_layers

    measures = made_measures(rounds=rounds, arms=arms, items=items, layers=layers)
    figures = [concept.draw_concept(concept.concept_table(measures), caption="A sentence. " * 12)]
    if len(arms) > 1:
        table = concept_layers.concept_layers_table(measures, n_perm=99)
        figures.append(concept_layers.draw_concept_layers(table, caption="A sentence. " * 12))
    for figure in figures:
        assert_nothing_is_cut_off_or_covered(figure)
