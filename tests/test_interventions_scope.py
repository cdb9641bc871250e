"""The block inside of which edits act: what it leaves, what it refuses, and who must not ignore it."""

from contextlib import ExitStack
from dataclasses import replace as changed

import pytest
import torch
from devices import refuse_mixed_devices
from edits import conversations, direction_for, hook_counts, instruction
from references.editing import at_tokens, hand_edited
from tiny_runs import CONTINUE, correct, load_chatty

from mechmsc.errors import InputError
from mechmsc.interventions import ablate, add, applied, clamp, edits_on, measure, replace, respond, suspended
from mechmsc.interventions.responding import prompted
from mechmsc.model import hf_model
from mechmsc.positions import in_flight, shown
from mechmsc.sites import Site

SITE = Site("resid_post", layer=1, span="instruction", round=2)
LAST = Site.named("instruction_end", layer=1, round=2)
HOOK = "blocks.1.hook_resid_post"
OUTCOME = "first_token_entropy"


@pytest.fixture(scope="module")
def chatty(tmp_path_factory):
    return load_chatty(tmp_path_factory.mktemp("chatty"))


@pytest.fixture(scope="module")
def talks(chatty):
    return conversations(chatty)


@pytest.fixture(scope="module")
def kindness(chatty):
    return direction_for(chatty)


class Planted(Exception):
    pass


def fail(*_, **__):
    raise Planted


def test_the_model_leaves_every_block_with_the_hooks_it_came_with(chatty, talks, kindness):
    own = chatty.hook_dict["blocks.0.hook_resid_post"].add_hook
    own(lambda x, hook: None)  # noqa: ARG005 - the caller's own hook stays
    try:
        before = hook_counts(chatty)
        good, bad = add(kindness, strength=1.0, at=SITE), add(kindness, strength=1.0, at=Site("resid_post", layer=7))
        with applied(chatty, [good, ablate(kindness, layer=1)], on=talks[0]):
            assert hook_counts(chatty) != before
            measure(chatty, talks, OUTCOME)
        assert hook_counts(chatty) == before
        with pytest.raises(Planted), applied(chatty, good, on=talks[0]):
            raise Planted
        with pytest.raises(InputError, match="expected layers from 0 to 2, got 7"), applied(chatty, [good, bad]):
            pass
        with pytest.raises(InputError, match="no such tokens"), applied(chatty, good, on=talks[0].up_to(1)):
            pass
        with pytest.raises(Planted), applied(chatty, good), chatty.hooks(fwd_hooks=[("blocks.2.hook_mlp_out", fail)]):
            measure(chatty, talks, OUTCOME)
        with pytest.raises(InputError, match="touched no position"), applied(chatty, good):
            pass
        assert hook_counts(chatty) == before
        assert edits_on(chatty) == ()
    finally:
        chatty.hook_dict["blocks.0.hook_resid_post"].remove_hooks()


def entropy_of(chatty, talks, *blocks) -> list[float]:
    with ExitStack() as stack:
        for edits in blocks:
            stack.enter_context(applied(chatty, edits))
        return measure(chatty, talks, OUTCOME).tolist()


def test_nested_blocks_add_up_and_the_inner_one_ends_alone(chatty, talks, kindness):
    first, second = add(kindness, strength=4.0, at=SITE), clamp(kindness, to=-3.0, at=LAST)
    clean = entropy_of(chatty, talks)
    with applied(chatty, first):
        outer = measure(chatty, talks, OUTCOME).tolist()
        with pytest.raises(Planted), applied(chatty, second):
            inner = measure(chatty, talks, OUTCOME).tolist()
            raise Planted
        assert measure(chatty, talks, OUTCOME).tolist() == outer
        with suspended(chatty):
            assert measure(chatty, talks, OUTCOME).tolist() == clean
            assert edits_on(chatty) == ()
        assert measure(chatty, talks, OUTCOME).tolist() == outer
    assert inner == entropy_of(chatty, talks, [first, second]) == entropy_of(chatty, talks, first, second)
    assert entropy_of(chatty, talks, second, first) != inner
    assert entropy_of(chatty, talks) == clean
    assert len({clean[0], outer[0], inner[0]}) == 3


