"""Random tiny models of every supported architecture, saved as folders with tokenizer and chat template."""

from pathlib import Path

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
VOCABULARY = 272
SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 12,  # not hidden_size / num_attention_heads
    "max_position_embeddings": 512,
    "bos_token_id": 0,
    "eos_token_id": 2,
    "pad_token_id": 2,
}
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 5000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
YARN = {"rope_type": "yarn", "rope_theta": 5000.0, "factor": 4.0, "original_max_position_embeddings": 128}
TWO_BASES = {
    "full_attention": {"rope_type": "linear", "rope_theta": 20000.0, "factor": 8.0},
    "sliding_attention": {"rope_type": "default", "rope_theta": 500.0},
}
ALTERNATING = ["sliding_attention", "full_attention", "sliding_attention"]

CONFIGS: dict[str, tuple[str, dict]] = {
    "llama": ("LlamaConfig", {}),
    "llama_full_heads": (
        "LlamaConfig",
        {"num_key_value_heads": 4, "tie_word_embeddings": True, "attention_bias": True},
    ),
    "llama3_rope": ("LlamaConfig", {"rope_parameters": LLAMA3_ROPE}),
    "mistral": ("MistralConfig", {"sliding_window": 9}),
    "qwen2": ("Qwen2Config", {"rope_parameters": YARN}),
    "qwen2_window": ("Qwen2Config", {"use_sliding_window": True, "sliding_window": 9, "max_window_layers": 1}),
    "qwen3": ("Qwen3Config", {"tie_word_embeddings": True}),
    "gemma2": ("Gemma2Config", {"sliding_window": 9, "query_pre_attn_scalar": 20, "attn_logit_softcapping": 5.0}),
    "gemma3": (
        "Gemma3TextConfig",
        {"sliding_window": 9, "query_pre_attn_scalar": 20, "layer_types": ALTERNATING, "rope_parameters": TWO_BASES},
    ),
}
"""Name -> config class, and what differs from `SHAPE`. Sliding windows are shorter than the texts of the tests."""
BRIDGED: dict[str, tuple[str, dict]] = {
    "gpt2": (
        "GPT2Config",
        {"vocab_size": VOCABULARY, "n_embd": 32, "n_inner": 48, "n_layer": 3, "n_head": 4, "n_positions": 512}
        | {name: SHAPE[name] for name in ("bos_token_id", "eos_token_id", "pad_token_id")},
    ),
    "phi": (
        "PhiConfig",
        {name: value for name, value in SHAPE.items() if name != "head_dim"} | {"partial_rotary_factor": 0.5},
    ),
}
"""The same for architectures that only the engine "bridge" has; GPT-2 names its sizes otherwise, Phi's blocks do
attention and MLP in parallel."""


def save_tiny(architecture: str, folder: Path, *, seed: int = 0) -> Path:
    """Save the model and its tokenizer; weights large enough that attention is far from uniform."""
    import torch
    import transformers

    kind, changes = (CONFIGS | BRIDGED)[architecture]
    config = getattr(transformers, kind)(**(changes if architecture in BRIDGED else SHAPE | changes))
    model = transformers.AutoModelForCausalLM.from_config(config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if "norm" in name or "ln_" in name and "weight" in name:
                parameter.copy_(0.3 * noise + (0.0 if architecture.startswith("gemma") else 1.0))
            else:
                parameter.copy_(noise * (0.5 if parameter.ndim == 1 else 1.5 / parameter.shape[1] ** 0.5))
    model.save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder


def byte_tokenizer():
    """One token a byte, after three special ones; ChatML as chat template; adds no BOS."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate([*SPECIAL, *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=SPECIAL[0],
        eos_token=SPECIAL[2],
        pad_token=SPECIAL[2],
        additional_special_tokens=[SPECIAL[1]],
        clean_up_tokenization_spaces=False,
    )
    fast.chat_template = CHATML
    return fast
