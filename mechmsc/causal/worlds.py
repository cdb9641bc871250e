"""The worlds of a mediation: U(x), U(x'), U(x, z(x')), U(x', z(x)), by passes that share their beginnings.

What the two conversations of a pair share is encoded once, and goes on where the round before stopped; then each of
them is encoded up to the mediator's site, and every world encodes its own end alone. The mediator is read while the
unedited worlds are encoded, and set while the others are.
"""

import copy
import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from os.path import commonprefix
from typing import TYPE_CHECKING, NamedTuple

from torch import Tensor

from mechmsc.causal.histories import Pair
from mechmsc.conversations import shifts
from mechmsc.decoders import Decoder, open_decoder
from mechmsc.directions import Direction
from mechmsc.errors import InputError
from mechmsc.interventions import Intervention, add, applied, clamp, replace
from mechmsc.interventions.axis import Axis, axis_at
from mechmsc.permutations import n_options, permuted
from mechmsc.positions import Picked, Shown, end_ids, flight
from mechmsc.sites import Site
from mechmsc.transcripts import Transcript

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer

Band = tuple[int, ...]
"""Layers at which the mediator is set, together."""
Mediator = Direction | Tensor | None
"""What mediates: the coordinate along a Direction or along `[layer, d_model]` unit vectors; None: the activation."""
Values = dict[int, list[Tensor]]
"""z: layer -> for each row the coordinate (from the midpoint, in units of the activation), or the activation."""


class Trunk(NamedTuple):
    """What the two conversations of each pair share, encoded; the same items' next round goes on from there."""

    decoder: Decoder
    rows: list[Transcript]
    """A conversation for each row; the decoder holds its beginning."""


@dataclass(frozen=True, eq=False)
class Ready:
    """Rows of a batch of pairs, a row for each pair and order of the options; worlds fork from `decoder`."""

    model: "HookedTransformer"
    trunk: Trunk
    """With rows of control."""
    decoder: Decoder
    """Has encoded every conversation up to the site: rows of control, then of treatment."""
    control: list[Transcript]
    treatment: list[Transcript]
    """Empty where every pair is of one conversation."""
    tokens: int
    """How many were encoded for that."""
    orders: tuple[tuple[int, ...], ...]
    site: Site