def test_a_bare_call_says_that_it_does_not_know_the_tokens_unless_it_is_told_the_conversation(chatty, talks, kindness):
    u = kindness.vectors[1] / kindness.vectors[1].norm()
    edit, tokens = add(kindness, strength=4.0, at=SITE), torch.tensor([talks[0].ids])
    plain = [(HOOK, at_tokens(instruction(talks[0], 2), lambda h: h + 4.0 * kindness.gaps[1] * u))]
    expected = hand_edited(chatty, talks[0].ids, plain)
    with pytest.raises(InputError, match=r"bare model call.*applied\(model, edits, on=conversation\)"):
        with applied(chatty, edit):
            chatty(tokens)
    with applied(chatty, edit, on=talks[0]):
        assert torch.allclose(chatty(tokens)[0], expected, atol=1e-4)
        assert torch.allclose(chatty.run_with_hooks(tokens.repeat(2, 1))[1], expected, atol=1e-4)
        longer = torch.tensor([[*talks[0].ids, 9, 8, 7]])
        assert torch.allclose(chatty.run_with_cache(longer)[0][0, : len(expected)], expected, atol=1e-4)
        with pytest.raises(InputError, match="row 0 of the batch does not hold the"):
            chatty(torch.tensor([talks[1].ids]))
    everywhere = Site("resid_post", layer=1)
    with applied(chatty, add(kindness, strength=4.0, at=everywhere)):  # no span: a bare call can be edited
        found = chatty(tokens)[0]
    plain = [(HOOK, at_tokens(range(len(talks[0])), lambda h: h + 4.0 * kindness.gaps[1] * u))]
    assert torch.allclose(found, hand_edited(chatty, talks[0].ids, plain), atol=1e-4)


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_of_either_side_changes_nothing_under_a_bare_call(chatty, talks, kindness, side):
    width = max(map(len, talks)) + 3
    pads = [[2] * (width - len(talk)) for talk in talks]
    pairs = list(zip(pads, talks, strict=True))
    rows = [[*p, *t.ids] if side == "left" else [*t.ids, *p] for p, t in pairs]
    masks = [[*[0] * len(p), *[1] * len(t)] if side == "left" else [*[1] * len(t), *[0] * len(p)] for p, t in pairs]
    edits = [add(kindness, strength=4.0, at=SITE), clamp(kindness, to=[1.0, -2.0, 3.0], at=LAST)]
    with applied(chatty, edits, on=talks):
        logits = chatty(torch.tensor(rows), attention_mask=torch.tensor(masks))
    for i, (talk, pad) in enumerate(zip(talks, pads, strict=True)):
        with applied(chatty, [edits[0], clamp(kindness, to=[1.0, -2.0, 3.0][i], at=LAST)], on=talk):
            alone = chatty(torch.tensor([talk.ids]))[0]
        here = logits[i, len(pad) :] if side == "left" else logits[i, : len(talk)]
        assert torch.allclose(here, alone, atol=1e-4)


def test_the_position_map_keeps_up_with_rows_that_are_selected_branched_and_dropped(chatty, talks, kindness):
    """The decoder's own bookkeeping: every logit under an edit of new tokens equals encoding the text anew."""
    from mechmsc.decoders import HookedDecoder

    site = Site("resid_post", layer=1, span="response", round=2)
    u = kindness.vectors[1] / kindness.vectors[1].norm()
    change = at_tokens(lambda prompt, total: range(prompt, total), lambda h: h + 5.0 * kindness.gaps[1] * u)

    def anew(talk, new):
        return hand_edited(chatty, [*talk.ids, *new], [(HOOK, change)], prompt=len(talk))[-1]

    with applied(chatty, add(kindness, strength=5.0, at=site)):
        decoder = HookedDecoder(chatty, 3)
        decoder.extend([talk.ids for talk in talks], shown(chatty, talks))
        decoder.select([2, 0, 0, 1])
        order = [talks[i] for i in (2, 0, 0, 1)]
        decoder.branch([0, 1, 1, 3])
        texts = [[order[r], []] for r in (0, 1, 1, 3)]
        for step, kept in ((0, [0, 1, 2, 3]), (1, [0, 2, 3]), (2, [0, 2])):
            if len(kept) < len(texts):
                decoder.keep(kept)
                texts = [texts[i] for i in kept]
            tokens = [10 * step + i + 5 for i in range(len(texts))]
            texts = [[talk, [*new, token]] for (talk, new), token in zip(texts, tokens, strict=True)]
            said = decoder.step(tokens)
            for logits, (talk, new) in zip(said, texts, strict=True):
                with suspended(chatty):
                    assert torch.allclose(logits, anew(talk, new), atol=1e-4)


def test_what_would_ignore_an_edit_refuses_to_run(chatty, talks, kindness, tmp_path):
    edit = add(kindness, strength=4.0, at=SITE)
    with applied(chatty, edit):
        with pytest.raises(InputError, match="decoder 'huggingface' would ignore the active edit add"):
            respond(chatty, talks, decoder="huggingface", max_new_tokens=2)
        with pytest.raises(
            InputError, match="self_correct with decoder='huggingface' would ignore.*use decoder='hooked'"
        ):
            correct(chatty, CONTINUE, tmp_path / "run")
        assert not (tmp_path / "run").exists()
        with suspended(chatty):
            assert len(respond(chatty, talks, decoder="huggingface", max_new_tokens=2)) == 3
        measure(chatty, talks, OUTCOME)


