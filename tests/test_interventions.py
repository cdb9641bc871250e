"""What an edit does, against hand-written hooks on whole texts, and the laws of each kind of edit."""

import numpy as np
import pytest
import torch
import xarray
from edits import chat_of, conversations, direction_for, instruction
from references.editing import at_tokens, generated, hand_drawn, hand_edited, moved_mean, of_head
from tiny_runs import load_chatty

from mechmsc.capture import capture
from mechmsc.errors import InputError, MechmscError
from mechmsc.interventions import ablate, add, applied, clamp, measure, replace, respond
from mechmsc.interventions import arithmetic as arithmetic_module
from mechmsc.positions import end_ids
from mechmsc.sites import CaptureSite, Site

LAYER = 1
HOOK = f"blocks.{LAYER}.hook_resid_post"


@pytest.fixture(scope="module")
def chatty(tmp_path_factory):
    return load_chatty(tmp_path_factory.mktemp("chatty"))


@pytest.fixture(scope="module")
def talks(chatty):
    return conversations(chatty)


@pytest.fixture(scope="module")
def kindness(chatty):
    return direction_for(chatty)


def logits_of(model, talks, edits, **options) -> torch.Tensor:
    """`[item, d_vocab]` at the prompt's end under edits."""
    kept = []

    def keep(logits):
        kept.append(logits[:, 0])
        return logits[:, 0, 0]

    with applied(model, edits, verify=True):
        order = np.argsort([len(talk) for talk in talks], kind="stable")
        measure(model, talks, keep, **options)
    return torch.cat(kept)[torch.tensor(np.argsort(order))]


def parts(direction, layer=LAYER):
    """u, m.u and gap of a direction at a layer."""
    u = direction.vectors[layer] / direction.vectors[layer].norm()
    return u, float(direction.midpoints[layer] @ u), float(direction.gaps[layer])


SITE = Site("resid_post", layer=LAYER, span="instruction", round=2)
LAST = Site("resid_post", layer=LAYER, span="instruction", round=2, at="last")
MEAN = Site("resid_post", layer=LAYER, span="instruction", round=2, at="mean")
NEW = Site("resid_post", layer=LAYER, span="response", round=2)
FEW = Site("resid_post", layer=LAYER, span="response", round=2, at=range(3))


def cases(direction):
    """Name -> (edits, plain edits of a conversation)."""
    u, mid, gap = parts(direction)
    other = direction_for_other(direction)

    def scaled(h):
        moved = h + 2.5 * gap * u
        return moved * h.norm() / moved.norm()

    def on(change, round=2):
        return lambda talk: [(HOOK, at_tokens(instruction(talk, round), change))]

    return {
        "add": ([add(direction, strength=-2.0, at=SITE)], on(lambda h: h - 2.0 * gap * u)),
        "add, norm kept": ([add(direction, strength=2.5, at=SITE, norm_preserving=True)], on(scaled)),
        "ablate": ([ablate(direction, at=SITE)], on(lambda h: h - (h @ u - mid) * u)),
        "ablate to zero": ([ablate(direction, at=SITE, center="zero")], on(lambda h: h - (h @ u) * u)),
        "ablate the mean": (
            [ablate(direction, at=MEAN)],
            lambda talk: [(HOOK, moved_mean(instruction(talk, 2), u, mid))],
        ),
        "clamp": (
            [clamp(direction, to=1.5, at=SITE)],
            lambda talk: [(HOOK, moved_mean(instruction(talk, 2), u, mid + 1.5 * gap))],
        ),
        "clamp each": (
            [clamp(direction, to=1.5, at=SITE, unit="projection", each=True)],
            on(lambda h: h + (mid + 1.5 - h @ u) * u),
        ),
        "one token of each round": (
            [add(direction, strength=1.0, at=Site("resid_post", layer=LAYER, span="instruction", at=2))],
            lambda talk: [(HOOK, at_tokens([instruction(talk, r)[2] for r in (1, 2)], lambda h: h + gap * u))],
        ),
        "two at one place, in order": (
            [ablate(direction, at=LAST), add(other, strength=1.0, at=LAST)],
            lambda talk: [
                (
                    HOOK,
                    at_tokens(instruction(talk, 2)[-1:], lambda h: h - (h @ u - mid) * u + other[0] / other[0].norm()),
                )
            ],
        ),
        "everywhere": ([ablate(direction, layer=LAYER)], lambda talk: everywhere(direction)),  # noqa: ARG005
    }


