"""A conversation as the model sees it: token ids, each belonging to one named span.

A `Transcript` only knows ids and spans. How text becomes ids is the business of `chat.py`; where activations are read
is the business of `sites.py`, which asks a transcript for indices.
"""

import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

from mechmsc.errors import InputError, nearest

SPAN_NAMES = ("system", "question", "instruction", "prefix", "response", "image", "template")


@dataclass(frozen=True)
class Span:
    """A run of consecutive tokens with one role in one round: ids[start:end]."""

    name: str
    """One of `SPAN_NAMES`; `template` is all that the chat template writes by itself."""
    round: int
    """The round it belongs to, from 1. The text that closes the response of round t opens round t + 1."""
    start: int
    """Index of its first token."""
    end: int
    """Index after its last token; equal to `start` for a response without tokens."""

    def __post_init__(self) -> None:
        """Refuse a span that cannot be one."""
        if self.name not in SPAN_NAMES:
            raise InputError(f"unknown span {self.name!r}: {nearest(self.name, SPAN_NAMES)}")
        if self.round < 1 or not 0 <= self.start <= self.end:
            raise InputError(f"span {self.name!r}: expected round >= 1 and 0 <= start <= end, got {self}")

    @property
    def indices(self) -> range:
        """The indices of its tokens."""
        return range(self.start, self.end)


@dataclass(frozen=True)
class Transcript:
    """Token ids of one conversation, and the spans that cover them."""

    item_id: str
    """The item, as `task/id`; empty for conversations that belong to no item."""
    arm: str
    """The arm as the user wrote it; empty where there is none."""
    ids: tuple[int, ...]
    """All token ids so far, the first token of the sequence first."""
    spans: tuple[Span, ...]
    """Sorted, disjoint, together exactly `ids`: every token belongs to one span."""
    image: str | None = None
    """Path of the picture that the span `image` of round 1 stands for; None where there is none."""

    def __post_init__(self) -> None:
        """Refuse spans that leave a token out or claim one twice."""
        reached = 0
        for span in self.spans:
            if span.start != reached:
                raise InputError(
                    f"transcript {self.item_id!r}: expected a span that starts at token {reached}, got {span}"
                )
            reached = span.end
        if reached != len(self.ids):
            raise InputError(f"transcript {self.item_id!r}: the spans cover {reached} tokens of {len(self.ids)}")

    def __len__(self) -> int:
        """Number of tokens."""
        return len(self.ids)

    @property
    def rounds(self) -> int:
        """Number of rounds that have begun; the last of them may still wait for its response."""
        return max((span.round for span in self.spans), default=0)

    def spans_of(self, name: str, round: int | None = None) -> tuple[Span, ...]:
        """All spans of this name, in order; of one round, or of all rounds (`round=None`)."""
        if name not in SPAN_NAMES:
            raise InputError(f"unknown span {name!r}: {nearest(name, SPAN_NAMES)}")
        return tuple(span for span in self.spans if span.name == name and round in (None, span.round))

    def span(self, name: str, round: int) -> Span | None:
        """The span of this name and round, or None where the round has none.

        Raises:
            InputError: the round has several (only `template` does); `spans_of` gives them all.
        """
        found = self.spans_of(name, round)
        if len(found) > 1:
            raise InputError(f"expected one span {name!r} in round {round}, found {len(found)}; use spans_of")
        return found[0] if found else None

    def prompt_end(self, round: int) -> int:
        """Index of the last token before the response of this round, the answer prefix included."""
        self._check_round(round)
        response = self.span("response", round)
        return (len(self.ids) if response is None else response.start) - 1

    def prompt_ids(self, round: int) -> tuple[int, ...]:
        """Everything that the model was shown before it responded in this round."""
        return self.ids[: self.prompt_end(round) + 1]

    def response_ids(self, round: int) -> tuple[int, ...]:
        """The response of this round, with its end-of-turn token where one was drawn; () while there is none."""
        self._check_round(round)
        response = self.span("response", round)
        return () if response is None else self.ids[response.start : response.end]

    def up_to(self, round: int) -> "Transcript":
        """The conversation cut at the prompt end of this round: what the model saw before it responded."""
        end = self.prompt_end(round) + 1
        kept = tuple(span for span in self.spans if span.end <= end and (span.name != "response" or span.round < round))
        return replace(self, ids=self.ids[:end], spans=kept)

    def content(self, name: str, round: int, end_ids: Collection[int]) -> tuple[int, ...]:
        """Indices that a mean over the span is taken over, without end-of-turn tokens and the sequence's first token.

        The first token carries massive activations that would hide everything else. Empty where the span is missing or
        holds nothing else.

        Args:
            name: a span name.
            round: from 1.
            end_ids: ids that end a turn, `ChatFormat.end_ids`.
        """
        wanted = (index for span in self.spans_of(name, round) for index in span.indices)
        return tuple(index for index in wanted if index > 0 and self.ids[index] not in end_ids)

    def spans_json(self, round: int | None = None) -> str:
        """The spans up to and including the response of a round as JSON, for the column `spans`; all by default."""
        last = self.rounds if round is None else round
        rows = [
            {"name": span.name, "round": span.round, "start": span.start, "end": span.end}
            for span in self.spans
            if span.round <= last
        ]
        return json.dumps(rows, separators=(",", ":"))

    @classmethod
    def from_row(
        cls,
        prompt_ids: Sequence[int],
        response_ids: Sequence[int],
        spans: str,
        *,
        item_id: str = "",
        arm: str = "",
        image: str | None = None,
    ) -> "Transcript":
        """The conversation of one row of transcripts.parquet, up to the end of that row's response.

        Args:
            prompt_ids: everything before the response of the row's round.
            response_ids: the response.
            spans: JSON as `spans_json` writes it.
            item_id: the row's item.
            arm: the row's arm.
            image: the path of its picture, if it has one.

        Raises:
            InputError: the spans are not JSON of this form, or do not cover the ids.
        """
        ids = tuple(int(token) for token in (*prompt_ids, *response_ids))
        return cls(item_id, arm, ids, tuple(_read_spans(spans, item_id)), image)

    def _check_round(self, round: int) -> None:
        if not 1 <= round <= self.rounds:
            raise InputError(f"transcript {self.item_id!r}: expected a round from 1 to {self.rounds}, got {round}")


def _read_spans(text: str, item_id: str) -> Iterator[Span]:
    try:
        for row in json.loads(text):
            yield Span(row["name"], row["round"], row["start"], row["end"])
    except (json.JSONDecodeError, TypeError, KeyError) as error:
        raise InputError(
            f"transcript {item_id!r}: expected spans as a JSON list of name, round, start, end, got {text[:60]!r}"
        ) from error
