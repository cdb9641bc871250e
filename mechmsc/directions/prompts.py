"""How a statement is shown to the model, and at which of its tokens activations are read (science: section 3).

    plain      the statement as a user turn (`chat`) or as the whole text (`raw`)
    sides      the statement and a question whether it shows the concept, answered "Yes" and "No", for `ccs`
    letters    the two statements of a pair as options, one of them chosen by its letter, for `caa`

The text of a prompt is the business of `chat.py`; here it is decided what is asked.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mechmsc.chat import ChatFormat
from mechmsc.encoding import encode
from mechmsc.errors import InputError, nearest
from mechmsc.transcripts import Transcript

if TYPE_CHECKING:
    import pandas
    from transformer_lens import HookedTransformer

CONTEXTS = ("chat", "raw")
POSITIONS = ("last", "mean", "prompt_end")
"""Where a statement is read: its last token; the mean over its tokens; the last token before the model's answer."""
DATE = "2026-01-01"
"""What templates that name the day take for today: a direction does not depend on the day it was fitted."""
QUESTION = "Does this text show {concept}? Answer Yes or No."
SIDES = ("Yes", "No")
"""The affirming and the denying answer."""
CHOICE = "Here are two texts.\n\n(A) {first}\n\n(B) {second}\n\nWhich of the two texts do you choose?"
PREFIX = "I choose"
LETTERS = ("(A)", "(B)")


@dataclass(frozen=True, eq=False)
class Prompts:
    """Prompts of one model in one context; made by `Prompts.of`."""

    plain: Callable[[str], Transcript]
    """Statement -> prompt, the statement as span `question`."""
    answered: Callable[[str, str | None, str | None, tuple[str, str]], tuple[Transcript, Transcript]]
    """(text, question about it, opening of the answer, two answers) -> the conversation that ends in each answer."""

    @classmethod
    def of(cls, model: "HookedTransformer", context: str) -> "Prompts":
        """Prompts for this model's tokenizer.

        Args:
            model: from `load_model`.
            context: `chat`: a user turn in the chat template; `raw`: the text alone, after the tokenizer's BOS if it
                writes one.

        Raises:
            InputError: an unknown context, or a chat template that cannot be used (TemplateError).
        """
        if context not in CONTEXTS:
            raise InputError(f"unknown context {context!r}: {nearest(context, CONTEXTS)}")
        if context == "raw":
            raw = _Raw(model.tokenizer, model.tokenizer.bos_token if model.cfg.tokenizer_prepends_bos else "")
            return cls(raw.plain, raw.answered)
        chat = ChatFormat.of(model.tokenizer, date=DATE)

        def answered(
            text: str, question: str | None, prefix: str | None, answers: tuple[str, str]
        ) -> tuple[Transcript, Transcript]:
            asked = chat.open(text, question, prefix=prefix, labels=answers)
            first, second = chat.label_ids(prefix, answers)
            return chat.reply(asked, first, stop_reason="forced"), chat.reply(asked, second, stop_reason="forced")

        return cls(chat.open, answered)


@dataclass(frozen=True, eq=False)
class _Raw:
    tokenizer: object
    bos: str

    def plain(self, text: str) -> Transcript:
        return self._transcript([("question", text)])

    def answered(
        self, text: str, question: str | None, prefix: str | None, answers: tuple[str, str]
    ) -> tuple[Transcript, Transcript]:
        parts = [(name, part) for name, part in (("question", text), ("instruction", question)) if part is not None]
        lead = "" if prefix is None else f"{prefix} "
        first, second = (self._transcript([*parts, ("response", lead + answer)]) for answer in answers)
        return first, second

    def _transcript(self, parts: Sequence[tuple[str, str]]) -> Transcript:
        text, regions = self.bos, []
        for name, part in parts:
            content = part.strip()
            if not content:
                raise InputError(f"{name}: expected some text, got {part!r}")
            text += "\n\n" * bool(regions)
            regions.append((name, len(text), len(text) + len(content)))
            text += content
        encoded = encode(self.tokenizer, text, regions)
        return Transcript("", "", encoded.ids, tuple(encoded.spans(0, 1)))


def statement_tokens(transcript: Transcript, position: str, *, first_token: bool) -> tuple[int, ...]:
    """The tokens that a position averages over (one for a point).

    Args:
        transcript: from `Prompts.plain`.
        position: one of `POSITIONS`.
        first_token: put the sequence's first token into the mean, where its massive activation hides everything else.

    Returns:
        Indices; empty where the statement has no token besides the first of the sequence.
    """
    if position == "prompt_end":
        return (len(transcript) - 1,)
    tokens = tuple(index for span in transcript.spans_of("question") for index in span.indices if index > 0)
    if position == "last":
        return tokens[-1:]
    return (0, *tokens) if first_token and tokens else tokens


def first_difference(one: Transcript, other: Transcript) -> int:
    """The first token in which two conversations differ: the answer letter."""
    return next(i for i, (a, b) in enumerate(zip(one.ids, other.ids, strict=False)) if a != b)


def texts_of(statements: "pandas.DataFrame") -> list[str]:
    """The texts of a frame of statements.

    Raises:
        InputError: there are none, or one of them is no text.
    """
    if "text" not in statements.columns or not len(statements):
        raise InputError(
            f"expected statements with a column text, got {len(statements)} rows with columns "
            f"{', '.join(map(str, statements.columns)) or 'none'}; load_statements gives such a frame"
        )
    texts = list(statements["text"])
    for row, text in enumerate(texts):
        if not isinstance(text, str) or not text.strip():
            raise InputError(f"statement {row}: expected some text, got {text!r}")
    return texts


def cut_texts(model: "HookedTransformer", texts: Sequence[str], max_tokens: int | None) -> list[str]:
    """Texts cut after so many tokens of the model's tokenizer; the rest is not looked at by anyone."""
    if max_tokens is None:
        return list(texts)
    if max_tokens < 1:
        raise InputError(f"max_tokens must be at least 1, got {max_tokens}")
    stripped = [text.strip() for text in texts]
    encoded = model.tokenizer(
        stripped, add_special_tokens=False, return_offsets_mapping=True, return_attention_mask=False, verbose=False
    )
    return [
        text if len(offsets) <= max_tokens else text[: offsets[max_tokens - 1][1]]
        for text, offsets in zip(stripped, encoded["offset_mapping"], strict=True)
    ]


def partners(pairs: Sequence[str | None]) -> list[tuple[int, int]]:
    """The rows of each pair."""
    members: dict[str, list[int]] = {}
    for row, pair in enumerate(pairs):
        if not isinstance(pair, str):
            raise InputError(f"statement {row} has no pair: letters are read of contrastive pairs; use another method")
        members.setdefault(pair, []).append(row)
    for pair, rows in members.items():
        if len(rows) != 2:
            raise InputError(f"pair {pair!r}: expected two statements, got {len(rows)} (rows {rows[:5]})")
    return [(rows[0], rows[1]) for rows in members.values()]