def direction_for_other(direction):
    return torch.randn(1, direction.vectors.shape[1], generator=torch.Generator().manual_seed(5))


def everywhere(direction, layer=LAYER):
    u, mid, _ = parts(direction, layer)

    def write(h, prompt):  # noqa: ARG001
        return h - (h @ u)[:, None] * u

    hooks = [("blocks.0.hook_resid_pre", lambda h, prompt: write(h, prompt) + mid * u)]
    for layer in range(direction.vectors.shape[0]):
        hooks += [(f"blocks.{layer}.hook_{name}", write) for name in ("attn_out", "mlp_out")]
    return hooks


NAMES = (
    "add",
    "add, norm kept",
    "ablate",
    "ablate to zero",
    "ablate the mean",
    "clamp",
    "clamp each",
    "one token of each round",
    "two at one place, in order",
    "everywhere",
)


@pytest.mark.parametrize("name", NAMES)
def test_an_edit_does_what_a_hand_written_hook_does_in_a_batch_and_alone(chatty, talks, kindness, name):
    edits, plain = cases(kindness)[name]
    expected = torch.stack([hand_edited(chatty, talk.ids, plain(talk))[-1] for talk in talks])
    clean = torch.stack([hand_edited(chatty, talk.ids, [])[-1] for talk in talks])
    assert torch.allclose(logits_of(chatty, talks, edits), expected, atol=2e-5)
    assert torch.allclose(logits_of(chatty, talks, edits, batch_size=1), expected, atol=2e-5)
    assert ((expected - clean).abs().amax(1) > 1e-3).all()


KEYS = Site("k", layer=LAYER, head=1, span="response", round=2)
FAR = torch.randn(12, generator=torch.Generator().manual_seed(3))


def stronger(direction, layer=LAYER):
    u, _, gap = parts(direction, layer)
    return lambda h: h + 4.0 * gap * u


def clamped(direction, target):
    u, mid, gap = parts(direction)
    return lambda h: h + (mid + target * gap - h @ u) * u


GENERATING = {
    "the prompt alone": lambda d: (
        [add(d, strength=4.0, at=SITE)],
        lambda talk: [(HOOK, at_tokens(instruction(talk, 2), stronger(d)))],
    ),
    "all new tokens": lambda d: (
        [add(d, strength=4.0, at=NEW)],
        lambda _: [(HOOK, at_tokens(generated(), stronger(d)))],
    ),
    "the first three": lambda d: (
        [add(d, strength=4.0, at=FEW)],
        lambda _: [(HOOK, at_tokens(generated(3), stronger(d)))],
    ),
    "prompt and new tokens": lambda d: (
        [add(d, strength=4.0, at=SITE), clamp(d, to=2.0, at=NEW, each=True)],
        lambda talk: [
            (HOOK, at_tokens(instruction(talk, 2), stronger(d))),
            (HOOK, at_tokens(generated(), clamped(d, 2.0))),
        ],
    ),
    "a key of a head": lambda _: (
        [add(FAR, strength=30.0, at=KEYS)],
        lambda _: [(KEYS.hook(LAYER), of_head(1, at_tokens(generated(), lambda h: h + 30.0 * FAR / FAR.norm())))],
    ),
    "every token of every layer": lambda d: (
        [add(d, strength=4.0, at=Site("resid_post"))],
        lambda _: [
            (f"blocks.{layer}.hook_resid_post", at_tokens(lambda _, total: range(total), stronger(d, layer)))
            for layer in range(3)
        ],
    ),
    "ablated everywhere": lambda d: ([ablate(d, layer=LAYER)], lambda _: everywhere(d)),
}


def check_drawn(model, talks, edits, plain, *, n: int = 7):
    """Both streams of every conversation, in a batch and alone, against encoding everything anew for every token."""
    with applied(model, edits, verify=True):
        said = respond(model, talks, samples=1, max_new_tokens=n)
        alone = respond(model, talks, samples=1, max_new_tokens=n, batch_size=1)
    assert said["response_ids"].tolist() == alone["response_ids"].tolist()
    for row in said.to_dict("records"):
        talk = talks[row["conversation"]]
        sample = None if row["sample"] < 0 else row["sample"]
        ids, logprobs = hand_drawn(model, talk, plain(talk), end_ids=end_ids(model), max_new_tokens=n, sample=sample)
        assert row["response_ids"] == ids
        assert row["response_logprobs"] == pytest.approx(logprobs, abs=1e-4)
    return said


