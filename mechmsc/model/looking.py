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
def looking(model: Any, rows: Sequence[Sequence[int]]) -> Iterator[None]:
    """While the block runs, the model's passes hold these rows, padded on the right; those of `pictured` are seen."""
    vision = vision_of(model)
    if vision is None:
        yield
        return
    before, vision.rows = vision.rows, [_row(ids) for ids in rows]
    try:
        yield
    finally:
        vision.rows = before


def _row(ids: Sequence[int]) -> SimpleNamespace:
    """As `positions.Row`; of ids that know no conversation it holds nothing."""
    transcript = getattr(ids, "transcript", None)
    count = 0 if transcript is None else len(ids)
    shown = SimpleNamespace(transcript=transcript if transcript is not None else _NOTHING)
    return SimpleNamespace(shown=shown, start=0, count=count, column=0)


_NOTHING = SimpleNamespace(image=None, spans_of=lambda _: ())
