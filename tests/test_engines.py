"""Which engine a model gets, what each refuses, and what loading never does."""

import shutil
import sys

import pytest
import torch
from edits import conversations, direction_for, hook_counts
from engines import ENGINES, HAS_HOOKED, both_engines, hooked_only
from tiny_models import BRIDGED, VOCABULARY

from mechmsc.errors import InputError, MechmscError
from mechmsc.interventions import add, applied, measure
from mechmsc.model import engine_name, engines, hf_model, load_model, parity
from mechmsc.model.drawing import check_drawing
from mechmsc.model.loop_check import blocks_agree
from mechmsc.sites import Site

pytestmark = pytest.mark.engine
IDS = torch.arange(3, 43)[None]


@pytest.fixture(scope="module")
def bridge(load_tiny):
    return load_tiny("llama", engine="bridge")


def storage_of(tensor):
    return tensor.untyped_storage().data_ptr()


def test_a_model_gets_the_hooked_engine_where_it_can_be_and_else_the_bridge(load_tiny):
    assert engine_name(load_tiny("llama")) == ENGINES[0]
    assert engine_name(load_tiny("gpt2")) == "bridge"
    for engine in ENGINES:
        model = load_tiny("llama", engine=engine)
        assert engine_name(model) == model.mechmsc.engine == engine
        assert isinstance(model, engines.Model)
        assert isinstance(engines.engine_of(model), engines.Engine)
        assert isinstance(engines.engine_of(model).block(model, 0), engines.Block)
        assert isinstance(engines.engine_of(model).key_values(model, 1), engines.KeyValues)


def test_with_transformer_lens_4_every_model_gets_the_bridge(load_tiny, tiny_folder, model_cache, monkeypatch):
    monkeypatch.setattr(engines, "version", lambda package: "4.3.0")  # noqa: ARG005 - the signature of the true one
    assert engine_name(load_tiny("llama")) == "bridge"
    with pytest.raises(InputError, match="engine 'hooked' needs TransformerLens 3, but 4.3.0 is installed"):
        load_model(tiny_folder("llama"), engine="hooked", cache=model_cache)


def test_engines_that_there_are_not_are_refused_before_weights_are_read(tiny_folder, model_cache, tmp_path):
    folder = shutil.copytree(tiny_folder("llama"), tmp_path / "model")
    (folder / "model.safetensors").unlink()
    with pytest.raises(InputError, match="unknown engine 'brigde': did you mean bridge"):
        load_model(folder, engine="brigde", cache=model_cache)
    if HAS_HOOKED:
        with pytest.raises(InputError, match="'gpt2'.*supported: Llama.*engine='bridge' may know it"):
            load_model(tiny_folder("gpt2"), engine="hooked", cache=model_cache)


def test_an_architecture_that_nobody_knows_is_refused_with_those_that_are(tiny_folder, model_cache, tmp_path):
    import json

    folder = shutil.copytree(tiny_folder("gpt2"), tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    config |= {"architectures": ["FNetForMaskedLM"], "model_type": "fnet"}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="'fnet'.*FNetForMaskedLM.*supported: Llama.*classes that Transf") as caught:
        load_model(folder, cache=model_cache)
    assert "\n" not in str(caught.value)


def test_the_bridge_shares_every_parameter_and_leaves_the_hugging_face_model_alone(bridge):
    hf = hf_model(bridge)
    theirs = {storage_of(x) for x in hf.parameters()}
    assert theirs <= {storage_of(x) for x in bridge.parameters()}
    own = [x for x in bridge.parameters() if storage_of(x) not in theirs]
    assert not any(x.any() for x in own)  # zeros in place of biases that there are not
    assert not any("Bridge" in type(module).__name__ for module in hf.modules())
    assert hf not in set(bridge.modules())
    before = bridge(IDS)
    weight = hf.model.layers[1].mlp.down_proj.weight
    with torch.no_grad():
        weight.mul_(2.0)
    assert torch.allclose(bridge(IDS), hf(IDS).logits, atol=1e-4) and not torch.allclose(bridge(IDS), before)
    with torch.no_grad():
        weight.div_(2.0)


def test_text_methods_of_the_bridge_add_no_bos_and_its_tokenizer_is_the_folders_own(bridge):
    assert bridge.to_tokens("ab").tolist() == [bridge.tokenizer("ab").input_ids]
    assert bridge.tokenizer is bridge.mechmsc.tokenizer


def test_stopping_before_a_block_gives_the_stream_there_and_behind_the_last_one(bridge):
    with torch.no_grad():
        _, cache = bridge.run_with_cache(IDS, names_filter=lambda name: name.endswith(("resid_pre", "resid_post")))
        for layer in range(3):
            assert torch.equal(bridge(IDS, stop_at_layer=layer), cache["resid_pre", layer])
        assert torch.equal(bridge(IDS, stop_at_layer=3, return_type=None), cache["resid_post", 2])


def test_a_hook_that_the_bridge_has_not_is_refused_by_name(bridge):
    with pytest.raises(InputError, match="no hook 'blocks.0.hook_resid_pst': did you mean blocks.0.hook_resid_p"):
        bridge.run_with_hooks(IDS, fwd_hooks=[("blocks.0.hook_resid_pst", lambda x, hook: x)])  # noqa: ARG005


