"""The decode loop: many continuations of many conversations at once, with the log-probability of every token drawn.

A `Stream` says which row a continuation belongs to and how its tokens are drawn: the main line greedily (it goes on as
the conversation), a sample with the noise of its key. All streams of a row share the row's encoded prefix.
"""

from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from mechmsc.decoders import Decoder
from mechmsc.noise import gumbel

COMPACT_AT = 0.875
"""Finished streams are dropped once fewer than this part of those being decoded is still needed: dropping copies."""


@dataclass(frozen=True)
class Stream:
    """One continuation to draw."""

    row: int
    """Row of the decoder that it continues."""
    key: int | None = None
    """Noise key of a sample (`noise.noise_key`); None for the main line, which is greedy and joins the row."""


@dataclass(frozen=True)
class Drawn:
    """One continuation, drawn."""

    ids: tuple[int, ...]
    """Token ids, the end-of-turn token included when it was drawn."""
    logprobs: tuple[float, ...]
    """log p of each id: log-softmax of the raw logits in float32, in nats, whatever was sampled from."""
    stop_reason: str
    """"eos" or "length"; "forced" where it was chosen among options, not drawn."""


@dataclass
class _Drawing:
    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)


def draw(
    decoder: Decoder,
    logits: Tensor,
    streams: Sequence[Stream],
    *,
    max_new_tokens: int,
    end_ids: Collection[int],
    temperature: float = 1.0,
    top_p: float = 1.0,
) -> list[Drawn]:
    """Draw every stream to its end.

    Args:
        decoder: holds the rows, encoded up to where the streams begin. Main lines are merged into their rows as far as
            the decoder can; the last token drawn is never encoded here.
        logits: `[row, d_vocab]`, float32, at the end of each row.
        streams: in ascending order of row, at most one main line a row.
        max_new_tokens: after so many tokens a stream stops by length.
        end_ids: tokens that end a turn.
        temperature: of the samples; the main line is greedy.
        top_p: samples are drawn from the smallest set of tokens whose probability reaches this.

    Returns:
        One `Drawn` a stream, in their order.
    """
    drawings = [_Drawing() for _ in streams]
    active = list(range(len(streams)))
    decoder.branch([stream.row for stream in streams])
    logits = logits[torch.tensor([stream.row for stream in streams], device=logits.device)]
    for step in range(max_new_tokens):
        tokens, logprobs = _choose(logits, [streams[i] for i in active], step, temperature, top_p)
        for i, token, logprob in zip(active, tokens, logprobs, strict=True):
            if not _finished(drawings[i], end_ids):
                drawings[i].ids.append(token)
                drawings[i].logprobs.append(logprob)
        going = [j for j, i in enumerate(active) if not _finished(drawings[i], end_ids)]
        if not going or step == max_new_tokens - 1:
            break
        if len(going) < COMPACT_AT * len(active):
            _merge(
                decoder, streams, drawings, [(j, i) for j, i in enumerate(active) if _finished(drawings[i], end_ids)]
            )
            decoder.keep(going)
            active, tokens = [active[j] for j in going], [tokens[j] for j in going]
        logits = decoder.step(tokens)
    _merge(decoder, streams, drawings, list(enumerate(active)))
    decoder.end()
    return [Drawn(tuple(d.ids), tuple(d.logprobs), "eos" if _finished(d, end_ids) else "length") for d in drawings]


def _finished(drawing: _Drawing, end_ids: Collection[int]) -> bool:
    return bool(drawing.ids) and drawing.ids[-1] in end_ids


def _merge(
    decoder: Decoder, streams: Sequence[Stream], drawings: Sequence[_Drawing], branches: list[tuple[int, int]]
) -> None:
    """Merge the main lines among these (branch, stream) pairs: all their tokens but the last, which was never fed."""
    for branch, i in branches:
        if streams[i].key is None and len(drawings[i].ids) > 1:
            decoder.merge(branch, len(drawings[i].ids) - 1)


