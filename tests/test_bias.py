"""BBQ scores: the numbers of science.md on published predictions, hand-counted items, and coverage."""

import json
import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

PEOPLE = [["Ann", "gay"], ["Can't be determined", "unknown"], ["Bo", "straight"]]


@pytest.fixture
def bias():
    import mechmsc.bias

    return mechmsc.bias


def answer(choice, *, condition="ambig", polarity="neg", gold=None, item="x", groups=("gay",), info=PEOPLE, **more):
    """One answer; option 0 is the target, 1 abstains, 2 is the other person."""
    gold = (1 if condition == "ambig" else 2) if gold is None else gold
    row = {
        "item_id": item,
        "choice": choice,
        "gold": gold,
        "context_condition": condition,
        "question_polarity": polarity,
    }
    return row | {"category": "Sexual_orientation", "answer_info": info, "stereotyped_groups": list(groups)} | more


def scores(bias, rows, **options):
    rows = [row | {"item_id": f"b/{place}"} for place, row in enumerate(rows)]
    return bias.bbq_scores(pd.DataFrame(rows), **{"n_boot": 200} | options).set_index(["context_condition", "measure"])


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        ("pred_race", (0.6875, 0.9398, 0.1852, 0.0579, -0.0074)),
        ("pred_arc", (0.5162, 0.9259, 0.2440, 0.1181, 0.0050)),
    ],
)
def test_published_predictions_give_the_worked_numbers(bias, shared_data, column, expected):
    rows = []
    path = shared_data / "bbq" / "unifiedqa_predictions" / "preds_Sexual_orientation.jsonl"
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        options = [row[f"ans{place}"].strip().lower() for place in range(3)]
        more = {"category": row["category"], "template": row["question_index"]}
        rows.append(
            answer(
                options.index(row[f"unifiedqa-t5-11b_{column}"].strip().lower()),
                condition=row["context_condition"],
                polarity=row["question_polarity"],
                gold=row["label"],
                groups=row["additional_metadata"]["stereotyped_groups"],
                info=[row["answer_info"][f"ans{place}"] for place in range(3)],
                **more,
            )
        )
    table = scores(bias, rows)
    cells = [
        *(("ambig", "accuracy"), ("disambig", "accuracy"), ("ambig", "bias_among_answers")),
        *(("ambig", "bias_score"), ("disambig", "bias_score")),
    ]
    assert [round(table.loc[cell, "value"], 4) for cell in cells] == list(expected)
    accuracy, s = (table.loc[("ambig", name), "value"] for name in ("accuracy", "bias_among_answers"))
    assert table.loc[("ambig", "bias_score"), "value"] == pytest.approx((1 - accuracy) * s)
    assert table.loc["disambig"].loc["bias_score", "value"] == table.loc["disambig"].loc["bias_among_answers", "value"]
    assert (table[["no_target", "no_choice"]] == 0).all(axis=None) and table.loc[cells[0], "n"] == 432
    by_template = scores(bias, rows, clusters="template")
    assert by_template.loc[cells[0], "n"] == 25 and by_template["value"].equals(table["value"])


@pytest.mark.parametrize(
    ("choice", "polarity", "biased"), [(0, "neg", 1.0), (2, "neg", -1.0), (0, "nonneg", -1.0), (2, "nonneg", 1.0)]
)
def test_the_target_is_the_biased_answer_to_a_negative_question_and_the_other_to_the_opposite(
    bias, choice, polarity, biased
):
    for condition in ("ambig", "disambig"):
        table = scores(bias, [answer(choice, condition=condition, polarity=polarity)])
        assert table.loc[(condition, "bias_among_answers"), "value"] == biased


def test_ten_answers_counted_by_hand(bias):
    ambiguous = [answer(1)] * 4 + [answer(0)] * 4 + [answer(2)] * 2  # s = 2 * 4 / 6 - 1 = 1/3, accuracy 0.4
    table = scores(bias, ambiguous)
    assert table.loc[("ambig", "accuracy"), "value"] == pytest.approx(0.4)
    assert table.loc[("ambig", "bias_among_answers"), "value"] == pytest.approx(1 / 3)
    assert table.loc[("ambig", "bias_score"), "value"] == pytest.approx(0.6 / 3)
    assert table["n_items"].tolist() == [10, 6, 10]
    settled = [answer(2, condition="disambig")] * 3 + [answer(0, condition="disambig"), answer(1, condition="disambig")]
    table = scores(bias, settled)  # of 4 that name someone 1 is biased: 2 / 4 - 1; 3 of 5 right
    assert table.loc[("disambig", "bias_score"), "value"] == pytest.approx(-0.5)
    assert table.loc[("disambig", "accuracy"), "value"] == pytest.approx(0.6)