def test_the_bridge_is_left_as_it_was_after_edits_and_after_failures(bridge):
    before, talks, direction = (
        hook_counts(bridge),
        conversations(bridge, rounds=1),
        direction_for(bridge, component="resid_mid"),
    )
    with applied(bridge, add(direction, strength=1.0, at=Site("resid_mid", layer=1))):
        measure(bridge, talks, "first_token_entropy")
    assert hook_counts(bridge) == before

    def fail(activation, hook):  # noqa: ARG001 - a hook's
        raise RuntimeError("planted")

    clean = bridge(IDS)
    for hook in ("blocks.1.hook_resid_mid", "blocks.1.attn.hook_pattern"):
        with pytest.raises(RuntimeError, match="planted"):
            bridge.run_with_hooks(IDS, fwd_hooks=[("blocks.1.hook_attn_out", lambda x, hook: 2 * x), (hook, fail)])  # noqa: ARG005
    assert hook_counts(bridge) == before
    assert torch.equal(bridge(IDS), clean)


STARTING = ("subprocess.Popen", "os.posix_spawn", "os.fork", "os.forkpty", "os.exec", "os.system", "os.spawn")
_STARTED: list[str] | None = None


def _watch(event: str, _: object) -> None:
    if _STARTED is not None and event in STARTING:
        _STARTED.append(event)


@pytest.fixture(scope="module")
def watched():
    """A function that runs another and gives the processes that it started; an audit hook cannot be taken away."""
    sys.addaudithook(_watch)

    def run(function) -> list[str]:
        global _STARTED
        _STARTED = []
        try:
            function()
            return list(_STARTED)
        finally:
            _STARTED = None

    return run


@pytest.mark.parametrize("architecture", ["llama", *BRIDGED])
def test_loading_through_the_bridge_starts_no_process_and_never_boots(watched, load_tiny, monkeypatch, architecture):
    """TransformerLens' own boot may run a package installer when it finds no processor."""
    from transformer_lens.model_bridge import TransformerBridge

    monkeypatch.setattr(TransformerBridge, "boot_transformers", None)
    assert watched(lambda: load_tiny(architecture, engine="bridge")) == []


def test_the_watch_notices_a_process(watched):
    import subprocess

    assert watched(lambda: subprocess.run(["true"], check=True)) != []


def test_an_architecture_that_draws_otherwise_than_it_reads_is_refused(load_tiny, monkeypatch):
    hf = hf_model(load_tiny("gpt2"))
    check_drawing(hf, list(range(3, 40)), "tiny")
    from mechmsc import kv_cache

    faulty = lambda *args, **named: kv_cache.attention(*args, **(named | {"sliding_window": 4}))  # noqa: E731
    monkeypatch.setattr("mechmsc.model.drawing.attention", faulty)
    with pytest.raises(MechmscError, match="cannot draw tokens here: decoding step by step differs"):
        check_drawing(hf, list(range(3, 40)), "tiny")


def test_the_parity_check_of_the_bridge_notices_a_wrong_head(tiny_folder, tmp_path, monkeypatch):
    from mechmsc.model import bridge_engine

    true_build = bridge_engine.build

    def wrong(loaded, **options):
        model = true_build(loaded, **options)
        model.cfg.output_logits_soft_cap = 2.0
        return model

    monkeypatch.setattr(bridge_engine, "build", wrong)
    with pytest.raises(MechmscError, match="engine 'bridge': .* does not reproduce Hugging Face's"):
        load_model(tiny_folder("gpt2"), cache=tmp_path)
    assert not (tmp_path / "parity").exists()
    monkeypatch.undo()
    load_model(tiny_folder("gpt2"), cache=tmp_path)
    [note] = (tmp_path / "parity").iterdir()
    assert '"engine": "bridge"' in note.read_text()


@hooked_only
def test_each_engine_is_compared_with_hugging_face_for_itself(tiny_folder, tmp_path, monkeypatch):
    calls = []
    true_difference = parity.difference
    monkeypatch.setattr(parity, "difference", lambda *args: calls.append(1) or true_difference(*args))
    for engine, expected in (("hooked", 1), ("bridge", 2), ("bridge", 2), ("hooked", 2)):
        load_model(tiny_folder("llama"), engine=engine, cache=tmp_path)
        assert len(calls) == expected


def test_blocks_in_parallel_are_known_not_to_be_run_in_parts(load_tiny, bridge):
    assert blocks_agree(bridge) and blocks_agree(load_tiny("gpt2"))
    phi = load_tiny("phi")
    assert not blocks_agree(phi)
    assert torch.allclose(phi(IDS), hf_model(phi)(IDS).logits, atol=1e-4)


def test_the_bridge_runs_on_meta_and_in_half_precision(load_tiny):
    model = load_tiny("llama", engine="bridge", device="meta")
    assert model(IDS.to("meta")).shape == (1, 40, VOCABULARY)
    half = load_tiny("gemma2", engine="bridge", dtype="bfloat16")
    ours, reference = half(IDS), hf_model(half)(IDS).logits
    assert ours.dtype == torch.bfloat16
    assert ((ours - reference).float().norm() / reference.float().norm()).item() < 5e-3


def test_a_filter_of_names_hooks_every_point_once_under_its_canonical_name(bridge):
    seen = []
    bridge.run_with_hooks(
        IDS,
        fwd_hooks=[(lambda name: "blocks.1." in name, lambda activation, hook: seen.append(hook.name))],  # noqa: ARG005
    )
    assert len(seen) == len(set(seen)) and {"blocks.1.hook_resid_pre", "blocks.1.attn.hook_z"} <= set(seen)
    assert "blocks.1.hook_in" not in seen


@both_engines
def test_a_run_is_not_resumed_on_the_other_engine(load_tiny, tmp_path):
    from tiny_runs import CONTINUE, correct

    how = {"arms": ["none"], "rounds": 1, "samples": 0}
    run = correct(load_tiny("llama", engine="bridge"), CONTINUE[:1], tmp_path / "run", **how)
    assert run.manifest["config"]["engine"] == "bridge"
    with pytest.raises(InputError, match='engine: "bridge" there, "hooked" asked'):
        correct(load_tiny("llama"), CONTINUE[:1], tmp_path / "run", **how)
