"""load_model: what it returns, what it shares, what it refuses, what it remembers."""

import json
import shutil
import subprocess
import sys

import gguf
import numpy as np
import pytest
import torch
from engines import hooked_only
from tiny_models import CONFIGS, VOCABULARY, byte_tokenizer

from mechmsc.errors import FetchError, InputError, MechmscError
from mechmsc.model import hf_model, identity, load_model, parity

IDS = torch.arange(3, 23)[None]


def storage_of(tensor):
    return tensor.untyped_storage().data_ptr()


@hooked_only
@pytest.mark.parametrize("architecture", CONFIGS)
def test_every_large_parameter_is_a_view_on_the_hugging_face_model(load_tiny, architecture):
    model = load_tiny(architecture)
    theirs = {storage_of(x) for x in hf_model(model).parameters()}
    copied = {name for name, x in model.named_parameters() if storage_of(x) not in theirs}
    for name in copied:
        allowed = "b_" in name or (architecture.startswith("gemma") and name.endswith(".w"))
        assert allowed, name
    assert not any(x.requires_grad for x in model.parameters())


@hooked_only
def test_the_transposes_of_every_call_copy_nothing(load_tiny):
    block = load_tiny("llama").blocks[0]
    for weight in (block.mlp.W_in, block.mlp.W_out, block.mlp.W_gate):
        assert weight.T.is_contiguous()
    for weight in (block.attn.W_Q, block.attn._W_K, block.attn._W_V):
        assert weight.permute(0, 2, 1).is_contiguous()
    assert block.attn.W_O.permute(2, 0, 1).is_contiguous()


@torch.no_grad()
def test_editing_the_hugging_face_weights_edits_the_hooked_model(load_tiny):
    model = load_tiny("llama")
    before = model(IDS)
    hf_model(model).model.layers[1].mlp.down_proj.weight.mul_(2.0)
    after = model(IDS)
    assert not torch.allclose(before, after)
    assert torch.allclose(after, hf_model(model)(IDS).logits, atol=1e-4)


@hooked_only
def test_the_hugging_face_model_is_not_counted_among_the_modules(load_tiny):
    model = load_tiny("llama")
    names = {name.partition(".")[0] for name in model.state_dict()}
    assert names == {"embed", "blocks", "ln_final", "unembed"}
    n_theirs = sum(x.numel() for x in hf_model(model).parameters())
    assert n_theirs <= sum(x.numel() for x in model.parameters()) < 1.1 * n_theirs  # biases of zeros are the surplus
    assert hf_model(model) not in set(model.modules())


def test_text_methods_add_no_bos_and_padding_is_on_the_right(load_tiny):
    model = load_tiny("llama")
    assert model.to_tokens("ab").tolist() == [byte_tokenizer()("ab").input_ids]
    assert model.tokenizer.padding_side == "right"
    assert model.tokenizer.pad_token is not None
    assert model.tokenizer.chat_template


@hooked_only
def test_a_model_from_elsewhere_has_no_hugging_face_model():
    from transformer_lens import HookedTransformer, HookedTransformerConfig

    cfg = HookedTransformerConfig(n_layers=1, d_model=8, n_ctx=8, d_head=4, d_vocab=10, act_fn="relu")
    with pytest.warns(DeprecationWarning):
        model = HookedTransformer(cfg)
    with pytest.raises(InputError, match="made by load_model"):
        hf_model(model)


def test_identity_of_a_folder_follows_config_and_weights(tiny_folder, model_cache, tmp_path):
    folder = shutil.copytree(tiny_folder("llama"), tmp_path / "copy")
    first = identity(load_model(folder, cache=model_cache))
    printed = subprocess.check_output("sha256sum config.json *.safetensors | sha256sum", shell=True, cwd=folder)
    assert (first.name, first.revision) == ("copy", None)
    assert printed.decode().split()[0] == first.sha256
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"rms_norm_eps": 1e-3}))
    assert identity(load_model(folder, cache=model_cache)).sha256 != first.sha256


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"device": "cuda:7"}, "no device 'cuda:7' here; devices: cpu"),
        ({"device": "gpu"}, "no device 'gpu' here"),
        ({"dtype": "float31"}, "unknown dtype 'float31': did you mean float32"),
        ({"dtype": torch.int64}, "unknown dtype 'torch.int64'"),
        ({"revision": "main"}, "a revision is for hub models"),
    ],
)
def test_wrong_arguments_are_refused_in_one_line(tiny_folder, model_cache, arguments, message):
    with pytest.raises(InputError, match=message) as caught:
        load_model(tiny_folder("llama"), cache=model_cache, **arguments)
    assert "\n" not in str(caught.value)


@hooked_only
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"]},
            "unsupported architecture 'gpt2'.*Mistral, Qwen2",
        ),
        ({"model_type": "never_heard_of"}, "never_heard_of"),
        ({"mlp_bias": True}, "mlp_bias is set"),
        ({"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}}, "rotary scaling 'dynamic'"),
        ({"hidden_act": "tanh"}, "activation function 'tanh'"),
    ],
)
def test_what_the_hooked_pass_cannot_compute_is_refused(tiny_folder, model_cache, tmp_path, changes, message):
    folder = shutil.copytree(tiny_folder("llama"), tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))
    with pytest.raises(InputError, match=message) as caught:
        load_model(folder, engine="hooked", cache=model_cache)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("damage", ["model.safetensors", "tokenizer.json", "config.json"])
def test_a_damaged_folder_is_an_input_error_that_names_it(tiny_folder, model_cache, tmp_path, damage):
    folder = shutil.copytree(tiny_folder("llama"), tmp_path / "broken")
    (folder / damage).write_bytes((folder / damage).read_bytes()[:100])
    with pytest.raises(InputError, match="broken") as caught:
        load_model(folder, cache=model_cache)
    assert "\n" not in str(caught.value)


