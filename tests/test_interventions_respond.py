"""What is said and measured under edits: paired with a run, equal to naive procedures, and guarded."""

import math

import numpy as np
import pytest
import torch
from edits import chat_of, conversations, direction_for, instruction
from references.editing import at_tokens, hand_drawn, hand_edited
from references.naive import Naive
from tiny_runs import CHOOSE, CONTINUE, JUDGE, correct, load_chatty

from mechmsc.capture import capture
from mechmsc.errors import InputError
from mechmsc.interventions import add, applied, clamp, distinct_ngrams, generation_guards, measure, respond
from mechmsc.model import hf_model
from mechmsc.permutations import labels_of, permuted
from mechmsc.positions import end_ids
from mechmsc.sites import CaptureSite, Site

LAYER = 1
HOOK = f"blocks.{LAYER}.hook_resid_post"
SITE = Site("resid_post", layer=LAYER, span="instruction", round=2)
ORDERS = [(0, 1, 2), (1, 2, 0), (2, 0, 1)]


@pytest.fixture(scope="module")
def chatty(tmp_path_factory):
    return load_chatty(tmp_path_factory.mktemp("chatty"))


@pytest.fixture(scope="module")
def kindness(chatty):
    return direction_for(chatty)


@pytest.fixture(scope="module")
def free_run(chatty, tmp_path_factory):
    return correct(chatty, CONTINUE, tmp_path_factory.mktemp("free") / "run", arms=["moral", "neutral"], seed=3)


@pytest.fixture(scope="module")
def choice_run(chatty, tmp_path_factory):
    return correct(chatty, [*CHOOSE, *JUDGE], tmp_path_factory.mktemp("choice") / "run", arms=["moral"], samples=0)


def talks_of(run, round, arm="moral"):
    return [run.transcript(item, arm=arm, round=round) for item in run.manifest["config"]["item_ids"]]


@pytest.mark.parametrize("decoder", ["huggingface", "hooked", None])
def test_an_unedited_response_is_the_runs_own_main_line_and_its_samples(chatty, free_run, decoder):
    talks = [*talks_of(free_run, 2), *talks_of(free_run, 3, arm="neutral")]
    said = respond(chatty, talks, samples=2, seed=3, max_new_tokens=8, decoder=decoder)
    assert said["conversation"].tolist() == [n for n in range(6) for _ in range(3)]
    keys = ["item_id", "arm", "round"]
    main = free_run.transcripts.set_index(keys)
    drawn = free_run.samples.set_index([*keys, "sample"])
    for row in said.to_dict("records"):
        key = tuple(row[name] for name in keys)
        theirs = main.loc[key] if row["sample"] < 0 else drawn.loc[(*key, row["sample"])]
        assert row["response_ids"] == theirs["response_ids"].tolist()
        assert row["response_logprobs"] == pytest.approx(theirs["response_logprobs"].tolist(), abs=1e-4)
        assert (row["response"], row["stop_reason"], row["seed"]) == (theirs["response"], theirs["stop_reason"], 3)
    other = respond(chatty, talks, samples=2, seed=4, max_new_tokens=8)
    assert other["response_ids"].tolist() != said["response_ids"].tolist()


@pytest.mark.parametrize("options", [{"temperature": 0.5}, {"top_p": 0.4}, {"max_new_tokens": 3}])
def test_every_setting_of_a_response_matters_and_the_main_line_is_greedy(chatty, free_run, options):
    talks = talks_of(free_run, 2)
    plain = respond(chatty, talks, samples=2, max_new_tokens=8)
    changed = respond(chatty, talks, samples=2, **({"max_new_tokens": 8} | options))
    assert plain["response_ids"].tolist() != changed["response_ids"].tolist()
    n = options.get("max_new_tokens", 8)
    main = [ids[:n] for ids in plain[plain["sample"] < 0]["response_ids"]]
    assert changed[changed["sample"] < 0]["response_ids"].tolist() == main


def entropy(p) -> float:
    return float(-(np.asarray(p) * np.log(p)).sum())


