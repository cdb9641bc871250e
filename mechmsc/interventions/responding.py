"""`respond`: what the model says next in a conversation, edited or not, as a table."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from mechmsc.decoders import Decoder, open_decoder
from mechmsc.errors import InputError, nearest
from mechmsc.generation import Drawn, Stream, draw
from mechmsc.interventions.scope import expect_sites
from mechmsc.noise import noise_key
from mechmsc.positions import Shown, edits_on, end_ids, shown
from mechmsc.settings import DECODERS
from mechmsc.sites import Site
from mechmsc.transcripts import Transcript

if TYPE_CHECKING:
    import pandas
    from transformer_lens import HookedTransformer

GREEDY = -1
"""`sample` of the greedy main line."""
BATCH_SIZE = 16


def respond(
    model: "HookedTransformer",
    conversations: Transcript | Sequence[Transcript],
    *,
    samples: int = 0,
    seed: int = 0,
    temperature: float = 1.0,
    top_p: float = 1.0,
    max_new_tokens: int = 64,
    batch_size: int = BATCH_SIZE,
    decoder: str | None = None,
) -> "pandas.DataFrame":
    """The greedy response to each conversation, and samples, under the edits that are active.

    Noise depends on (seed, item, round, sample, step) alone and is that of a run with the same seed: edited and
    unedited responses are paired, sample by sample. A question with options is answered freely, after its prefix.

    Args:
        model: the model.
        conversations: one or several, each waiting for a response (`run.transcript(item, arm=, round=)`).
        samples: responses drawn beside the greedy one.
        seed: of the samples.
        temperature: of the samples.
        top_p: of the samples.
        max_new_tokens: longest response.
        batch_size: conversations at once.
        decoder: None: "hooked" where edits are active, else the fast one. Both draw the same tokens.

    Returns:
        A row per conversation and response: item_id, arm, round, sample (-1 for the greedy one), seed, response_ids,
        response_logprobs (nats), response, stop_reason, conversation (its place in the list, from 0).

    Raises:
        InputError: a conversation that does not wait, lacks a site of an edit or leaves no room; settings.
    """
    import pandas

    given = [conversations] if isinstance(conversations, Transcript) else list(conversations)
    _check(samples=samples, max_new_tokens=max_new_tokens, batch_size=batch_size, temperature=temperature, top_p=top_p)
    kind = _kind(model, decoder)
    ready = waiting(model, given, room=max_new_tokens)
    rows: list[dict[str, Any]] = []
    for start in range(0, len(ready), batch_size):
        batch = ready[start : start + batch_size]
        opened, logits = prompted(model, batch, kind=kind)
        streams = list(_streams(batch, samples, seed))
        settings = {"max_new_tokens": max_new_tokens, "temperature": temperature, "top_p": top_p}
        drawn = draw(opened, logits, [stream for _, stream in streams], end_ids=end_ids(model), **settings)
        rows += [_row(model, batch[s.row], sample, seed, d) for (sample, s), d in zip(streams, drawn, strict=True)]
    return pandas.DataFrame(rows)


def waiting(model: "HookedTransformer", conversations: Sequence[Transcript], *, room: int) -> list[Shown]:
    """The conversations, if each waits for a response, has all sites of the active edits and `room` tokens left.

    Raises:
        InputError: names the first that does not.
    """
    if not conversations:
        raise InputError("no conversations: expected at least one Transcript")
    for one in conversations:
        if not isinstance(one, Transcript):
            raise InputError(
                f"expected a Transcript, e.g. run.transcript(item, arm=, round=); got {type(one).__name__}"
            )
        if not len(one) or one.span("response", one.rounds) is not None:
            raise InputError(
                f"conversation {one.item_id!r}: round {one.rounds} has its response; cut it with .up_to(round)"
            )
        if len(one) + room > model.cfg.n_ctx:
            raise InputError(
                f"conversation {one.item_id!r} has {len(one)} tokens and may grow by {room}, but the context window is "
                f"{model.cfg.n_ctx}"
            )
    ready = shown(model, conversations)
    expect_sites(model, ready)
    return ready


def prompted(
    model: "HookedTransformer", batch: Sequence[Shown], *, kind: str, read: Site | None = None
) -> tuple[Decoder, Tensor]:
    """A decoder that has encoded these conversations, and the logits `[conversation, d_vocab]` at their ends.

    A conversation that occurs several times (with other values of an edit) is encoded once up to the first token that
    is edited or read.

    Args:
        model: the model.
        batch: the conversations.
        kind: of the decoder.
        read: a site that is read while they are encoded.
    """
    first: dict[tuple[tuple[int, ...], str | None], int] = {}  # pictures of one size have the same tokens
    for row, one in enumerate(batch):
        first.setdefault(_same(one), row)
    untouched = {key: _untouched(model, batch[row], read) for key, row in first.items()}
    if len(first) == len(batch) or min(untouched.values()) < 1:
        decoder = open_decoder(model, len(batch), kind=kind)
        return decoder, decoder.extend([list(one.transcript.ids) for one in batch], batch)
    decoder = open_decoder(model, len(first), kind=kind)
    decoder.extend([list(ids[:n]) for (ids, _), n in untouched.items()], [batch[row] for row in first.values()])
    place = {key: i for i, key in enumerate(first)}
    decoder.select([place[_same(one)] for one in batch])
    return decoder, decoder.extend([list(one.transcript.ids[untouched[_same(one)] :]) for one in batch], batch)


def _same(one: Shown) -> tuple[tuple[int, ...], str | None]:
    """What the model is shown: conversations in which it is the same are encoded once."""
    return one.transcript.ids, one.transcript.image


def _untouched(model: "HookedTransformer", one: Shown, read: Site | None) -> int:
    """How many tokens at the start no edit and no reading touches, the last token always being left."""
    sites = [edit.site for edit in edits_on(model)] + [read] * (read is not None)
    if any(site is None for site in sites):
        return 0
    tokens = [group[0] for site in sites for group in one.tokens(site)]
    return min([*tokens, len(one.transcript) - 1])


def _kind(model: "HookedTransformer", decoder: str | None) -> str:
    if decoder is not None and decoder not in DECODERS:
        raise InputError(f"unknown decoder {decoder!r}: {nearest(decoder, DECODERS)}")
    fast = getattr(model, "mechmsc", None) is not None and not edits_on(model)
    return decoder or ("huggingface" if fast else "hooked")


def _check(*, samples: int, max_new_tokens: int, batch_size: int, temperature: float, top_p: float) -> None:
    for name, value, low in (
        ("samples", samples, 0),
        ("max_new_tokens", max_new_tokens, 1),
        ("batch_size", batch_size, 1),
    ):
        if value < low:
            raise InputError(f"{name} must be at least {low}, got {value}")
    if not temperature > 0:
        raise InputError(f"temperature must be above 0, got {temperature}; the main line is greedy anyway")
    if not 0 < top_p <= 1:
        raise InputError(f"top_p must be above 0 and at most 1, got {top_p}")


def _streams(batch: Sequence[Shown], samples: int, seed: int) -> Iterator[tuple[int, Stream]]:
    for row, one in enumerate(batch):
        yield GREEDY, Stream(row)
        for sample in range(samples):
            transcript = one.transcript
            key = noise_key(seed=seed, item_id=transcript.item_id, round=transcript.rounds, sample=sample)
            yield sample, Stream(row, key)


def _row(model: "HookedTransformer", one: Shown, sample: int, seed: int, drawn: Drawn) -> dict[str, Any]:
    said = [token for token in drawn.ids if token not in one.end_ids]
    return {
        "item_id": one.transcript.item_id,
        "arm": one.transcript.arm,
        "round": one.transcript.rounds,
        "sample": sample,
        "seed": seed,
        "response_ids": list(drawn.ids),
        "response_logprobs": list(drawn.logprobs),
        "response": "" if model.tokenizer is None else model.tokenizer.decode(said),
        "stop_reason": drawn.stop_reason,
        "conversation": one.number,
    }
