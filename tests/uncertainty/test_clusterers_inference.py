"""Clusters by entailment: a judge by rule for the meaning, a random tiny NLI model for the mechanics."""

import numpy as np
import pandas as pd
import pytest
from references.uncertainty import one_by_one
from tiny_nli import MNLI_ORDER, VERDICTS, WORDS, rule, save_tiny_nli


@pytest.fixture(scope="module")
def nli(tmp_path_factory):
    """The folder of the tiny model."""
    return save_tiny_nli(tmp_path_factory.mktemp("nli") / "mnli")


@pytest.fixture
def inference():
    from mechmsc.uncertainty.clusterers import inference

    return inference


@pytest.fixture
def by_rule(inference, monkeypatch):
    """The clusterers with a judge by rule, and the triples that it was asked."""
    asked = []
    monkeypatch.setattr(inference, "_probabilities", lambda pairs, *_: asked.extend(pairs) or rule(pairs))
    return inference, asked


def random_sets(n_sets, seed=0):
    rng = np.random.default_rng(seed)
    texts = [" ".join(rng.choice(WORDS, size=rng.integers(1, 6))) for _ in range(12)]
    questions = [f"what is {WORDS[s % len(WORDS)]}" for s in range(n_sets)]
    return questions, [list(rng.choice(texts, size=6)) for _ in range(n_sets)]


def verdicts(clusterer):
    return clusterer.scores().set_index(["question", "premise", "hypothesis"])[list(VERDICTS)].sort_index()


def test_meanings_follow_from_each_other_both_ways_and_the_question_belongs_to_the_text(by_rule):
    inference, _ = by_rule
    entail = inference.entailment("rule/judge")
    texts = ["It is Paris.", "paris", "Paris and Rome", "not Paris", "It is not Paris", "", "Rome"]
    ids = entail(["what is it", ""], [texts, texts])
    assert ids[0].tolist() == [0, 0, 1, 2, 2, 3, 4]  # "paris" says "it is Paris" to that question
    assert ids[1].tolist() == [0, 1, 2, 3, 4, 5, 6]  # and less than that to none


def test_without_contradiction_one_direction_suffices_and_two_neutral_ones_do_not(by_rule):
    inference, _ = by_rule
    weak = inference.non_contradiction("rule/judge")
    texts = ["Paris", "Paris and Rome", "Rome", "not Paris", "Paris good", ""]
    assert weak([""], [texts])[0].tolist() == [0, 0, 1, 2, 0, 3]
    assert inference.entailment("rule/judge")([""], [texts])[0].tolist() == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("name", ["entailment", "non_contradiction"])
def test_clusters_are_those_of_asking_sample_after_sample(by_rule, name):
    inference, asked = by_rule
    questions, responses = random_sets(8)

    def same(question, a, b):
        there, back = (np.array(rule([(question, *pair)])[0]) for pair in ((a, b), (b, a)))
        top = {VERDICTS[there.argmax()], VERDICTS[back.argmax()]}
        if name == "entailment":
            return top == {"entailment"}
        return "contradiction" not in top and top != {"neutral"}

    ids = getattr(inference, name)("rule/judge")(questions, responses)
    for question, texts, ours in zip(questions, responses, ids, strict=True):
        assert ours.tolist() == one_by_one(texts, lambda a, b, q=question: same(q, a, b))
    assert len(asked) == len(set(asked))
    assert all(premise and hypothesis and premise != hypothesis for _, premise, hypothesis in asked)


def test_the_way_back_is_asked_only_where_the_way_there_leaves_it_open(by_rule):
    inference, asked = by_rule
    inference.entailment("rule/judge")([""], [["paris", "rome", "paris good"]])
    assert ("", "rome", "paris") not in asked
    assert ("", "paris", "rome") in asked
    asked.clear()
    inference.entailment("rule/judge")([""], [["paris good", "paris"]])
    assert sorted(asked) == [("", "paris", "paris good"), ("", "paris good", "paris")]


def test_probabilities_are_those_of_the_model_asked_pair_by_pair(nli, inference):
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    questions, responses = random_sets(10)
    clusterer = inference.non_contradiction(nli, batch_size=7)
    clusterer(questions, responses)
    table = clusterer.scores()
    assert list(table.columns) == ["model", "question", "premise", "hypothesis", *VERDICTS]
    model, tokenizer = AutoModelForSequenceClassification.from_pretrained(nli), AutoTokenizer.from_pretrained(nli)
    assert set(table[list(VERDICTS)].to_numpy().argmax(axis=1)) == {0, 1, 2}  # this random model has opinions
    for row in table.itertuples():
        inputs = tokenizer(f"{row.question} {row.premise}", f"{row.question} {row.hypothesis}", return_tensors="pt")
        with torch.no_grad():
            p = model(**inputs).logits[0].softmax(-1)
        assert [row.contradiction, row.neutral, row.entailment] == pytest.approx(p.tolist(), abs=1e-6)


