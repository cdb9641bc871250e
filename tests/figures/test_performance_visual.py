"""Scores of visual tasks: pairs that count only whole, and what follows from the overlap of boxes."""

import math

import numpy as np
import pandas as pd
import pytest
from references.bootstrap import resampled_mean_interval

COLUMNS = ["task", "item_id", "pair", "arm", "round", "score", "score_name", "score_direction"]


def answers(n_pairs=10, rounds=2, seed=0) -> pd.DataFrame:
    """Answers about pairs of pictures, of which the last one has lost a member."""
    rng = np.random.default_rng(seed)
    rows = [
        ("visual_qa", f"visual_qa/{i}", str(i // 2), arm, round, float(rng.random() < 0.7), "accuracy", "higher")
        for i in range(2 * n_pairs - 1)
        for arm in ("moral", "neutral")
        for round in range(1, rounds + 1)
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def boxes() -> pd.DataFrame:
    scores = [0.9, 0.5, 0.49, math.nan, 0.0]
    rows = [
        ("visual_grounding", f"visual_grounding/{i}", None, "moral", 1, score, "iou", "higher")
        for i, score in enumerate(scores)
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def caption_of(figure) -> str:
    (text,) = figure.texts
    return " ".join(text.get_text().split())


@pytest.fixture
def performance():
    import mechmsc.figures.performance

    return mechmsc.figures.performance


def test_a_pair_counts_only_if_both_are_right_and_an_incomplete_one_does_not_count(performance):
    transcripts = answers()
    table = performance.performance_table(transcripts.sample(frac=1, random_state=1))
    assert set(table["measure"]) == {"accuracy", "pair_accuracy"}
    for row in table[table["measure"] == "pair_accuracy"].itertuples():
        cell = transcripts[(transcripts["arm"] == row.arm) & (transcripts["round"] == row.round)]
        whole = [scores.tolist() for _, scores in cell.groupby("pair")["score"] if len(scores) == 2]
        both = [float(a == b == 1.0) for a, b in whole]
        value, low, high, n = resampled_mean_interval(both, range(len(both)), level=0.95, n_boot=1000, seed=0)
        assert (row.value, row.n) == (pytest.approx(value), 9) and n == 9
        assert row.low == pytest.approx(low, abs=0.06) and row.high == pytest.approx(high, abs=0.06)
    plain = table[table["measure"] == "accuracy"]
    assert set(plain["n"]) == {19} and (plain["value"].mean() > table["value"].min())


def test_a_run_without_pairs_has_none(performance):
    assert set(performance.performance_table(answers().assign(pair=None))["measure"]) == {"accuracy"}
    assert set(performance.performance_table(answers().drop(columns="pair"))["measure"]) == {"accuracy"}


def test_answers_without_a_box_are_left_out_of_the_overlap_wrong_in_its_accuracy_and_counted_apart(performance):
    table = performance.performance_table(boxes()).set_index("measure")
    assert table["value"].to_dict() == pytest.approx(
        {"iou": np.mean([0.9, 0.5, 0.49, 0.0]), "box_accuracy": 0.4, "no_box": 0.2}
    )
    assert table["n"].to_dict() == {"iou": 4, "box_accuracy": 5, "no_box": 5}
    assert table["direction"].to_dict() == {"iou": "higher", "box_accuracy": "higher", "no_box": "lower"}


def test_every_measure_has_a_panel_of_its_own(performance):
    table = performance.performance_table(pd.concat([answers(), boxes()]))
    figure = performance.draw_performance(table)
    labels = [axis.get_ylabel().split("\n")[0] for axis in figure.axes]
    assert labels == ["accuracy", "pair accuracy", "IoU", "box accuracy", "answers without a box"]
    said = [performance.NOTES[measure] for measure in ("pair_accuracy", "no_box")]
    assert all(note in caption_of(figure) for note in said)
    plain = performance.performance_table(answers().drop(columns="pair"))
    assert not any(note in caption_of(performance.draw_performance(plain)) for note in said)


def test_measures_and_summaries_of_a_run_have_them_too(tmp_path):
    from mechmsc import runs
    from mechmsc.measures import measure_run
    from mechmsc.tasks import Item

    options, plain = ("Yes", "No"), {"response_logprobs": [-1.0], "stop_reason": "eos", "spans": "[]"}
    questions = [Item(f"visual_qa/{i}", "visual_qa", "Is it?", options, 0) for i in range(6)]
    items = [*questions, *(Item(f"visual_grounding/{i}", "visual_grounding", "Where?") for i in range(3))]
    rows = []
    for i, item in enumerate(items):
        row = {"task": item.task, "item_id": item.item_id, "arm": "moral", "round": 1, "question": item.turn()} | plain
        row |= {"prompt_ids": [1], "response_ids": [2], "response": "(a)", "first_token_entropy": 0.5}
        if item.options:
            right = [1, 1, 1, 0, 0, 0][i]
            probs = [0.8, 0.2] if right else [0.3, 0.7]
            row |= {"pair": str(i // 2), "choice": 1 - right, "choice_probs": probs, "permutation_probs": [probs] * 2}
            row |= {"gold": 0, "score": float(right), "score_name": "accuracy", "score_direction": "higher"}
        else:
            row |= {"score": [0.6, math.nan, 0.2][i - 6], "score_name": "iou", "score_direction": "higher"}
        rows.append(row)
    config = {"rounds": 1, "arms": ["moral"], "samples": 0, "item_ids": [item.item_id for item in items], "sites": []}
    plan = [{"batch": 0, "rows": [[item.item_id, "moral"] for item in items]}]
    model = {"name": "made", "revision": None, "sha256": "0"}
    made = {"config": config, "model": model, "versions": {}, "seeds": {}, "plan": plan, "arrays": {}, "items": items}
    with runs.create(tmp_path / "run", **made) as writer:
        writer.commit(plan[0], transcripts=rows, samples=None, activations={})
        writer.finish()
    run = measure_run(tmp_path / "run", n_boot=100, progress=False)
    whole = run.summaries[(run.summaries["group"] == "") & (run.summaries["round"] == 1)].set_index("measure")
    found = {name: (whole.loc[name, "value"], whole.loc[name, "n"]) for name in ("accuracy", "pair_accuracy")}
    assert found == {"accuracy": (pytest.approx(0.5), 6), "pair_accuracy": (pytest.approx(1 / 3), 3)}
    assert whole.loc["iou", "value"] == pytest.approx(0.4) and whole.loc["iou", "n"] == 2
    assert whole.loc["box_accuracy", "value"] == pytest.approx(1 / 3) == whole.loc["no_box", "value"]
    assert {"ece", "choice_entropy"} <= set(whole.index)
    by_item = run.measures.set_index(["measure", "item_id"])["value"]
    assert by_item["no_box"].to_dict() == {f"visual_grounding/{i}": float(i == 1) for i in range(3)}
    again = measure_run(tmp_path / "run", n_boot=100, progress=False)
    assert again.summaries.equals(run.summaries)
