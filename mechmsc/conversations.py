"""One batch of conversations, held through all their rounds.

A `_Line` is one row of the decoder: a conversation in one order of its options. Free generation has one line an
(item, arm); a question with options has one for each permutation, since each permutation is a conversation of its own,
in which the remembered answer bears the letter it has there. What is stored (ids, samples, activations) is the line in
canonical order; probabilities are averaged over all.

What several lines of an item share at the start (system, question) is encoded once.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from os.path import commonprefix
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from mechmsc.chat import ChatFormat
from mechmsc.decoders import Decoder, open_decoder
from mechmsc.generation import Drawn, Stream, draw, score_labels
from mechmsc.instructions import Arm, instruction
from mechmsc.noise import noise_key
from mechmsc.positions import Shown, edits_on
from mechmsc.settings import Settings
from mechmsc.tasks import TASKS, Item, parse_choice
from mechmsc.transcripts import Transcript
from mechmsc.uncertainty import first_token_entropy

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer


@dataclass
class _Line:
    item: Item
    arm: Arm
    order: tuple[int, ...]
    """Option `order[j]` stands at letter j; () without options."""
    transcript: Transcript | None = None
    first_token_entropy: float = float("nan")
    """Of this round's response, in nats, before anything is drawn."""

    @property
    def canonical(self) -> bool:
        return self.order == tuple(range(len(self.order)))


@dataclass(frozen=True, eq=False)
class _Now:
    """One round of the lines that have it, prompted and encoded up to where the responses start."""

    chat: ChatFormat
    settings: Settings
    round: int
    lines: Sequence[_Line]
    decoder: Decoder
    logits: Tensor
    """`[line, d_vocab]` at the end of each prompt."""


@dataclass
class Held:
    """What a batch of conversations left."""

    transcripts: list[dict[str, Any]] = field(default_factory=list)
    """Rows of transcripts.parquet, without scores."""
    samples: list[dict[str, Any]] = field(default_factory=list)
    """Rows of samples.parquet."""
    conversations: list[Transcript] = field(default_factory=list)
    """The whole conversation of each (item, arm), in the order asked for."""


def shifts(n_options: int, permutations: int | None) -> list[tuple[int, ...]]:
    """Orders of the options: cyclic shifts, the canonical order first; [()] without options.

    >>> shifts(3, None)
    [(0, 1, 2), (1, 2, 0), (2, 0, 1)]
    """
    if not n_options:
        return [()]
    return [tuple((j + s) % n_options for j in range(n_options)) for s in range(permutations or n_options)]


def hold(
    model: "HookedTransformer",
    chat: ChatFormat,
    pairs: Sequence[tuple[Item, Arm]],
    settings: Settings,
    *,
    on_round: Callable[[int], None] = lambda _: None,
) -> Held:
    """Hold these conversations through all rounds.

    Args:
        model: the model.
        chat: its chat format.
        pairs: (item, arm) of each conversation; all items have the same number of options.
        settings: how.
        on_round: called after each round with the number of conversations that had one.
    """
    orders = shifts(len(pairs[0][0].options), settings.permutations)
    lines = [_Line(item, arm, order) for order in orders for item, arm in pairs]
    held, decoder, rows = Held(), None, lines
    for round in range(1, settings.rounds + 1):
        active = [line for line in rows if line.arm.stance(round) is not None]
        if not active:
            break
        for line in active:
            line.transcript = _prompt(chat, line, round)
        if decoder is None:
            decoder, logits = _begin(model, chat, active, settings.decoder)
        else:
            decoder.select([i for i, line in enumerate(rows) if line.arm.stance(round) is not None])
            logits = _encode_rest(decoder, chat, active)
        for line, entropy in zip(active, first_token_entropy(logits).tolist(), strict=True):
            line.first_token_entropy = entropy
        rows, now = active, _Now(chat, settings, round, active, decoder, logits)
        (_choose if orders != [()] else _continue)(now, held)
        on_round(sum(line.canonical for line in rows))
    held.conversations = [line.transcript for line in lines[: len(pairs)]]
    return held


def _prompt(chat: ChatFormat, line: _Line, round: int) -> Transcript:
    text = instruction(line.item, line.arm.stance(round), round)
    prefix = TASKS[line.item.task].answer_prefix if line.order else None
    options = {"prefix": prefix, "labels": line.item.labels}
    if round > 1:
        return chat.ask(line.transcript, text, **options)
    question = line.item.turn(line.order or None)
    return chat.open(question, text, item_id=line.item.item_id, arm=line.arm.name, image=line.item.image, **options)


def _begin(model: "HookedTransformer", chat: ChatFormat, lines: Sequence[_Line], kind: str) -> tuple[Decoder, Tensor]:
    """Encode the prompts of round 1, what an item's lines share only once, unless edits tell lines apart."""
    groups: dict[str, list[int]] = {}
    for i, line in enumerate(lines):
        groups.setdefault(line.item.item_id, []).append(i)
    shared = []
    for members in groups.values():
        prompts = [lines[i].transcript.ids for i in members]
        shared.append(commonprefix(prompts)[: min(map(len, prompts)) - 1])
    if len(groups) == len(lines) or not all(shared) or edits_on(model):
        decoder = open_decoder(model, len(lines), kind=kind)
        return decoder, _encode_rest(decoder, chat, lines)
    decoder = open_decoder(model, len(groups), kind=kind)
    decoder.extend(shared, [Shown(lines[members[0]].transcript, chat.end_ids) for members in groups.values()])
    row = {i: g for g, members in enumerate(groups.values()) for i in members}
    decoder.select([row[i] for i in range(len(lines))])
    return decoder, _encode_rest(decoder, chat, lines)