@pytest.mark.parametrize("name", GENERATING)
def test_what_is_drawn_from_a_cache_under_edits_equals_encoding_everything_anew_for_every_token(
    chatty, talks, kindness, name
):
    said = check_drawn(chatty, talks, *GENERATING[name](kindness))
    clean = respond(chatty, talks, samples=1, max_new_tokens=7)
    assert not np.allclose(
        np.concatenate(said["response_logprobs"])[:12], np.concatenate(clean["response_logprobs"])[:12], atol=1e-3
    )


@pytest.mark.parametrize("architecture", ["gemma3", "qwen3", "mistral"])
def test_norms_after_writes_norms_of_queries_and_sliding_windows_make_no_difference(load_tiny, architecture):
    model = load_tiny(architecture)
    talks, direction = conversations(model), direction_for(model)
    edits = [ablate(direction_for(model, seed=4), layer=0), add(direction, strength=4.0, at=NEW)]
    lean = [(HOOK, at_tokens(generated(), stronger(direction)))]
    said = check_drawn(model, talks, edits, lambda _: [*everywhere(direction_for(model, seed=4), layer=0), *lean], n=4)
    clean = respond(model, talks, samples=1, max_new_tokens=4)
    assert said["response_ids"].tolist() != clean["response_ids"].tolist()


def captured(model, talks, site: str, rounds: int = 2):
    (component, position), ends = site.split("."), end_ids(model)
    return capture(model, talks, sites=[CaptureSite(component, position)], rounds=rounds, end_ids=ends)[site]


def test_nothing_is_edited_by_strength_zero_or_by_a_runs_own_activations(chatty, talks, kindness):
    clean = torch.stack([hand_edited(chatty, talk.ids, [])[-1] for talk in talks])
    plain = logits_of(chatty, talks, [])
    assert torch.allclose(plain, clean, atol=1e-4)
    own = captured(chatty, talks, "resid_post.instruction_end")[:, 1, LAYER]
    with applied(chatty, []):
        assert torch.equal(logits_of(chatty, talks, [add(kindness, strength=0.0, at=SITE)]), plain)
        assert torch.allclose(logits_of(chatty, talks, [replace(own, at=LAST)]), plain, atol=1e-5)
        assert not torch.allclose(logits_of(chatty, talks, [replace(own[[1, 2, 0]], at=LAST)]), plain, atol=1e-2)


def test_the_residual_before_the_final_norm_is_linear_in_the_strength_of_an_add_at_the_last_layer(
    chatty, talks, kindness
):
    last = chatty.cfg.n_layers - 1
    u, _, gap = parts(kindness, last)
    site = Site.named("prompt_end", layer=last, round=2)

    def residual(strength):
        with applied(chatty, add(kindness, strength=strength, at=site)):
            return captured(chatty, talks, "resid_post.prompt_end")[:, 1, last]

    clean = residual(0.0)
    for strength in (-2.0, 0.5, 3.0):
        assert np.allclose(residual(strength) - clean, strength * gap * u.numpy(), atol=1e-4)


@pytest.mark.parametrize("center", ["midpoint", "zero"])
def test_ablation_everywhere_leaves_the_midpoints_coordinate_at_every_layer_and_token(chatty, talks, kindness, center):
    u, mid, _ = parts(kindness)
    left = mid if center == "midpoint" else 0.0
    seen = {}
    names = [f"blocks.{layer}.hook_resid_{where}" for layer in range(3) for where in ("pre", "mid", "post")]
    hooks = [(name, lambda x, hook: seen.update({hook.name: x @ u})) for name in names]
    tokens = torch.tensor([talks[0].ids])
    with applied(chatty, ablate(kindness, layer=LAYER, center=center)), chatty.hooks(fwd_hooks=hooks):
        chatty(tokens)
    assert len(seen) == 9
    for coordinate in seen.values():
        assert torch.allclose(coordinate, torch.full_like(coordinate, left), atol=1e-4)
    with chatty.hooks(fwd_hooks=hooks):
        chatty(tokens)
    assert all((coordinate - left).abs().max() > 0.5 for coordinate in seen.values())


