"""What capture keeps, against whole activations of one conversation at a time."""

import weakref

import numpy as np
import pytest
import torch
from devices import refuse_mixed_devices
from engines import hooked_only
from tiny_models import VOCABULARY

from mechmsc import capture as capture_module
from mechmsc.capture import SOURCE_SPANS, capture, site_shape, source_labels
from mechmsc.chat import ChatFormat
from mechmsc.model import hf_model
from mechmsc.sites import COMPONENTS, POSITIONS, CaptureSite, parse_sites
from mechmsc.transcripts import Span, Transcript

END = frozenset({2})
ROUNDS = 3
LAYOUTS = [  # (span, tokens) of every round; a response ends with the end-of-turn token, except where it is empty
    [[("system", 3), ("question", 6), ("instruction", 4), ("template", 2), ("response", 5)]]
    + 2 * [[("template", 1), ("instruction", 4), ("template", 2), ("response", 6)]],
    [[("question", 4), ("template", 2), ("prefix", 3), ("response", 1)]],
    [[("instruction", 3), ("template", 1), ("response", 4)], [("template", 2), ("instruction", 2), ("template", 1)]],
]


def transcript_of(layout, seed: int) -> Transcript:
    ids, spans = [], []
    dice = torch.Generator().manual_seed(seed)
    for round, parts in enumerate(layout, start=1):
        for name, n in parts:
            new = torch.randint(3, VOCABULARY, (n,), generator=dice).tolist()
            spans.append(Span(name, round, len(ids), len(ids) + n))
            ids += [*new[:-1], 2] if name == "response" else new
    return Transcript(f"t/{seed}", "moral", tuple(ids), tuple(spans))


TRANSCRIPTS = [transcript_of(layout, seed) for seed, layout in enumerate(LAYOUTS)]


def tokens_at(transcript: Transcript, position: str, round: int) -> list[int]:
    """The tokens of a named position, straight from their definition."""
    spans = {span.name: span for span in transcript.spans if span.round == round and span.name != "template"}
    if position == "prompt_end":
        if round > max(span.round for span in transcript.spans):
            return []
        return [(spans["response"].start if "response" in spans else len(transcript.ids)) - 1]
    name, _, kind = position.partition("_")
    inside = range(spans[name].start, spans[name].end) if name in spans else []
    inside = [i for i in inside if transcript.ids[i] != 2]
    return inside[-1:] if kind == "end" else [i for i in inside if i > 0]