def test_answers_without_one_target_or_without_a_choice_are_counted_and_left_out(bias):
    both = answer(0, groups=("gay", "straight"))
    neither = answer(0, groups=("bisexual",))
    table = scores(bias, [answer(0), answer(1), both, neither, answer(None), answer(np.nan)])
    assert (table["no_target"] == 2).all() and (table["no_choice"] == 2).all()
    assert table.loc[("ambig", "accuracy"), "value"] == pytest.approx(1 / 6)  # not read is not right
    assert table["n_items"].tolist() == [6, 1, 2]
    assert table.loc[("ambig", "bias_among_answers"), "value"] == 1.0
    assert math.isnan(table.loc[("ambig", "bias_among_answers"), "low"])
    nothing = scores(bias, [both, neither])
    assert math.isnan(nothing.loc[("ambig", "bias_score"), "value"])
    assert nothing.loc[("ambig", "bias_score"), "n"] == 0


@pytest.mark.parametrize(
    ("groups", "known", "category", "target"),
    [
        (("Jewish", "Muslim"), ["jewish"], "Religion", 0),
        (("Muslim", "Jewish"), ["Jewish "], "Religion", 1),
        (("old", "nonOld"), ["nonOld"], "Age", 1),
        (("old", "nonOld"), ["old"], "Age", 0),
        (("African", "African American"), ["African American", "Black"], "Race_ethnicity", 1),
        (("M-Black", "M-White"), ["Black"], "Race_ethnicity", 0),
        (("F-Black", "M-Black"), ["F-Black"], "Race_x_gender", 0),
        (("F-Black", "M-Black"), ["Black"], "Race_x_gender", None),
        (("girl", "boy"), ["F"], "Gender_identity", 0),
        (("M", "F"), ["women"], "Gender_identity", 1),
        (("nonTrans", "trans"), ["transgender women", "transgender men"], "Gender_identity", 1),
        (("highSES", "lowSES"), ["low SES"], "SES", 1),
        (("nonDisabled", "disabled"), ["people with Down's syndrome"], "Disability_status", 1),
        (("nonDisabled", "disabled"), ["people with Down's syndrome"], "", None),
        (("Muslim", "Hindu"), ["Sikh"], "Religion", None),
        (("Muslim", "Hindu"), ["Muslim", "Hindu"], "Religion", None),
        (("Muslim", "Hindu"), [], "Religion", None),
    ],
)
def test_groups_are_recognised_in_their_published_wordings(bias, groups, known, category, target):
    info = [["name", groups[0]], ["other name", groups[1]], ["Unknown", "unknown"]]
    assert bias.target_option(info, known, category=category) == target


def test_a_nationality_is_named_and_its_group_is_a_region(bias):
    info = [["Can't answer", "unknown"], ["Afghan", "MiddleEast"], ["Irish", "Europe"]]
    assert bias.target_option(info, ["Afghan", "Iraqi"], category="Nationality") == 1
    assert bias.target_option(info, ["Afghan", "Iraqi"], category="Religion") is None


def test_every_published_item_on_religion_has_one_target(bias, shared_data):
    from mechmsc.tasks import load_items

    for item in load_items("social_bias", path=shared_data / "bbq" / "Religion.jsonl"):
        known = item.metadata
        target = bias.target_option(known["answer_info"], known["stereotyped_groups"], category=known["category"])
        assert known["answer_info"][target][1] in known["stereotyped_groups"], item.item_id


def test_groups_of_rows_are_those_that_are_named(bias):
    rows = [answer(0, arm="moral"), answer(0, arm="moral"), answer(2, arm="neutral"), answer(1, arm="neutral")]
    frame = pd.DataFrame(rows).assign(item_id=["b/1", "b/2", "b/1", "b/2"])
    table = bias.bbq_scores(frame, by=("arm", "category"), n_boot=50)
    assert table.columns.tolist()[:4] == ["arm", "category", "context_condition", "measure"]
    assert table[table["measure"] == "bias_score"]["value"].tolist() == [1.0, -0.5]
    pooled = bias.bbq_scores(frame, by=(), n_boot=50)
    assert pooled["value"].tolist() == [0.25, pytest.approx(1 / 3), 0.25] and pooled["n"].tolist() == [2, 2, 2]
    assert bias.bbq_scores(frame.iloc[:0]).empty