def test_ablation_at_sites_leaves_the_midpoints_coordinate_at_each_of_their_layers(chatty, talks, kindness):
    with applied(chatty, ablate(kindness, at=Site("resid_post", span="instruction"))):
        kept = captured(chatty, talks, "resid_post.instruction_mean")
    for layer in range(3):
        u, mid, _ = parts(kindness, layer)
        assert np.allclose(kept[:, :, layer] @ u.numpy(), mid, atol=1e-4)


def test_a_clamped_span_reads_back_each_items_own_target_and_keeps_its_variation(chatty, talks, kindness):
    targets = {talk.item_id: value for talk, value in zip(talks, (-1.0, 0.25, 2.0), strict=True)}
    given = (list(targets.values()), np.array(list(targets.values())), targets)
    listed = xarray.DataArray(list(targets.values()), dims="item", coords={"item": list(targets)})
    for to in (*given, listed):
        with applied(chatty, clamp(kindness, to=to, at=SITE)):
            read = measure(
                chatty, talks[::-1] if isinstance(to, dict) else talks, "concept", direction=kindness, at=SITE
            )
        assert read == pytest.approx(list(targets.values())[:: -1 if isinstance(to, dict) else 1], abs=1e-4)
    u, _, _ = parts(kindness)
    around = []
    for edits in ([], [clamp(kindness, to=2.0, at=SITE)]):
        with applied(chatty, edits, on=talks[0]):
            _, cache = chatty.run_with_cache(torch.tensor([talks[0].ids]), names_filter=HOOK)
        here = cache[HOOK][0, instruction(talks[0], 2)] @ u
        around.append(here - here.mean())
    assert torch.allclose(*around, atol=1e-4)
    with applied(chatty, clamp(kindness, to=1.0, at=SITE, unit="projection")):
        read = measure(chatty, talks, "concept", direction=kindness, at=SITE)
    assert read == pytest.approx([1.0 / parts(kindness)[2]] * 3, abs=1e-4)


def test_a_norm_preserving_add_turns_the_activation_towards_the_concept_and_keeps_its_length(chatty, talks, kindness):
    u, _, gap = parts(kindness)
    where = instruction(talks[0], 2)
    _, clean = hand_edited(chatty, talks[0].ids, [], keep=HOOK)
    found = []
    for kept in (True, False):
        with applied(chatty, add(kindness, strength=2.5, at=SITE, norm_preserving=kept), on=talks[0]):
            found.append(chatty.run_with_cache(torch.tensor([talks[0].ids]), names_filter=HOOK)[1][HOOK][0])
    moved = clean[where] + 2.5 * gap * u
    assert torch.allclose(found[0][where], moved * (clean[where].norm(dim=1) / moved.norm(dim=1))[:, None], atol=1e-4)
    assert torch.allclose(found[1][where], moved, atol=1e-4)
    assert not torch.allclose(found[0].norm(dim=1), found[1].norm(dim=1), atol=1e-2)


SHAPES = {"resid_pre": 32, "resid_mid": 32, "resid_post": 32, "attn_out": 32, "mlp_out": 32, "ln1_normalized": 32,
          "ln2_normalized": 32, "mlp_pre": 48, "mlp_pre_linear": 48, "mlp_post": 48, "q": 12, "k": 12, "v": 12, "z": 12,
          "rot_q": 12}  # fmt: skip


@pytest.mark.parametrize("component", SHAPES)
def test_every_component_is_edited_where_its_hook_is_heads_one_by_one(chatty, talks, component):
    head = 1 if SHAPES[component] == 12 else None
    site = Site(component, layer=LAYER, head=head, span="instruction", round=2)
    vector = torch.randn(SHAPES[component], generator=torch.Generator().manual_seed(1))
    u = vector / vector.norm()

    def plain(talk):
        change = at_tokens(instruction(talk, 2), lambda h: h + 6.0 * u)
        return [(site.hook(LAYER), change if head is None else of_head(head, change))]

    expected = torch.stack([hand_edited(chatty, talk.ids, plain(talk))[-1] for talk in talks])
    clean = torch.stack([hand_edited(chatty, talk.ids, [])[-1] for talk in talks])
    assert torch.allclose(logits_of(chatty, talks, [add(vector, strength=6.0, at=site)]), expected, atol=1e-4)
    assert (expected - clean).abs().max() > 1e-3


