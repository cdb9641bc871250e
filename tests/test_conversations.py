"""Conversations equal those of a slow, obvious procedure, token by token; and what a choice between options is."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from tiny_runs import CHOOSE, CONTINUE, JUDGE, correct, expected, load_chatty, spans_of, table_of

from mechmsc.tasks import load_items


@pytest.fixture(scope="module")
def chatty(tmp_path_factory):
    return load_chatty(tmp_path_factory.mktemp("chatty"))


def disagreement(run, rows) -> str | None:
    """The first thing in which a run differs from the naive rows, log-probabilities by 1e-4."""
    samples = run.samples.groupby(["item_id", "arm", "round"]) if len(run.samples) else None
    for ours, theirs in zip(table_of(run), rows, strict=True):
        key = ours["item_id"], ours["arm"], ours["round"]
        assert key == (theirs["item_id"], theirs["arm"], theirs["round"])
        drawn = samples.get_group(key).sort_values("sample").to_dict("records") if samples else []
        said = [theirs["said"], *theirs["samples"]]
        if ours["prompt_ids"].tolist() != theirs["prompt_ids"]:
            return f"prompt of {key}"
        if abs(ours["first_token_entropy"] - theirs["first_token_entropy"]) > 1e-4:
            return f"first_token_entropy of {key}"
        for mine, other in zip([ours, *drawn], said, strict=True):
            if mine["response_ids"].tolist() != other.ids or mine["stop_reason"] != other.stop_reason:
                return f"response of {key}"
            if not np.allclose(mine["response_logprobs"], other.logprobs, atol=1e-4, rtol=0):
                return f"log-probabilities of {key}"
        if "choice_probs" in theirs:
            perms = np.array(ours["permutation_probs"].tolist())
            if not np.allclose(ours["choice_probs"], theirs["choice_probs"], atol=1e-4, rtol=0):
                return f"choice_probs of {key}"
            if not np.allclose(perms, theirs["permutation_probs"], atol=1e-4, rtol=0):
                return f"permutation_probs of {key}"
            if ours["stop_reason"] == "forced" and ours["choice"] != theirs["choice"]:
                return f"choice of {key}"
    return None


def test_free_conversations_equal_the_naive_procedure_with_either_decoder(chatty, tmp_path):
    settings = {"temperature": 0.8, "top_p": 0.9, "system": "Be kind.", "arms": ["moral", "none", "neutral+immoral@2"]}
    rows = expected(chatty, CONTINUE[:2], **settings)
    assert {row["said"].stop_reason for row in rows} == {"eos", "length"}  # both ways to go on are met
    for decoder in ("huggingface", "hooked"):
        run = correct(chatty, CONTINUE[:2], tmp_path / decoder, **settings, decoder=decoder, batch_size=4)
        assert disagreement(run, rows) is None


@pytest.mark.parametrize("mode", ["forced_choice", "free"])
@pytest.mark.parametrize("items", [CHOOSE[:1], JUDGE[:1]], ids=["three options", "two options"])
def test_choices_and_what_is_remembered_of_them_equal_the_naive_procedure_with_either_decoder(
    chatty, tmp_path, items, mode
):
    rows = expected(chatty, items, choice_mode=mode, samples=1)
    for decoder in ("huggingface", "hooked"):
        run = correct(chatty, items, tmp_path / decoder, choice_mode=mode, samples=1, decoder=decoder)
        assert disagreement(run, rows) is None


def test_the_comparison_sees_a_remembered_letter_that_is_not_mapped_to_its_order(chatty, tmp_path):
    run = correct(chatty, CHOOSE, tmp_path / "run", samples=0, arms="neutral")
    assert disagreement(run, expected(chatty, CHOOSE, samples=0, arms="neutral")) is None
    wrong = disagreement(run, expected(chatty, CHOOSE, samples=0, arms="neutral", map_back=False))
    assert wrong is not None and wrong.startswith("choice_probs")


def test_fewer_permutations_are_the_first_shifts_and_one_is_canonical_order(chatty, tmp_path):
    for n in (1, 2):
        changes = {"permutations": n, "samples": 0, "arms": "moral"}
        run = correct(chatty, CHOOSE[:1], tmp_path / f"run{n}", **changes)
        assert disagreement(run, expected(chatty, CHOOSE[:1], **changes)) is None
        for row in table_of(run):
            assert len(row["permutation_probs"]) == n
            assert row["choice_probs"] == pytest.approx(np.mean(row["permutation_probs"].tolist(), axis=0), abs=1e-6)


@pytest.mark.parametrize("items", [CONTINUE, CHOOSE], ids=["free", "options"])
def test_a_prompt_begins_with_all_that_was_said_before_and_spans_cover_it(chatty, tmp_path, items):
    run = correct(chatty, items, tmp_path / "run", choice_mode="free")
    bos, before = chatty.tokenizer.bos_token_id, {}
    for row in table_of(run):
        prompt, response, spans = row["prompt_ids"].tolist(), row["response_ids"].tolist(), spans_of(row)
        key, round = (row["item_id"], row["arm"]), row["round"]
        said = before.get(key, [])
        assert round == 1 or (said and prompt[: len(said)] == said)
        before[key] = prompt + response
        starts, ends = [span[2] for span in spans], [span[3] for span in spans]
        assert (starts, ends[-1]) == ([0, *ends[:-1]], len(before[key]))
        assert spans[-1] == ("response", round, len(prompt), len(before[key]))
        written = [i for name, _, start, end in spans if name != "response" for i in before[key][start:end]]
        assert (written.count(bos), before[key][0]) == (1, bos)
    assert all(row["round"] == 1 and pd.isna(row["instruction"]) for row in table_of(run) if row["arm"] == "none")
    assert {row["round"] for row in table_of(run) if row["arm"] != "none"} == {1, 2, 3}


def entropy(p) -> float:
    return float(-(np.asarray(p) * np.log(p)).sum())


def always_the_last_letter(decoder, logits, labels):  # noqa: ARG001 - the signature of score_labels
    scores = torch.tensor([0.01] * (len(labels) - 1) + [0.98]).log()
    return torch.stack([scores, torch.zeros_like(scores)], dim=1).repeat(len(logits), 1, 1)


def test_a_model_that_always_says_c_is_sure_in_each_order_and_ignorant_over_all(chatty, tmp_path, monkeypatch):
    monkeypatch.setattr("mechmsc.conversations.score_labels", always_the_last_letter)
    biased, alone = (
        table_of(correct(chatty, CHOOSE, tmp_path / f"run{n}", arms="moral", samples=0, permutations=n))
        for n in (None, 1)
    )
    for row in biased:
        assert entropy(row["choice_probs"]) == pytest.approx(math.log(3), abs=1e-6)
        assert [entropy(q) for q in row["permutation_probs"]] == pytest.approx([0.1119] * 3, abs=1e-4)
        assert (row["choice"], row["response"]) == (0, "a)")  # a tie goes to the lowest index
    assert all((row["choice"], row["response"]) == (2, "c)") for row in alone)


def test_a_free_answer_is_parsed_and_one_that_names_no_option_counts_as_wrong(chatty, tmp_path, monkeypatch):
    from mechmsc.generation import Drawn

    answers = iter(["c), surely.", "Well, who knows?", "the answer is (b)"])

    def say(decoder, logits, streams, **settings):  # noqa: ARG001 - the signature of draw
        ids = tuple(chatty.tokenizer(next(answers))["input_ids"])
        return [Drawn(ids, (-1.0,) * len(ids), "length") for _ in streams]

    monkeypatch.setattr("mechmsc.conversations.draw", say)
    run = correct(chatty, CHOOSE[:1], tmp_path / "run", arms="moral", choice_mode="free", samples=0)
    table = run.transcripts
    assert table["choice"].isna().tolist() == [False, True, False]
    assert table["choice"].dropna().tolist() == [2, 1]
    assert table["score"].tolist() == [1.0, 0.0, 0.0]  # gold is option 2
    assert set(table["score_name"]) == {"accuracy"}
    assert table["choice_probs"].map(sum).tolist() == pytest.approx([1, 1, 1])


@pytest.mark.parametrize("task", ["social_bias", "detoxification"])
def test_published_items_with_the_real_model_equal_the_naive_procedure(smollm2, shared_data, tmp_path, task):
    path = {"social_bias": "bbq/Religion.jsonl", "detoxification": "realtoxicityprompts/nontoxic.jsonl"}[task]
    items = load_items(task, path=shared_data / path, limit=1)
    settings = {"arms": "moral", "rounds": 2, "samples": 1, "max_new_tokens": 3}
    settings |= {"permutations": 2} if items[0].options else {}
    run = correct(smollm2, items, tmp_path / "run", **settings)
    assert disagreement(run, expected(smollm2, items, **settings)) is None
