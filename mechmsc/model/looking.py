"""Token ids that know their picture, for passes over rows of ids."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

from mechmsc.model.vision import vision_of


class PicturedIds(tuple):
    """Token ids of a conversation with a picture; equal to the same ids without."""

    transcript: Any
    """The `transcripts.Transcript` that they are of."""


def pictured(transcript: Any) -> tuple[int, ...]:
    """The ids of a transcript, which know their picture if there is one."""
    if transcript.image is None:
        return transcript.ids
    ids = PicturedIds(transcript.ids)
    ids.transcript = transcript
    return ids


@contextmanager
def looking(model: Any, rows: Sequence[Sequence[int]], *, longer: Sequence[int] | None = None) -> Iterator[None]:
    """While the block runs, the model's passes hold these rows, padded on the right; those of `pictured` are seen.

    Args:
        model: the model.
        rows: token ids of each row.
        longer: how many tokens more each row has.
    """
    vision = vision_of(model)
    if vision is None:
        yield
        return
    more = longer or [0] * len(rows)
    before, vision.rows = vision.rows, [_row(ids, n) for ids, n in zip(rows, more, strict=True)]
    try:
        yield
    finally:
        vision.rows = before


def _row(ids: Sequence[int], more: int) -> SimpleNamespace:
    """As `positions.Row`; of ids that know no conversation it holds nothing."""
    transcript = getattr(ids, "transcript", None)
    count = 0 if transcript is None else len(ids) + more
    shown = SimpleNamespace(transcript=transcript if transcript is not None else _NOTHING)
    return SimpleNamespace(shown=shown, start=0, count=count, column=0)


_NOTHING = SimpleNamespace(image=None, spans_of=lambda _: ())
