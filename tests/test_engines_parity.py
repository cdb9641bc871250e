"""What works on one engine works on the other, and says the same; oracles that need no second engine run everywhere."""

import functools

import numpy as np
import pytest
import torch
from edits import conversations, direction_for
from engines import ENGINES, both_engines
from references.patching import patched_logits
from test_model_architectures import errors, token_ids
from test_patching import WITH_HEADS, WITHOUT_HEADS, own_head, pairs, sampled, two_logits

from mechmsc.capture import capture
from mechmsc.interventions import ablate, add, applied, clamp, measure, replace, respond
from mechmsc.patching import outcome, patch_grid
from mechmsc.positions import end_ids
from mechmsc.sites import COMPONENTS, CaptureSite, Site

pytestmark = pytest.mark.engine
SHARED = ("llama", "qwen2", "gemma2")
"""Architectures of both engines."""
EVERY = [(engine, name) for engine in ENGINES for name in SHARED] + [("bridge", "gpt2")]
OF_BRIDGE = (*SHARED, "gpt2")
EXACT = {"atol": 1e-4, "rtol": 1e-4}
SITES = [CaptureSite(name, position) for name in COMPONENTS for position in ("prompt_end", "instruction_mean")]


@pytest.fixture(scope="module")
def model_of(load_tiny):
    """A function: engine and architecture -> the model, loaded once."""
    return functools.cache(lambda engine, architecture: load_tiny(architecture, engine=engine))


@pytest.fixture(scope="module")
def both(model_of):
    """A function: architecture -> the models of both engines."""
    return lambda architecture: [model_of(engine, architecture) for engine in ENGINES]


def close(ours, theirs, *, tolerance: float = 1e-4) -> bool:
    ours, theirs = np.asarray(ours, float), np.asarray(theirs, float)
    assert ours.shape == theirs.shape and np.array_equal(np.isnan(ours), np.isnan(theirs))
    known = ~np.isnan(ours)
    return bool(np.linalg.norm((ours - theirs)[known]) <= tolerance * max(np.linalg.norm(theirs[known]), 1e-9))


@pytest.mark.parametrize(("engine", "architecture"), EVERY)
def test_logits_and_residual_stream_equal_hugging_face_with_and_without_left_padding(model_of, engine, architecture):
    mask = torch.ones(2, 40, dtype=torch.long)
    mask[1, :13] = 0
    for given in (torch.ones_like(mask), mask):
        found = errors(model_of(engine, architecture), token_ids(), given)
        assert max(found.values()) < 1e-4, found


@both_engines
@pytest.mark.parametrize("architecture", SHARED)
def test_every_captured_site_is_the_same(both, architecture):
    found = []
    for model in both(architecture):
        talks = conversations(model)
        found.append(capture(model, talks, sites=SITES, rounds=2, end_ids=end_ids(model)))
    assert found[0].keys() == found[1].keys() == {str(site) for site in SITES}
    for name, values in found[0].items():
        assert np.linalg.norm(np.nan_to_num(values)) > 0 and close(found[1][name], values), name


@pytest.mark.parametrize("architecture", OF_BRIDGE)
def test_what_the_heads_write_adds_up_to_what_attention_writes(model_of, architecture):
    """`result` needs W_O in the right shape; but for biases, and where a norm stands behind it."""
    model = model_of("bridge", architecture)
    sites = [CaptureSite(name, "prompt_end") for name in ("result", "attn_out")]
    found = capture(model, conversations(model, rounds=1), sites=sites, rounds=1, end_ids=end_ids(model))
    whole, parts = found["attn_out.prompt_end"], found["result.prompt_end"].sum(-2)
    bias = np.stack([_output_bias(model, layer) for layer in range(3)])
    assert close(parts + bias, whole) or architecture == "gemma2"


def _output_bias(model, layer: int) -> np.ndarray:
    bias = getattr(model.blocks[layer].attn.o.original_component, "bias", None)
    return np.zeros(model.cfg.d_model) if bias is None else bias.detach().numpy()


@pytest.mark.parametrize("architecture", OF_BRIDGE)
def test_both_decoders_draw_the_same_tokens_on_every_engine_under_the_same_seeds(model_of, architecture):
    engines = ENGINES if architecture in SHARED else ("bridge",)
    tables = []
    for engine in engines:
        model = model_of(engine, architecture)
        for decoder in ("huggingface", "hooked"):
            options = {"samples": 2, "seed": 3, "max_new_tokens": 6, "top_p": 0.9}
            tables.append(respond(model, conversations(model), decoder=decoder, **options))
    for table in tables[1:]:
        assert table["response_ids"].tolist() == tables[0]["response_ids"].tolist()
        for ours, theirs in zip(table["response_logprobs"], tables[0]["response_logprobs"], strict=True):
            np.testing.assert_allclose(ours, theirs, **EXACT)
    assert len(set(map(tuple, tables[0]["response_ids"]))) > 3  # not all the same


def edits_at(model, component: str) -> list:
    """One edit of each kind that the component allows; `everywhere` for the stream."""
    cfg, (_, dims) = model.cfg, COMPONENTS[component]
    size = {"d_model": cfg.d_model, "d_head": cfg.d_head, "d_mlp": cfg.d_mlp}.get(dims[-1])
    head = 1 if "head" in dims else None
    site, last = (Site(component, layer=0, head=head, span="instruction", round=2, at=at) for at in ("all", "last"))
    if component == "pattern":
        return []
    u = torch.randn(size, generator=torch.Generator().manual_seed(5))
    edits = [add(u, strength=2.0, at=site), ablate(u, at=site), clamp(u, to=1.5, at=site), replace(3 * u, at=last)]
    return edits + ([ablate(direction_for(model), layer=1)] if component == "resid_pre" else [])


