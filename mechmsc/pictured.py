"""A picture in a prompt: what the chat template writes for it, with a placeholder for each of its vectors."""

from collections.abc import Sequence
from typing import NamedTuple

from mechmsc.errors import InputError
from mechmsc.templates import Message, Renderer


class Shot(NamedTuple):
    """What stands before the content of the first user turn."""

    text: str
    start: int
    """Character of it at which the picture starts."""
    end: int
    """Character after its last."""


def shot(renderer: Renderer, messages: Sequence[Message], head: str, rest: str, path: str) -> Shot:
    """The head of a conversation with its picture.

    Blanks before the content may go when a picture comes first (SmolVLM writes "User: Hello" and "User:<image>Hello").

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
    opening = head if whole.startswith(head) else head.rstrip()
    if not (whole.startswith(opening) and whole.endswith(rest) and len(whole) >= len(opening) + len(rest)):
        raise renderer.refusal("a picture before the first content and the same text around it", "it is elsewhere")
    text = whole[len(opening) : len(whole) - len(rest)]
    before, mark, after = text.partition(vision.mark)
    if not mark or vision.mark in after:
        raise renderer.refusal(f"one {vision.mark!r} for one picture", f"it writes {text[:60]!r}")
    picture = vision.seen(path).text
    start = len(opening + before) + len(picture) - len(picture.lstrip())
    return Shot(opening + before + picture + after, start, start + len(picture.strip()))
