"""Measures of a run equal slow loops over its tables; they are added one by one, resumed, and refused with advice."""

import math

import numpy as np
import pandas as pd
import pytest
from measured_runs import LAYERS, SITES, WIDTH, make_run
from references.bootstrap import resampled_mean_interval

from mechmsc.errors import InputError, RunError

QUICK = {"clusterer": "exact", "n_boot": 60, "progress": False}


@pytest.fixture(scope="module")
def measure_run():
    from mechmsc.measures import measure_run

    return measure_run


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("measures") / "run", sites=SITES)


@pytest.fixture
def run(tmp_path):
    return make_run(tmp_path / "run", n_free=2, n_choice=2, rounds=2)


@pytest.fixture(scope="module")
def measured(finished, measure_run):
    names = "choice_entropy,choice_entropy_within,confidence,first_token_entropy,predictive_entropy"
    names += ",length_normalised_entropy,lexical_similarity,semantic_entropy,discrete_semantic_entropy"
    return measure_run(finished, uncertainty=names, **QUICK)


def direction_of(run, *, concept="toxicity", seed=0):
    import torch

    from mechmsc.directions import Direction
    from mechmsc.model import ModelIdentity

    generator = torch.Generator().manual_seed(seed)
    return Direction(
        concept=concept,
        vectors=torch.randn(LAYERS, WIDTH, generator=generator),
        midpoints=torch.randn(LAYERS, WIDTH, generator=generator),
        gaps=torch.rand(LAYERS, generator=generator) + 0.5,
        layers=tuple(range(LAYERS)),
        method="mass_mean",
        component="resid_post",
        position="last",
        context="chat",
        model=ModelIdentity(**run.manifest["model"]),
    )


def entropy(p) -> float:
    return -sum(x * math.log(x) for x in p if x > 0)


def oracle(measure: str, row, samples) -> float:
    """What a measure is, for one row of the transcripts and its samples, with nothing but loops."""
    if measure in ("accuracy", "toxicity"):
        return row["score"]
    if measure == "first_token_entropy":
        return row["first_token_entropy"]
    if measure.startswith(("choice", "confidence")):
        orders = [[float(x) for x in one] for one in row["permutation_probs"]]
        mean = [sum(one[k] for one in orders) / len(orders) for k in range(3)]
        within = sum(entropy(one) for one in orders) / len(orders)
        return {"choice_entropy": entropy(mean), "choice_entropy_within": within, "confidence": max(mean)}[measure]
    likelihoods = [sum(float(x) for x in one) for one in samples["response_logprobs"]]
    per_token = [total / len(ids) for total, ids in zip(likelihoods, samples["response_ids"], strict=True)]
    if measure == "predictive_entropy":
        return -sum(likelihoods) / len(likelihoods)
    if measure == "length_normalised_entropy":
        return -sum(per_token) / len(per_token)
    weights: dict[str, float] = {}
    for text, a in zip(samples["response"], per_token, strict=True):
        weights[text] = weights.get(text, 0.0) + (math.exp(a) if measure == "semantic_entropy" else 1.0)
    return entropy([weight / sum(weights.values()) for weight in weights.values()])


def test_every_measure_of_every_round_equals_a_slow_loop_over_the_tables(finished, measured):
    table = measured.measures
    of_row = {(r["item_id"], r["arm"], r["round"]): r for r in finished.transcripts.to_dict("records")}
    of_set = dict(list(finished.samples.groupby(["item_id", "arm", "round"])))
    seen = set()
    for row in table[table["measure"] != "lexical_similarity"].itertuples():
        key = (row.item_id, row.arm, row.round)
        assert row.value == pytest.approx(oracle(row.measure, of_row[key], of_set[key]), abs=1e-7), row
        seen.add(row.measure)
    assert len(seen) == 10
    n_rounds, n_choice = len(of_row), sum(r["gold"] is not None and r["gold"] == r["gold"] for r in of_row.values())
    sizes = table.groupby("measure").size()
    assert sizes["semantic_entropy"] == sizes["first_token_entropy"] == sizes["lexical_similarity"] == n_rounds
    assert sizes["choice_entropy"] == sizes["accuracy"] == n_choice
    assert table["lexical_similarity" == table["measure"]]["value"].between(0, 1).all()


