"""The hooked forward pass equals Hugging Face's, on every supported architecture."""

import pytest
import torch
from engines import hooked_only
from tiny_models import CONFIGS, VOCABULARY

from mechmsc.model import hf_model

LENGTH = 40  # well past the sliding windows of 9


def relative_error(ours: torch.Tensor, reference: torch.Tensor) -> float:
    return ((ours - reference).norm() / reference.norm()).item()


def token_ids(n_rows: int = 2, length: int = LENGTH) -> torch.Tensor:
    return torch.randint(3, VOCABULARY, (n_rows, length), generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def errors(model, ids: torch.Tensor, mask: torch.Tensor) -> dict[str, float]:
    """Relative error of the logits and of the residual stream after each block but the last, on unpadded positions."""
    hf, real = hf_model(model), mask.bool()
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    reference = hf(ids, attention_mask=mask, position_ids=positions, output_hidden_states=True)
    logits, cache = model.run_with_cache(ids, attention_mask=mask)
    found = {"logits": relative_error(logits[real], reference.logits[real])}
    for layer in range(model.cfg.n_layers - 1):  # the last of Hugging Face's hidden states comes after the final norm
        ours = cache[f"blocks.{layer}.hook_resid_post"][real]
        found[f"resid_post {layer}"] = relative_error(ours, reference.hidden_states[layer + 1][real])
    last = model.ln_final(cache[f"blocks.{model.cfg.n_layers - 1}.hook_resid_post"])[real]
    found["final norm"] = relative_error(last, reference.hidden_states[-1][real])
    return found


@pytest.mark.parametrize("architecture", CONFIGS)
def test_logits_and_residual_stream_of_every_layer_equal_hugging_face(load_tiny, architecture):
    found = errors(load_tiny(architecture), token_ids(), torch.ones(2, LENGTH, dtype=torch.long))
    assert max(found.values()) < 1e-4, found


@pytest.mark.parametrize("architecture", CONFIGS)
def test_rows_padded_on_the_left_equal_hugging_face(load_tiny, architecture):
    mask = torch.ones(2, LENGTH, dtype=torch.long)
    mask[1, :13] = 0
    found = errors(load_tiny(architecture), token_ids(), mask)
    assert max(found.values()) < 1e-4, found


@hooked_only
@pytest.mark.parametrize(
    ("architecture", "field", "value"),
    [
        ("mistral", "window_size", 12),
        ("gemma2", "attn_scores_soft_cap", 50.0),
        ("gemma2", "output_logits_soft_cap", -1.0),
        ("qwen3", "eps", 1e-1),
    ],
)
def test_the_comparison_notices_one_wrong_field_of_the_config(load_tiny, architecture, field, value):
    model = load_tiny(architecture)
    setattr(model.cfg, field, value)
    for module in model.modules():
        if hasattr(module, field):
            setattr(module, field, value)
    found = errors(model, token_ids(), torch.ones(2, LENGTH, dtype=torch.long))
    assert max(found.values()) > 1e-3, found


@hooked_only
@pytest.mark.parametrize("architecture", ["llama3_rope", "qwen2", "gemma3"])
def test_a_text_longer_than_the_rotary_table_extends_it_by_the_same_frequencies(load_tiny, architecture):
    model = load_tiny(architecture)
    for block in model.blocks:  # as if the text had outgrown the 2048 positions that are tabled at first
        table = block.attn.calculate_sin_cos_rotary
        block.attn.rotary_sin, block.attn.rotary_cos = table(12, 16)
    found = errors(model, token_ids(), torch.ones(2, LENGTH, dtype=torch.long))
    assert max(found.values()) < 1e-4, found
    assert model.blocks[0].attn.rotary_sin is model.blocks[2].attn.rotary_sin


@hooked_only
@pytest.mark.parametrize("architecture", ["llama3_rope", "qwen2", "gemma3", "mistral"])
def test_the_rotary_fields_of_the_config_describe_the_tables(load_tiny, architecture):
    model = load_tiny(architecture)
    for block in model.blocks:
        own, described = block.attn.calculate_sin_cos_rotary, type(block.attn).calculate_sin_cos_rotary
        expected = described(block.attn, 12, 50, base=block.attn._rotary_base())
        for table, reference in zip(own(12, 50), expected, strict=True):
            scale = 1.0 if not model.cfg.use_yarn_rope else own.scaling
            assert torch.allclose(table, reference * scale, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("architecture", ["llama", "gemma2", "gemma3", "qwen3"])
def test_half_precision_rounds_where_hugging_face_rounds(load_tiny, architecture):
    model = load_tiny(architecture, dtype="bfloat16")
    ids = token_ids()
    ours, reference = model(ids).float(), hf_model(model)(ids).logits.float()
    assert model(ids).dtype == torch.bfloat16
    assert relative_error(ours, reference) < 5e-3


@torch.no_grad()
def test_the_embedded_model_equals_hugging_face_on_a_conversation(smollm2):
    turns = [
        {"role": "user", "content": "Is it fair to read a friend's diary?"},
        {"role": "assistant", "content": "No. It breaks a trust that is hard to mend."},
        {"role": "user", "content": "And if I am worried about them? Please think again."},
    ]
    ids = smollm2.tokenizer.apply_chat_template(
        turns, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    found = errors(smollm2, ids["input_ids"], torch.ones_like(ids["input_ids"]))
    assert max(found.values()) < 1e-4, found
