"""A Hugging Face config, read into a HookedTransformerConfig: field by field, never from a model's name."""

from typing import TYPE_CHECKING, Any

import torch

from mechmsc.errors import InputError

if TYPE_CHECKING:
    import transformer_lens
    import transformers

SUPPORTED = {
    "llama": "Llama",
    "mistral": "Mistral",
    "qwen2": "Qwen2",
    "qwen3": "Qwen3",
    "gemma2": "Gemma 2",
    "gemma3_text": "Gemma 3 (text)",
}
STATIC_ROPE = ("default", "linear", "llama3", "yarn")
"""Kinds of rotary scaling whose frequencies do not depend on the length of the text in flight."""


def check_supported(config: "transformers.PretrainedConfig") -> None:
    """Refuse what the hooked forward pass would compute differently.

    Raises:
        InputError: the architecture, its rotary scaling, its bias or its mask is not supported; says which are.
    """
    if config.model_type not in SUPPORTED:
        named = ", ".join(config.architectures or []) or "no architecture named"
        raise InputError(
            f"unsupported architecture {config.model_type!r} ({named}); supported: {', '.join(SUPPORTED.values())}"
        )
    for rope in _rope_by_layer_type(config).values():
        if rope["rope_type"] not in STATIC_ROPE:
            raise InputError(f"unsupported rotary scaling {rope['rope_type']!r}; supported: {', '.join(STATIC_ROPE)}")
    for field in ("mlp_bias", "use_bidirectional_attention"):
        if getattr(config, field, None):
            raise InputError(
                f"unsupported: {field} is set in this {SUPPORTED[config.model_type]} config, expected unset"
            )


def layer_types(config: "transformers.PretrainedConfig") -> list[str]:
    """For each layer, full_attention or sliding_attention."""
    named = getattr(config, "layer_types", None)
    if named and config.model_type != "mistral":  # Mistral's forward pass heeds sliding_window alone
        return list(named)
    only = "sliding_attention" if getattr(config, "sliding_window", None) else "full_attention"
    return [only] * config.num_hidden_layers


def sliding_window(config: "transformers.PretrainedConfig") -> int | None:
    """Tokens that layers with a sliding window see; None where there are no such layers."""
    text = config.get_text_config()
    return text.sliding_window if "sliding_attention" in layer_types(text) else None


def hooked_config(
    config: "transformers.PretrainedConfig", *, name: str, device: torch.device, dtype: torch.dtype
) -> "transformer_lens.HookedTransformerConfig":
    """The HookedTransformerConfig that computes what Hugging Face computes from `config`.

    The rotary fields describe the tables, which `views.build` takes from the Hugging Face model itself.
    Text methods add no BOS token of their own (default_prepend_bos is False): conversations bring theirs.

    Args:
        config: of a supported architecture.
        name: becomes model_name.
        device: where the model will live.
        dtype: of parameters and activations.
    """
    from transformer_lens import HookedTransformerConfig

    check_supported(config)
    heads, kv_heads = config.num_attention_heads, config.num_key_value_heads
    d_head = getattr(config, "head_dim", None) or config.hidden_size // heads
    sandwich = config.model_type.startswith("gemma")
    return HookedTransformerConfig(
        model_name=name,
        original_architecture=(config.architectures or [None])[0],
        n_layers=config.num_hidden_layers,
        d_model=config.hidden_size,
        n_ctx=config.max_position_embeddings,
        n_heads=heads,
        n_key_value_heads=kv_heads if kv_heads != heads else None,
        d_head=d_head,
        d_mlp=config.intermediate_size,
        d_vocab=config.vocab_size,
        act_fn=_activation(config),
        gated_mlp=True,
        normalization_type="RMS",
        final_rms=True,
        use_normalization_before_and_after=sandwich,
        use_qk_norm=config.model_type in ("qwen3", "gemma3_text"),
        eps=config.rms_norm_eps,
        attn_scale=(getattr(config, "query_pre_attn_scalar", None) or d_head) ** 0.5,
        attn_scores_soft_cap=getattr(config, "attn_logit_softcapping", None) or -1.0,
        output_logits_soft_cap=getattr(config, "final_logit_softcapping", None) or -1.0,
        tie_word_embeddings=config.tie_word_embeddings,
        init_weights=False,
        default_prepend_bos=False,
        device=str(device),
        dtype=dtype,
        **_window(config),
        **_rotary(config, d_head),
    )


def _activation(config: "transformers.PretrainedConfig") -> str:
    name = getattr(config, "hidden_activation", None) or config.hidden_act
    known = ("silu", "gelu", "gelu_new", "gelu_pytorch_tanh", "relu")
    if name not in known:
        raise InputError(f"unsupported activation function {name!r}; supported: {', '.join(known)}")
    return name


def _window(config: "transformers.PretrainedConfig") -> dict[str, Any]:
    types = layer_types(config)
    if "sliding_attention" not in types:
        return {}
    attn_types = ["local" if kind == "sliding_attention" else "global" for kind in types]
    return {"use_local_attn": True, "window_size": config.sliding_window, "attn_types": attn_types}


def _rope_by_layer_type(config: "transformers.PretrainedConfig") -> dict[str, dict[str, Any]]:
    """The rotary settings of each type of layer; most architectures have one set for all."""
    rope = config.rope_parameters
    return rope if "full_attention" in rope else dict.fromkeys(("full_attention", "sliding_attention"), rope)


def _rotary(config: "transformers.PretrainedConfig", d_head: int) -> dict[str, Any]:
    rope = _rope_by_layer_type(config)
    full, local = rope["full_attention"], rope["sliding_attention"]
    fields: dict[str, Any] = {
        "positional_embedding_type": "rotary",
        "rotary_adjacent_pairs": False,
        "rotary_dim": d_head,
        "rotary_base": full["rope_theta"],
        "rotary_base_local": local["rope_theta"] if local is not full else None,
    }
    if full["rope_type"] == "linear":
        fields |= {"rotary_scaling_factor": full["factor"]}
    if full["rope_type"] == "llama3":
        fields |= {
            "use_NTK_by_parts_rope": True,
            "NTK_by_parts_factor": full["factor"],
            "NTK_by_parts_low_freq_factor": full["low_freq_factor"],
            "NTK_by_parts_high_freq_factor": full["high_freq_factor"],
            "NTK_original_ctx_len": full["original_max_position_embeddings"],
        }
    if full["rope_type"] == "yarn":
        fields |= {
            "use_yarn_rope": True,
            "yarn_factor": full["factor"],
            "yarn_beta_fast": full.get("beta_fast") or 32.0,
            "yarn_beta_slow": full.get("beta_slow") or 1.0,
            "yarn_original_max_position_embeddings": full["original_max_position_embeddings"],
        }
    return fields