def test_the_tables_have_the_columns_of_the_contract_and_unique_keys(measured):
    measures, summaries = measured.measures, measured.summaries
    assert list(measures) == ["item_id", "arm", "round", "measure", "source", "position", "layer", "value", "unit"]
    columns = ["task", "group", "arm", "round", "measure", "source", "layer", "value", "low", "high", "level", "n"]
    assert list(summaries) == columns
    assert str(measures["layer"].dtype) == "Int32" and str(summaries["layer"].dtype) == "Int32"
    assert not measures.duplicated(["item_id", "arm", "round", "measure", "source", "position", "layer"]).any()
    assert not summaries.duplicated(columns[:7]).any()
    units = measures.groupby("measure")["unit"].first()
    assert units["choice_entropy"] == "nats" and units["length_normalised_entropy"] == "nats per token"


def test_the_concept_by_round_and_layer_is_the_score_of_the_stored_activations(finished, measure_run):
    direction = direction_of(finished)
    table = measure_run(finished, direction={"mine": direction}, **QUICK).measures
    table = table[table["measure"] == "concept"]
    assert set(table["position"]) == {"prompt_end", "response_mean"} and set(table["source"]) == {"mine"}
    assert len(table) == 2 * LAYERS * len(finished.transcripts)
    u = direction.vectors / direction.vectors.norm(dim=1, keepdim=True)
    stored = finished.activations.load()
    items, arms = (stored[name].values.tolist() for name in ("item", "arm"))
    for row in table.itertuples():
        site = stored[f"resid_post.{row.position}"].values
        h = site[items.index(row.item_id), arms.index(row.arm), row.round - 1, row.layer]
        p = float((h - direction.midpoints[row.layer].numpy()) @ u[row.layer].numpy())
        assert row.value == pytest.approx(p / float(direction.gaps[row.layer]), abs=1e-5)
    assert set(table["unit"]) == {"class gaps, positive = more toxicity"}


def test_adding_a_measure_leaves_the_others_to_the_bit_and_the_same_call_changes_no_file(run, measure_run, monkeypatch):
    first = measure_run(run, uncertainty="semantic_entropy", **QUICK)
    before = first.measures
    monkeypatch.setattr("mechmsc.measures.sampled.sample_sets", lambda *_, **__: pytest.fail("read samples again"))
    second = measure_run(run, uncertainty="semantic_entropy,choice_entropy", **QUICK)
    kept = second.measures[second.measures["measure"] != "choice_entropy"].reset_index(drop=True)
    pd.testing.assert_frame_equal(kept, before, check_exact=True)
    files = {path.name: path.stat().st_mtime_ns for path in run.path.glob("*.parquet")}
    monkeypatch.setattr("mechmsc.measures.summaries.means", lambda *_: pytest.fail("summarised again"))
    measure_run(run, uncertainty="semantic_entropy,choice_entropy", **QUICK)
    assert {path.name: path.stat().st_mtime_ns for path in run.path.glob("*.parquet")} == files


def test_other_settings_replace_the_rows_of_their_block_alone(run, measure_run):
    from mechmsc.uncertainty import Clusterer

    def all_one(questions, responses, progress):  # noqa: ARG001 - a clusterer's signature
        return [np.zeros(len(texts), dtype=int) for texts in responses]

    exact = measure_run(run, uncertainty="discrete_semantic_entropy,predictive_entropy", **QUICK).measures
    other = QUICK | {"clusterer": Clusterer("exact", all_one, {"rule": "all"})}
    changed = measure_run(run, uncertainty="discrete_semantic_entropy", **other).measures
    assert (changed.loc[changed["measure"] == "discrete_semantic_entropy", "value"] == 0).all()
    assert (exact.loc[exact["measure"] == "discrete_semantic_entropy", "value"] > 0).any()
    assert len(changed) == len(exact)
    rest = [table[table["measure"] != "discrete_semantic_entropy"].reset_index(drop=True) for table in (exact, changed)]
    pd.testing.assert_frame_equal(*rest, check_exact=True)