@pytest.mark.parametrize("at", ["all", "last", "mean", range(2)])
@pytest.mark.parametrize(("component", "head"), [("resid_mid", None), ("z", None), ("z", 1), ("k", None), ("k", 1)])
def test_activations_of_another_run_take_the_place_of_the_sites_tokens(chatty, talks, component, at, head):
    layers = range(1, 3)
    site = Site(component, layer=layers, head=head, span="instruction", round=2, at=at)
    generator = torch.Generator().manual_seed(2)
    heads = {"resid_mid": [], "z": [4], "k": [2]}[component] if head is None else []
    tokens = [instruction(talk, 2) for talk in talks]
    sizes = [[len(t)] if at == "all" else [2] if isinstance(at, range) else [] for t in tokens]
    values = [torch.randn(2, *size, *heads, SHAPES[component], generator=generator) for size in sizes]

    def plain(item):
        def change_at(layer):
            def change(h, prompt):  # noqa: ARG001
                new, where = values[item][layer - 1], tokens[item]
                if at == "mean":
                    h[where] = h[where] + new - h[where].mean(0)
                else:
                    chosen = where if at == "all" else where[-1:] if at == "last" else where[:2]
                    h[chosen] = new if at != "last" else new[None]
                return h

            return change if head is None else of_head(head, change)

        return [(site.hook(layer), change_at(layer)) for layer in layers]

    expected = torch.stack([hand_edited(chatty, t.ids, plain(i))[-1] for i, t in enumerate(talks)])
    assert torch.allclose(logits_of(chatty, talks, [replace(values, at=site)]), expected, atol=1e-4)
    by_item = {talk.item_id: value for talk, value in zip(talks, values, strict=True)}
    assert torch.allclose(logits_of(chatty, talks[:1], [replace(by_item, at=site)]), expected[:1], atol=1e-4)


def test_values_from_xarray_are_found_by_the_names_of_item_and_layer(chatty, talks):
    values = captured(chatty, talks, "resid_post.instruction_end")[:, 0]  # of round 1: [item, layer, d_model]
    names = [talk.item_id for talk in talks]
    array = xarray.DataArray(values, dims=("item", "layer", "d_model"), coords={"item": names, "layer": range(3)})
    expected = logits_of(chatty, talks, [replace(values[:, LAYER], at=LAST)])
    shuffled = array.transpose("d_model", "layer", "item").isel(item=[2, 0, 1], layer=[2, 1, 0])
    assert torch.equal(logits_of(chatty, talks, [replace(shuffled, at=LAST)]), expected)


@pytest.mark.parametrize("head", [None, 2])
def test_a_pattern_is_replaced_row_by_row(chatty, talks, head):
    site = Site("pattern", layer=LAYER, head=head, span="instruction", round=2, at="last")
    rows = [instruction(talk, 2)[-1] for talk in talks]
    shape = [] if head is not None else [4]
    values = [torch.rand(*shape, row + 1, generator=torch.Generator().manual_seed(row)) for row in rows]

    def plain(item):
        def change(h, prompt):  # noqa: ARG001 - [query, head, source]
            h[rows[item], :] = torch.nn.functional.pad(values[item], (0, h.shape[-1] - rows[item] - 1))
            return h

        def of_one(h, prompt):  # noqa: ARG001
            h[rows[item], head] = torch.nn.functional.pad(values[item], (0, h.shape[-1] - rows[item] - 1))
            return h

        return [(site.hook(LAYER), change if head is None else of_one)]

    expected = torch.stack([hand_edited(chatty, t.ids, plain(i))[-1] for i, t in enumerate(talks)])
    assert torch.allclose(logits_of(chatty, talks, [replace(values, at=site)]), expected, atol=1e-4)


@pytest.fixture(scope="module")
def half(tmp_path_factory):
    from tiny_runs import save_chatty

    from mechmsc.model import load_model

    folder = tmp_path_factory.mktemp("half")
    return load_model(save_chatty(folder / "model"), dtype="bfloat16", cache=folder / "cache")


