"""How long a conversation can get: known before generation starts, so that no run dies at the end of the context."""

from collections.abc import Sequence

from mechmsc.chat import ChatFormat
from mechmsc.errors import InputError


def budget(
    chat: ChatFormat,
    question: str,
    instructions: Sequence[str | None],
    *,
    prefix: str | None = None,
    labels: Sequence[str] = (),
    max_new_tokens: int,
    forced: bool = True,
    image: str | None = None,
) -> list[int]:
    """The largest length in tokens that one conversation can have after the response of each round.

    Args:
        chat: the chat format.
        question: as in `ChatFormat.open`.
        instructions: one a round; the first may be None.
        prefix: as in `ChatFormat.open`.
        labels: as in `ChatFormat.open`.
        max_new_tokens: of every free response.
        forced: with labels, the response is one of them; False: it is free.
        image: as in `ChatFormat.open`.

    Returns:
        One length a round; compare the largest with the context window.
    """
    response = max(map(len, chat.label_ids(prefix, labels))) if labels and forced else max_new_tokens
    lengths = [len(chat.open(question, instructions[0], prefix=prefix, labels=labels, image=image)) + response]
    for instruction in instructions[1:]:
        if instruction is None:
            raise InputError("instructions: only the first may be None, later rounds have no other user turn")
        lengths.append(lengths[-1] + chat.delta_length(instruction, prefix=prefix, labels=labels) + response)
    return lengths