def test_a_measurement_that_is_killed_goes_on_where_it_committed_and_equals_an_uninterrupted_one(
    run, tmp_path, measure_run, monkeypatch
):
    from mechmsc.uncertainty import CLUSTERERS, Clusterer

    whole = measure_run(
        make_run(tmp_path / "whole", n_free=2, n_choice=2, rounds=2), uncertainty="semantic_entropy", **QUICK
    )
    exact, asked = CLUSTERERS["exact"](), []

    def failing(questions, responses, progress):
        asked.append(len(questions))
        if len(asked) == 3:
            raise KeyboardInterrupt
        return exact.cluster(questions, responses, progress)

    monkeypatch.setattr("mechmsc.measures.sampled.SAMPLES_AT_ONCE", 9)
    monkeypatch.setattr("mechmsc.measures.table.COMMIT_SECONDS", 0.0)
    watched = QUICK | {"clusterer": Clusterer("exact", failing, {})}
    with pytest.raises(KeyboardInterrupt):
        measure_run(run, uncertainty="semantic_entropy", **watched)
    from mechmsc import open_run

    partly = open_run(run.path).measures
    done = int((partly["measure"] == "semantic_entropy").sum())
    assert 0 < done == sum(asked[:2]) < len(run.transcripts)
    resumed = measure_run(run, uncertainty="semantic_entropy", **watched)
    assert sum(asked[3:]) == len(run.transcripts) - done
    pd.testing.assert_frame_equal(resumed.measures, whole.measures, check_exact=True)
    pd.testing.assert_frame_equal(resumed.summaries, whole.summaries, check_exact=True)


def test_a_running_run_is_measured_as_far_as_it_is_and_completed_later(tmp_path, measure_run):
    settings = {"n_free": 3, "n_choice": 3, "rounds": 2, "sites": SITES[:1]}
    whole = make_run(tmp_path / "whole", **settings)
    direction = direction_of(whole)
    both = {"uncertainty": "semantic_entropy,choice_entropy", "direction": {"d": direction}}
    expected = measure_run(whole, **both, **QUICK)
    running = make_run(tmp_path / "running", **settings, upto=2)
    early = measure_run(running, **both, **QUICK)
    assert early.status == "running"
    assert set(early.measures["item_id"]) == set(early.transcripts["item_id"]) != set(whole.transcripts["item_id"])
    later = measure_run(make_run(tmp_path / "running", **settings), **both, **QUICK)
    pd.testing.assert_frame_equal(later.measures, expected.measures, check_exact=True)
    pd.testing.assert_frame_equal(later.summaries, expected.summaries, check_exact=True)


def test_means_are_those_of_a_slow_loop_by_task_group_arm_round_with_bootstrap_intervals(measured):
    measures = measured.measures.copy()
    measures["task"] = measures["item_id"].str.split("/").str[0]
    groups = measured.transcripts.drop_duplicates("item_id").set_index("item_id")["group"]
    summaries = measured.summaries
    means = summaries[summaries["measure"].isin(["choice_entropy", "semantic_entropy", "toxicity"])]
    assert len(means) == (4 + 1) * 10 + 10 + 4 * 10
    for row in means.itertuples():
        mine = measures[(measures["measure"] == row.measure) & (measures["task"] == row.task)]
        mine = mine[(mine["arm"] == row.arm) & (mine["round"] == row.round)]
        if row.group:
            mine = mine[mine["item_id"].map(groups) == row.group]
        value, low, high, n = resampled_mean_interval(mine["value"], mine["item_id"], level=0.95, n_boot=400, seed=0)
        assert (row.value, row.n) == (pytest.approx(value, abs=1e-12), n)
        assert row.low == pytest.approx(low, abs=0.15) and row.high == pytest.approx(high, abs=0.15)