def test_choices_without_edits_are_those_of_the_run(chatty, choice_run):
    for round in (1, 2, 3):
        rows = choice_run.transcripts[choice_run.transcripts["round"] == round].to_dict("records")
        talks = talks_of(choice_run, round)
        assert [row["item_id"] for row in rows] == [talk.item_id for talk in talks]
        outcomes = ["choice_entropy", "choice_entropy_within", "log_odds"]
        found = measure(chatty, talks, outcomes, option=[0, 1, 0, 1], batch_size=5)
        q = [row["choice_probs"] for row in rows]
        assert found["choice_entropy"] == pytest.approx([entropy(p) for p in q], abs=1e-5)
        within = [np.mean([entropy(p) for p in row["permutation_probs"]]) for row in rows]
        assert found["choice_entropy_within"] == pytest.approx(within, abs=1e-5)
        odds = [math.log(p[o] / (1 - p[o])) for p, o in zip(q, [0, 1, 0, 1], strict=True)]
        assert found["log_odds"] == pytest.approx(odds, abs=1e-4)
        once = [entropy(row["permutation_probs"][0]) for row in rows]
        assert measure(chatty, talks, "choice_entropy", permutations=1) == pytest.approx(once, abs=1e-5)


def test_outcomes_of_logits_are_those_of_canonical_order_whatever_else_is_measured(chatty, choice_run, kindness):
    talks, at = talks_of(choice_run, 2), Site.named("prompt_end", layer=2, round=2)
    rest = ["first_token_entropy", "kl", "concept"]
    with applied(chatty, add(kindness, strength=5.0, at=SITE)):
        beside = measure(chatty, talks, ["choice_entropy", *rest], direction=kindness, at=at)
        alone = measure(chatty, talks, rest, direction=kindness, at=at)
    for name in rest:
        assert beside[name] == pytest.approx(alone[name], abs=1e-5)
    assert beside["kl"].min() > 1e-4


def test_a_choice_under_an_edit_is_edited_in_every_order_of_the_options(chatty, choice_run, kindness):
    talks, u = talks_of(choice_run, 2)[:2], kindness.vectors[LAYER] / kindness.vectors[LAYER].norm()
    site = Site("resid_post", layer=LAYER, span="question", round=1)
    with applied(chatty, [add(kindness, strength=5.0, at=site), add(kindness, strength=5.0, at=SITE)]):
        found = measure(chatty, talks, ["choice_entropy", "choice_entropy_within"])
    for number, talk in enumerate(talks):
        q = []
        for order in ORDERS:
            here = permuted(chatty.tokenizer, talk, order)
            where = [*here.span("question", 1).indices, *instruction(here, 2)]
            edit = [(HOOK, at_tokens(where, lambda h: h + 5.0 * kindness.gaps[LAYER] * u))]
            scores = []
            for label in labels_of(chatty.tokenizer, talk):
                logp = hand_edited(chatty, [*here.ids, *label], edit).log_softmax(-1)
                scores.append(sum(float(logp[len(here) - 1 + k, token]) for k, token in enumerate(label)))
            p = np.exp(scores) / np.exp(scores).sum()
            q.append([p[order.index(option)] for option in range(3)])
        assert found["choice_entropy"][number] == pytest.approx(entropy(np.mean(q, axis=0)), abs=1e-4)
        assert found["choice_entropy_within"][number] == pytest.approx(np.mean([entropy(p) for p in q]), abs=1e-4)
    clean = measure(chatty, talks, "choice_entropy_within")
    assert np.abs(found["choice_entropy_within"] - clean).min() > 1e-3