def test_a_bfloat16_model_is_edited_in_float32_and_rounded_once(half):
    talk = conversations(half)[0]
    direction = direction_for(half)
    u, mid, gap = parts(direction)
    tokens, where = torch.tensor([talk.ids]), instruction(talk, 2)
    clean = half.run_with_cache(tokens, names_filter=HOOK)[1][HOOK][0, where]
    with applied(half, [add(direction, strength=1.7, at=SITE), ablate(direction_for(half, seed=9), at=SITE)], on=talk):
        edited = half.run_with_cache(tokens, names_filter=HOOK)[1][HOOK][0, where]
    other, middle, _ = parts(direction_for(half, seed=9))
    expected = (clean.float() + 1.7 * gap * u).to(torch.bfloat16)
    expected = expected.float() + (middle - expected.float() @ other)[:, None] * other
    assert clean.dtype == edited.dtype == torch.bfloat16
    assert torch.allclose(edited.float(), expected.to(torch.bfloat16).float(), rtol=2**-8, atol=0)
    coarse = clean + (1.7 * gap * u).to(torch.bfloat16)
    coarse = coarse - ((coarse @ other.to(torch.bfloat16))[:, None] - middle) * other.to(torch.bfloat16)
    assert not torch.allclose(edited.float(), coarse.float(), rtol=2**-8, atol=0)
    with applied(half, ablate(direction, layer=LAYER)):  # reads back at every layer, within what bfloat16 can hold
        measure(half, talk, "first_token_entropy")


def test_an_edit_that_rounding_swallows_is_an_error_under_verify(half):
    talk, tiny = conversations(half)[0], torch.randn(32)
    with applied(half, add(tiny, strength=1e-4, at=LAST)):
        measure(half, talk, "first_token_entropy")
    with pytest.raises(MechmscError, match="rounding to torch.bfloat16 swallowed the edit.*larger strength"):
        with applied(half, add(tiny, strength=1e-4, at=LAST), verify=True):
            measure(half, talk, "first_token_entropy")


@pytest.mark.parametrize("kind", ["add", "ablate", "clamp"])
def test_an_edit_that_does_something_else_than_was_asked_is_noticed_when_it_is_read_back(
    chatty, talks, kindness, monkeypatch, kind
):
    edit = {"add": add(kindness, strength=2.0, at=SITE), "ablate": ablate(kindness, at=SITE)}.get(
        kind, clamp(kindness, to=1.0, at=SITE)
    )
    right = arithmetic_module.edited

    def wrong(edit, x, picked, axis):
        after = right(edit, x, picked, axis)
        return type(after)(after.values + 0.01 * axis.u, after.want, after.by_mean)

    monkeypatch.setattr("mechmsc.interventions.hooks.edited", wrong)
    with pytest.raises(MechmscError, match="did not take effect"):
        with applied(chatty, edit):
            measure(chatty, talks, "first_token_entropy")


def test_an_everywhere_ablation_that_misses_a_write_is_noticed_when_it_is_read_back(chatty, talks, kindness):
    def leak(activation, hook):  # noqa: ARG001
        return activation + 0.1 * parts(kindness)[0]

    with pytest.raises(MechmscError, match="did not take effect"):
        with applied(chatty, ablate(kindness, layer=LAYER)), chatty.hooks(fwd_hooks=[("blocks.1.hook_mlp_out", leak)]):
            measure(chatty, talks, "first_token_entropy")


def test_the_mean_of_a_response_that_is_being_drawn_is_not_known(chatty, talks, kindness):
    with pytest.raises(InputError, match="not known while they are still being drawn.*each=True"):
        with applied(chatty, clamp(kindness, to=1.0, at=NEW)):
            respond(chatty, talks[0], max_new_tokens=3)
    with applied(chatty, clamp(kindness, to=1.0, at=NEW, each=True)):
        respond(chatty, talks[0], max_new_tokens=3)


def test_chat_has_conversations_whose_first_rounds_response_can_be_edited_as_a_whole(chatty, talks, kindness):
    site = Site("resid_post", layer=LAYER, span="response", round=1)
    u, mid, gap = parts(kindness)
    plain = lambda talk: [(HOOK, moved_mean(list(talk.span("response", 1).indices), u, mid + gap))]  # noqa: E731
    expected = torch.stack([hand_edited(chatty, talk.ids, plain(talk))[-1] for talk in talks])
    assert torch.allclose(logits_of(chatty, talks, [clamp(kindness, to=1.0, at=site)]), expected, atol=1e-4)
    assert chat_of(chatty).end_ids == end_ids(chatty)