def test_what_is_derived_is_what_the_estimators_say_of_the_same_columns(measured):
    from mechmsc.calibration import expected_calibration_error, rank_calibration_error
    from mechmsc.convergence import flip_rate
    from mechmsc.uncertainty import rank_correlation

    rows = measured.measures[measured.measures["layer"].isna()]
    wide = rows.pivot(index=["item_id", "arm", "round"], columns="measure", values="value").reset_index()
    summaries = measured.summaries[measured.summaries["group"] == ""].set_index(["measure", "arm", "round", "source"])
    for arm, round in (("moral", 1), ("neutral", 3), ("none", 1)):
        cell = wide[(wide["arm"] == arm) & (wide["round"] == round)]
        choice, free = cell[cell["accuracy"].notna()], cell[cell["toxicity"].notna()]
        ece = expected_calibration_error(choice["confidence"], choice["accuracy"])
        assert summaries.loc[("ece", arm, round, "confidence"), "value"].item() == pytest.approx(ece)
        rce = rank_calibration_error(free["semantic_entropy"], -free["toxicity"])
        found = summaries[summaries["task"] == "detoxification"]
        assert found.loc[("rce", arm, round, "semantic_entropy/exact"), "value"].item() == pytest.approx(rce)
        rce = rank_calibration_error(-choice["confidence"], choice["accuracy"])
        found = summaries[summaries["task"] == "social_bias"]
        assert found.loc[("rce", arm, round, "confidence"), "value"].item() == pytest.approx(rce)
    flips = flip_rate(measured.transcripts[measured.transcripts["choice"].notna()])
    flips = flips[(flips["arm"] == "moral") & (flips["round"] == 2)]
    assert summaries.loc[("flip_rate", "moral", 2, "options"), "value"].item() == flips["value"].item()
    free = wide[(wide["arm"] == "moral") & wide["toxicity"].notna()]
    spearman = rank_correlation(free["first_token_entropy"], free["semantic_entropy"], n_boot=1)
    rows = measured.summaries[measured.summaries["measure"] == "rank_correlation"]
    row = rows[(rows["arm"] == "moral") & (rows["task"] == "detoxification")].iloc[0]
    assert row["value"] == pytest.approx(spearman.value) and pd.isna(row["round"])
    assert row["source"] == "first_token_entropy, semantic_entropy/exact"


def test_bias_by_dimension_is_that_of_the_answers_and_needs_the_items(measured, tmp_path, measure_run):
    from mechmsc.bias import bbq_scores

    rows = measured.transcripts
    rows = rows[(rows["task"] == "social_bias") & (rows["arm"] == "moral") & (rows["round"] == 2)]
    known = pd.DataFrame([{"item_id": item.item_id, **item.metadata} for item in measured.items if item.options])
    answers = rows[["item_id", "choice", "gold"]].astype({"choice": float, "gold": float})
    expected = bbq_scores(answers.merge(known, on="item_id"), n_boot=1)
    summaries = measured.summaries[(measured.summaries["arm"] == "moral") & (measured.summaries["round"] == 2)]
    assert len(expected) > 6
    for row in expected.itertuples():
        name = f"{row.measure}_{row.context_condition}"
        found = summaries[(summaries["measure"] == name) & (summaries["group"] == row.category)]
        assert found["value"].item() == pytest.approx(row.value, nan_ok=True)
    old = make_run(tmp_path / "old", n_free=0, n_choice=3, rounds=1)
    (old.path / "items.jsonl").unlink()
    summaries = measure_run(old, uncertainty="confidence", **QUICK).summaries
    assert not summaries["measure"].str.startswith("bias").any() and (summaries["measure"] == "ece").any()