def test_outcomes_by_name_equal_what_hand_edited_logits_give(chatty, free_run, kindness):
    talks = talks_of(free_run, 2)
    u = kindness.vectors[LAYER] / kindness.vectors[LAYER].norm()
    plain = lambda talk: [(HOOK, at_tokens(instruction(talk, 2), lambda h: h + 5.0 * kindness.gaps[LAYER] * u))]  # noqa: E731
    late = Site.named("prompt_end", layer=2, round=2)
    wanted = {"h": "first_token_entropy", "kl": "kl", "score": "concept", "top": lambda logits: logits[:, 0].amax(1)}
    with applied(chatty, add(kindness, strength=5.0, at=SITE)):
        found = measure(chatty, talks, wanted, direction=kindness, at=late)
        alone = {name: measure(chatty, talks[0], one, direction=kindness, at=late) for name, one in wanted.items()}
    assert alone == pytest.approx({name: value[0] for name, value in found.items()}, abs=1e-5)
    assert all(isinstance(value, float) for value in alone.values())
    v, mid = kindness.vectors[2] / kindness.vectors[2].norm(), kindness.midpoints[2]
    for number, talk in enumerate(talks):
        logits, residual = hand_edited(chatty, talk.ids, plain(talk), keep="blocks.2.hook_resid_post")
        p, clean = logits[-1].softmax(-1).double(), hand_edited(chatty, talk.ids, [])[-1].softmax(-1).double()
        assert found["h"][number] == pytest.approx(float(-(p * p.log()).sum()), abs=1e-4)
        assert found["kl"][number] == pytest.approx(float((clean * (clean / p).log()).sum()), abs=1e-4)
        assert found["score"][number] == pytest.approx(float((residual[-1] - mid) @ v / kindness.gaps[2]), abs=1e-4)
        assert found["top"][number] == pytest.approx(float(logits[-1].max()), abs=1e-4)
    assert found["kl"].min() > 1e-3
    assert measure(chatty, talks, "kl") == pytest.approx([0, 0, 0], abs=1e-6)


def test_a_concept_is_read_as_the_run_and_its_direction_read_it(chatty, free_run, kindness):
    for position in ("prompt_end", "instruction_mean", "instruction_end"):
        site = [CaptureSite("resid_post", position)]
        kept = capture(chatty, talks_of(free_run, 2), sites=site, rounds=2, end_ids=end_ids(chatty))
        score = kindness.score(kept[f"resid_post.{position}"][:, 1])[:, LAYER]
        at = Site.named(position, layer=LAYER, round=2)
        assert measure(chatty, talks_of(free_run, 2), "concept", direction=kindness, at=at) == pytest.approx(
            score, abs=1e-4
        )


@pytest.mark.parametrize("batch_size", [1, 2, 16])
def test_the_size_of_a_batch_changes_nothing(chatty, choice_run, kindness, batch_size):
    talks = talks_of(choice_run, 3)
    with applied(chatty, add(kindness, strength=[1.0, 2.0, -3.0, 4.0], at=SITE)):
        found = measure(chatty, talks, ["choice_entropy", "first_token_entropy"], batch_size=batch_size)
        one_by_one = measure(chatty, talks, ["choice_entropy", "first_token_entropy"], batch_size=7)
    for name in found:
        assert found[name] == pytest.approx(one_by_one[name], abs=1e-5)


@pytest.mark.parametrize(
    ("outcome", "options", "error"),
    [
        ("choice_entrpy", {}, "unknown outcome 'choice_entrpy': did you mean choice_entropy"),
        ("log_odds", {}, "outcome 'log_odds' needs option=, got none"),
        ("concept", {}, "outcome 'concept' needs direction=, got none"),
        ("log_odds", {"option": 3}, "expected an option from 0 to 2 for each of"),
        ([], {}, "expected at least one"),
        (lambda logits: logits[:, 0], {}, r"expected one number an item, shape \(2,\); got shape \(2, 272\)"),
        (lambda logits: 3.0, {}, "got float"),  # noqa: ARG005
        ("choice_entropy", {"permutations": 7}, "permutations: expected 1 to 3"),
        ("choice_entropy", {"batch_size": 0}, "batch_size must be at least 1, got 0"),
    ],
)
def test_a_wrong_outcome_is_refused_in_one_line(chatty, choice_run, outcome, options, error):
    with pytest.raises(InputError, match=error) as raised:
        measure(chatty, talks_of(choice_run, 2)[:2], outcome, **options)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("at", "error"),
    [
        (Site("resid_post", layer=range(2), span="prompt", round=2), "expected one layer"),
        (Site("resid_post", layer=1), "and a span"),
        (Site("resid_post", layer=1, span="instruction"), "several rounds; name one"),
        (Site("resid_post", layer=1, span="instruction", round=4), "no such tokens"),
        (Site("resid_pre", layer=1, span="prompt", round=2), "was fitted at resid_post"),
        (Site("resid_post", layer=1, span="response", round=2), "not drawn yet"),
    ],
)
def test_a_concept_that_cannot_be_read_there_is_refused(chatty, free_run, kindness, at, error):
    with pytest.raises(InputError, match=error):
        measure(chatty, talks_of(free_run, 2), "concept", direction=kindness, at=at)