def spot(component="resid_post", layer=1, **rest) -> Site:
    return Site(component, layer=layer, **rest)


def some_layers(d, *layers):
    rows = {name: getattr(d, name)[: len(layers)] for name in ("vectors", "midpoints", "gaps")}
    return changed(d, layers=layers, **rows)


ONES, FOUR = torch.ones(12), torch.ones(4)
MEAN, ENDS = Site.named("instruction_mean"), Site.named("instruction_end")
IMPOSSIBLE = [
    (lambda d: add(d, strength=1.0, at=spot(layer=range(2, 5))), "layers from 0 to 2, got range"),
    (lambda d: add(d, strength=1.0, at=spot("resid_pre")), "was fitted at resid_post, but the site is"),
    (lambda d: add(d, strength=1.0, at=spot(head=0)), "resid_post has no heads"),
    (lambda _: add(ONES, strength=1, at=spot("z", head=4)), "z has heads 0 to 3; got head 4"),
    (
        lambda _: add(ONES, strength=1, at=spot("k", head=3)),
        "each read by 2 of the 4 query heads; query head 3 reads head 1",
    ),
    (lambda _: add(ONES, strength=1, at=spot("k", head=9)), "k has heads 0 to 1; got head 9"),
    (lambda _: add(ONES, strength=1, at=spot("z")), "name the head"),
    (lambda _: add(FOUR, strength=1, at=spot("pattern", head=1)), "a pattern can only be replaced"),
    (lambda _: add(FOUR, strength=1, at=spot("rot_k")), "rot_k cannot be edited; edit k"),
    (lambda _: add(FOUR, strength=1, at=spot("result")), "result cannot be edited; edit z"),
    (lambda _: add(torch.ones(31), strength=1, at=SITE), "expected vectors of 32 numbers, got 31"),
    (lambda _: add(torch.ones(2, 32), strength=1, at=Site("resid_post")), "expected a row a layer of the site, or one"),
    (lambda _: add(torch.ones(1, 1, 3), strength=1, at=SITE), r"expected a Direction or a tensor \[d\]"),
    (lambda _: add(torch.zeros(32), strength=1, at=SITE), "expected a direction with finite numbers.*norm 0"),
    (lambda _: add(torch.full((32,), torch.nan), strength=1, at=SITE), "expected finite numbers, got 32"),
    (lambda d: add(d, strength=float("inf"), at=SITE), "strength: expected finite numbers"),
    (lambda d: add(d, strength=[[1.0]], at=SITE), "one number or one an item, got shape"),
    (lambda d: clamp(d, to=float("nan"), at=SITE), "to: expected finite numbers"),
    (lambda d: clamp(d, to=1, at=SITE, unit="gap"), "unknown unit 'gap': did you mean gaps"),
    (lambda d: clamp(d, to=1, each=True, at=MEAN), "each=True sets every token"),
    (lambda d: ablate(d), "ablate everywhere: expected layer=, one of 0 to 2"),
    (lambda d: ablate(d, layer=5), "expected layer from 0 to 2, got 5"),
    (lambda d: ablate(d, layer=1, at=SITE), "layer is for at=None"),
    (lambda d: ablate(d, at=SITE, center="mean"), "unknown center 'mean'"),
    (lambda d: add(changed(d, gaps=d.gaps * torch.nan), strength=1.0, at=SITE), "a gap that is not 0.*gap nan"),
    (lambda d: add(changed(d, gaps=d.gaps * 0), strength=1.0, at=SITE), "a gap that is not 0.*gap 0"),
    (lambda d: add(some_layers(d, 0, 2), strength=1.0, at=SITE), "not layer 1"),
    (lambda d: add(changed(d, model=changed(d.model, sha256="f" * 64)), strength=1.0, at=SITE), "was fitted on"),
    (lambda _: replace(torch.full((32,), torch.inf), at=LAST), "expected finite numbers"),
    (lambda _: replace(torch.ones(31), at=LAST), r"expected axes \[32\] for an item.*got shape \[31\]"),
    (lambda _: replace(torch.ones(5, 2, 32), at=ENDS), r"expected axes \[3, 32\]"),
    (lambda _: replace(torch.ones(2, 32), at=spot("attn_out", head=1)), "attn_out has no heads"),
]


@pytest.mark.parametrize(("make", "error"), IMPOSSIBLE)
def test_an_edit_that_cannot_be_is_refused_in_one_line_before_anything_is_hooked(chatty, kindness, make, error):
    before = hook_counts(chatty)
    with pytest.raises(InputError, match=error) as raised:
        with applied(chatty, make(kindness)):
            raise AssertionError("entered")
    assert "\n" not in str(raised.value)
    assert hook_counts(chatty) == before


