"""What a task is made of: `Item`, one question to hold a conversation about, and `Task`, where its items come from."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mechmsc.errors import InputError

LETTERS = "abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True)
class Item:
    """One question, and what is needed to ask it and to judge the answer. It is multiple-choice if it has options.

    Raises:
        InputError: the id does not start with the task, one option alone or more than letters, gold is not an option.
    """

    item_id: str
    """"task/id", unique among the items of a run."""
    task: str
    """Name of the task."""
    question: str
    """The user turn of round 1 without instruction; for a multiple-choice item the text before the options."""
    options: tuple[str, ...] = ()
    """Texts of the answers in canonical order; empty for free generation."""
    gold: int | None = None
    """Index into `options` of the right answer; None where there is none."""
    group: str | None = None
    """What the published format groups items by, such as the BBQ category; None where it has nothing of the kind."""
    image: str | None = None
    """Path of the picture that stands before the question; None where the question is text alone."""
    metadata: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """JSON values that scorers and measures need; `line` is the line in the file."""

    def __post_init__(self):
        if not self.item_id.startswith(f"{self.task}/"):
            raise InputError(f"item_id must be '{self.task}/' and an id, got '{self.item_id}'")
        if len(self.options) == 1 or len(self.options) > len(LETTERS):
            raise InputError(f"{self.item_id}: expected no options, or 2 to {len(LETTERS)}; got {len(self.options)}")
        if self.gold is not None and not 0 <= self.gold < len(self.options):
            raise InputError(
                f"{self.item_id}: gold must be the index of one of {len(self.options)} options, got {self.gold}"
            )

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels that options are listed under: "(a)", "(b)", ...; empty for free generation."""
        return tuple(f"({letter})" for letter in LETTERS[: len(self.options)])

    def turn(self, order: Sequence[int] | None = None) -> str:
        """The user turn of round 1 without instruction: the question, then the lettered options, one a line.

        The text before the options is the same in every order, so that permutations can share it.

        Args:
            order: option `order[j]` stands at letter j; None is the canonical order.

        Raises:
            InputError: `order` is not a permutation of the option indices.
        """
        order = range(len(self.options)) if order is None else order
        if sorted(order) != list(range(len(self.options))):
            raise InputError(
                f"{self.item_id}: order must be a permutation of 0..{len(self.options) - 1}, got {list(order)}"
            )
        return "\n".join(
            [self.question, *(f"{label} {self.options[i]}" for label, i in zip(self.labels, order, strict=True))]
        )

    def is_correct(self, choice: int | None) -> bool | None:
        """Whether an answer is the right option: the score of a multiple-choice response.

        Args:
            choice: index into `options`; None where no option could be read, which is not correct.

        Returns:
            None where the item has no right answer.
        """
        return None if self.gold is None else choice == self.gold


@dataclass(frozen=True)
class Task:
    """A benchmark that conversations are held about."""

    name: str
    """As on the command line."""
    title: str
    """For figures."""
    concept: str | None
    """The moral concept at stake (toxicity, stereotyping, harmfulness); None where there is none."""
    formats: tuple[str, ...]
    """The published formats that `read` takes, in words."""
    read: Callable[[Path], Iterator[Item]]
    """Reads a file lazily; raises InputError with file and line."""
    data: str
    """File in mechmsc/tasks/data with items of our own, in the published format."""
    scorer: str | None
    """Name of the default scorer of free responses; None where all items are multiple-choice."""
    answer_prefix: str | None = None
    """Opens the assistant turn of multiple-choice items; a space and the label follow, as in " (a)"."""


def parse_choice(text: str, n_options: int, *, options: Sequence[str] = ()) -> int | None:
    """The option that a free answer names, or None where it names none or several.

    The first of these that finds a letter in range decides:

    1. the answer opens with a label: "(b)", "b)", "B. ...", "b" alone ("A dog" does not: that is an article), and does
       not go on "or (c)";
    2. an announcement, "answer is (b)", "option b", "choice: b": all announcements must agree;
    3. labels anywhere, "(b)" or "b)": all must agree;
    4. the text of exactly one of `options`; of two where one contains the other, the longer.

    Args:
        text: what the model wrote after the answer prefix, or the whole answer.
        n_options: labels run from (a) over this many letters.
        options: texts of the options in the order of their letters; empty leaves rule 4 out.

    Returns:
        The index of the letter, from 0.
    """
    letter = f"[{LETTERS[:n_options]}]"
    alone = rf"(?!\s*(?:or|and|/|&)\s*\(?{letter}\))"
    opening = rf"[\s:*\"'“]*(?:\(({letter})\){alone}|({letter})(?=\s*[).:,]|[\s*\"'”]*$){alone})"
    start = re.match(opening, text, re.IGNORECASE)
    if start:
        return LETTERS.index((start[1] or start[2]).lower())
    announced = (
        rf"\b(?:answer|option|choice)\b(?:\s+is)?\s*:?\s*(?:option\s+)?[*\"'“]*"
        rf"(?:\(({letter})\){alone}|({letter})(?=[).:,;!?*\"'”]|\s*$|\s+(?:is|because|since|as)\b))"
    )
    for pattern in (announced, rf"\(({letter})\)|(?<![\w(])({letter})\)"):
        named = {LETTERS.index((a or b).lower()) for a, b in re.findall(pattern, text, re.IGNORECASE)}
        if named:
            return named.pop() if len(named) == 1 else None
    return _named_by_text(text, options)


def _named_by_text(text: str, options: Sequence[str]) -> int | None:
    plain = [_plain(option) for option in options]
    said = [i for i, option in enumerate(plain) if option and f" {option} " in f" {_plain(text)} "]
    longest = [i for i in said if not any(i != j and plain[i] in plain[j] for j in said)]
    return longest[0] if len(longest) == 1 else None


def _plain(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.casefold()))