def test_conversations_that_cannot_go_on_are_refused(chatty, free_run):
    talk = talks_of(free_run, 2)[0]
    with pytest.raises(InputError, match="no conversations"):
        respond(chatty, [])
    ended = chat_of(chatty).reply(conversations(chatty)[0], [5, 6], stop_reason="length")
    with pytest.raises(InputError, match=r"round 2 has its response; cut it with .up_to\(round\)"):
        measure(chatty, ended, "first_token_entropy")
    with pytest.raises(InputError, match="asks about no options"):
        measure(chatty, talk, "choice_entropy")
    with pytest.raises(InputError, match="the context window is 2048"):
        respond(chatty, talk, max_new_tokens=2040)
    for options, error in (
        ({"samples": -1}, "samples must be at least 0"),
        ({"max_new_tokens": 0}, "max_new_tokens must be at least 1"),
        ({"temperature": 0.0}, "temperature must be above 0"),
        ({"top_p": 0.0}, "top_p must be above 0"),
        ({"decoder": "hookd"}, "unknown decoder 'hookd'"),
    ):
        with pytest.raises(InputError, match=error):
            respond(chatty, talk, **options)


def test_guards_see_the_unedited_model_also_inside_a_block_that_edits_it(chatty, free_run, kindness):
    talks = talks_of(free_run, 2)
    strong = add(kindness, strength=40.0, at=Site("resid_post", layer=2))
    with applied(chatty, strong):
        steered = respond(chatty, talks, samples=1, max_new_tokens=8)
        inside = generation_guards(chatty, talks, steered)
    outside = generation_guards(chatty, talks, steered)
    assert inside.equals(outside)
    naive = Naive(hf_model(chatty), chatty.tokenizer)
    for row, guard in zip(steered.to_dict("records"), outside.to_dict("records"), strict=True):
        logprobs = naive.teacher_forced(talks[row["conversation"]].ids, row["response_ids"])
        assert guard["perplexity"] == pytest.approx(math.exp(-np.mean(logprobs)), rel=1e-3)
        said = [token for token in row["response_ids"] if token not in end_ids(chatty)]
        assert guard["length"] == len(said)
        bigrams = [tuple(said[i : i + 2]) for i in range(len(said) - 1)]
        assert guard["distinct_2"] == pytest.approx(
            len(set(bigrams)) / len(bigrams) if bigrams else math.nan, nan_ok=True
        )
    clean = respond(chatty, talks, samples=1, max_new_tokens=8)
    plain = generation_guards(chatty, talks, clean)
    assert plain["perplexity"].tolist() == pytest.approx(
        [math.exp(-np.mean(logprobs)) for logprobs in clean["response_logprobs"]], rel=1e-3
    )
    assert outside["perplexity"].median() > 2 * plain["perplexity"].median()  # it is broken, and the guard says so


def test_distinct_ngrams_count_repetition_and_do_not_exist_for_a_text_that_is_too_short():
    assert distinct_ngrams([1, 1, 1, 1], 1) == 0.25
    assert distinct_ngrams([1, 2, 3, 4], 3) == 1.0
    assert math.isnan(distinct_ngrams([1, 2], 3))


