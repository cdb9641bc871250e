"""`measure`: outcomes of conversations at the end of their prompts, edited or not, in one pass."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from mechmsc.conversations import shifts
from mechmsc.directions import Direction
from mechmsc.errors import InputError, nearest
from mechmsc.generation import score_labels
from mechmsc.interventions.axis import Axis, axis_at, heads_of
from mechmsc.interventions.edits import add
from mechmsc.interventions.responding import BATCH_SIZE, prompted, waiting
from mechmsc.outcomes import CHOICES, OUTCOMES, first_token_entropy, kl, one_number_an_item
from mechmsc.permutations import labels_of, n_options, permuted
from mechmsc.positions import Shown, flight, suspended
from mechmsc.sites import Site
from mechmsc.transcripts import Transcript

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer

Outcome = str | Callable[[Tensor], Tensor]
KNOWN = (*OUTCOMES, "concept")
"""Outcomes by name: those of `outcomes.OUTCOMES`, and the projection on a direction at a site."""


def measure(
    model: "HookedTransformer",
    conversations: Transcript | Sequence[Transcript],
    outcome: Outcome | Sequence[str] | Mapping[str, Outcome],
    *,
    option: int | Sequence[int] | None = None,
    direction: Direction | Tensor | None = None,
    at: Site | None = None,
    permutations: int | None = None,
    batch_size: int = BATCH_SIZE,
) -> float | NDArray[np.float64] | dict[str, Any]:
    """One number a conversation: what the model would say at the end of its prompt, under the edits that are active.

    Choices are those of a run: all tokens of every label, a conversation for each order of the options. The other
    outcomes read canonical order. All passes are HookedTransformer's, so edited and unedited values are comparable to
    the last bit. To sweep a value, give a conversation several times and an edit one value for each: what comes before
    the first edited token is then encoded once.

    Args:
        model: the model.
        conversations: one or several, each waiting for a response.
        outcome: a name (`choice_entropy`, `choice_entropy_within`, `log_odds`, `first_token_entropy`, `kl`, `concept`)
            or a function of the logits `[item, 1, d_vocab]` -> `[item]`; several in a list of names or a dict.
            `kl` is D(p_unedited || p) of the next token; see `outcomes`.
        option: for `log_odds`, index of the option in canonical order, one for all or one a conversation.
        direction: for `concept`: its score (h - m).u / gap is read, of the mean over the site's tokens.
        at: for `concept`: where it is read, one layer and one round, after the edits there.
        permutations: cyclic shifts of the options; None: all of them, 1: canonical order.
        batch_size: conversations at once, orders counted one by one.

    Returns:
        A float for one conversation, `[item]` float64 for several; with several outcomes a dict of these. In nats, but
        for log-odds and class gaps.

    Raises:
        InputError: an unknown outcome or one that is not one number an item; a conversation without options for a
            choice, without the site of an edit, or that does not wait for a response.
    """
    given = [conversations] if isinstance(conversations, Transcript) else list(conversations)
    wanted = _wanted(outcome, option, direction, at)
    if batch_size < 1:
        raise InputError(f"batch_size must be at least 1, got {batch_size}")
    ready = waiting(model, given, room=0)
    read = None if at is None or direction is None else _reader(model, direction, at, ready)
    found = {name: np.full(len(given), np.nan) for name in wanted}
    choices = any(kind in CHOICES for kind in wanted.values() if isinstance(kind, str))
    for labels, batch in _batches(model, ready, choices, batch_size):
        if labels and permutations not in (None, *range(1, len(labels) + 1)):
            raise InputError(f"permutations: expected 1 to {len(labels)}, the number of options, got {permutations}")
        orders = shifts(len(labels), permutations)
        values = _measured(model, batch, wanted, labels, orders, read, _of_batch(option, batch))
        for name, value in values.items():
            found[name][[one.number for one in batch]] = value.detach().double().cpu().numpy()
    plain = {name: float(v[0]) if isinstance(conversations, Transcript) else v for name, v in found.items()}
    several = not isinstance(outcome, str) and not callable(outcome)
    return plain if several else next(iter(plain.values()))


def _wanted(
    outcome: Outcome | Sequence[str] | Mapping[str, Outcome],
    option: int | Sequence[int] | None,
    direction: Direction | Tensor | None,
    at: Site | None,
) -> dict[str, Outcome]:
    """Label -> outcome, with all that each needs."""
    if isinstance(outcome, Mapping):
        wanted = dict(outcome)
    else:
        single = isinstance(outcome, str) or callable(outcome)
        wanted = {getattr(one, "__name__", str(one)): one for one in ([outcome] if single else outcome)}
    if not wanted:
        raise InputError("outcome: expected at least one")
    needs = {"log_odds": {"option": option}, "concept": {"direction": direction, "at": at}}
    for one in wanted.values():
        if not callable(one) and one not in KNOWN:
            raise InputError(f"unknown outcome {one!r}: {nearest(str(one), KNOWN)}")
        missing = [name for name, value in needs.get(one, {}).items() if value is None]
        if missing:
            raise InputError(f"outcome {one!r} needs {missing[0]}=, got none")
    return wanted


def _of_batch(option: int | Sequence[int] | None, batch: Sequence[Shown]) -> int | list[int] | None:
    return option if option is None or isinstance(option, int) else [option[one.number] for one in batch]


def _batches(
    model: "HookedTransformer", ready: Sequence[Shown], choices: bool, batch_size: int
) -> Iterator[tuple[tuple[tuple[int, ...], ...], list[Shown]]]:
    """(label ids, conversations) of conversations with the same labels, like lengths together."""
    alike: dict[tuple[tuple[int, ...], ...], list[Shown]] = {}
    for one in sorted(ready, key=lambda one: len(one.transcript)):
        labels: tuple[tuple[int, ...], ...] = ()
        if choices:
            if not n_options(model.tokenizer, one.transcript):
                raise InputError(
                    f"conversation {one.transcript.item_id!r} asks about no options; measure another outcome"
                )
            labels = tuple(tuple(ids) for ids in labels_of(model.tokenizer, one.transcript))
        alike.setdefault(labels, []).append(one)
    for labels, members in alike.items():
        size = max(1, batch_size // max(1, len(labels)))
        for start in range(0, len(members), size):
            yield labels, members[start : start + size]


def _measured(
    model: "HookedTransformer",
    batch: Sequence[Shown],
    wanted: Mapping[str, Outcome],
    labels: Sequence[Sequence[int]],
    orders: Sequence[Sequence[int]],
    read: "_Reader | None",
    option: int | list[int] | None,
) -> dict[str, Tensor]:
    rows = [_in_order(model, one, order) for one in batch for order in orders]
    with _reading(model, read) as reading:
        decoder, logits = prompted(model, rows, kind="hooked", read=None if read is None else read[0])
    scores = score_labels(decoder, logits, labels).sum(2).view(len(batch), len(orders), -1) if labels else None
    canonical = logits.view(len(batch), len(orders), -1)[:, :1]
    values = {}
    for name, one in wanted.items():
        if one in CHOICES:
            value = CHOICES[one](scores, orders, **({"option": option} if one == "log_odds" else {}))
        elif one == "kl":
            with suspended(model):
                _, clean = prompted(model, batch, kind="hooked")
            value = kl(canonical, clean[:, None])
        elif one == "concept":
            value = reading[0].view(len(batch), len(orders))[:, 0]
        else:
            value = (first_token_entropy if one == "first_token_entropy" else one)(canonical)
        values[name] = one_number_an_item(value, len(batch), name)
    return values


def _in_order(model: "HookedTransformer", one: Shown, order: Sequence[int]) -> Shown:
    if tuple(order) == tuple(range(len(order))):
        return one
    return Shown(permuted(model.tokenizer, one.transcript, order), one.end_ids, one.number)


_Reader = tuple[Site, int, Axis]


def _reader(model: "HookedTransformer", direction: Direction | Tensor, at: Site, ready: Sequence[Shown]) -> _Reader:
    """Site, layer and direction of a reading, checked."""
    layers, n_heads = at.layers(model.cfg.n_layers), heads_of(model, at)
    for one in ready:
        one.expect(at)
        if len(one.tokens(at)) > 1:
            raise InputError(f"concept at {at}: {one.transcript.item_id!r} has this span in several rounds; name one")
        if at.in_conversation and one.tokens(at)[0][0] >= len(one.transcript):
            raise InputError(f"concept at {at}: this response of {one.transcript.item_id!r} is not drawn yet")
    if len(layers) > 1 or n_heads and at.head is None or not at.in_conversation:
        raise InputError(
            f"concept at {at}: expected one layer, one head where there are heads, and a span, to read one number"
        )
    sizes = {"d_model": model.cfg.d_model, "d_head": model.cfg.d_head, "d_mlp": model.cfg.d_mlp}
    if at.dims[-1] not in sizes:
        raise InputError(f"concept at {at}: a pattern has no direction; read another component")
    edit = add(direction, strength=0.0, at=at)  # the same checks as for an edit there
    return at, layers[0], axis_at(model, edit, layers[0], place=0, size=sizes[at.dims[-1]])


@contextmanager
def _reading(model: "HookedTransformer", read: _Reader | None) -> Iterator[list[Tensor]]:
    """Collects the score of every row, `[row]`, from the passes inside the block; after all edits at its hook."""
    found: list[Tensor] = []
    if read is None:
        yield found
        return
    site, layer, axis = read

    def look(activation: Tensor, hook: object) -> None:  # noqa: ARG001 - a hook's
        picked = flight(model).picked(site)
        if picked is None:  # the part of the prompts that nothing touches
            return
        index = (picked.row, picked.column) if site.head is None else (picked.row, picked.column, site.head)
        found[:] = [(axis.of(picked.means(activation[index].float())) - axis.mid) / axis.gap]

    with model.hooks(fwd_hooks=[(site.hook(layer), look)]):
        yield found