TWO = {"span": "instruction", "round": 2}
NEW = spot(span="response", round=2)
UNFIT = [
    (
        lambda d: add(d, strength=1, at=spot(span="instruction", round=3)),
        "no such tokens.*'detoxification/0' of 2 rounds",
    ),
    (lambda d: add(d, strength=1, at=spot(span="prefix", round=2)), "no such tokens.*which has instruction@1"),
    (
        lambda d: add(d, strength=1, at=spot(**TWO, at=99)),
        "expected at within the 15 tokens of 'instruction' in round 2",
    ),
    (lambda d: add(d, strength=1, at=spot(span="response", round=2, at="last")), "still to be drawn"),
    (lambda d: add(d, strength=[1.0, 2.0], at=SITE), "2 values in the order.*but 'detoxification/2' is number 2"),
    (lambda d: clamp(d, to={"other": 1.0}, at=SITE), "no value for item 'detoxification/[0-2]' among 1"),
    (
        lambda _: replace(torch.ones(5, 32), at=SITE),
        "the site has [0-9]+ tokens in 'detoxification/[0-2]', got values for 5",
    ),
    (lambda _: replace(torch.ones(32), at=spot(span="instruction", at="last")), "several rounds"),
]


@pytest.mark.parametrize(("edit", "error"), UNFIT)
def test_an_edit_that_does_not_fit_the_conversations_is_refused_in_one_line(chatty, talks, kindness, edit, error):
    with pytest.raises(InputError, match=error) as raised:
        with applied(chatty, edit(kindness)):
            measure(chatty, talks, OUTCOME)
    assert "\n" not in str(raised.value)


def test_an_edit_that_touched_no_position_is_an_error_when_the_block_ends(chatty, talks, kindness):
    new = add(kindness, strength=1.0, at=Site("resid_post", layer=1, span="response", round=2))
    with pytest.raises(InputError, match=r"add\(kindness, \+1\) at resid_post\[1\].response@2.all touched no position"):
        with applied(chatty, new):  # the only token drawn is never encoded
            respond(chatty, talks, max_new_tokens=1)
    with applied(chatty, new):
        respond(chatty, talks, max_new_tokens=2)


def test_only_interventions_can_be_applied(chatty, kindness):
    with pytest.raises(InputError, match="expected interventions from add, ablate, clamp, replace; got 3"):
        with applied(chatty, [add(kindness, strength=1, at=SITE), 3]):
            pass


def test_a_position_map_of_another_batch_is_refused(chatty, talks, kindness):
    with pytest.raises(InputError, match="the pass holds 2 rows, the position map 1"):
        with applied(chatty, add(kindness, strength=1, at=Site("resid_post", layer=1)), on=talks[0]):
            with in_flight(chatty, [row_of(chatty, talks[0])]):
                chatty(torch.tensor([talks[0].ids] * 2))


def row_of(model, talk):
    from mechmsc.positions import Row

    return Row(shown(model, [talk])[0], 0, len(talk))


def edits_of_every_kind(model):
    direction = direction_for(model)
    new = Site("resid_post", layer=1, span="response", round=2)
    return [
        add(direction, strength=[1.0, 2.0, 3.0], at=SITE),
        add(direction, strength=1.0, at=SITE, norm_preserving=True),
        ablate(direction, at=SITE),
        ablate(direction, at=Site.named("instruction_mean", layer=1, round=2)),
        ablate(direction, layer=1),
        clamp(direction, to=1.0, at=SITE),
        clamp(direction, to=[1.0, 2.0, 3.0], at=new, each=True),
        replace(torch.ones(3, 32), at=LAST),
        replace(torch.ones(32), at=Site.named("instruction_mean", layer=1, round=2)),
        replace(torch.ones(2, 4, 12), at=Site("z", layer=1, span="instruction", round=2, at=range(2))),
        replace(torch.ones(4, 20), at=Site("pattern", layer=1, span="prompt", round=2, at=30)),
        add(torch.ones(12), strength=1.0, at=Site("k", layer=1, head=1, span="prompt", at="last")),
    ]


@pytest.mark.parametrize("number", range(12))
def test_every_edit_and_a_cached_step_run_on_meta_without_mixing_devices(load_tiny, number):
    model = load_tiny("llama", device="meta")
    talks = conversations(model)
    edit = edits_of_every_kind(model)[number]
    with refuse_mixed_devices(), applied(model, edit, verify=True):
        decoder, logits = prompted(model, shown(model, talks), kind="hooked")
        decoder.branch([0, 0, 2])
        said = decoder.step([5, 6, 7])
    assert logits.device.type == said.device.type == "meta"
    assert hf_model(model).device.type == "meta"