@pytest.mark.parametrize("name", ["entailment", "non_contradiction"])
def test_clusters_do_not_depend_on_the_batch_size_nor_on_the_other_sets(nli, inference, name):
    questions, responses = random_sets(10)
    make = getattr(inference, name)
    whole = make(nli, batch_size=64)
    ids = [i.tolist() for i in whole(questions, responses)]
    assert len({len(set(i)) for i in ids}) > 1
    single = make(nli, batch_size=1)
    assert [i.tolist() for i in single(questions, responses)] == ids
    pd.testing.assert_frame_equal(verdicts(single), verdicts(whole), atol=1e-6, rtol=0)
    alone = make(nli)
    assert [alone([q], [r])[0].tolist() for q, r in zip(questions, responses, strict=True)] == ids


def test_labels_are_understood_in_any_case_and_order(nli, inference, tmp_path):
    questions, responses = random_sets(6)
    first = inference.entailment(nli)
    ids = first(questions, responses)
    for labels in (("entailment", "neutral", "contradiction"), ("Contradiction ", "ENTAILS", "Neutral")):
        again = inference.entailment(save_tiny_nli(tmp_path / labels[0].strip(), labels=labels))
        assert [i.tolist() for i in again(questions, responses)] == [i.tolist() for i in ids]
        pd.testing.assert_frame_equal(verdicts(again), verdicts(first), atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    "labels",
    [
        ("LABEL_0", "LABEL_1", "LABEL_2"),
        ("entailment", "not_entailment"),
        ("entailment", "neutral", "contradiction", "other"),
        ("entailment", "entailment", "neutral"),
    ],
)
def test_labels_that_are_not_understood_are_refused_with_advice(inference, tmp_path, labels):
    from mechmsc.errors import InputError

    folder = save_tiny_nli(tmp_path / "other", labels=labels)
    with pytest.raises(InputError, match=f"{labels[0]}, .*choose another, or name its labels in id2label"):
        inference.entailment(folder)(["q"], [["yes", "no"]])


def test_what_is_known_is_not_computed_again_and_survives_parquet(nli, inference, tmp_path, monkeypatch):
    questions, responses = random_sets(4)
    first = inference.entailment(nli)
    ids = first(questions, responses)
    first.scores().to_parquet(tmp_path / "scores.parquet")
    known = pd.read_parquet(tmp_path / "scores.parquet")
    before = known.copy()
    monkeypatch.setattr(inference, "_probabilities", lambda *_: pytest.fail("computed again"))
    again = inference.entailment(nli, known=known)
    assert [i.tolist() for i in again(questions, responses)] == [i.tolist() for i in ids]
    pd.testing.assert_frame_equal(again.scores(), first.scores())
    pd.testing.assert_frame_equal(known, before)


def test_scores_of_another_model_or_another_question_are_not_taken(by_rule):
    inference, asked = by_rule
    texts = [["paris", "it is paris"]]
    first = inference.entailment("rule/judge")
    first(["what is it"], texts)
    n = len(asked)
    inference.entailment("other/judge", known=first.scores())(["what is it"], texts)
    assert len(asked) == 2 * n
    inference.entailment("rule/judge", known=first.scores())(["who is it"], texts)
    assert len(asked) > 2 * n


def test_a_known_table_without_a_column_is_refused_by_name(inference):
    from mechmsc.errors import InputError

    with pytest.raises(InputError, match="hypothesis missing"):
        inference.entailment("org/name", known=pd.DataFrame(columns=["model", "question", "premise", *VERDICTS]))


def test_scores_computed_before_an_interruption_are_kept(nli, inference):
    questions, responses = random_sets(6)
    clusterer = inference.entailment(nli, batch_size=4)

    def stop(done, _):
        if done >= 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        clusterer(questions, responses, progress=stop)
    assert len(clusterer.scores()) == 8


def test_progress_never_falls_back_and_ends_at_the_total(nli, inference):
    reports = []
    clusterer = inference.entailment(nli, batch_size=4)
    clusterer(*random_sets(6), progress=lambda done, total: reports.append((done, total)))
    done = [d for d, _ in reports]
    assert done == sorted(done)
    assert reports[-1] == (len(clusterer.scores()),) * 2


def test_texts_longer_than_the_model_reads_are_cut(nli, inference):
    long = " ".join(["good"] * 100)
    [ids] = inference.entailment(nli)(["what is right"], [[long, "no"]])
    assert len(ids) == 2


def test_identical_and_blank_responses_need_no_model(inference):
    [ids] = inference.entailment("org/never-loaded")(["q"], [["yes", "yes ", "", " ", "yes"]])
    assert ids.tolist() == [0, 0, 1, 1, 0]


def test_a_hub_that_is_out_of_reach_and_a_folder_that_is_no_model_are_told_apart(inference, tmp_path, monkeypatch):
    import transformers

    from mechmsc.errors import FetchError, InputError

    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InputError, match=r"expected a model for inference \(NLI\) in"):
        inference.entailment(tmp_path)(["q"], [["a", "b"]])

    def unreachable(*_, **__):
        raise OSError("no\nconnection")

    monkeypatch.setattr(transformers.AutoConfig, "from_pretrained", unreachable)
    with pytest.raises(FetchError, match="cannot fetch org/nli .* from the hub: no connection; .* give a folder"):
        inference.entailment("org/nli")(["q"], [["a", "b"]])


def test_mnli_order_is_what_the_tiny_model_has(nli):
    import json

    assert tuple(json.loads((nli / "config.json").read_text())["id2label"].values()) == MNLI_ORDER