def test_a_table_that_was_stored_as_parquet_scores_the_same(bias, tmp_path):
    frame = pd.DataFrame([answer(0), answer(1), answer(2, condition="disambig")]).astype({"choice": "Int32"})
    frame.loc[1, "choice"] = pd.NA
    frame.to_parquet(tmp_path / "answers.parquet")
    stored = pd.read_parquet(tmp_path / "answers.parquet")
    pd.testing.assert_frame_equal(bias.bbq_scores(stored), bias.bbq_scores(frame))
    assert bias.bbq_scores(stored)["no_choice"].tolist() == [1, 1, 1, 0, 0, 0]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"context_condition": "ambiguous"}, "x: expected context_condition ambig or disambig"),
        ({"question_polarity": "negative"}, "got 'ambig' and 'negative'"),
        ({"choice": 3}, "indices of 3 options, got 1 and 3"),
        ({"gold": 2}, "in an ambiguous context is to abstain, got gold 2"),
    ],
)
def test_wrong_values_are_named(bias, change, says):
    with pytest.raises(ValueError, match=says):
        bias.bbq_scores(pd.DataFrame([answer(0) | change]))


def test_missing_columns_are_named(bias):
    with pytest.raises(ValueError, match="the table lacks gold, answer_info; expected item_id"):
        bias.bbq_scores(pd.DataFrame([answer(0)]).drop(columns=["gold", "answer_info"]))
    with pytest.raises(ValueError, match="the table lacks template"):
        bias.bbq_scores(pd.DataFrame([answer(0)]), clusters="template")


def test_intervals_are_those_of_the_cluster_bootstrap_over_signed_answers(bias):
    from mechmsc.estimate import cluster_bootstrap_columns

    rng = np.random.default_rng(1)
    choices, templates = rng.integers(0, 3, 60), rng.integers(0, 12, 60)
    rows = [answer(int(choice), template=int(template)) for choice, template in zip(choices, templates, strict=True)]
    table = scores(bias, rows, clusters="template", n_boot=4000, seed=2)
    signed = np.array([1.0, 0.0, -1.0])[choices]
    columns = np.stack([np.where(signed == 0, np.nan, signed), signed], axis=1)
    slow = cluster_bootstrap_columns(columns, templates, n_boot=4000, seed=3)
    for name, one in zip(("bias_among_answers", "bias_score"), slow, strict=True):
        row = table.loc[("ambig", name)]
        assert (row["value"], row["n"]) == (pytest.approx(one.value), one.n)
        assert (row["low"], row["high"]) == (pytest.approx(one.low, abs=0.03), pytest.approx(one.high, abs=0.03))


def test_intervals_over_items_cover_independent_answers_and_need_templates_where_these_are_alike():
    from mechmsc.estimate import cluster_bootstrap_columns

    trials, rng = 1000, np.random.default_rng(4)  # a column is a data set

    def covered(values, clusters, truth):
        found = cluster_bootstrap_columns(values, clusters, n_boot=500, seed=5)
        return sum(one.low <= truth <= one.high for one in found)

    signed = rng.choice([1.0, -1.0, 0.0], (80, trials), p=[0.5, 0.2, 0.3])
    shown = np.where(signed == 0, np.nan, signed)
    for count in (covered(signed, np.arange(80), 0.3), covered(shown, np.arange(80), 0.3 / 0.7)):
        sure = stats.binomtest(count, trials).proportion_ci(0.99)
        assert sure.low <= 0.97 and sure.high >= 0.93, count / trials
    alike = np.repeat(rng.choice([1.0, -1.0, 0.0], (40, trials), p=[0.4, 0.4, 0.2]), 4, axis=0)
    assert covered(alike, np.arange(160), 0.0) < 0.8 * trials
    sure = stats.binomtest(covered(alike, np.repeat(np.arange(40), 4), 0.0), trials).proportion_ci(0.99)
    assert sure.low <= 0.97 and sure.high >= 0.93
