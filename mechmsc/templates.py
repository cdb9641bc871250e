"""A model's chat template, cut into the pieces that make up every conversation, and checked while it is cut.

A template is a program: it may do anything to the turns it is given. mechmsc splices generated ids between what the
template writes, so it needs that this text does not depend on the turns around it. `cut` renders dummy conversations of
one, two and three rounds with sentinel contents and compares; what does not hold still is refused with a TemplateError.

    head | question | tail | gap | response | between | instruction | tail | gap | response | between ...
"""

import datetime
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from mechmsc.errors import InputError, TemplateError

USERS = ("walnut sentinel alpha", "walnut sentinel gamma", "walnut sentinel kappa")
"""User turns of the dummy conversations; each ends in a letter, so that what follows is tokenised as after a word."""
ANSWERS = ("quartz sentinel beta", "quartz sentinel delta")
"""Assistant turns of the dummy conversations."""
SYSTEM = "basalt sentinel omega"
LONG = "\n\n".join(f"paragraph {number}: <b>&amp; 'é' 😀 {{{{ 7 * 7 }}}} \\n" for number in range(400)) + "end"
"""A long, awkward content: a template that cuts, escapes or evaluates what it is given alters it."""
BLANK = "\n\n"
"""Between the parts of one user turn."""

Message = dict[str, str]


@dataclass(frozen=True)
class Pieces:
    """What the template writes around contents."""

    head: str
    """Before the first user content: BOS, system turn, opening of the user turn."""
    system: tuple[int, int] | None
    """Where in `head` the system text is, the template's default one included; None where there is none."""
    merged: str
    """The system text where the template has no system role: it opens the first user turn. Else empty."""
    tail: str
    """After a user content up to where the response starts: the generation prompt."""
    gap: str
    """Blanks that the history has between `tail` and an assistant content, the generation prompt not (Llama 2)."""
    between: str
    """After an assistant content up to the next user content."""
    answering: str
    """After a user content up to the assistant content, as the history shows it."""


@dataclass(frozen=True, eq=False)
class Renderer:
    """The template of one tokenizer with everything fixed that could change from day to day."""

    tokenizer: Any
    """A fast tokenizer of transformers."""
    template: str
    """Jinja source."""
    date: datetime.date
    """The day that the template takes for today."""
    thinking: bool
    """Passed as `enable_thinking`; templates that do not know it ignore it."""
    specials: tuple[str, ...]
    """Texts that the tokenizer reads as control tokens."""
    listed: bool = False
    """Whether contents are handed over as lists of parts, as the templates of vision-language models want them."""

    @classmethod
    def of(cls, tokenizer: Any, date: str | None, thinking: bool) -> "Renderer":
        """A renderer for this tokenizer.

        Args:
            tokenizer: of transformers, with a chat template.
            date: ISO date that the template is given as today; None: today.
            thinking: whether reasoning models may think.
        """
        name = _name(tokenizer)
        if not getattr(tokenizer, "is_fast", False):
            raise TemplateError(
                f"tokenizer of {name}: expected a fast tokenizer, which knows the characters of its tokens, "
                f"got {type(tokenizer).__name__}; convert it to tokenizer.json"
            )
        if not tokenizer.chat_template:
            raise TemplateError(
                f"tokenizer of {name}: expected a chat template, found none; use an instruction-tuned model"
            )
        try:
            today = datetime.date.today() if date is None else datetime.date.fromisoformat(date)
        except ValueError as error:
            raise InputError(f"date: expected an ISO date such as 2026-01-31, got {date!r}") from error
        template = _with_frozen_date(tokenizer.get_chat_template(), today)
        listed = getattr(tokenizer, "mechmsc_vision", None) is not None
        return cls(tokenizer, template, today, thinking, _specials(tokenizer), listed)

    def render(self, messages: Sequence[Message], *, pictured: bool = False) -> str:
        """The text of a conversation that ends in a user turn, generation prompt included.

        Args:
            messages: the turns.
            pictured: whether the first user turn opens with a picture.
        """
        try:
            return self.tokenizer.apply_chat_template(
                _listed(messages, pictured=pictured) if self.listed else list(messages),
                chat_template=self.template,
                tokenize=False,
                add_generation_prompt=True,
                date_string=self.date.strftime("%d %b %Y"),
                enable_thinking=self.thinking,
            )
        except Exception as error:  # a template is a program of somebody else's: it can raise anything
            roles = ", ".join(message["role"] for message in messages)
            raise self.refusal(f"turns {roles}", f"the template raised {_one_line(error)}") from error

    def content(self, what: str, text: str) -> str:
        """The text of a turn, stripped.

        Raises:
            InputError: nothing is left, or it holds the text of a control token, which would break the conversation.
        """
        stripped = text.strip()
        if not stripped:
            raise InputError(f"{what}: expected some text, got {text!r}")
        special = next((special for special in self.specials if special in stripped), None)
        if special is not None:
            raise InputError(
                f"{what}: it holds {special!r}, which the tokenizer of {_name(self.tokenizer)} reads as a control "
                f"token; remove it from {_shown(stripped)}"
            )
        return stripped

    def refusal(self, expected: str, arrived: str) -> TemplateError:
        """The error that says what this template does not do."""
        return TemplateError(
            f"chat template of {_name(self.tokenizer)}: expected {expected}, but {arrived}; "
            "use a model with a template that leaves earlier turns as they are"
        )


