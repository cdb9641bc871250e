"""The position map of the batch in flight: which token of which conversation each column of an activation is.

A hook is handed `[row, column, ...]` and nothing else. With a cache a column is one new token, with padding some
columns are none, and rows are branches of conversations that differ in length. Whoever runs a pass therefore says
what is in flight (`in_flight`), and whoever edits or reads asks (`picked`). A row's tokens always stand together:

    column c of row r  =  token  row.start + c - row.column,   for 0 <= c - row.column < row.count

The module also knows which edits are active on a model, so that nothing that would ignore them runs by accident.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from mechmsc.chat import ChatFormat
from mechmsc.errors import InputError, TemplateError
from mechmsc.model.vision import vision_of
from mechmsc.sites import Site
from mechmsc.transcripts import Transcript

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer


@dataclass(frozen=True, eq=False)
class Shown:
    """A conversation that rows of a batch belong to; where a site is in it is worked out once."""

    transcript: Transcript
    end_ids: frozenset[int]
    """Tokens that end a turn."""
    number: int | None = None
    """Its place among the conversations of the call, for values given in that order; None where there is no order."""
    _found: dict[Site, tuple[Sequence[int], ...]] = field(default_factory=dict, repr=False)

    def tokens(self, site: Site) -> tuple[Sequence[int], ...]:
        """See `Site.tokens`."""
        if site not in self._found:
            self._found[site] = site.tokens(self.transcript, self.end_ids)
        return self._found[site]

    def expect(self, site: Site) -> None:
        """Refuse a site that this conversation does not have.

        Raises:
            InputError: names site, item and what the conversation has.
        """
        if not self.tokens(site):
            has = sorted({f"{span.name}@{span.round}" for span in self.transcript.spans})
            raise InputError(
                f"site {site}: no such tokens in conversation {self.transcript.item_id!r} of "
                f"{self.transcript.rounds} rounds, which has {', '.join(has)}"
            )


@dataclass(frozen=True, eq=False)
class Row:
    """One row of the batch: `count` tokens of its conversation from index `start`, from column `column` on."""

    shown: Shown
    start: int
    count: int
    column: int = 0


@dataclass(frozen=True, eq=False)
class Picked:
    """The tokens of a site that are in flight, n of them in g groups (one a row and round)."""

    row: Tensor
    """`[n]`."""
    column: Tensor
    """`[n]`."""
    group: Tensor
    """`[n]`: which group each belongs to."""
    groups: tuple[int, ...]
    """The same as plain numbers."""
    places: tuple[int, ...]
    """Place of each of the n tokens within its group, from 0."""
    owners: tuple[Row, ...]
    """The row of each group."""
    whole: tuple[bool, ...]
    """Whether all tokens of the group are in flight, so that its mean is known."""

    def means(self, x: Tensor) -> Tensor:
        """Mean of each group: `[n, ...]` -> `[g, ...]`."""
        total = x.new_zeros(len(self.owners), *x.shape[1:]).index_add(0, self.group, x)
        ones = x.new_ones(x.shape[0])
        counts = ones.new_zeros(len(self.owners)).index_add(0, self.group, ones)
        return total / counts.view(-1, *[1] * (x.ndim - 1))


@dataclass(frozen=True, eq=False)
class Flight:
    """What one forward pass holds."""

    rows: tuple[Row, ...]
    device: torch.device
    _picked: dict[Site, Picked | None] = field(default_factory=dict, repr=False)

    def picked(self, site: Site) -> Picked | None:
        """The tokens of a site, or None where none of them is in flight."""
        key = Site(site.component, span=site.span, round=site.round, at=site.at)
        if key not in self._picked:
            self._picked[key] = _pick(self, key)
        return self._picked[key]


def _pick(flight: Flight, site: Site) -> Picked | None:
    rows, columns, groups, places, owners, whole = [], [], [], [], [], []
    for r, row in enumerate(flight.rows):
        for tokens in row.shown.tokens(site):
            here = _within(tokens, row)
            if not here:
                continue
            rows += [r] * len(here)
            columns += [token - row.start + row.column for _, token in here]
            groups += [len(owners)] * len(here)
            places += [place for place, _ in here]
            whole.append(len(here) == len(tokens))
            owners.append(row)
    if not rows:
        return None
    row, column, group = (torch.tensor(x, device=flight.device) for x in (rows, columns, groups))
    return Picked(row, column, group, tuple(groups), tuple(places), tuple(owners), tuple(whole))


def _within(tokens: Sequence[int], row: Row) -> list[tuple[int, int]]:
    """(place in the group, token) of those that the row holds."""
    end = row.start + row.count
    if isinstance(tokens, range):
        low, high = max(tokens.start, row.start), min(tokens.stop, end)
        return [(token - tokens.start, token) for token in range(low, high)]
    return [(place, token) for place, token in enumerate(tokens) if row.start <= token < end]


@dataclass(eq=False)
class _State:
    flight: Flight | None = None
    bare: Flight | None = None
    edits: tuple[Any, ...] = ()
    suspended: bool = False


_STATES: "WeakKeyDictionary[Any, _State]" = WeakKeyDictionary()
_END_IDS: "WeakKeyDictionary[Any, frozenset[int]]" = WeakKeyDictionary()


def _state(model: "HookedTransformer") -> _State:
    return _STATES.setdefault(model, _State())


@contextmanager
def in_flight(model: "HookedTransformer", rows: Sequence[Row] | None) -> Iterator[None]:
    """While the block runs, these rows are what the model's passes hold; None: nothing is known."""
    state, vision = _state(model), vision_of(model)
    before = state.flight
    state.flight = None if rows is None else Flight(tuple(rows), torch.device(model.cfg.device))
    seen = None if vision is None else vision.rows
    if vision is not None:
        vision.rows = rows
    try:
        yield
    finally:
        state.flight = before
        if vision is not None:
            vision.rows = seen


