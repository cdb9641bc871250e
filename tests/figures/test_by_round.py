"""Figures of uncertainty, calibration and convergence show the numbers of their tables, whatever the run has."""

import numpy as np
import pandas as pd
import pytest
from made_tables import (
    ARMS,
    assert_nothing_is_cut_off_or_covered,
    caption_of,
    line_of,
    made_measures,
    made_summaries,
)

MIXED = ("moral", "moral+immoral@2/5/8", "neutral", "none")


def test_uncertainty_of_choices_is_shown_by_dimension_total_and_within_and_of_free_text_by_meaning():
    from mechmsc.figures.uncertainty import draw_uncertainty, uncertainty_table

    summaries = made_summaries()
    table = uncertainty_table(summaries)
    assert set(table["measure"]) == {"choice_entropy", "choice_entropy_within", "semantic_entropy"}
    figure = draw_uncertainty(table, caption="Model m.")
    assert [axis.get_title(loc="left") for axis in figure.axes] == [
        *("Social bias", "Age", "Religion", "Text detoxification")
    ]
    for axis, group in zip(figure.axes, ["", "Age", "Religion"], strict=False):
        for arm in ARMS[:3]:
            rows = table[(table["task"] == "social_bias") & (table["group"] == group) & (table["arm"] == arm)]
            total, within = (
                rows.loc[rows["measure"] == name, "value"].tolist()
                for name in ("choice_entropy", "choice_entropy_within")
            )
            assert line_of(axis, arm).get_ydata().tolist() == total
            dotted = [list(one.get_ydata()) for one in axis.lines if one.get_linestyle() == ":"]
            assert within in dotted
    assert figure.axes[3].get_ylabel() == "semantic entropy (nats)\n(exact clusters)"
    assert "Dotted: entropy that remains when the order of the options is known" in caption_of(figure)
    assert caption_of(figure).endswith("Model m.")


def test_without_groups_or_clusters_the_next_best_is_shown_and_without_anything_the_error_says_what_to_do():
    from mechmsc.errors import InputError
    from mechmsc.figures.uncertainty import draw_uncertainty, uncertainty_table

    summaries = made_summaries(groups=("Age",))
    table = uncertainty_table(summaries[summaries["measure"] != "semantic_entropy"])
    assert set(table["group"]) == {""} and "predictive_entropy" in set(table["measure"])
    assert len(draw_uncertainty(table).axes) == 2
    chosen = uncertainty_table(summaries, measures=["predictive_entropy"])
    assert "semantic_entropy" not in set(chosen["measure"])
    with pytest.raises(InputError, match="mechmsc measure RUN"):
        uncertainty_table(summaries[summaries["measure"] == "accuracy"])


def test_calibration_shows_errors_with_their_nulls_and_the_reliability_of_the_last_round():
    from mechmsc.calibration import reliability_diagram
    from mechmsc.figures.calibration import calibration_table, draw_calibration

    summaries, measures = made_summaries(), made_measures(items=30)
    table = calibration_table(summaries, measures)
    figure = draw_calibration(table)
    ece, reliability, rce, auroc, free_rce, spearman = figure.axes
    rows = table[(table["measure"] == "ece") & (table["arm"] == "moral")]
    assert line_of(ece, "moral").get_ydata().tolist() == rows["value"].tolist()
    null = table[table["measure"] == "ece_null"].groupby("round")
    (band,) = [one for one in ece.collections if one.get_label() == "by chance"]
    drawn = band.get_paths()[0].vertices[:, 1]
    assert drawn.min() == pytest.approx(null["low"].min().min()) and drawn.max() == pytest.approx(
        null["high"].max().max()
    )
    last = measures[(measures["arm"] == "moral") & (measures["round"] == 4)]
    wide = last[last["measure"].isin(["confidence", "accuracy"])].pivot(
        index="item_id", columns="measure", values="value"
    )
    expected = reliability_diagram(wide["confidence"], wide["accuracy"])
    assert line_of(reliability, "moral").get_xdata().tolist() == expected["confidence"].tolist()
    assert line_of(reliability, "moral").get_ydata().tolist() == expected["accuracy"].tolist()
    assert reliability.get_title(loc="right") == "round 4"
    perfect = table[(table["measure"] == "rce_perfect") & (table["source"] == "choice_entropy")]
    means = perfect.groupby("round")["value"].mean().tolist()
    assert line_of(rce, "perfect ranking").get_ydata().tolist() == pytest.approx(means)
    assert "AUROC of entropy of the choice" in auroc.get_ylabel()
    assert free_rce.get_ylabel().startswith("RCE of semantic entropy")
    assert spearman.get_ylabel().startswith("rank correlation of semantic entropy")
    assert "which has no interval" in caption_of(figure)


