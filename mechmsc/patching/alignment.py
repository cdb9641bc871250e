"""Tokens that correspond in two conversations: never guessed, always by a stated rule."""

from collections.abc import Collection, Sequence
from difflib import SequenceMatcher
from typing import Any

from mechmsc.errors import InputError, nearest
from mechmsc.model.looking import pictured
from mechmsc.patching.places import Pairing, Slot, check_range
from mechmsc.sites import Site
from mechmsc.transcripts import Transcript

ALIGNMENTS = ("last", "mean", "shared")
Rounds = int | tuple[int, int] | None


def pair_ids(source: Any, destination: Any, *, positions: Sequence[int] | None = None) -> Pairing:
    """Token ids `[item, position]` of equal length: each token corresponds to the one at its index.

    Args:
        source: a tensor, an array or lists.
        destination: the same shape.
        positions: tokens to patch; None: all.

    Raises:
        InputError: not two rectangles of one shape, or a position out of range.
    """
    rows = [_rows(ids, name) for ids, name in ((source, "source"), (destination, "destination"))]
    shapes = [(len(ids), *sorted({len(row) for row in ids})) for ids in rows]
    if shapes[0] != shapes[1]:
        raise InputError(
            f"source and destination: expected token ids of one shape, got {shapes[0]} and {shapes[1]}; for runs of "
            "different length give transcripts and an alignment"
        )
    chosen = range(shapes[0][1]) if positions is None else check_range("position", list(positions), shapes[0][1])
    slots: list[list[Slot]] = [[(token,) for token in chosen] for _ in rows[0]]
    return Pairing(*rows, slots, slots)


def _rows(ids: Any, name: str) -> list[tuple[int, ...]]:
    listed = ids.tolist() if hasattr(ids, "tolist") else ids
    listed = [listed] if listed and isinstance(listed[0], int) else listed
    good = listed and all(isinstance(row, list | tuple) and row for row in listed)
    if not good or not all(isinstance(token, int) for row in listed for token in row):
        raise InputError(f"{name}: expected token ids [item, position] or transcripts, got {str(ids)[:60]!r}")
    if len({len(row) for row in listed}) > 1:
        raise InputError(
            f"{name}: expected rows of one length, got {sorted({len(row) for row in listed})}; use transcripts"
        )
    return [tuple(row) for row in listed]


def pair_transcripts(
    source: Sequence[Transcript],
    destination: Sequence[Transcript],
    *,
    span: str | None,
    round: Rounds,
    align: str | None,
    at: str | int | range = "all",
    end_ids: Collection[int] = (),
) -> Pairing:
    """Conversations in pairs, their tokens aligned within a span.

    Args:
        source: one a pair.
        destination: one a pair.
        span: a span name or "prompt"; None: the whole conversation.
        round: of the span, in both or (source, destination); None: every round.
        align: "last" (the last token of the span), "mean" (its mean), "shared" (the tokens that both have in common,
            in order; the longest common stretches first), None: token by token, for conversations with the same spans.
        at: of the span's tokens, as in `Site`.
        end_ids: tokens that end a turn; they belong to no span's content.

    Raises:
        InputError: unequal conversations without an alignment, a span that one of them lacks, an unknown alignment.
    """
    if len(source) != len(destination) or not source:
        raise InputError(f"expected as many sources as destinations, got {len(source)} and {len(destination)}")
    if align is not None and align not in ALIGNMENTS:
        raise InputError(f"unknown alignment {align!r}: {nearest(str(align), ALIGNMENTS)}")
    rounds = round if isinstance(round, tuple) else (round, round)
    if len(rounds) != 2:
        raise InputError(f"round: expected a number or (source, destination), got {round!r}")
    pairs = []
    for theirs, ours in zip(source, destination, strict=True):
        reads, writes = (
            _tokens(one, span, its_round, at, end_ids) for one, its_round in zip((theirs, ours), rounds, strict=True)
        )
        pairs.append(_aligned(theirs, ours, reads, writes, align))
    ids = [[pictured(one) for one in many] for many in (source, destination)]
    return Pairing(*ids, *map(list, zip(*pairs, strict=True)), mean=align == "mean")


def _tokens(
    transcript: Transcript, span: str | None, round: int | None, at: str | int | range, end_ids: Collection[int]
) -> list[int]:
    """The span's tokens in order."""
    if span is None:
        if round is not None or at != "all":
            raise InputError("round and at need a span, e.g. span='prompt'")
        return list(range(len(transcript)))
    site = Site("resid_pre", span=span, round=round, at="all" if at == "mean" else at)
    found = [token for group in site.tokens(transcript, end_ids) for token in group if token < len(transcript)]
    if not found:
        where = "any round" if round is None else f"round {round}"
        others = sorted({one.round for one in transcript.spans if one.name == span})
        raise InputError(
            f"the conversation of {transcript.item_id or 'this item'!r}, arm {transcript.arm!r}, has no span {span!r} "
            f"in {where}; it has {transcript.rounds} rounds"
            + (f", and one in round {', '.join(map(str, others))}" if others else "")
        )
    return found


def _aligned(
    source: Transcript, destination: Transcript, reads: list[int], writes: list[int], align: str | None
) -> tuple[list[Slot], list[Slot]]:
    """Slots of the source and of the destination."""
    if align == "last":
        return [(reads[-1],)], [(writes[-1],)]
    if align == "mean":
        slots = [tuple(t for t in tokens if t > 0) for tokens in (reads, writes)]
        if not all(slots):
            raise InputError("align='mean': the span holds nothing but the first token, which means leave out")
        return [slots[0]], [slots[1]]
    if align == "shared":
        ids = [[one.ids[t] for t in tokens] for one, tokens in ((source, reads), (destination, writes))]
        blocks = SequenceMatcher(None, *ids, autojunk=False).get_matching_blocks()
        both = [(reads[block.a + i], writes[block.b + i]) for block in blocks for i in range(block.size)]
        if not both:
            raise InputError(
                f"align='shared': the conversations of {destination.item_id!r} share no token in this span"
            )
        return [(a,) for a, _ in both], [(b,) for _, b in both]
    layouts = [[(span.name, span.round, span.start, span.end) for span in one.spans] for one in (source, destination)]
    if layouts[0] != layouts[1] or reads != writes:
        raise InputError(
            f"the conversations of {destination.item_id!r} differ in their spans ({len(source)} and "
            f"{len(destination)} tokens), and no alignment is stated; give align='last', 'mean' or 'shared'"
        )
    return [(t,) for t in reads], [(t,) for t in writes]