EDITED = [name for name in COMPONENTS if name not in ("pattern", "result", "rot_k")]


@both_engines
@pytest.mark.parametrize("architecture", SHARED)
@pytest.mark.parametrize("component", EDITED)
def test_every_edit_does_the_same(both, architecture, component):
    models, options = both(architecture), {"permutations": 1}
    talks = conversations(models[0])
    clean = measure(models[0], talks, "first_token_entropy", **options)
    for one, other in zip(*(edits_at(model, component) for model in models), strict=True):
        found = []
        for model, edit in zip(models, (one, other), strict=True):
            with applied(model, edit, verify=True):
                found.append(measure(model, talks, ["first_token_entropy", "kl"], **options))
        for name, values in found[0].items():
            np.testing.assert_allclose(found[1][name], values, err_msg=f"{one} {name}", **EXACT)
        assert np.abs(found[0]["first_token_entropy"] - clean).max() > 1e-4, one


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_an_edit_of_the_middle_of_a_block_is_one_of_what_attention_wrote(model_of, architecture):
    """The stream itself is edited, not only what the MLP reads."""
    model = model_of("bridge", architecture)
    talks, u = conversations(model), torch.randn(model.cfg.d_model, generator=torch.Generator().manual_seed(7))
    found = []
    for component in ("attn_out", "resid_mid"):
        with applied(model, add(u, strength=10.0, at=Site(component, layer=1, span="instruction", round=2))):
            found.append(measure(model, talks, "first_token_entropy"))
    np.testing.assert_allclose(found[1], found[0], **EXACT)
    assert np.abs(found[0] - measure(model, talks, "first_token_entropy")).max() > 1e-3


@pytest.mark.parametrize("components", [WITHOUT_HEADS, WITH_HEADS], ids=["without heads", "with heads"])
def test_a_patch_grid_of_gpt2_equals_a_full_pass_a_cell(model_of, components):
    model, (source, destination) = model_of("bridge", "gpt2"), pairs(2)
    grid = patch_grid(model, source, destination, sites=components, outcome=two_logits)
    scale = float(grid.max() - grid.min())
    for item, component, where, value in sampled(grid, 3):
        at, head = [where["position"]], own_head(model, component, where.get("head"))
        texts = source[item].tolist(), destination[item].tolist()
        logits = patched_logits(model, *texts, component, where["layer"], read=at, write=at, head=head)
        assert abs(value - float(two_logits(logits[None])[0])) < 1e-4 * scale, (component, where)


@both_engines
@pytest.mark.parametrize("components", [WITHOUT_HEADS, WITH_HEADS], ids=["without heads", "with heads"])
@pytest.mark.parametrize("architecture", SHARED)
def test_a_patch_grid_is_the_same(both, architecture, components):
    source, destination = pairs(2)
    grids = [
        patch_grid(model, source, destination, sites=components, outcome=two_logits) for model in both(architecture)
    ]
    assert grids[0].dims == grids[1].dims and close(grids[1], grids[0])


@pytest.mark.parametrize("components", [WITHOUT_HEADS, WITH_HEADS], ids=["without heads", "with heads"])
@pytest.mark.parametrize("whole", [False, True], ids=["last token", "all tokens"])
def test_whole_passes_give_the_grid_of_the_partial_pass(model_of, monkeypatch, components, whole):
    from mechmsc.model import bridge_engine

    model, (source, destination) = model_of("bridge", "llama"), pairs(2)
    site = ("resid_post", 1)

    def read(logits, activations):
        return two_logits(logits) + logits.mean((1, 2)) + activations[site].mean((1, 2))

    asked = outcome(read, positions="all" if whole else "last", sites=[site])
    options = {"sites": components, "outcome": asked, "layers": [0, 2], "positions": [2, 9]}
    in_parts = patch_grid(model, source, destination, **options)
    monkeypatch.setattr(bridge_engine, "in_parts", lambda model: False)  # noqa: ARG005 - the true one's signature
    assert close(patch_grid(model, source, destination, **options), in_parts)
    assert float(in_parts.max() - in_parts.min()) > 1e-2


def test_parallel_blocks_are_patched_by_whole_passes(model_of):
    model, (source, destination) = model_of("bridge", "phi"), pairs(1)
    options = {"outcome": two_logits, "layers": [1], "positions": [4, 10]}
    grid = patch_grid(model, source, destination, sites=["resid_pre", "attn_out", "mlp_out"], **options)
    for _, component, where, value in sampled(grid, 2):
        at, texts = [where["position"]], (source[0].tolist(), destination[0].tolist())
        logits = patched_logits(model, *texts, component, where["layer"], read=at, write=at)
        assert value == pytest.approx(float(two_logits(logits[None])[0]), rel=1e-4)


@pytest.mark.filterwarnings("ignore:.*items are few")
@pytest.mark.parametrize("engine", ENGINES)
def test_a_mediation_finds_what_was_planted(engine, tmp_path):
    from planted_runs import planted_direction, planted_run, true_effects

    from mechmsc.causal import mediate, natural_effects

    model, run = planted_run(tmp_path / "run", n=3, rounds=1, direct=-0.2, engine=engine)
    options = {"outcome": "first_token_entropy", "layers": 3, "permutations": 1, "progress": False}
    worlds = mediate(model, run, planted_direction(model), **options)
    found = natural_effects(worlds).sel(layer="3", outcome="first_token_entropy", round=1)
    for name, values in true_effects(model, worlds["item"].values).items():
        assert found[name].values == pytest.approx(values, abs=1e-4), name