def in_turn(cache, component: str, layer: int, n_heads: int) -> torch.Tensor:
    """The whole activation `[token, ...]` of one conversation; a pattern as `[token, head, source token]`."""
    end = "attn.hook_result" if component == "result" else COMPONENTS[component][0]
    whole = cache[f"blocks.{layer}.{end}"][0]
    if component == "pattern":
        return whole.transpose(0, 1)
    if component in ("k", "v", "rot_k"):
        return torch.stack([whole[:, head * whole.shape[1] // n_heads] for head in range(n_heads)], dim=1)
    return whole


def summed_by_span(row: torch.Tensor, transcript: Transcript) -> torch.Tensor:
    out = torch.zeros(len(row), len(SOURCE_SPANS) * ROUNDS)
    for span in transcript.spans:
        place = source_labels(ROUNDS).index(f"{span.name}@{span.round}")
        out[:, place] += row[:, span.start : span.end].sum(1)
    return out


@torch.no_grad()
def reference(model, transcripts, site: CaptureSite) -> np.ndarray:
    out = np.full((len(transcripts), ROUNDS, *site_shape(model, site, rounds=ROUNDS)), np.nan, np.float32)
    model.set_use_attn_result(True)
    for row, transcript in enumerate(transcripts):
        _, cache = model.run_with_cache(torch.tensor([transcript.ids]))
        for round in range(1, ROUNDS + 1):
            tokens = tokens_at(transcript, site.position, round)
            for layer in range(model.cfg.n_layers if tokens else 0):
                value = in_turn(cache, site.component, layer, model.cfg.n_heads)[tokens].mean(0)
                value = summed_by_span(value, transcript) if site.component == "pattern" else value
                out[row, round - 1, layer] = value.numpy()
    model.set_use_attn_result(False)
    return out


def kept(model, sites, transcripts=TRANSCRIPTS) -> dict[str, np.ndarray]:
    return capture(model, transcripts, sites=sites, rounds=ROUNDS, end_ids=END)


def relative_error(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Relative error where there are numbers; infinite where one has nan and the other has not."""
    if ours.shape != theirs.shape or not np.array_equal(np.isnan(ours), np.isnan(theirs)):
        return np.inf
    there = ~np.isnan(theirs)
    if not there.any():
        return 0.0
    return float(np.linalg.norm(ours[there] - theirs[there]) / np.linalg.norm(theirs[there]))


@pytest.mark.parametrize("architecture", ["llama", "gemma3"])
def test_every_component_and_position_equals_the_whole_activation_read_there(load_tiny, architecture):
    model = load_tiny(architecture)
    sites = [CaptureSite(component, "response_mean") for component in COMPONENTS]
    sites += [CaptureSite(component, position) for component in ("resid_post", "pattern") for position in POSITIONS[:3]]
    sites.append(CaptureSite("resid_post", "response_end"))
    found = kept(model, sites)
    errors = {str(site): relative_error(found[str(site)], reference(model, TRANSCRIPTS, site)) for site in sites}
    assert max(errors.values()) < 1e-4, errors
    wrong = reference(model, TRANSCRIPTS, CaptureSite("resid_post", "response_end"))
    assert relative_error(found["resid_post.response_mean"], wrong) > 1e-2


def test_the_residual_stream_equals_the_hidden_states_of_hugging_face(tiny_llama):
    compare_with_hidden_states(tiny_llama, TRANSCRIPTS)


def test_the_embedded_model_s_residual_stream_equals_the_hidden_states_of_hugging_face(smollm2):
    chat = ChatFormat.of(smollm2.tokenizer)
    transcripts = []
    for question in ("Is it fair to read a friend's diary?", "Describe a nurse."):
        one = chat.open(question, "Please answer fairly.")
        for _ in range(2):
            one = chat.reply(one, [504, 1343, 355, 28], stop_reason="length")
            one = chat.ask(one, "Please think again, and answer fairly.")
        transcripts.append(one)
    compare_with_hidden_states(smollm2, transcripts)


@torch.no_grad()
def compare_with_hidden_states(model, transcripts):
    """All but the last layer, which Hugging Face gives after the final norm."""
    sites = parse_sites(["resid_post.prompt_end", "resid_post.instruction_mean"])
    found = kept(model, sites, transcripts)
    for row, transcript in enumerate(transcripts):
        states = hf_model(model)(torch.tensor([transcript.ids]), output_hidden_states=True).hidden_states
        for round in range(1, transcript.rounds + 1):
            for site in sites:
                tokens = tokens_at(transcript, site.position, round)
                expected = torch.stack([state[0, tokens].mean(0) for state in states[1:-1]]).numpy()
                ours = found[str(site)][row, round - 1, :-1]
                assert relative_error(ours, expected if tokens else np.full_like(expected, np.nan)) < 1e-4


def test_a_conversation_without_the_round_or_span_has_nan_and_no_other_has():
    expected = {
        "prompt_end": [[1, 1, 1], [1, 0, 0], [1, 1, 0]],
        "instruction_end": [[1, 1, 1], [0, 0, 0], [1, 1, 0]],
        "instruction_mean": [[1, 1, 1], [0, 0, 0], [1, 1, 0]],
        "response_mean": [[1, 1, 1], [0, 0, 0], [1, 0, 0]],  # a response of the end-of-turn token alone has no content
        "response_end": [[1, 1, 1], [0, 0, 0], [1, 0, 0]],
    }
    for position, there in expected.items():
        weights = capture_module.position_weights(TRANSCRIPTS, position, rounds=ROUNDS, end_ids=END)
        assert torch.equal(~weights.isnan().any(-1), torch.tensor(there).bool())


def test_means_leave_out_the_first_token_and_the_end_of_turn(tiny_llama):
    """The first token and every end of turn are made enormous in what is read."""
    sites = parse_sites(["resid_post.instruction_mean", "resid_post.response_mean"])
    before = kept(tiny_llama, sites)

    def enlarge(activation, hook, *, left_out):  # noqa: ARG001 - a hook's
        changed = activation.clone()
        for row, transcript in enumerate(sorted(TRANSCRIPTS, key=len)):
            changed[row, [i for i, token in enumerate(transcript.ids) if left_out(i, token)]] += 1e6
        return changed

    def after(left_out):
        last = ("blocks.2.hook_resid_post", lambda x, hook: enlarge(x, hook, left_out=left_out))
        with tiny_llama.hooks(fwd_hooks=[last]):
            return kept(tiny_llama, sites)

    for name, values in after(lambda i, token: i == 0 or token == 2).items():
        assert np.array_equal(values, before[name], equal_nan=True)
    for name, values in after(lambda i, token: i == 1 or token != 2).items():
        assert not np.allclose(values, before[name], equal_nan=True)


def test_small_batches_keep_the_same(tiny_llama, monkeypatch):
    sites = parse_sites(["resid_post.response_mean", "pattern.prompt_end", "k.response_end"])
    many = [TRANSCRIPTS[i] for i in (2, 0, 1, 0, 2, 1)]
    together = kept(tiny_llama, sites, many)
    for max_tokens in (1, 40):
        monkeypatch.setattr(capture_module, "MAX_TOKENS", max_tokens)
        for name, values in kept(tiny_llama, sites, many).items():
            assert relative_error(values, together[name]) < 1e-5
    chunks = capture_module._chunks(many)
    assert {len(chunk) for chunk in chunks} == {1, 3}
    assert all(len(chunk) == 1 or len(chunk) * max(len(many[i]) for i in chunk) <= 40 for chunk in chunks)


def test_a_pattern_sums_to_one_over_the_source_spans(tiny_llama):
    rows = kept(tiny_llama, parse_sites("pattern.prompt_end"))["pattern.prompt_end"]
    assert np.allclose(rows[0].sum(-1), 1, atol=1e-5)
    assert source_labels(2)[:2] == ["system@1", "question@1"] and len(source_labels(2)) == 12


def count_hooks(model) -> int:
    return sum(len(point.fwd_hooks) for point in set(model.hook_dict.values()))  # a point may have several names


def test_hooks_are_gone_afterwards_also_after_a_failure_and_those_of_the_caller_stay(tiny_llama):
    sites = parse_sites("resid_post.prompt_end,pattern.response_mean")
    kept(tiny_llama, sites)
    assert count_hooks(tiny_llama) == 0

    def fail(activation, hook):  # noqa: ARG001 - a hook's
        raise RuntimeError("planted")

    with tiny_llama.hooks(fwd_hooks=[("blocks.1.hook_resid_post", fail)]):
        with pytest.raises(RuntimeError, match="planted"):
            kept(tiny_llama, sites)
        assert count_hooks(tiny_llama) == 1
    assert count_hooks(tiny_llama) == 0
    assert kept(tiny_llama, []) == {}


def test_what_is_kept_has_no_axis_of_tokens_and_whole_activations_are_let_go(tiny_llama, monkeypatch):
    """What is kept of a layer owns its storage, and no earlier whole activation is alive when a later one comes."""
    reduced, alive, whole, sizes = capture_module._reduced, [], [], []

    def watched(activation, weights, spans):
        alive.append(sum(reference() is not None for reference in whole))
        whole.append(weakref.ref(activation))
        value = reduced(activation, weights, spans)
        sizes.append((value.untyped_storage().nbytes(), value.numel() * 4))
        return value

    monkeypatch.setattr(capture_module, "_reduced", watched)
    kept(tiny_llama, parse_sites("mlp_post.response_mean,q.prompt_end,pattern.prompt_end"))
    assert len(sizes) == 9
    assert all(storage == own for storage, own in sizes)
    assert max(alive) <= 3  # those of the layer that is being computed


@hooked_only
def test_a_text_longer_than_the_rotary_table_can_still_be_differentiated_afterwards(load_tiny):
    """The table grows during capture, and must not become one that gradients refuse."""
    model = load_tiny("gemma3")
    for block in model.blocks:
        block.attn.rotary_sin, block.attn.rotary_cos = block.attn.calculate_sin_cos_rotary(12, 16)
    kept(model, parse_sites("resid_post.prompt_end"))
    model.blocks[0].attn.W_Q.requires_grad_(True)
    model(torch.tensor([TRANSCRIPTS[0].ids])).sum().backward()
    assert model.blocks[0].attn.W_Q.grad.abs().sum() > 0


@pytest.mark.parametrize("architecture", ["llama", "gemma3"])
def test_capture_runs_on_meta_without_mixing_devices(load_tiny, monkeypatch, architecture):
    model = load_tiny(architecture, device="meta")
    monkeypatch.setattr(torch.Tensor, "cpu", lambda tensor: torch.zeros(tensor.shape))  # "meta" has no values to fetch
    sites = [CaptureSite(component, "prompt_end") for component in COMPONENTS]
    with refuse_mixed_devices():
        found = kept(model, sites)
    for site in sites:
        assert found[str(site)].shape == (len(TRANSCRIPTS), ROUNDS, *site_shape(model, site, rounds=ROUNDS))
