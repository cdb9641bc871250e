"""Which vision-language models are supported, and where the parts come from that let them see."""

from typing import TYPE_CHECKING, Any

from mechmsc.errors import InputError
from mechmsc.model.vision.eyes import Vision
from mechmsc.model.vision.families import FAMILIES, REFUSED

if TYPE_CHECKING:
    import transformers


def can_see(config: Any) -> bool:
    """Whether a config is that of a vision-language model."""
    return getattr(config, "vision_config", None) is not None


def check_seeing(config: Any) -> None:
    """Refuse vision-language models whose way of seeing is not known here.

    Raises:
        InputError: says why, and which are.
    """
    if can_see(config) and config.model_type not in FAMILIES:
        why = REFUSED.get(config.model_type, "what of a picture enters its text model is not known here")
        raise InputError(
            f"unsupported vision-language model {config.model_type!r}; supported: {', '.join(FAMILIES)}; {why}"
        )


def open_vision(processor: Any, hf: "transformers.PreTrainedModel", tokenizer: Any) -> Vision:
    """The eyes of a model, which is attached; the tokenizer is told, so that conversations can show pictures."""
    image_id = hf.config.image_token_id
    vision = Vision(hf, processor, tokenizer.convert_ids_to_tokens(image_id), image_id)
    vision.attach(hf)
    tokenizer.mechmsc_vision = vision
    return vision


def image_processor(where: str, **options: Any) -> Any:
    """The image processor of a vision-language model, which works with Pillow alone.

    Args:
        where: folder or hub id.
        options: of `from_pretrained`, e.g. revision.

    Raises:
        InputError: none there, or one that cannot be used without torchvision.
    """
    from transformers import AutoImageProcessor

    try:
        return AutoImageProcessor.from_pretrained(where, backend="pil", **options)
    except (OSError, ValueError, ImportError, TypeError) as error:
        reason = " ".join(str(error).split())[:160]
        raise InputError(
            f"expected an image processor beside the vision-language model in {where} (preprocessor_config.json or "
            f"processor_config.json), found none that can be used: {reason}; take it from where the model is from"
        ) from error


def processor_template(where: str, **options: Any) -> str | None:
    """The chat template that older folders keep beside the processor, not the tokenizer; None where there is none."""
    from transformers import ProcessorMixin

    try:
        return ProcessorMixin.get_processor_dict(where, **options)[0].get("chat_template")
    except (OSError, ValueError):
        return None