def _listed(messages: Sequence[Message], *, pictured: bool) -> list[dict[str, Any]]:
    """Contents as lists of parts."""
    made: list[dict[str, Any]] = [
        {"role": message["role"], "content": [{"type": "text", "text": message["content"]}]} for message in messages
    ]
    if pictured:
        first = next(message for message in made if message["role"] == "user")
        first["content"] = [{"type": "image"}, *first["content"]]
    return made


def system_message(content: str) -> Message:
    """A system turn."""
    return {"role": "system", "content": content}


def turns(users: Sequence[str], answers: Sequence[str]) -> list[Message]:
    """User and assistant turns in alternation, the user first."""
    messages: list[Message] = []
    for index, user in enumerate(users):
        messages.append({"role": "user", "content": user})
        if index < len(answers):
            messages.append({"role": "assistant", "content": answers[index]})
    return messages


def cut(renderer: Renderer, system: str | None) -> Pieces:
    """The pieces of this template, checked.

    Args:
        renderer: the template.
        system: system text; None keeps what the template writes by itself.

    Raises:
        TemplateError: the text around a turn changes with what follows or with contents, or contents are lost.
    """
    if system is None:
        pieces = _pieces(renderer, [])
        return replace(pieces, system=_default_system(renderer, pieces.head))
    try:
        pieces = _pieces(renderer, [system_message(SYSTEM)])
        before, after = _split(renderer, pieces.head, [SYSTEM])
        actual = _pieces(renderer, [system_message(system)])
        if actual.head != before + system + after:
            raise renderer.refusal("the system text as given", "it is altered")
        return replace(actual, system=(len(before), len(before) + len(system)))
    except (
        TemplateError
    ):  # no system role, or one that moves with the turns: the text opens the first user turn instead
        return replace(_pieces(renderer, []), merged=system)


def _pieces(renderer: Renderer, opening: list[Message]) -> Pieces:
    """The pieces from dummy conversations with these messages in front, compared over rounds and contents."""
    pieces = _pieces_of_contents(renderer, opening, USERS, ANSWERS)
    awkward = _pieces_of_contents(
        renderer, opening, [f"{LONG} {user}" for user in USERS], [f"{LONG} {answer}" for answer in ANSWERS]
    )
    if awkward != pieces:
        raise renderer.refusal("the same text around every content", "it depends on the content")
    return pieces


