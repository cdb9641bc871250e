"""The two conversations of a mediation: the same item at one round, asked under control and under treatment.

history="shared": both go on from the control arm's conversation up to the response of round t - 1; only the instruction
of round t differs. history="own": each arm's own conversation.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from mechmsc.chat import ChatFormat
from mechmsc.errors import InputError, nearest
from mechmsc.instructions import Arm, instruction, parse_arms
from mechmsc.model import identity
from mechmsc.positions import end_ids
from mechmsc.runs import Run
from mechmsc.tasks import TASKS, Item
from mechmsc.transcripts import Transcript

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer

HISTORIES = ("shared", "own")


@dataclass(frozen=True, eq=False)
class Pair:
    """One item at one round under both arms, waiting for its response."""

    item: Item
    round: int
    control: Transcript
    treatment: Transcript


def check_run(model: "HookedTransformer", run: Run, arms: Sequence[str]) -> None:
    """Refuse a run of another model, or one without these arms.

    Raises:
        InputError: says what the run has.
    """
    ours, theirs = identity(model), run.manifest["model"]
    if ours.sha256 != theirs["sha256"]:
        raise InputError(f"{run.path} was made with {theirs['name']}, this model is {ours.name}; load the run's model")
    known = run.manifest["config"]["arms"]
    for arm in arms:
        if arm not in known:
            raise InputError(f"{run.path} has no arm {arm!r}: {nearest(arm, known)}; run it with --arms {arm},...")
    if len(set(arms)) < len(arms):
        raise InputError(f"treatment and control must differ, got {arms[0]!r} twice")


def pairs_of(
    model: "HookedTransformer",
    run: Run,
    *,
    treatment: str,
    control: str,
    history: str = "shared",
    rounds: Sequence[int] | None = None,
    items: Sequence[str] | None = None,
) -> list[Pair]:
    """The pairs of a run, by round, then by item.

    Args:
        model: the run's model.
        run: holds both arms.
        treatment: arm x'.
        control: arm x.
        history: "shared" or "own".
        rounds: from 1; None: every round that both arms have.
        items: item ids; None: all.

    Raises:
        InputError: another model, no such arm, round or item, or nothing left.
    """
    if history not in HISTORIES:
        raise InputError(f"unknown history {history!r}: {nearest(history, HISTORIES)}")
    check_run(model, run, [treatment, control])
    config = run.manifest["config"]
    known, wanted = _items(run, items)
    chat = ChatFormat.of(model.tokenizer, system=config["system"], date=config["date"], extra_end_ids=end_ids(model))
    rows = {(row["item_id"], row["arm"], row["round"]): row for row in run.transcripts.to_dict("records")}
    (arm,) = parse_arms(treatment, rounds=config["rounds"])
    pairs = []
    for round in range(1, config["rounds"] + 1) if rounds is None else rounds:
        for item_id in wanted:
            found = [rows.get((item_id, name, round)) for name in (control, treatment)]
            if None not in found:
                base = _conversation(found[0]).up_to(round)
                own = _conversation(found[1]).up_to(round)
                before = _conversation(rows[item_id, control, round - 1]) if round > 1 else None
                other = own if history == "own" else _asked(chat, known[item_id], arm, round, before)
                pairs.append(Pair(known[item_id], round, base, other))
    if not pairs:
        raise InputError(
            f"{run.path} has no round that both {treatment!r} and {control!r} have, among those asked for; arm 'none' "
            "has round 1 alone"
        )
    return pairs


def conversations_of(
    run: Run, *, arm: str, rounds: Sequence[int] | None = None, items: Sequence[str] | None = None
) -> list[Pair]:
    """An arm's own conversations, each as a pair of itself.

    Raises:
        InputError: no such round or item, or nothing left.
    """
    known, wanted = _items(run, items)
    rows = {(row["item_id"], row["round"]): row for row in run.transcripts.to_dict("records") if row["arm"] == arm}
    pairs = []
    for round in range(1, run.manifest["config"]["rounds"] + 1) if rounds is None else rounds:
        for item_id in wanted:
            if (item_id, round) in rows:
                conversation = _conversation(rows[item_id, round]).up_to(round)
                pairs.append(Pair(known[item_id], round, conversation, conversation))
    if not pairs:
        raise InputError(f"{run.path} has no conversation of arm {arm!r} in the rounds asked for")
    return pairs


def _items(run: Run, items: Sequence[str] | None) -> tuple[dict[str, Item], list[str]]:
    known = {item.item_id: item for item in run.items}
    wanted = list(known) if items is None else list(items)
    strangers = [item for item in wanted if item not in known]
    if strangers:
        raise InputError(f"{run.path} has no item {strangers[0]!r}: {nearest(strangers[0], list(known)[:50])}")
    return known, wanted


def _asked(chat: ChatFormat, item: Item, arm: Arm, round: int, before: Transcript | None) -> Transcript:
    """What the arm's instruction of this round makes of the history."""
    text = instruction(item, arm.stance(round), round)
    options: dict[str, Any] = {
        "prefix": TASKS[item.task].answer_prefix if item.options else None,
        "labels": item.labels,
    }
    if before is None:
        return chat.open(item.turn(), text, item_id=item.item_id, arm=arm.name, image=item.image, **options)
    asked = chat.ask(before, text, **options)
    return replace(asked, item_id=item.item_id, arm=arm.name)


def _conversation(row: dict[str, Any]) -> Transcript:
    ids = [row[name].tolist() for name in ("prompt_ids", "response_ids")]
    image = row["image"] if isinstance(row.get("image"), str) else None
    return Transcript.from_row(*ids, row["spans"], item_id=row["item_id"], arm=row["arm"], image=image)