def _choose(
    logits: Tensor, streams: Sequence[Stream], step: int, temperature: float, top_p: float
) -> tuple[list[int], list[float]]:
    """The next token of each stream and its log-probability under the raw logits `[stream, d_vocab]`."""
    sampled = [j for j, stream in enumerate(streams) if stream.key is not None]
    main = [j for j, stream in enumerate(streams) if stream.key is None]
    tokens = torch.empty(len(streams), dtype=torch.long, device=logits.device)
    if main:
        tokens[main] = logits[main].argmax(dim=1)
    if sampled:  # in place: at a large vocabulary these copies cost more than attention does
        noise = _noise([streams[j].key for j in sampled], step, logits.shape[1]).to(logits.device)
        tokens[sampled] = nucleus(logits[sampled].div_(temperature), top_p).add_(noise).argmax(dim=1)
    logprobs = logits.gather(1, tokens[:, None])[:, 0] - logits.logsumexp(dim=1)
    return tokens.tolist(), logprobs.tolist()


def _noise(keys: Sequence[int], step: int, d_vocab: int) -> Tensor:
    """Gumbel noise `[key, d_vocab]`; arms of one item share keys, whose noise is computed once."""
    out = np.empty((len(keys), d_vocab), dtype=np.float32)
    first = {key: keys.index(key) for key in dict.fromkeys(keys)}

    def fill(key: int) -> None:
        out[first[key]] = gumbel(key, step=step, d_vocab=d_vocab)

    with ThreadPoolExecutor(max_workers=torch.get_num_threads()) as pool:  # NumPy draws outside of Python's lock
        list(pool.map(fill, first))
    for i, key in enumerate(keys):
        if first[key] != i:
            out[i] = out[first[key]]
    return torch.from_numpy(out)


def nucleus(logits: Tensor, top_p: float) -> Tensor:
    """Logits with -inf outside the smallest set of most likely tokens whose probability reaches `top_p`.

    Holtzman et al. 2020, arXiv:1904.09751. The most likely token always stays; of equally likely ones
    the lower index goes first.

    Args:
        logits: `[stream, d_vocab]`.
        top_p: in (0, 1].
    """
    if top_p >= 1.0:  # a rounded sum may reach 1 too early
        return logits
    ordered, order = logits.sort(dim=1, descending=True, stable=True)
    probs = ordered.softmax(dim=1)
    before = probs.cumsum(dim=1) - probs
    outside = torch.zeros_like(logits, dtype=torch.bool).scatter(1, order, before >= top_p)
    return logits.masked_fill(outside, -torch.inf)


def score_labels(decoder: Decoder, logits: Tensor, labels: Sequence[Sequence[int]]) -> Tensor:
    """Log-probabilities of fixed continuations of every row: the labels of a question's options.

    Args:
        decoder: holds the rows, encoded up to the answer prefix; left as it was.
        logits: `[row, d_vocab]` at the end of each row.
        labels: token ids of each label, not empty.

    Returns:
        `[row, label, token]` float32 in nats; 0 where a label has ended.
    """
    n_rows, n_labels, longest = len(logits), len(labels), max(map(len, labels))
    out = torch.zeros(n_rows, n_labels, longest, device=logits.device)
    logits = logits.repeat_interleave(n_labels, dim=0)
    if longest > 1:
        decoder.branch([row for row in range(n_rows) for _ in range(n_labels)])
    for k in range(longest):
        tokens = [label[min(k, len(label) - 1)] for label in labels] * n_rows
        index = torch.tensor(tokens, device=logits.device)[:, None]
        here = logits.gather(1, index)[:, 0] - logits.logsumexp(dim=1)
        out[:, :, k] = here.view(n_rows, n_labels)
        if k < longest - 1:
            logits = decoder.step(tokens)
    if longest > 1:
        decoder.end()
    ended = torch.tensor([[k >= len(label) for k in range(longest)] for label in labels], device=out.device)
    return out.masked_fill(ended, 0.0)