def flight(model: "HookedTransformer") -> Flight | None:
    """What the pass that runs now holds, or None where nobody said."""
    state = _state(model)
    return state.flight or state.bare


@contextmanager
def active(model: "HookedTransformer", edits: Sequence[Any]) -> Iterator[None]:
    """While the block runs, the model counts as edited; these edits come after those that were active before."""
    state = _state(model)
    before = state.edits
    state.edits = (*before, *edits)
    try:
        yield
    finally:
        state.edits = before


def edits_on(model: "HookedTransformer") -> tuple[Any, ...]:
    """The edits that act on the model now."""
    state = _state(model)
    return () if state.suspended else state.edits


@contextmanager
def suspended(model: "HookedTransformer") -> Iterator[None]:
    """While the block runs, every edit stands still: the model is unedited."""
    state = _state(model)
    before, state.suspended = state.suspended, True
    try:
        yield
    finally:
        state.suspended = before


def refuse_edits(model: "HookedTransformer", what: str, instead: str) -> None:
    """Raise InputError if edits are active: `what` would not see them."""
    edits = edits_on(model)
    if edits:
        raise InputError(f"{what} would ignore the active edit {edits[0]} ({len(edits)} in all); {instead}")


@contextmanager
def bare_calls_on(model: "HookedTransformer", shown: Sequence[Shown]) -> Iterator[None]:
    """While the block runs, a plain `model(tokens)` is taken to be these conversations.

    The embedding sees the tokens of every pass, `run_with_hooks` and `run_with_cache` included; there the rows are
    compared with the conversations, padded on either side or going on after the conversation.
    """
    state, vision = _state(model), vision_of(model)
    seen = None if vision is None else vision.rows

    def look(module: object, args: tuple[Tensor, ...]) -> None:  # noqa: ARG001 - a torch hook's
        if state.flight is None:
            state.bare = Flight(tuple(_match(args[0], shown)), torch.device(model.cfg.device))
            if vision is not None:
                vision.rows = state.bare.rows

    handle, before = model.embed.register_forward_pre_hook(look), state.bare
    try:
        yield
    finally:
        handle.remove()
        state.bare = before
        if vision is not None:
            vision.rows = seen


def _match(tokens: Tensor, shown: Sequence[Shown]) -> Iterator[Row]:
    if len(shown) not in (1, len(tokens)):
        raise InputError(f"on: expected 1 or {len(tokens)} conversations, as many as the batch, got {len(shown)}")
    given = None if tokens.is_meta else tokens.tolist()
    for r in range(len(tokens)):
        one = shown[r if len(shown) > 1 else 0]
        ids, width = list(one.transcript.ids), tokens.shape[1]
        if given is None or given[r][: len(ids)] == ids:
            yield Row(one, 0, width if len(shown) == 1 else len(ids), 0)
        elif len(ids) < width and given[r][width - len(ids) :] == ids:
            yield Row(one, 0, len(ids), width - len(ids))
        else:
            raise InputError(
                f"on: row {r} of the batch does not hold the {len(ids)} tokens of conversation "
                f"{one.transcript.item_id!r}; pass the same tokens, or use respond and measure"
            )


def end_ids(model: "HookedTransformer") -> frozenset[int]:
    """Ids that end a turn of this model's conversations; none for a model without tokenizer."""
    if model not in _END_IDS:
        config = getattr(getattr(getattr(model, "mechmsc", None), "hf", None), "generation_config", None)
        extra = getattr(config, "eos_token_id", None)
        extra = [] if extra is None else list(extra) if isinstance(extra, list | tuple) else [extra]
        if model.tokenizer is not None:
            extra.append(model.tokenizer.eos_token_id)
            try:
                extra += ChatFormat.of(model.tokenizer).end_ids
            except TemplateError:  # no chat format: turns end where texts do
                pass
        _END_IDS[model] = frozenset(token for token in extra if token is not None)
    return _END_IDS[model]


def shown(model: "HookedTransformer", transcripts: Sequence[Transcript]) -> list[Shown]:
    """Conversations in the order of a call, ready to be put in flight."""
    ends = end_ids(model)
    return [Shown(transcript, ends, number) for number, transcript in enumerate(transcripts)]