def _encode_rest(decoder: Decoder, chat: ChatFormat, lines: Sequence[_Line]) -> Tensor:
    """Encode what the decoder has not seen of each line; logits at the prompt's end, `[line, d_vocab]`."""
    new = [line.transcript.ids[known:] for line, known in zip(lines, decoder.lengths, strict=True)]
    return decoder.extend(new, [Shown(line.transcript, chat.end_ids) for line in lines])


def _continue(now: _Now, held: Held) -> None:
    """Free generation: a greedy main line and the samples of every conversation."""
    drawn = _draw(now, main=range(len(now.lines)))
    for line, (main, *samples) in zip(now.lines, drawn, strict=True):
        held.transcripts.append(_answer(now, line, main))
        held.samples += _sample_rows(now, line, samples)


def _choose(now: _Now, held: Held) -> None:
    """A question with options: the choice over permutations, then what each line remembers of it."""
    item = now.lines[0].item
    label_ids = now.chat.label_ids(TASKS[item.task].answer_prefix, item.labels)
    scores = score_labels(now.decoder, now.logits, label_ids).double().cpu().numpy()
    by_order: dict[tuple[str, str], list[np.ndarray]] = {}
    for line, score in zip(now.lines, scores.sum(2), strict=True):
        by_order.setdefault((line.item.item_id, line.arm.name), []).append(option_probabilities(score, line.order))
    free = now.settings.choice_mode == "free"
    drawn: list[list[Drawn]] = [[] for _ in now.lines]
    if free or now.settings.samples:
        drawn = _draw(now, main=range(len(now.lines)) if free else [])
    for line, score, samples in zip(now.lines, scores, drawn, strict=True):
        probs = by_order[line.item.item_id, line.arm.name]
        q = np.mean(probs, axis=0).astype(np.float32)  # as stored; rounding leaves ties to the lowest index
        choice = int(q.argmax())
        if free:
            said = samples.pop(0)
            choice = parse_choice(_text(now.chat, said.ids), len(label_ids), options=line.item.options)
        else:
            ids = label_ids[line.order.index(choice)]
            said = Drawn(tuple(ids), tuple(score[line.order.index(choice), : len(ids)]), "forced")
        row = _answer(now, line, said)
        if line.canonical:
            permuted = [one.tolist() for one in probs]
            held.transcripts.append(
                row
                | {"choice": choice, "choice_probs": q.tolist(), "permutation_probs": permuted, "gold": line.item.gold}
            )
            held.samples += _sample_rows(now, line, samples)


def option_probabilities(scores: np.ndarray, order: Sequence[int]) -> np.ndarray:
    """Probabilities of the options, mapped back from the letters they stood at; they sum to 1.

    Args:
        scores: log-probability of each label in nats, `[letter]`.
        order: option `order[j]` stood at letter j.

    Returns:
        float64 `[choice]`, in canonical order.
    """
    q = np.empty(len(order))
    q[list(order)] = np.exp(scores - np.logaddexp.reduce(scores))
    return q


def _draw(now: _Now, *, main: Sequence[int]) -> list[list[Drawn]]:
    """For each line its main line, if it is among `main`, then its samples, if it is in canonical order."""
    settings, streams = now.settings, list(_streams(now, set(main)))
    drawn: list[list[Drawn]] = [[] for _ in now.lines]
    found = draw(
        now.decoder,
        now.logits,
        streams,
        max_new_tokens=settings.max_new_tokens,
        end_ids=now.chat.end_ids,
        temperature=settings.temperature,
        top_p=settings.top_p,
    )
    for stream, one in zip(streams, found, strict=True):
        drawn[stream.row].append(one)
    return drawn


def _streams(now: _Now, main: set[int]) -> Iterator[Stream]:
    for i, line in enumerate(now.lines):
        if i in main:
            yield Stream(i)
        for sample in range(now.settings.samples if line.canonical else 0):
            key = noise_key(seed=now.settings.seed, item_id=line.item.item_id, round=now.round, sample=sample)
            yield Stream(i, key)


def _answer(now: _Now, line: _Line, said: Drawn) -> dict[str, Any]:
    """Splice a response into the line's conversation; its row of the transcripts."""
    prompt_ids = list(line.transcript.ids)
    line.transcript = now.chat.reply(line.transcript, said.ids, stop_reason=said.stop_reason)
    return {
        "task": line.item.task,
        "group": line.item.group,
        "question": line.item.turn(),
        "image": line.item.image,
        "pair": line.item.metadata.get("pair"),
        "instruction": instruction(line.item, line.arm.stance(now.round), now.round),
        "prompt_ids": prompt_ids,
        "spans": line.transcript.spans_json(),
        "first_token_entropy": line.first_token_entropy,
        **_response(now, line, said),
    }


def _sample_rows(now: _Now, line: _Line, drawn: Sequence[Drawn]) -> list[dict[str, Any]]:
    rows = enumerate(drawn)
    return [_response(now, line, one) | {"sample": sample, "seed": now.settings.seed} for sample, one in rows]


def _response(now: _Now, line: _Line, said: Drawn) -> dict[str, Any]:
    """What the two tables have in common."""
    return {
        "item_id": line.item.item_id,
        "arm": line.arm.name,
        "round": now.round,
        "response_ids": list(said.ids),
        "response_logprobs": list(said.logprobs),
        "response": _text(now.chat, said.ids),
        "stop_reason": said.stop_reason,
    }


def _text(chat: ChatFormat, ids: Sequence[int]) -> str:
    """The text of a response without its end of turn."""
    return chat.tokenizer.decode([token for token in ids if token not in chat.end_ids])