def ready(
    model: "HookedTransformer",
    pairs: Sequence[Pair],
    site: Site,
    *,
    permutations: int | None,
    choices: bool,
    trunk: Trunk | None = None,
) -> Ready:
    """Encode what the conversations of each pair share, up to the first token of the site.

    Args:
        model: the model.
        pairs: all with the same number of options.
        site: where the mediator is; one round.
        permutations: as in a run; used where `choices`.
        choices: whether an outcome needs every order of the options.
        trunk: of an earlier batch, best of the same items in the round before; what its rows begin with is not encoded
            again.

    Raises:
        InputError: a conversation does not have the site.
    """
    orders = tuple(shifts(n_options(model.tokenizer, pairs[0].control), permutations)) if choices else ((),)
    several = any(pair.control is not pair.treatment for pair in pairs)
    control = [_in_order(model, pair.control, order) for pair in pairs for order in orders]
    treatment = [_in_order(model, pair.treatment, order) for pair in pairs for order in orders] if several else []
    rows = [*control, *treatment]
    starts = [min(_first(model, row, site), len(row) - 1) for row in rows]
    shared = [min(starts[i :: len(control)]) for i in range(len(control))]
    if treatment:
        shared = [min(n, _alike(x, y)) for n, x, y in zip(shared, control, treatment, strict=True)]
    decoder = _went_on(trunk, control, shared) or open_decoder(model, len(control), kind="hooked")
    tokens = sum(shared) - sum(decoder.lengths) + sum(starts) - sum(shared) * (len(rows) // len(control))
    _extend(model, decoder, control, shared)
    trunk = Trunk(decoder, control)
    if treatment:
        decoder = copy.copy(decoder)
        decoder.select([*range(len(control))] * 2)
        _extend(model, decoder, rows, starts)
    return Ready(model, trunk, decoder, control, treatment, tokens, orders, site)


def _went_on(trunk: Trunk | None, control: Sequence[Transcript], shared: Sequence[int]) -> Decoder | None:
    """A copy of an earlier trunk whose rows these conversations begin with; None where one of them does not."""
    if trunk is None:
        return None
    ends = trunk.decoder.lengths
    known = {(row.image, *row.ids[:end]): place for place, (row, end) in enumerate(zip(trunk.rows, ends, strict=True))}
    places = []
    for row, count in zip(control, shared, strict=True):
        begun = [(row.image, *row.ids[:end]) for end in sorted({*ends}, reverse=True) if end <= count]
        place = next((known[start] for start in begun if start in known), None)
        if place is None:
            return None
        places.append(place)
    decoder = copy.copy(trunk.decoder)
    decoder.select(places)
    return decoder


def _extend(model: "HookedTransformer", decoder: Decoder, rows: Sequence[Transcript], until: Sequence[int]) -> None:
    """Encode each row up to so many tokens, if any has more than it had."""
    rest = [list(row.ids[known:end]) for row, known, end in zip(rows, decoder.lengths, until, strict=True)]
    if any(rest):
        decoder.extend(rest, _shown(model, rows))


def _shown(model: "HookedTransformer", rows: Sequence[Transcript]) -> list[Shown]:
    return [Shown(row, end_ids(model), number) for number, row in enumerate(rows)]


def _alike(one: Transcript, other: Transcript) -> int:
    """How many tokens the two begin with alike."""
    return len(commonprefix([one.ids, other.ids]))


def clean_worlds(
    batch: Ready, layers: Sequence[int], mediators: Sequence[Mediator]
) -> tuple[Decoder, Tensor, list[tuple[Values, Values]]]:
    """U(x) and U(x'): the decoder and logits `[2 * row, d_vocab]`, control first; and z in both, for each mediator."""
    with _read(batch, layers, mediators) as found:
        decoder, logits = _fork(batch, range(len(batch.control) + len(batch.treatment)))
    n = len(batch.control)
    halves = [[{layer: z[part] for layer, z in one.items()} for part in (slice(n), slice(n, None))] for one in found]
    return decoder, logits, [(control, treatment) for control, treatment in halves]


def crossed_worlds(
    batch: Ready, band: Band, mediator: Mediator, z_control: Values, z_treatment: Values, *, both: bool = True
) -> tuple[Decoder, Tensor]:
    """U(x, z(x')) and, if `both`, U(x', z(x)): decoder and logits `[(2 *) row, d_vocab]`.

    Raises:
        InputError: the span has another number of tokens in the other conversation, and every token is to be replaced.
    """
    rows = range(len(batch.control) + (len(batch.treatment) if both else 0))
    edits = []
    for layer in band:
        values = [*z_treatment[layer], *(z_control[layer] if both else [])]
        edits.append(_setting(mediator, _at(batch.site, layer), values, layer))
        if mediator is None:
            _check_lengths(batch, z_control[layer], z_treatment[layer])
    with applied(batch.model, edits):
        return _fork(batch, rows)


@contextmanager
def steered_worlds(
    batch: Ready, band: Band, direction: Direction, strengths: Sequence[float]
) -> Iterator[tuple[Decoder, Tensor]]:
    """The control conversations, steered: decoder and logits `[strength * row, d_vocab]`, one strength after another.

    The edits go on acting inside the block, on responses too where the site is there.
    """
    rows = [*range(len(batch.control))] * len(strengths)
    each = [strength for strength in strengths for _ in batch.control]
    with applied(batch.model, [add(direction, strength=each, at=_at(batch.site, layer)) for layer in band]):
        yield _fork(batch, rows)


def _setting(mediator: Mediator, at: Site, values: list[Tensor], layer: int) -> Intervention:
    if mediator is None:
        return replace([value.cpu().numpy() for value in values], at=at)
    return clamp(_along(mediator, layer), to=[value.item() for value in values], at=at, unit="projection")


def _check_lengths(batch: Ready, z_control: list[Tensor], z_treatment: list[Tensor]) -> None:
    for one, x, other in zip(batch.control, z_control, z_treatment, strict=True):
        if x.shape != other.shape:
            raise InputError(
                f"site {batch.site}: {one.item_id!r} has {len(x)} tokens there under control and {len(other)} under "
                "treatment, which cannot replace each other one by one; use at='mean' or a single token"
            )


def _fork(batch: Ready, rows: Sequence[int]) -> tuple[Decoder, Tensor]:
    """Encode the ends of these rows of control and treatment, each on a copy of its beginning."""
    decoder, conversations = copy.copy(batch.decoder), [*batch.control, *batch.treatment]
    decoder.select(rows)
    told = [conversations[row] for row in rows]
    rest = [list(row.ids[known:]) for row, known in zip(told, decoder.lengths, strict=True)]
    return decoder, decoder.extend(rest, _shown(batch.model, told))


@contextmanager
def _read(batch: Ready, layers: Sequence[int], mediators: Sequence[Mediator]) -> Iterator[list[Values]]:
    """Collects z of every row that is encoded inside the block, for each mediator."""
    found: list[Values] = [{} for _ in mediators]
    hooks = []
    for layer in layers:
        at = _at(batch.site, layer)
        axes = [None if one is None else _axis(batch.model, _along(one, layer), at, layer) for one in mediators]

        def look(activation: Tensor, hook: object, *, layer=layer, at=at, axes=axes) -> None:  # noqa: ANN001, ARG001
            picked = flight(batch.model).picked(at)
            x = activation[picked.row, picked.column].float()
            means = picked.means(x)
            for values, axis in zip(found, axes, strict=True):
                values[layer] = _tokens(x, picked, at) if axis is None else list(axis.of(means) - axis.mid)

        hooks.append((at.hook(layer), look))
    with batch.model.hooks(fwd_hooks=hooks):
        yield found


def _tokens(x: Tensor, picked: Picked, at: Site) -> list[Tensor]:
    """The activation at the site of every row: `[d_model]`, or `[token, d_model]` where every token counts."""
    if at.at == "mean":
        return list(picked.means(x))
    rows = list(x.split([picked.groups.count(group) for group in range(len(picked.owners))]))
    return rows if at.at == "all" or isinstance(at.at, range) else [row[0] for row in rows]


def _along(direction: Direction | Tensor, layer: int) -> Direction | Tensor:
    """The direction at a layer; tensors hold a row for each layer of the model."""
    return direction if isinstance(direction, Direction) else direction[layer]


def _axis(model: "HookedTransformer", direction: Direction | Tensor, at: Site, layer: int) -> Axis:
    return axis_at(model, add(direction, strength=0.0, at=at), layer, place=0, size=model.cfg.d_model)


def _at(site: Site, layer: int) -> Site:
    return dataclasses.replace(site, layer=layer)


def _in_order(model: "HookedTransformer", transcript: Transcript, order: Sequence[int]) -> Transcript:
    if tuple(order) == tuple(range(len(order))):
        return transcript
    return permuted(model.tokenizer, transcript, order)


def _first(model: "HookedTransformer", transcript: Transcript, site: Site) -> int:
    one = Shown(transcript, end_ids(model))
    one.expect(site)
    return min(min(group) for group in one.tokens(site))