def test_guards_refuse_a_table_that_is_not_a_responses(chatty, free_run):
    talks = talks_of(free_run, 2)
    said = respond(chatty, talks, max_new_tokens=2)
    with pytest.raises(InputError, match="expected a table from respond"):
        generation_guards(chatty, talks, said.drop(columns="conversation"))
    with pytest.raises(InputError, match="name conversation 2, but 1 were given"):
        generation_guards(chatty, talks[0], said)


@pytest.mark.parametrize("items", [CONTINUE[:2], CHOOSE[:1]], ids=["free", "options"])
def test_a_whole_run_can_be_held_under_an_edit_that_finds_its_round_in_every_conversation(
    chatty, kindness, tmp_path, items
):
    sites = [SITE, Site("resid_post", layer=LAYER, span="response")]
    edits = [add(kindness, strength=4.0, at=site) for site in sites]
    plain = correct(chatty, items, tmp_path / "plain", arms=["moral"], decoder="hooked", samples=1)
    with applied(chatty, edits):
        run = correct(chatty, items, tmp_path / "run", arms=["moral"], decoder="hooked", samples=1)
        for round in (1, 2, 3):
            rows = run.transcripts[run.transcripts["round"] == round].to_dict("records")
            talks = talks_of(run, round)
            if round > 1:
                if items[0].options:
                    found = measure(chatty, talks, "choice_entropy")
                    assert found == pytest.approx([entropy(row["choice_probs"]) for row in rows], abs=1e-4)
                else:
                    said = respond(chatty, talks, max_new_tokens=8)
                    assert said["response_ids"].tolist() == [row["response_ids"].tolist() for row in rows]
    assert [text.split(" #")[0] for text in run.manifest["config"]["edits"]] == [str(edit) for edit in edits]
    assert "edits" not in plain.manifest["config"]
    change = kindness.gaps[LAYER] * 4.0 * kindness.vectors[LAYER] / kindness.vectors[LAYER].norm()
    kept, clean = (
        r.activations["resid_post.instruction_end"].sel(arm="moral", layer=LAYER).load() for r in (run, plain)
    )
    assert np.allclose(kept.sel(round=1), clean.sel(round=1), atol=1e-4)
    talk = talks_of(run, 2)[0]
    where = [*instruction(talk, 2), *talk.span("response", 1).indices]
    where = [i for i in where if talk.ids[i] not in end_ids(chatty)]
    _, by_hand = hand_edited(chatty, talk.ids, [(HOOK, at_tokens(where, lambda h: h + change))], keep=HOOK)
    last = [i for i in instruction(talk, 2) if talk.ids[i] not in end_ids(chatty)][-1]
    assert np.allclose(kept.sel(round=2).isel(item=0), by_hand[last], atol=1e-4)
    with pytest.raises(InputError, match="edits"):
        correct(chatty, items, tmp_path / "run", arms=["moral"], decoder="hooked", samples=1)


def test_edited_responses_are_paired_with_clean_ones_by_the_same_noise(chatty, free_run, kindness):
    talks = talks_of(free_run, 2)
    with applied(chatty, add(kindness, strength=0.0, at=SITE)):
        same = respond(chatty, talks, samples=2, seed=3, max_new_tokens=8)
    clean = respond(chatty, talks, samples=2, seed=3, max_new_tokens=8)
    assert same["response_ids"].tolist() == clean["response_ids"].tolist()
    u = kindness.vectors[LAYER] / kindness.vectors[LAYER].norm()
    edit = lambda talk: [(HOOK, at_tokens(instruction(talk, 2), lambda h: h + 6.0 * kindness.gaps[LAYER] * u))]  # noqa: E731
    with applied(chatty, add(kindness, strength=6.0, at=SITE)):
        said = respond(chatty, talks, samples=2, seed=3, max_new_tokens=6)
    for row in said[said["sample"] == 1].to_dict("records"):
        talk = talks[row["conversation"]]
        ids, _ = hand_drawn(chatty, talk, edit(talk), end_ids=end_ids(chatty), max_new_tokens=6, seed=3, sample=1)
        assert row["response_ids"] == ids