def _pieces_of_contents(
    renderer: Renderer, opening: list[Message], users: Sequence[str], answers: Sequence[str]
) -> Pieces:
    head, tail = _split(renderer, renderer.render([*opening, *turns(users[:1], [])]), users[:1])
    for rounds in (2, 3):
        contents = [message["content"] for message in turns(users[:rounds], answers[: rounds - 1])]
        found = _split(renderer, renderer.render([*opening, *turns(users[:rounds], answers[: rounds - 1])]), contents)
        if rounds == 2:
            answering, between = found[1], found[2]
        expected = [head, *[answering, between] * (rounds - 1), tail]
        for index, (want, got) in enumerate(zip(expected, found, strict=True)):
            if want != got:
                raise renderer.refusal(
                    f"{_shown(want)} before turn {index + 1} of {rounds} rounds, as with fewer rounds",
                    f"it is {_shown(got)}",
                )
    gap = _gap(renderer, tail, answering)
    return Pieces(head, None, "", tail, gap, between, answering)


def _gap(renderer: Renderer, tail: str, answering: str) -> str:
    """What the history writes between the generation prompt and the answer: blanks at most.

    A think block that the generation prompt opens, empty or not, stays in the history as the model was shown it; that a
    template leaves it out when it writes the history itself is no reason to refuse.
    """
    shown = re.sub(r"<think>\s*(</think>\s*)?$", "", tail)
    if shown.rstrip() != answering.rstrip():
        raise renderer.refusal(f"the generation prompt {_shown(answering)} of the history", f"it is {_shown(tail)}")
    return answering[len(tail) :] if answering.startswith(tail) else ""


def _default_system(renderer: Renderer, head: str) -> tuple[int, int] | None:
    """Where in `head` the template's own system prompt is: what stands there in place of a given one."""
    try:
        given = renderer.render([system_message(SYSTEM), *turns(USERS[:1], [])])
        before, after, _ = _split(renderer, given, [SYSTEM, USERS[0]])
    except TemplateError:
        return None
    if not (head.startswith(before) and head.endswith(after) and len(head) > len(before) + len(after)):
        return None
    text = head[len(before) : len(head) - len(after)]
    start = len(before) + len(text) - len(text.lstrip())
    return (start, start + len(text.strip())) if text.strip() else None


def _split(renderer: Renderer, text: str, contents: Sequence[str]) -> list[str]:
    """The text around contents, which must occur in this order."""
    pieces, rest = [], text
    for number, content in enumerate(contents, start=1):
        before, found, rest = rest.partition(content)
        if not found:
            raise renderer.refusal("every turn as it was given", f"turn {number} of {len(contents)} is lost or altered")
        pieces.append(before)
    return [*pieces, rest]


def _with_frozen_date(template: str, date: datetime.date) -> str:
    """The template with its own `strftime_now`, which knows one day only.

    transformers hands no functions to templates (it replaces them by a placeholder), so this one is written in Jinja.
    The macro ends in a newline, which Jinja removes (trim_blocks), so that the first line of the template still starts
    a line.
    """
    if "strftime_now" not in template:
        return template
    codes = {f"%{letter}": date.strftime(f"%{letter}") for letter in "aAbBcdFHIjmMpSuUwWxXyY"}
    codes |= {code.replace("%", "%-"): value.lstrip("0") for code, value in codes.items() if code in ("%d", "%m", "%j")}
    replaced = "".join(f" | replace({json.dumps(code)}, {json.dumps(value)})" for code, value in codes.items())
    return f"{{%- macro strftime_now(format) -%}}{{{{ format{replaced} }}}}{{%- endmacro %}}\n{template}"


def _shown(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:28]} ... {text[-28:]}")


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"


def _specials(tokenizer: Any) -> tuple[str, ...]:
    added = {str(token) for token in tokenizer.added_tokens_decoder.values() if token.special}
    return tuple(sorted(text for text in added | set(tokenizer.all_special_tokens) if text.strip()))


def _name(tokenizer: Any) -> str:
    return repr(getattr(tokenizer, "name_or_path", "") or type(tokenizer).__name__)