def test_convergence_is_found_where_a_curve_is_flat_and_not_where_it_drifts(tmp_path, measure_run, monkeypatch):
    run = make_run(tmp_path / "run", n_free=12, n_choice=0, rounds=6, samples=0, arms=("moral", "neutral", "none"))
    rows = run.transcripts
    jitter = np.random.default_rng(0).normal(0, 0.01, len(rows))
    drift = np.where(rows["arm"] == "moral", 0.8 * 0.15 ** (rows["round"] - 1.0), 0.1 * rows["round"])
    monkeypatch.setattr(
        "mechmsc.measures.run.read_columns", lambda *_: rows.assign(first_token_entropy=1 + drift + jitter)
    )
    summaries = measure_run(run, uncertainty="first_token_entropy", margin=0.05, **QUICK).summaries
    mine = summaries[summaries["source"] == "first_token_entropy"].set_index(["measure", "arm"])["value"]
    assert mine["convergence_round", "moral"] == 3 and math.isnan(mine["convergence_round", "neutral"])
    assert mine["convergence_margin", "moral"] == 0.05
    assert mine["decay_tau", "moral"] == pytest.approx(-1 / math.log(0.15), abs=0.1)
    assert "none" not in summaries.loc[summaries["measure"] == "convergence_round", "arm"].tolist()


def test_without_names_all_is_measured_that_the_run_has_data_for(tmp_path, measure_run):
    free = make_run(tmp_path / "free", n_free=2, n_choice=0, samples=0, rounds=1)
    assert set(measure_run(free, **QUICK).measures["measure"]) == {"toxicity", "first_token_entropy"}
    both = make_run(tmp_path / "both", n_free=1, n_choice=2, rounds=1)
    found = set(measure_run(both, **QUICK).measures["measure"])
    assert {"choice_entropy", "choice_entropy_within", "semantic_entropy", "accuracy"} <= found


@pytest.mark.parametrize(
    ("settings", "options", "message"),
    [
        ({"samples": 0}, {"uncertainty": "semantic_entropy"}, r"mechmsc run \.\.\. --samples 10"),
        ({"samples": 1}, {"uncertainty": "predictive_entropy"}, "at least 2 samples a round and the run has 1"),
        ({"n_choice": 0}, {"uncertainty": "choice_entropy"}, "questions with options"),
        ({}, {"uncertainty": "semantic_entropie"}, "did you mean semantic_entropy"),
        ({}, {"uncertainty": "semantic_entropy", "clusterer": "embeding"}, "did you mean embedding"),
        ({}, {"uncertainty": "semantic_entropy", "clusterer": "entailment"}, "NLI model as `model`"),
        ({}, {"uncertainty": "semantic_entropy", "clusterer_options": {"thresold": 1}}, "clusterer exact: .*thresold"),
        ({}, {"readings": ["conzept"]}, "did you mean concept"),
    ],
)
def test_what_cannot_be_measured_is_refused_with_what_to_do_before_a_file_is_written(
    tmp_path, measure_run, settings, options, message
):
    run = make_run(tmp_path / "run", **({"n_free": 1, "n_choice": 1, "rounds": 1} | settings))
    with pytest.raises(InputError, match=message):
        measure_run(run, **(QUICK | options))
    assert not (run.path / "measures.parquet").exists()


def test_a_direction_that_does_not_fit_the_run_is_refused(finished, tmp_path, measure_run):
    import dataclasses

    direction = direction_of(finished)
    other = dataclasses.replace(direction.model, sha256="1" * 64)
    with pytest.raises(InputError, match="direction 'd' does not fit"):
        measure_run(finished, direction={"d": dataclasses.replace(direction, model=other)}, **QUICK)
    with pytest.raises(InputError, match=r"keeps no activations; run again with --sites resid_post\.prompt_end"):
        measure_run(make_run(tmp_path / "run", n_free=1, n_choice=0, rounds=1), direction=direction, **QUICK)
    with pytest.raises(InputError, match=r"keeps no resid_post\.instruction_end"):
        measure_run(finished, direction=direction, positions=["instruction_end"], **QUICK)
    with pytest.raises(InputError, match="two directions are named 'toxicity/mass_mean'"):
        measure_run(finished, direction=[direction, direction], **QUICK)


