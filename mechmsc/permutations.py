"""A conversation about options, as it would be with the options in another order: derived from its tokens alone.

Each order of the options is a conversation of its own, in which remembered answers bear the letters that options have
there (science, section 4). A `Transcript` holds canonical order; `permuted` letters the options of round 1 anew,
encodes that prompt as a whole, as `chat.ChatFormat.open` does, and splices later rounds' tokens as they are, but for
the label that a forced choice left.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from os.path import commonprefix
from typing import Any

from mechmsc.encoding import Region, encode
from mechmsc.errors import InputError
from mechmsc.tasks.records import LETTERS
from mechmsc.transcripts import Span, Transcript


def n_options(tokenizer: Any, transcript: Transcript) -> int:
    """How many lettered options round 1 asks about; 0 where the conversation has none."""
    return len(_options(_Opening(tokenizer, transcript).question)) if transcript.span("prefix", 1) else 0


def labels_of(tokenizer: Any, transcript: Transcript) -> list[list[int]]:
    """Ids of each option's label after the prompt, in the order of the letters; they are the same in every round.

    Raises:
        InputError: the conversation asks about no options.
    """
    return _Opening(tokenizer, transcript).labels()


def permuted(tokenizer: Any, transcript: Transcript, order: Sequence[int]) -> Transcript:
    """The conversation in which option `order[j]` stands at letter j.

    Args:
        tokenizer: of transformers, the one that the conversation was encoded with.
        transcript: a conversation about options, in canonical order, at any round.
        order: a permutation of the option indices.

    Raises:
        InputError: no options, no permutation of them, a free answer in the history (each order has its own there), or
            tokens that the tokenizer does not read back from their text.
    """
    opening = _Opening(tokenizer, transcript)
    labels = opening.labels()
    if sorted(order) != list(range(len(labels))):
        raise InputError(f"order: expected a permutation of 0..{len(labels) - 1}, got {list(order)}")
    ids, spans = opening.lettered(order, labels[0])
    for span in transcript.spans:
        if span.start >= opening.end:
            new = list(transcript.ids[span.start : span.end])
            if span.name == "response":
                new = _relabelled(new, labels, order, transcript, span)
            spans.append(Span(span.name, span.round, len(ids), len(ids) + len(new)))
            ids += new
    return replace(transcript, ids=tuple(ids), spans=tuple(spans))


def _relabelled(
    ids: list[int], labels: list[list[int]], order: Sequence[int], transcript: Transcript, span: Span
) -> list[int]:
    if ids not in labels:
        raise InputError(
            f"transcript {transcript.item_id!r}, round {span.round}: expected a forced choice among the options, got "
            "a free answer, which every order has its own of; use permutations=1"
        )
    return labels[list(order).index(labels.index(ids))]


class _Opening:
    """The prompt of round 1 as text, and where its contents are in it."""

    def __init__(self, tokenizer: Any, transcript: Transcript) -> None:
        self.tokenizer, self.item_id = tokenizer, transcript.item_id
        self.end = transcript.prompt_end(1) + 1
        self.ids = list(transcript.ids[: self.end])
        self.text = _text(tokenizer, self.ids, self.item_id)
        encoding = tokenizer(self.text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        self.regions = list(self._regions(transcript, encoding["offset_mapping"]))
        found = [(start, end) for name, start, end in self.regions if name == "question"]
        if len(found) != 1:
            raise InputError(f"transcript {self.item_id!r}: expected one question in round 1, found {len(found)}")
        self.where = found[0]
        self.question = self.text[slice(*self.where)]

    def _regions(self, transcript: Transcript, offsets: Sequence[tuple[int, int]]) -> Iterator[Region]:
        """Contents and their characters, without the blanks around them."""
        for span in transcript.spans:
            if span.name != "template" and span.end <= self.end and span.end > span.start:
                start, end = offsets[span.start][0], offsets[span.end - 1][1]
                content = self.text[start:end]
                start += len(content) - len(content.lstrip())
                yield span.name, start, max(start, end - (len(content) - len(content.rstrip())))

    def labels(self) -> list[list[int]]:
        options = _options(self.question)
        if not options:
            raise InputError(f"transcript {self.item_id!r}: expected a question with options '(a) ...', found none")
        texts = [self.text + _rest(self.text, letter) for letter in LETTERS[: len(options)]]
        whole = [encode(self.tokenizer, text).ids for text in texts]
        shared = len(commonprefix(whole))
        if list(whole[0][:shared]) != self.ids:
            raise InputError(
                f"transcript {self.item_id!r}: expected a prompt that ends where options differ, but a label does not "
                "continue its tokens; was it made with labels?"
            )
        return [list(ids[shared:]) for ids in whole]

    def lettered(self, order: Sequence[int], label: list[int]) -> tuple[list[int], list[Span]]:
        """Ids and spans of the prompt with the options in this order."""
        start, end = self.where
        options = _options(self.question)
        head = self.question[: options[0][0]]
        lines = [f"({letter}) {options[o][1]}" for letter, o in zip(LETTERS, order, strict=False)]
        # the question is stripped as a whole, so is its last option
        question = (head + "\n".join(lines)).rstrip()
        shift = len(question) - (end - start)
        text = self.text[:start] + question + self.text[end:] + _rest(self.text, LETTERS[0])
        regions = [(n, a + shift * (a > start), b + shift * (a >= start)) for n, a, b in self.regions]
        regions = [(n, a, len(text)) if n == "prefix" else (n, a, b) for n, a, b in regions]
        encoded = encode(self.tokenizer, text, regions)
        length = len(encoded.ids) - len(label)
        if list(encoded.ids[length:]) != label:
            raise InputError(f"transcript {self.item_id!r}: in the order {list(order)} a label has other tokens")
        kept = encoded.until(length)
        return list(kept.ids), list(kept.spans(0, 1))


def _rest(text: str, letter: str) -> str:
    """What completes the label at the end of the text: labels stand after a blank, and share their beginning."""
    return f"{letter})" if text.endswith("(") else f"({letter})" if text.endswith(" ") else f" ({letter})"


def _options(question: str) -> list[tuple[int, str]]:
    """(character at which the option's line starts, its text) of the lines "(a) ..." that end the question."""
    at = question.rfind("\n(a) ") + 1
    found: list[tuple[int, str]] = []
    for letter, following in zip(LETTERS, LETTERS[1:], strict=False):
        if at <= 0:
            break
        nxt = question.find(f"\n({following}) ", at) + 1
        end = nxt - 1 if nxt else len(question)
        found.append((at, question[at:end].removeprefix(f"({letter}) ")))
        at = nxt
    return found if len(found) > 1 else []


def _text(tokenizer: Any, ids: list[int], item_id: str) -> str:
    """The text that the tokenizer reads as these ids.

    Those of SentencePiece put a blank before every text after a special token, which decoding shows.
    """
    decoded = tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
    specials = {*tokenizer.all_special_tokens, *map(str, tokenizer.added_tokens_decoder.values())}
    tight = decoded
    for special in specials:
        tight = tight.replace(f"{special} ", special)
    for text in (decoded, tight):
        if tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"] == ids:
            return text
    raise InputError(f"transcript {item_id!r}: the tokenizer does not read its prompt back from the text")
