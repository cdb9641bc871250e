"""Random tiny vision-language models of every supported family, saved as folders with tokenizer and processor."""

from pathlib import Path

from tiny_models import ALTERNATING, SHAPE, TWO_BASES, byte_tokenizer

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
SMOLVLM = (  # as published: the blank behind the colon depends on what comes first
    "<|im_start|>{% for message in messages %}{{message['role'] | capitalize}}{% if message['content'][0]['type'] == "
    "'image' %}{{':'}}{% else %}{{': '}}{% endif %}{% for line in message['content'] %}{% if line['type'] == 'text' %}"
    "{{line['text']}}{% elif line['type'] == 'image' %}{{ '<image>' }}{% endif %}{% endfor %}<end_of_utterance>\n"
    "{% endfor %}{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)
GEMMA = (
    "{% for message in messages %}<start_of_turn>{{ 'model' if message['role'] == 'assistant' else message['role'] }}\n"
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}<start_of_image>{% else %}"
    "{{ part['text'] | trim }}{% endif %}{% endfor %}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
QWEN_SPECIAL = ["<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
CELLS = [f"<row_{row}_col_{column}>" for row in (1, 2) for column in (1, 2)]
IDEFICS_SPECIAL = ["<fake_token_around_image>", "<image>", "<end_of_utterance>", "<global-img>", *CELLS]
GEMMA_SPECIAL = ["<start_of_turn>", "<end_of_turn>", "<start_of_image>", "<end_of_image>", "<image_soft_token>"]
SPECIAL = {
    "llava": ["<image>"],
    "llava_next": ["<image>"],
    "llava_onevision": ["<image>", "<video>"],
    "qwen2_5_vl": QWEN_SPECIAL,
    "qwen3_vl": QWEN_SPECIAL,
    "idefics3": IDEFICS_SPECIAL,
    "smolvlm": IDEFICS_SPECIAL,
    "gemma3": GEMMA_SPECIAL,
}
TEMPLATES = {"llava": LLAVA, "llava_next": LLAVA, "qwen2_5_vl": QWEN, "qwen3_vl": QWEN}
TEMPLATES |= {"llava_onevision": LLAVA, "idefics3": SMOLVLM, "smolvlm": SMOLVLM, "gemma3": GEMMA}
PINPOINTS = [[28, 56], [56, 28], [56, 56]]
TEXT = SHAPE | {"max_position_embeddings": 2048, "head_dim": 8}
TOWER = {"hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 2, "num_hidden_layers": 2}
QWEN_TOWER = {"depth": 2, "hidden_size": 16, "intermediate_size": 24, "num_heads": 2, "out_hidden_size": 32}
QWEN_TOWER |= {"patch_size": 4, "spatial_merge_size": 2, "temporal_patch_size": 2}
KINDS = ("llava", "qwen2_5_vl", "qwen3_vl", "idefics3", "gemma3")
TYPES = {"qwen2_5_vl": "mm_token_type_ids", "qwen3_vl": "mm_token_type_ids", "gemma3": "token_type_ids"}
"""How the forward pass of Hugging Face wants to be told which tokens are a picture's."""


def save_tiny_vision(kind: str, folder: Path, *, seed: int = 0) -> Path:
    """Save model, tokenizer and image processor; weights large enough that pictures matter to every token."""
    import torch

    tokenizer = byte_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", *SPECIAL[kind]]})
    tokenizer.chat_template = TEMPLATES[kind]
    model = MAKERS[kind](tokenizer.convert_tokens_to_ids)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if "norm" in name or "ln_q" in name:
                around = 0.0 if kind == "gemma3" and "vision_tower" not in name else 1.0  # Gemma's norms add 1
                parameter.copy_(around + 0.3 * noise if name.endswith("weight") else 0.1 * noise)
            else:
                fan = parameter[0].numel() if parameter.ndim > 1 else 4
                parameter.copy_(noise * 1.5 / fan**0.5)
    model.config.architectures = [type(model).__name__]
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    image_processor(kind).save_pretrained(folder)
    return folder


def image_processor(kind: str):
    """With Pillow alone: LLaVA 28 x 28 pixels, Qwen any size in multiples of 8, Idefics 3 cells of 16, Gemma 3 24."""
    if kind == "llava":
        from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

        return CLIPImageProcessorPil(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28})
    if kind == "llava_next":
        from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil

        crop = {"height": 28, "width": 28}
        return LlavaNextImageProcessorPil(size={"shortest_edge": 28}, crop_size=crop, image_grid_pinpoints=PINPOINTS)
    if kind == "llava_onevision":
        from transformers.models.llava_onevision.image_processing_pil_llava_onevision import (
            LlavaOnevisionImageProcessorPil,
        )

        return LlavaOnevisionImageProcessorPil(size={"height": 28, "width": 28}, image_grid_pinpoints=PINPOINTS)
    if kind == "idefics3":
        from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil

        return Idefics3ImageProcessorPil(size={"longest_edge": 32}, max_image_size={"longest_edge": 16})
    if kind == "smolvlm":
        from transformers.models.smolvlm.image_processing_pil_smolvlm import SmolVLMImageProcessorPil

        return SmolVLMImageProcessorPil(size={"longest_edge": 32}, max_image_size={"longest_edge": 16})
    if kind == "gemma3":
        from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil

        return Gemma3ImageProcessorPil(size={"height": 24, "width": 24})
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    size = {"shortest_edge": 16 * 16, "longest_edge": 40 * 40}
    return Qwen2VLImageProcessorPil(patch_size=4, merge_size=2, temporal_patch_size=2, size=size)


def _llava(id_of, name="Llava", **changes):
    import transformers

    config = getattr(transformers, f"{name}Config")(
        vision_config=transformers.CLIPVisionConfig(**TOWER, image_size=28, patch_size=7),
        text_config=transformers.LlamaConfig(**TEXT),
        image_token_index=id_of("<image>"),
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
        **changes,
    )
    return getattr(transformers, f"{name}ForConditionalGeneration")(config)


def _llava_next(id_of):
    return _llava(id_of, "LlavaNext", image_grid_pinpoints=PINPOINTS)


def _llava_onevision(id_of):
    import transformers

    config = transformers.LlavaOnevisionConfig(
        vision_config=transformers.SiglipVisionConfig(**TOWER, image_size=28, patch_size=7, vision_use_head=False),
        text_config=transformers.LlamaConfig(**TEXT),
        image_token_index=id_of("<image>"),
        video_token_index=id_of("<video>"),
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
        vision_aspect_ratio="anyres_max_2",  # many tiles are scaled down
        image_grid_pinpoints=PINPOINTS,
    )
    return transformers.LlavaOnevisionForConditionalGeneration(config)


def _qwen_ids(id_of):
    return {
        "image_token_id": id_of("<|image_pad|>"),
        "video_token_id": id_of("<|video_pad|>"),
        "vision_start_token_id": id_of("<|vision_start|>"),
        "vision_end_token_id": id_of("<|vision_end|>"),
        "tie_word_embeddings": False,
    }


def _qwen(id_of):
    import transformers

    rope = {"rope_type": "default", "rope_theta": 5000.0, "mrope_section": [2, 1, 1]}
    text = {name: value for name, value in TEXT.items() if name != "head_dim"}
    config = transformers.Qwen2_5_VLConfig(
        text_config=text | {"rope_parameters": rope, "hidden_size": 32, "num_attention_heads": 4},
        vision_config=QWEN_TOWER | {"window_size": 16, "fullatt_block_indexes": [1]},
        **_qwen_ids(id_of),
    )
    return transformers.Qwen2_5_VLForConditionalGeneration(config)


def _qwen3(id_of):
    import transformers

    rope = {"rope_type": "default", "rope_theta": 5000.0, "mrope_section": [2, 1, 1], "mrope_interleaved": True}
    config = transformers.Qwen3VLConfig(
        text_config=TEXT | {"rope_parameters": rope},
        vision_config=QWEN_TOWER | {"num_position_embeddings": 64, "deepstack_visual_indexes": [0, 1]},
        **_qwen_ids(id_of),
    )
    return transformers.Qwen3VLForConditionalGeneration(config)


def _idefics(id_of, name="Idefics3"):
    import transformers

    config = getattr(transformers, f"{name}Config")(
        vision_config=TOWER | {"image_size": 16, "patch_size": 4},
        text_config=transformers.LlamaConfig(**TEXT),
        image_token_id=id_of("<image>"),
        scale_factor=2,
        pad_token_id=2,
    )
    return getattr(transformers, f"{name}ForConditionalGeneration")(config)


def _smolvlm(id_of):
    return _idefics(id_of, "SmolVLM")


def _gemma3(id_of):
    import transformers

    window = {"sliding_window": 6, "layer_types": ALTERNATING}  # shorter than a picture, which takes 9 tokens
    text = TEXT | window | {"rope_parameters": TWO_BASES, "query_pre_attn_scalar": 20}
    config = transformers.Gemma3Config(
        text_config=transformers.Gemma3TextConfig(**text),
        vision_config=transformers.SiglipVisionConfig(**TOWER, image_size=24, patch_size=4, vision_use_head=False),
        mm_tokens_per_image=9,
        boi_token_index=id_of("<start_of_image>"),
        eoi_token_index=id_of("<end_of_image>"),
        image_token_index=id_of("<image_soft_token>"),
    )
    return transformers.Gemma3ForConditionalGeneration(config)


MAKERS = {
    "llava": _llava,
    "llava_next": _llava_next,
    "llava_onevision": _llava_onevision,
    "qwen2_5_vl": _qwen,
    "qwen3_vl": _qwen3,
    "idefics3": _idefics,
    "smolvlm": _smolvlm,
    "gemma3": _gemma3,
}


class Own:
    """Hugging Face's own forward over a whole conversation with its picture, and how often the vision tower runs."""

    def __init__(self, kind, model):
        from mechmsc.model import hf_model

        self.kind, self.hf, self.vision, self.calls = kind, hf_model(model), model.mechmsc.vision, 0
        names = ("vision_tower", "visual", "vision_model")
        tower = next(getattr(self.hf.model, name) for name in names if hasattr(self.hf.model, name))
        tower.register_forward_hook(self._count)

    def _count(self, *_):
        self.calls += 1

    def __call__(self, transcript, path=None, *, ids=None, change=None):
        """Logits `[token, d_vocab]`, and the residual stream before every block and behind the last.

        `path`: of another picture. `ids`: of the conversation, and what was said after it. `change`: {layer: function
        of the stream behind this block}.
        """
        import torch

        ids = torch.tensor([list(ids or transcript.ids)])
        made = self.vision._prepared(path or transcript.image)
        made = {name: made[name] for name in self.vision._family.given}
        if self.kind in TYPES:
            made[TYPES[self.kind]] = (ids == self.vision.image_id).long()
        text = self.hf.model.get_decoder()
        streams, shown, self.vision.rows = [], self.vision.rows, None
        ours = dict(text.embed_tokens._forward_hooks)
        text.embed_tokens._forward_hooks.clear()
        handles = [
            module.register_forward_pre_hook(
                lambda _, args, named: streams.append(args[0] if args else named["hidden_states"]), with_kwargs=True
            )
            for module in (*text.layers, text.norm)
        ]
        for layer, function in (change or {}).items():
            handles.append(text.layers[layer].register_forward_hook(lambda _, __, out, f=function: f(out)))
        try:
            with torch.no_grad():
                logits = self.hf(input_ids=ids, attention_mask=torch.ones_like(ids), **made).logits[0]
        finally:
            for handle in handles:
                handle.remove()
            text.embed_tokens._forward_hooks.update(ours)
            self.vision.rows = shown
            if hasattr(self.hf.model, "rope_deltas"):
                self.hf.model.rope_deltas = None
        return logits, [stream[0] for stream in streams]