def test_a_log_probability_above_zero_is_refused_with_where_it_stands(run, measure_run, monkeypatch):
    from mechmsc.runs import results

    real = results.sample_sets
    wrong = lambda *a, **k: (piece.assign(log_likelihood=0.5) for piece in real(*a, **k))  # noqa: E731
    monkeypatch.setattr("mechmsc.measures.sampled.sample_sets", wrong)
    with pytest.raises(InputError, match=r"predictive_entropy of .* arm moral, round 1 on: .*at most 0"):
        measure_run(run, uncertainty="predictive_entropy", **QUICK)


def test_tempered_samples_make_a_cross_entropy_and_the_unit_says_so(run, measure_run):
    from mechmsc.runs.manifest import dump, parse

    path = run.path / "run.json"
    manifest = parse(path.read_bytes(), "run.json")
    path.write_bytes(dump({**manifest, "config": {**manifest["config"], "temperature": 0.5}}))
    table = measure_run(run, uncertainty="predictive_entropy,discrete_semantic_entropy", **QUICK).measures
    units = table.groupby("measure")["unit"].first()
    assert units["predictive_entropy"] == "nats (cross-entropy: samples at temperature 0.5, top-p 1)"
    assert units["discrete_semantic_entropy"] == "nats"


def test_two_measurements_of_one_run_exclude_each_other_but_a_running_run_may_be_measured(run, measure_run):
    from mechmsc.runs import lock
    from mechmsc.runs.results import held

    with held(run.folder), pytest.raises(RunError, match=r"\(its measures\) is in use by process"):
        measure_run(run, uncertainty="confidence", **QUICK)
    with lock.held(run.folder):
        assert len(measure_run(run, uncertainty="confidence", **QUICK).measures)


def test_samples_are_read_in_pieces_of_whole_sets_whatever_their_size(finished, tmp_path):
    from mechmsc.runs.results import sample_sets

    sets = finished.samples.groupby(["item_id", "arm", "round"], sort=False)
    expected = [sum(map(sum, rows["response_logprobs"])) for _, rows in sets]
    for rows in (1, 2, 7, 10_000):
        pieces = list(sample_sets(finished.folder, finished.manifest, rows=rows))
        assert rows > 7 or len(pieces) > 5
        found = [
            part["log_likelihood"].sum()
            for p in pieces
            for _, part in p.groupby(["item_id", "arm", "round"], sort=False)
        ]
        assert found == pytest.approx(expected, abs=1e-5) and all(len(p) % 3 == 0 for p in pieces)
        assert [t for p in pieces for t in p["response"]] == finished.samples["response"].tolist()
    none = make_run(tmp_path / "none", n_free=1, n_choice=0, samples=0, rounds=1)
    assert list(sample_sets(none.folder, none.manifest, rows=5)) == []


def test_scores_of_an_nli_model_are_kept_with_the_run_and_not_asked_again(run, measure_run, monkeypatch):
    import mechmsc.uncertainty as uncertainty

    asked = []

    def judge(pairs, source, device):  # noqa: ARG001 - the signature of the model's pass
        asked.extend(pairs)
        return [[0.8, 0.1, 0.1] if a.split()[0] == b.split()[0] else [0.1, 0.1, 0.8] for _, a, b in pairs]

    module = __import__("sys").modules[uncertainty.CLUSTERERS["entailment"].__module__]
    monkeypatch.setattr(module, "_probabilities", judge)
    options = QUICK | {"clusterer": "entailment", "clusterer_options": {"model": "some/nli-model"}}
    measure_run(run, uncertainty="semantic_entropy", **options)
    kept = pd.read_parquet(run.path / "nli_scores.parquet")
    assert len(kept) == len(set(asked)) == len(asked) > 10
    (run.path / "measures.parquet").unlink()
    asked.clear()
    measure_run(run, uncertainty="semantic_entropy", **options)
    assert asked == []
