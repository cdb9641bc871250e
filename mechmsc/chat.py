"""Conversations in a model's own chat format: text becomes token ids with spans, and generated ids are spliced in.

What the model is shown at round t is exactly the tokens so far. Generated ids are never decoded and read again, nothing
is repeated or dropped, and tokens are only ever appended: prompt and response of round t are a prefix of the prompt of
round t + 1. BOS stands where the template writes it; the tokenizer adds none (Llama 2 writes one before every user
turn, the others write one or none).

Three decisions:

- A token that holds characters of a content and of the template around it (`?` + blank lines in one token) belongs to
  the content; a token that holds characters of two contents belongs to the earlier one.
- An end-of-turn token that was drawn stays where it is. If it is the one that the template closes a turn with, the
  template's text continues after it; if it is another one (`<|endoftext|>` for `<|im_end|>`), the whole closing text
  follows. After a stop by length or a forced choice the whole closing text follows too, as span `template` of the next
  round.
- Contents are stripped, as many templates do it themselves. A system text for a template without system role opens the
  first user turn.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import permutations
from typing import Any, Literal

from mechmsc.encoding import Encoded, Region, encode
from mechmsc.errors import InputError
from mechmsc.pictured import shot
from mechmsc.templates import ANSWERS, BLANK, USERS, Pieces, Renderer, cut, system_message, turns
from mechmsc.transcripts import Span, Transcript

StopReason = Literal["eos", "length", "forced"]


@dataclass(frozen=True, eq=False)
class ChatFormat:
    """The chat format of one model; made and checked by `ChatFormat.of`."""

    tokenizer: Any
    """The model's tokenizer, of transformers."""
    system: str | None
    """System text as given; None: what the template writes by itself."""
    date: str
    """The day that the template takes for today, ISO; the same date gives the same ids."""
    end_ids: frozenset[int]
    """Ids that end an assistant turn when drawn."""
    closing_id: int | None
    """The one of them that the template itself closes a turn with; None where it does so with plain text."""
    renderer: Renderer = field(repr=False)
    pieces: Pieces = field(repr=False)
    _cache: dict[Any, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def of(
        cls,
        tokenizer: Any,
        *,
        system: str | None = None,
        date: str | None = None,
        thinking: bool = False,
        extra_end_ids: Iterable[int] = (),
    ) -> "ChatFormat":
        """The chat format of a tokenizer, checked on dummy conversations.

        Args:
            tokenizer: a fast tokenizer of transformers with a chat template.
            system: system text; None keeps the template's own, if it has one.
            date: today, as far as the template is concerned (ISO); None: the real one.
            thinking: whether reasoning models may think before they answer.
            extra_end_ids: further ids that end a turn, e.g. eos_token_id of the model's generation config.

        Raises:
            TemplateError: no template, no offsets, or a template whose text around a turn depends on other turns or on
                contents.
        """
        renderer = Renderer.of(tokenizer, date, thinking)
        system = None if system is None else renderer.content("system text", system)
        pieces = cut(renderer, system)
        draft = cls(tokenizer, system, renderer.date.isoformat(), frozenset(), None, renderer, pieces)
        closing = draft._closing_id()
        ends = {closing, tokenizer.eos_token_id, *extra_end_ids} - {None}
        return cls(tokenizer, system, draft.date, frozenset(map(int, ends)), closing, renderer, pieces, draft._cache)

    def open(
        self,
        question: str,
        instruction: str | None = None,
        *,
        prefix: str | None = None,
        labels: Sequence[str] = (),
        item_id: str = "",
        arm: str = "",
        image: str | None = None,
    ) -> Transcript:
        """The prompt of round 1.

        Args:
            question: first part of the user turn.
            instruction: second part, after a blank line; None: the question alone.
            prefix: text that opens the assistant turn, e.g. "The best answer is".
            labels: options that may follow the prefix after a space, e.g. "(a)"; tokens that all of them start with are
                put into the prompt.
            item_id: recorded in the transcript.
            arm: recorded in the transcript.
            image: path of a picture, which the template puts into the first user turn; its tokens are span `image`.

        Returns:
            A transcript whose ids equal `tokenizer.apply_chat_template(..., add_generation_prompt=True)`, then the
            prefix.
        """
        parts = [("system", self.pieces.merged), ("question", self.renderer.content("question", question))]
        if instruction is not None:
            parts.append(("instruction", self.renderer.content("instruction", instruction)))
        parts = [part for part in parts if part[1]]
        user = BLANK.join(text for _, text in parts)
        messages = [*self._opening_messages(), *turns([user], [])]
        regions = [] if self.pieces.system is None else [("system", *self.pieces.system)]
        head, start = self.pieces.head, len(self.pieces.head)
        self._expect(messages, head + user + self.pieces.tail)
        if image is not None:
            seen = shot(self.renderer, messages, head, user + self.pieces.tail, image)
            head, start = seen.text, len(seen.text)
            regions.append(("image", seen.start, seen.end))
        text = head + user + self.pieces.tail
        for name, part in parts:
            regions.append((name, start, start + len(part)))
            start += len(part) + len(BLANK)
        addition = self._tokenise(text, regions, 0, prefix, tuple(labels))
        return Transcript(item_id, arm, addition.ids, tuple(addition.spans(0, 1)), image)

    def reply(self, transcript: Transcript, response_ids: Sequence[int], *, stop_reason: StopReason) -> Transcript:
        """Splice the response of the current round in.

        Args:
            transcript: a conversation that waits for a response.
            response_ids: ids as they were drawn, the end-of-turn token included.
            stop_reason: "eos" (the last id ends the turn), "length" or "forced" (it does not).
        """
        round = transcript.rounds
        if not round or transcript.span("response", round) is not None:
            raise InputError(f"transcript {transcript.item_id!r}: round {round} does not wait for a response")
        ids = tuple(int(token) for token in response_ids)
        if (stop_reason == "eos") != (ids[-1:] != () and ids[-1] in self.end_ids):
            raise InputError(
                f"transcript {transcript.item_id!r}, round {round}: stop_reason {stop_reason!r} does not fit a "
                f"response that ends in {ids[-1:]}; end-of-turn ids are {sorted(self.end_ids)}"
            )
        start = len(transcript.ids)
        span = Span("response", round, start, start + len(ids))
        return replace(transcript, ids=transcript.ids + ids, spans=(*transcript.spans, span))

    def ask(
        self, transcript: Transcript, instruction: str, *, prefix: str | None = None, labels: Sequence[str] = ()
    ) -> Transcript:
        """Close the assistant turn and put the next user turn, up to where the next response starts.

        Args:
            transcript: a conversation whose current round has its response.
            instruction: the next user turn.
            prefix: as in `open`.
            labels: as in `open`.
        """
        round = transcript.rounds
        response = transcript.span("response", round) if round else None
        if response is None:
            raise InputError(f"transcript {transcript.item_id!r}: round {round} has no response yet")
        addition = self._next_turn(instruction, prefix, tuple(labels))
        if response.end > response.start and transcript.ids[-1] == self.closing_id:
            after = addition.ids.index(self.closing_id) + 1
            addition = addition.since(after)
        spans = addition.spans(len(transcript.ids), round + 1)
        return replace(transcript, ids=transcript.ids + addition.ids, spans=(*transcript.spans, *spans))

    def delta_length(self, instruction: str, *, prefix: str | None = None, labels: Sequence[str] = ()) -> int:
        """The largest number of tokens that `ask` adds for this instruction."""
        return len(self._next_turn(instruction, prefix, tuple(labels)).ids)

    def label_ids(self, prefix: str | None, labels: Sequence[str]) -> list[list[int]]:
        """The ids that tell each option from the others, after the prefix and after the tokens that all options share.

        Args:
            prefix: text that opens the assistant turn; None: the label opens it.
            labels: at least two different labels, e.g. "(a)", "(b)".

        Returns:
            One list of ids an option, in the order of `labels`: none empty, none the beginning of another.
            `open` and `ask` check that they are the same in the conversation at hand, and raise TemplateError if not.

        Raises:
            InputError: the tokenizer does not tell the options apart.
        """
        return [list(ids) for ids in self._label_ids(prefix, tuple(labels))]

    def text(self, transcript: Transcript, span: Span) -> str:
        """A span as text; a response without its end-of-turn token.

        For system, question, instruction and prefix this is the text as it was given, stripped. (Where a template
        writes printing characters right beside a content and the tokenizer joins them into one token, these are shown
        too.)
        """
        ids = list(transcript.ids[span.start : span.end])
        if span.name == "response" and ids and ids[-1] in self.end_ids:
            ids.pop()
        text = self.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return text if span.name in ("response", "template") else text.strip()

    def tokens(self, transcript: Transcript) -> list[str]:
        """Every token as readable text, e.g. for the axis of a plot; half a character shows as \ufffd."""
        return [self._token(token) for token in transcript.ids]

    def _token(self, token: int) -> str:
        key = ("token", token)
        if key not in self._cache:
            piece = self.tokenizer.convert_ids_to_tokens(token)
            metaspace = piece is not None and piece.startswith("▁")
            self._cache[key] = piece.replace("▁", " ") if metaspace else self.tokenizer.decode([token])
        return self._cache[key]

    def _opening_messages(self) -> list[dict[str, str]]:
        return [system_message(self.system)] if self.system is not None and not self.pieces.merged else []

    def _expect(self, messages: list[dict[str, str]], expected: str) -> str:
        """The expected text, if the template writes it."""
        if self.renderer.render(messages) != expected:
            raise self.renderer.refusal("contents as they were given", f"it alters {messages[-1]['content'][:40]!r}")
        return expected

    def _dummy(self, rounds: int, instruction: str = USERS[2]) -> tuple[str, int]:
        """A dummy conversation up to the prompt of a round, and where the last assistant content ends in it."""
        pieces, merged = self.pieces, [self.pieces.merged] if self.pieces.merged else []
        text = pieces.head + BLANK.join([*merged, USERS[0]])
        if rounds == 1:
            return text + pieces.tail, len(text)
        text += pieces.answering + ANSWERS[0]
        return text + pieces.between + instruction + pieces.tail, len(text)

    def _next_turn(self, instruction: str, prefix: str | None, labels: tuple[str, ...]) -> Encoded:
        key = ("ask", instruction, prefix, labels)
        if key not in self._cache:
            content = self.renderer.content("instruction", instruction)
            text, boundary = self._dummy(2, content)
            user = BLANK.join([*([self.pieces.merged] if self.pieces.merged else []), USERS[0]])
            self._expect([*self._opening_messages(), *turns([user, content], ANSWERS[:1])], text)
            start = boundary + len(self.pieces.between)
            region = ("instruction", start, start + len(content))
            self._cache[key] = self._tokenise(text, [region], boundary, prefix, labels)
        return self._cache[key]

    def _tokenise(
        self, text: str, regions: list[Region], start: int, prefix: str | None, labels: tuple[str, ...]
    ) -> Encoded:
        """The tokens of a prompt from character `start` on, the answer prefix appended."""
        if prefix is None and not labels:
            return encode(self.tokenizer, text, regions, start=start)
        opened = text + self.pieces.gap
        whole = opened + self._lead(prefix, labels[0] if labels else None)
        encoded = encode(self.tokenizer, whole, [*regions, ("prefix", len(opened), len(whole))], start=start)
        if not labels:
            return encoded
        option = self._label_ids(prefix, labels)[0]
        end = len(encoded.ids) - len(option)
        if encoded.ids[end:] != option:
            raise self.renderer.refusal(
                "the same ids for an option in every conversation", f"they vary after {prefix!r}"
            )
        return encoded.until(end)

    def _lead(self, prefix: str | None, label: str | None) -> str:
        parts = [("answer prefix", prefix), ("label", label)]
        return " ".join(self.renderer.content(what, part) for what, part in parts if part is not None)

    def _label_ids(self, prefix: str | None, labels: tuple[str, ...]) -> list[tuple[int, ...]]:
        key = ("labels", prefix, labels)
        if key not in self._cache:
            options = self._labels_after(self._dummy(1)[0], prefix, labels)
            if len(labels) < 2 or any(b[: len(a)] == a for a, b in permutations(options, 2)):
                raise InputError(
                    f"labels: expected two or more that differ in tokens after {prefix!r}, got {', '.join(labels)}"
                )
            self._cache[key] = options
        return self._cache[key]

    def _labels_after(self, text: str, prefix: str | None, labels: tuple[str, ...]) -> list[tuple[int, ...]]:
        """The ids of each option after those that all options share."""
        texts = (text + self.pieces.gap + self._lead(prefix, label) for label in labels)
        whole = [encode(self.tokenizer, text).ids for text in texts]
        shared = next((i for i, ids in enumerate(zip(*whole, strict=False)) if len(set(ids)) > 1), min(map(len, whole)))
        return [ids[shared:] for ids in whole]

    def _closing_id(self) -> int | None:
        """The id that the template closes an assistant turn with, if it is a token of its own and not plain text."""
        known = {*self.tokenizer.added_tokens_decoder, *self.tokenizer.all_special_ids}
        ids = self._next_turn(USERS[2], None, ()).ids
        first = next((token for token in ids if self.tokenizer.decode([token]).strip()), None)
        return first if first in known else None