def test_a_hub_that_cannot_be_reached_is_a_fetch_error_that_says_how_to_go_on(model_cache, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(FetchError, match="cannot fetch no-such-org/no-such-model.*give a folder") as caught:
        load_model("no-such-org/no-such-model", cache=model_cache)
    assert "\n" not in str(caught.value)


def test_parity_is_checked_once_and_again_on_request(tiny_folder, tmp_path, monkeypatch):
    calls = []
    true_difference = parity.difference
    monkeypatch.setattr(parity, "difference", lambda *args: calls.append(1) or true_difference(*args))
    for verify, expected in ((False, 1), (False, 1), (True, 2)):
        load_model(tiny_folder("llama"), cache=tmp_path, verify=verify)
        assert len(calls) == expected
    load_model(tiny_folder("llama"), cache=tmp_path, dtype="bfloat16")
    assert len(calls) == 3
    [note, _] = sorted((tmp_path / "parity").iterdir(), key=lambda path: path.stat().st_mtime)
    assert json.loads(note.read_text())["value"] < 1e-4


@hooked_only
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_parity_fails_on_a_wrong_rotary_base_and_is_not_remembered(tiny_folder, tmp_path, monkeypatch, dtype):
    from mechmsc.model import views

    true_build = views.build

    def wrong(hf, cfg):
        model = true_build(hf, cfg)
        table = model.blocks[1].attn.calculate_sin_cos_rotary
        model.blocks[1].attn.rotary_sin, _ = views.RotaryTable(table.inv_freq * 0.9, 1.0)(12, 512, dtype=cfg.dtype)
        return model

    monkeypatch.setattr(views, "build", wrong)
    for _ in range(2):
        with pytest.raises(MechmscError, match="does not reproduce Hugging Face's: .* expected at most 1e-0"):
            load_model(tiny_folder("llama"), cache=tmp_path, dtype=dtype)
    assert not (tmp_path / "parity").exists()
    monkeypatch.undo()
    load_model(tiny_folder("llama"), cache=tmp_path, dtype=dtype)


def test_the_parity_probe_outgrows_a_short_sliding_window(load_tiny):
    model = load_tiny("mistral")
    window = hf_model(model).config.sliding_window
    ids, mask = parity._probe(model.mechmsc, window)
    assert ids.shape[1] >= 64 + window
    assert mask[1].sum() < mask[0].sum() == ids.shape[1]


STARTS_NO_PROCESS = """
import os, sys
started = []
sys.addaudithook(lambda event, _: started.append(event) if event in {names} else None)
from mechmsc.model import load_model
load_model({folder!r}, cache={cache!r})
load_model({folder!r}, cache={cache!r}, verify=True)
assert not started, started
if {control}:
    import subprocess
    subprocess.run([sys.executable, "-c", ""])
    assert started
"""


def test_loading_starts_no_process(tiny_folder, tmp_path):
    names = ("subprocess.Popen", "os.posix_spawn", "os.fork", "os.forkpty", "os.exec", "os.system", "os.spawn")
    code = STARTS_NO_PROCESS.format(names=names, folder=str(tiny_folder("llama")), cache=str(tmp_path), control=True)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def tiny_gguf(tmp_path):
    """A random tiny Llama written as a GGUF file, with a byte-level tokenizer and a chat template."""
    path, random = tmp_path / "tiny.gguf", np.random.default_rng(0)
    writer = gguf.GGUFWriter(path, "llama")
    for key, value in {
        "context_length": 128,
        "embedding_length": 32,
        "block_count": 1,
        "feed_forward_length": 48,
    }.items():
        getattr(writer, f"add_{key}")(value)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(1000.0)
    tokenizer = byte_tokenizer()
    tokens = sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().get)
    tokens += ["ab", *(f"<unused{index}>" for index in range(VOCABULARY - len(tokens) - 1))]
    writer.add_vocab_size(VOCABULARY)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types([3, 3, 3] + [1] * (VOCABULARY - 3))
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(2)
    writer.add_chat_template(tokenizer.chat_template)
    shapes = {"token_embd": (VOCABULARY, 32), "output": (VOCABULARY, 32), "output_norm": (32,)}
    shapes |= {"blk.0.attn_norm": (32,), "blk.0.ffn_norm": (32,), "blk.0.attn_q": (32, 32), "blk.0.attn_k": (16, 32)}
    shapes |= {"blk.0.attn_v": (16, 32), "blk.0.attn_output": (32, 32), "blk.0.ffn_gate": (48, 32)}
    shapes |= {"blk.0.ffn_up": (48, 32), "blk.0.ffn_down": (32, 48)}
    for name, shape in shapes.items():
        writer.add_tensor(f"{name}.weight", random.normal(size=shape).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_a_gguf_file_is_dequantised_once_and_named_by_its_checksum(tiny_gguf, tmp_path, monkeypatch):
    model = load_model(tiny_gguf, cache=tmp_path / "cache")
    digest = subprocess.run(["sha256sum", tiny_gguf], capture_output=True, text=True).stdout.split()[0]
    assert identity(model).sha256 == digest
    assert identity(model).name == "tiny.gguf"
    assert model.tokenizer.chat_template == byte_tokenizer().chat_template
    assert model(IDS).shape == (1, 20, VOCABULARY)
    monkeypatch.setattr("mechmsc.weights._dequantise", None)  # a second load does not call it
    assert torch.equal(load_model(tiny_gguf, cache=tmp_path / "cache")(IDS), model(IDS))