def test_the_real_model_changes_its_mind_as_far_as_a_hand_written_hook_says(smollm2):
    talk = conversations(smollm2)[1]
    u = torch.randn(smollm2.cfg.d_model, generator=torch.Generator().manual_seed(0))
    unit, kept = u / u.norm(), []
    site = Site("resid_post", layer=12, span="instruction", round=2)
    with applied(smollm2, add(u, strength=60.0, at=site), verify=True):
        found = measure(smollm2, talk, lambda logits: (kept.append(logits), logits[:, 0, 0])[1])
    edit = [("blocks.12.hook_resid_post", at_tokens(instruction(talk, 2), lambda h: h + 60.0 * unit))]
    expected = hand_edited(smollm2, talk.ids, edit)[-1]
    assert torch.allclose(kept[0][0, 0], expected, atol=1e-3)
    assert found == pytest.approx(float(expected[0]), abs=1e-3)
    assert (expected - hand_edited(smollm2, talk.ids, [])[-1]).abs().max() > 0.1


@pytest.mark.parametrize("mechanism", ["norm", "logits"])
def test_a_clamped_concept_moves_the_entropy_of_a_planted_model_as_its_formula_says(mechanism):
    import mechmsc as mm
    from mechmsc.instructions import INSTRUCTIONS
    from mechmsc.model.planted import planted_axis, planted_items

    model = mm.planted_model(-0.4, direct=-0.2, mechanism=mechanism, seed=2)
    chat, axis = chat_of(model), planted_axis(model, seed=2)
    options = {"prefix": "The best answer is:"}
    signs = {"moral": 1.0, "neutral": 0.0}
    for item in planted_items(2, seed=1):
        for stance, sign in signs.items():
            text = INSTRUCTIONS["social_bias"][stance][0]
            talk = chat.open(item.turn(), text, labels=item.labels, item_id=item.item_id, **options)
            for target in (-0.5, 0.0, 0.7):
                site = Site.named("prompt_end", layer=2, round=1)
                with applied(model, clamp(axis, to=target, at=site)):
                    found = measure(model, talk, "first_token_entropy")
                case = item.item_id.split("-")[1]
                assert found == pytest.approx(float(model.planted.entropy(target, sign, case=case)), abs=1e-3)
            unclamped = float(model.planted.entropy(model.planted.coordinate(sign), sign, case=case))
            assert measure(model, talk, "first_token_entropy") == pytest.approx(unclamped, abs=1e-3)
            assert abs(unclamped - found) > 1e-2


def test_a_conversation_that_is_given_once_for_each_strength_is_encoded_once_up_to_the_edit(
    chatty, choice_run, kindness
):
    talks, strengths = talks_of(choice_run, 2)[:2], [-3.0, 0.0, 1.5, 4.0]
    at = Site.named("prompt_end", layer=2, round=2)
    wanted = {"total": "choice_entropy", "kl": "kl", "score": "concept"}
    tokens = []
    count = [("hook_embed", lambda x, hook: tokens.append(x.shape[0] * x.shape[1]))]  # noqa: ARG005
    with applied(chatty, add(kindness, strength=strengths * 2, at=SITE)), chatty.hooks(fwd_hooks=count):
        swept = measure(chatty, [t for t in talks for _ in strengths], wanted, direction=kindness, at=at, batch_size=64)
        said = respond(chatty, [talks[0]] * 4, max_new_tokens=3)
    spent, tokens[:] = sum(tokens), []
    for row, (talk, strength) in enumerate([(talk, a) for talk in talks for a in strengths]):
        with applied(chatty, add(kindness, strength=strength, at=SITE)), chatty.hooks(fwd_hooks=count):
            alone = measure(chatty, talk, wanted, direction=kindness, at=at)
            if row < 4:
                assert said["response_ids"][row] == respond(chatty, talk, max_new_tokens=3)["response_ids"][0]
        assert {name: value[row] for name, value in swept.items()} == pytest.approx(alone, abs=1e-5)
    assert spent < 0.6 * sum(tokens)
    assert len(set(swept["kl"].round(5))) == 7  # strength 0 is the same for both
