"""What differs between the vision-language architectures that are supported.

In the place of a picture stands:

    llava       one run of placeholders, as many as the tower has patches
    llava_next  one run, for the whole picture and its tiles, a separator behind each row of cells; so llava_onevision
    qwen*_vl    one run, as many as the picture has cells after merging; rotary positions count their rows and columns
    qwen3_vl    and further vectors of the same cells are added to the residual stream behind the first layers
    idefics3    sub-pictures, each a run of placeholders behind the name of its row and column, then the whole picture
    gemma3      one run, whose tokens attend to one another in both directions
"""

import inspect
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import torch

Made = dict[str, Any]
"""What the image processor made of one picture."""


class Family(NamedTuple):
    """What differs between architectures."""

    text: Callable[[Any, Made, str], str]
    """(Hugging Face's model, what was made, placeholder) -> the text that stands in the place of the template's mark.
    The vision tower does not run for it."""
    mark: str | None = None
    """What the chat template writes for a picture; None: one placeholder."""
    grid: Callable[[Any, Made], tuple[int, int]] | None = None
    """Rows and columns that rotary positions count; None where they count tokens."""
    given: tuple[str, ...] = ("pixel_values",)
    """What of it the vision tower is given."""
    asked: Mapping[str, Any] = MappingProxyType({})
    """What the image processor is asked for besides."""
    deep: bool = False
    """Whether further vectors are added behind the first layers."""
    mutual: bool = False
    """Whether the tokens of a picture attend to one another in both directions."""


def _llava_text(hf: Any, made: Made, placeholder: str) -> str:
    config = hf.config
    height, width = made["pixel_values"].shape[-2:]
    patches = (height // config.vision_config.patch_size) * (width // config.vision_config.patch_size)
    has_class_token = "clip" in config.vision_config.model_type
    return placeholder * (patches + has_class_token - (config.vision_feature_select_strategy == "default"))


def _tiles_text(hf: Any, made: Made, placeholder: str) -> str:
    """The model packs its tiles by itself: how many vectors that makes is tried with numbers in their place."""
    config, vision = hf.config, hf.config.vision_config
    numbers = torch.zeros(made["pixel_values"].shape[1], (vision.image_size // vision.patch_size) ** 2, 1)
    pack, names = hf.model.pack_image_features, ("vision_feature_select_strategy", "vision_aspect_ratio")
    asked = {name: getattr(config, name) for name in names if name in inspect.signature(pack).parameters}
    _, counts = pack([numbers], made["image_sizes"], image_newline=torch.zeros(1), **asked)
    return placeholder * int(counts)


def _qwen_grid(config: Any, made: Made) -> tuple[int, int]:
    _, height, width = made["image_grid_thw"][0].tolist()
    merged = config.vision_config.spatial_merge_size
    return height // merged, width // merged


def _qwen_text(hf: Any, made: Made, placeholder: str) -> str:
    rows, columns = _qwen_grid(hf.config, made)
    return placeholder * (rows * columns)


def _idefics_text(hf: Any, made: Made, placeholder: str) -> str:
    """As transformers' Idefics3Processor and SmolVLMProcessor write it: sub-pictures row by row, then the whole."""
    side = hf.config.vision_config.image_size // hf.config.vision_config.patch_size
    run, around = placeholder * (side**2 // hf.config.scale_factor**2), "<fake_token_around_image>"
    whole = f"{around}<global-img>{run}{around}"
    (rows,), (columns,) = made["rows"][0], made["cols"][0]
    if not rows and not columns:
        return whole
    lines = ["".join(f"{around}<row_{r}_col_{c}>{run}" for c in range(1, columns + 1)) for r in range(1, rows + 1)]
    return "\n".join([*lines, f"\n{whole}"])


def _gemma_text(hf: Any, made: Made, placeholder: str) -> str:  # noqa: ARG001 - every picture takes the same
    return f"\n\n<start_of_image>{placeholder * hf.config.mm_tokens_per_image}<end_of_image>\n\n"


_QWEN = Family(_qwen_text, grid=_qwen_grid, given=("pixel_values", "image_grid_thw"))
_IDEFICS = Family(
    _idefics_text,
    given=("pixel_values", "pixel_attention_mask"),
    asked=MappingProxyType({"return_row_col_info": True}),
)
FAMILIES = {
    "llava": Family(_llava_text),
    "llava_next": Family(_tiles_text, given=("pixel_values", "image_sizes")),
    "llava_onevision": Family(_tiles_text, given=("pixel_values", "image_sizes")),
    "qwen2_5_vl": _QWEN,
    "qwen3_vl": _QWEN._replace(deep=True),
    "idefics3": _IDEFICS,
    "smolvlm": _IDEFICS,
    "gemma3": Family(
        _gemma_text,
        mark="<start_of_image>",
        asked=MappingProxyType({"do_pan_and_scan": False}),  # the model cards' default: no crops besides
        mutual=True,
    ),
}
"""model_type -> what is known of it."""
REFUSED = {
    "qwen2_vl": "TransformerBridge does not know it",
    "qwen3_vl_moe": "its mixture of experts was not compared with Hugging Face's forward pass",
    "llama4": "its chunked attention is not known here",
}
"""model_type -> why it is not supported, where somebody may look for it."""