def test_calibration_needs_something_to_be_calibrated():
    from mechmsc.errors import InputError
    from mechmsc.figures.calibration import calibration_table

    summaries = made_summaries()
    with pytest.raises(InputError, match="it needs confidence or uncertainty, and scores"):
        calibration_table(summaries[summaries["measure"] == "toxicity"], made_measures()[:0])


def test_the_convergence_round_is_marked_and_what_has_not_converged_ends_in_an_arrow():
    from mechmsc.figures.convergence import convergence_table, draw_convergence

    table = convergence_table(made_summaries(rounds=8, settles={"moral": 3.0, "neutral": np.nan}))
    assert list(dict.fromkeys(table["curve"])) == ["choice_entropy", "toxicity"]
    assert set(table["kind"]) == {"curve", "convergence", "decay"}
    axis = draw_convergence(table).axes[0]
    moral, neutral = (line_of(axis, arm).get_color() for arm in ("moral", "neutral"))
    marks = {
        (one.get_color(), one.get_marker()): float(one.get_xdata()[0])
        for one in axis.lines
        if len(one.get_xdata()) == 1
    }
    assert marks[moral, "o"] == 3.0 and marks[neutral, ">"] == pytest.approx(8.3)
    row = table[(table["measure"] == "choice_entropy") & (table["arm"] == "moral") & (table["round"] == 3)].iloc[0]
    bands = [path.vertices for one in axis.collections for path in one.get_paths() if len(path.vertices) > 4]
    (band,) = [vertices for vertices in bands if vertices[:, 0].max() > 7]
    assert (band[:, 1].min(), band[:, 1].max()) == pytest.approx((row["value"] - 0.05, row["value"] + 0.05))
    assert "margin 0.05" in axis.get_ylabel()
    lowest = min(float(np.min(line_of(axis, arm).get_ydata())) for arm in ("moral", "neutral"))
    assert axis.get_ylim()[0] < lowest - 0.2 and min(axis.get_yticks()) > lowest - 0.2, "no ticks beside the marks"
    from mechmsc.errors import InputError

    with pytest.raises(InputError, match="at least 3 rounds"):
        convergence_table(made_summaries(rounds=2))


@pytest.mark.parametrize(("rounds", "arms", "n"), [(1, ("moral",), 1), (1, ("none",), 6), (2, ARMS, 1), (20, MIXED, 8)])
def test_figures_are_drawn_of_one_round_one_item_the_baseline_alone_and_twenty_rounds(rounds, arms, n):
    from mechmsc.figures import calibration, convergence, uncertainty

    settles = {arm: np.nan for arm in arms if arm != "none"} if rounds > 2 else None
    summaries = made_summaries(rounds=rounds, arms=arms, n=n, settles=settles)
    measures = made_measures(rounds=rounds, arms=arms, items=n, layers=1)
    caption = "A sentence on what not to conclude from this figure. " * 3
    figures = [
        uncertainty.draw_uncertainty(uncertainty.uncertainty_table(summaries), caption=caption),
        calibration.draw_calibration(calibration.calibration_table(summaries, measures), caption=caption),
    ]
    if settles:
        figures.append(convergence.draw_convergence(convergence.convergence_table(summaries), caption=caption))
    for figure in figures:
        assert_nothing_is_cut_off_or_covered(figure)


def test_an_arm_of_which_nothing_was_measured_is_drawn_without_a_line():
    from mechmsc.figures.uncertainty import draw_uncertainty, uncertainty_table

    summaries = made_summaries()
    summaries.loc[summaries["arm"] == "immoral", ["value", "low", "high"]] = np.nan
    summaries.loc[summaries["arm"] == "none", ["value", "low", "high"]] = np.nan
    axis = draw_uncertainty(uncertainty_table(summaries)).axes[0]
    assert np.isnan(line_of(axis, "immoral").get_ydata()).all()
    assert pd.notna(line_of(axis, "moral").get_ydata()).all()
