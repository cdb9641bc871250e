"""A picture in a prompt: what the chat template writes for it, with as many placeholders as it takes tokens."""

from collections.abc import Sequence
from typing import NamedTuple

from mechmsc.errors import InputError
from mechmsc.templates import Message, Renderer


class Shot(NamedTuple):
    """The text that stands between the opening of the first user turn and its content."""

    text: str
    start: int
    """Character at which the placeholders start."""
    end: int
    """Character after the last of them."""


def shot(renderer: Renderer, messages: Sequence[Message], head: str, rest: str, path: str) -> Shot:
    """The text of a picture in this conversation.

    Args:
        renderer: the template.
        messages: the turns, without the picture.
        head: what the template writes before the first user content when there is no picture.
        rest: the first user content and what follows it.
        path: of the picture.

    Raises:
        InputError: the model sees no pictures, or the picture cannot be read.
        TemplateError: the template puts a picture elsewhere than before the content, or writes other text with it.
    """
    vision = getattr(renderer.tokenizer, "mechmsc_vision", None)
    if vision is None:
        raise InputError(
            f"expected a vision-language model for the picture {path}, but this model reads text alone; "
            "choose another model, or a task without pictures"
        )
    whole = renderer.render(messages, pictured=True)
    if not (whole.startswith(head) and whole.endswith(rest) and len(whole) >= len(head) + len(rest)):
        raise renderer.refusal("a picture before the first content and the same text around it", "it is elsewhere")
    text = whole[len(head) : len(whole) - len(rest)]
    before, mark, after = text.partition(vision.placeholder)
    if not mark or vision.placeholder in after:
        raise renderer.refusal(f"one {vision.placeholder!r} for one picture", f"it writes {text[:60]!r}")
    marks = mark * vision.seen(path).count
    return Shot(before + marks + after, len(before), len(before) + len(marks))
