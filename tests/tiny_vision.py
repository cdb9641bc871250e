"""Random tiny vision-language models, LLaVA's and Qwen2.5-VL's kind, saved as folders with tokenizer and processor."""

from pathlib import Path

from tiny_models import SHAPE, byte_tokenizer

TURN = "<|im_start|>{{ message['role'] }}\n"
END = "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
LLAVA = (
    "{% for message in messages %}" + TURN + "{% for part in message['content'] if part['type'] == 'image' %}<image>\n"
    "{% endfor %}{% for part in message['content'] if part['type'] == 'text' %}{{ part['text'] }}{% endfor %}" + END
)
QWEN = (
    "{% for message in messages %}{% if loop.first and message['role'] != 'system' %}<|im_start|>system\nYou help."
    "<|im_end|>\n{% endif %}" + TURN + "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif 'text' in part %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}" + END
)
SPECIAL = {"llava": ["<image>"], "qwen2_5_vl": ["<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]}
TEXT = SHAPE | {"max_position_embeddings": 2048, "head_dim": 8}
TOWER = {"hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 2, "num_hidden_layers": 2}
KINDS = ("llava", "qwen2_5_vl")


def save_tiny_vision(kind: str, folder: Path, *, seed: int = 0) -> Path:
    """Save model, tokenizer and image processor; weights large enough that pictures matter to every token."""
    import torch

    tokenizer = byte_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", *SPECIAL[kind]]})
    tokenizer.chat_template = LLAVA if kind == "llava" else QWEN
    model = (_llava if kind == "llava" else _qwen)(tokenizer)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if "norm" in name or "ln_q" in name:
                parameter.copy_(1.0 + 0.3 * noise if name.endswith("weight") else 0.1 * noise)
            else:
                fan = parameter[0].numel() if parameter.ndim > 1 else 4
                parameter.copy_(noise * 1.5 / fan**0.5)
    model.config.architectures = [type(model).__name__]
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    image_processor(kind).save_pretrained(folder)
    return folder


def image_processor(kind: str):
    """With Pillow alone: 28 x 28 pixels for LLaVA, any size in multiples of 8 for Qwen-VL."""
    if kind == "llava":
        from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

        return CLIPImageProcessorPil(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28})
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    size = {"shortest_edge": 16 * 16, "longest_edge": 40 * 40}
    return Qwen2VLImageProcessorPil(patch_size=4, merge_size=2, temporal_patch_size=2, size=size)


def _llava(tokenizer):
    import transformers

    config = transformers.LlavaConfig(
        vision_config=transformers.CLIPVisionConfig(**TOWER, image_size=28, patch_size=7),
        text_config=transformers.LlamaConfig(**TEXT),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
    )
    return transformers.LlavaForConditionalGeneration(config)


def _qwen(tokenizer):
    import transformers

    rope = {"rope_type": "default", "rope_theta": 5000.0, "mrope_section": [2, 1, 1]}
    text = {name: value for name, value in TEXT.items() if name != "head_dim"}
    config = transformers.Qwen2_5_VLConfig(
        text_config=text | {"rope_parameters": rope, "hidden_size": 32, "num_attention_heads": 4},
        vision_config={
            **{"depth": 2, "hidden_size": 16, "intermediate_size": 24, "num_heads": 2, "out_hidden_size": 32},
            **{"patch_size": 4, "spatial_merge_size": 2, "temporal_patch_size": 2, "window_size": 16},
            "fullatt_block_indexes": [1],
        },
        image_token_id=tokenizer.convert_tokens_to_ids("<|image_pad|>"),
        video_token_id=tokenizer.convert_tokens_to_ids("<|video_pad|>"),
        vision_start_token_id=tokenizer.convert_tokens_to_ids("<|vision_start|>"),
        vision_end_token_id=tokenizer.convert_tokens_to_ids("<|vision_end|>"),
        tie_word_embeddings=False,
    )
    return transformers.Qwen2_5_VLForConditionalGeneration(config)
