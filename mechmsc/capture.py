"""Keeping the activations of finished conversations: one teacher-forced pass, reduced inside the hooks.

A causal model's activation at a token depends on the tokens before it alone, so one pass over the whole conversation
gives what every round's pass gave. Each hook multiplies its activation by a matrix of weights over tokens, a row a
(round, position): a one-hot row picks a token, a row of 1/n takes a mean. What is kept has no axis of tokens, so memory
does not grow with length times layers. Conversations are padded on the right, where no token before can see it.
"""

from collections.abc import Collection, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mechmsc.model.forward import output_matrix
from mechmsc.positions import Row, Shown, in_flight
from mechmsc.sites import POSITIONS, CaptureSite
from mechmsc.transcripts import Transcript

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer

SOURCE_SPANS = ("system", "question", "instruction", "prefix", "response", "template")
"""Spans that a pattern's source positions are summed over, in this order within a round."""
MAX_TOKENS = 1024
"""Tokens in one pass, padding included: larger passes need more memory and are slower on a CPU, by page faults."""


def source_labels(rounds: int) -> list[str]:
    """Labels of a pattern's `source_position` axis: "question@1", "response@2", ..."""
    return [f"{name}@{round}" for round in range(1, rounds + 1) for name in SOURCE_SPANS]


def site_shape(model: "HookedTransformer", site: CaptureSite, *, rounds: int) -> tuple[int, ...]:
    """Sizes of `site.dims`."""
    cfg = model.cfg
    sizes = {
        "layer": cfg.n_layers,
        "head": cfg.n_heads,
        "d_head": cfg.d_head,
        "d_model": cfg.d_model,
        "d_mlp": cfg.d_mlp,
        "source_position": len(source_labels(rounds)),
    }
    return tuple(sizes[dim] for dim in site.dims)


def capture(
    model: "HookedTransformer",
    transcripts: Sequence[Transcript],
    *,
    sites: Sequence[CaptureSite],
    rounds: int,
    end_ids: Collection[int],
) -> dict[str, NDArray[np.float32]]:
    """Activations at named positions of every round of every conversation.

    Args:
        model: the model.
        transcripts: conversations, of any length.
        sites: what to keep.
        rounds: size of the round axis.
        end_ids: tokens that end a turn, left out of means and of `response_end`.

    Returns:
        Site name -> float32 `[transcript, round, *site.dims]`; nan where a conversation has no such round or span.
        Keys and values of grouped-query attention are given for each query head that reads them.
    """
    out = {
        str(site): np.full((len(transcripts), rounds, *site_shape(model, site, rounds=rounds)), np.nan, np.float32)
        for site in sites
    }
    if not sites:
        return out
    for chunk in _chunks(transcripts):
        part = [transcripts[i] for i in chunk]
        for name, values in _pass(model, part, sites, rounds, end_ids).items():
            out[name][chunk] = values.cpu().numpy()
    return out


def _chunks(transcripts: Sequence[Transcript]) -> list[list[int]]:
    """Conversations of like length together, at most `MAX_TOKENS` a pass (or one conversation)."""
    order = sorted(range(len(transcripts)), key=lambda i: len(transcripts[i]))
    chunks: list[list[int]] = []
    for i in order:
        if chunks and (len(chunks[-1]) + 1) * len(transcripts[i]) <= MAX_TOKENS:
            chunks[-1].append(i)
        else:
            chunks.append([i])
    return chunks


def _pass(
    model: "HookedTransformer",
    transcripts: Sequence[Transcript],
    sites: Sequence[CaptureSite],
    rounds: int,
    end_ids: Collection[int],
) -> dict[str, Tensor]:
    device = torch.device(model.cfg.device)
    width = max(map(len, transcripts))
    tokens = torch.tensor([[*t.ids, *[0] * (width - len(t))] for t in transcripts], device=device)
    rows = {p: position_weights(transcripts, p, rounds=rounds, end_ids=end_ids).to(device) for p in POSITIONS}
    rows = {position: weights for position, weights in rows.items() if any(s.position == position for s in sites)}
    spans = source_sums(transcripts, rounds=rounds).to(device) if any(s.component == "pattern" for s in sites) else None
    kept: dict[str, dict[int, Tensor]] = {str(site): {} for site in sites}

    def keep(activation: Tensor, hook: object, *, site: CaptureSite, layer: int) -> None:  # noqa: ARG001 - a hook's
        value = _reduced(activation, rows[site.position], spans if site.component == "pattern" else None)
        if site.component == "result":
            value = torch.einsum("brhd,hdm->brhm", value, output_matrix(model, layer).float())
        if "head" in site.dims and value.shape[2] < model.cfg.n_heads:
            value = value.repeat_interleave(model.cfg.n_heads // value.shape[2], dim=2)
        kept[str(site)][layer] = value  # ln1 runs once for each of q, k and v: one value, three times

    layers = range(model.cfg.n_layers)
    hooks = [(site.hook(layer), partial(keep, site=site, layer=layer)) for site in sites for layer in layers]
    held = [Row(Shown(transcript, frozenset(end_ids)), 0, len(transcript)) for transcript in transcripts]
    with torch.no_grad(), in_flight(model, held), model.hooks(fwd_hooks=hooks):
        model(tokens, stop_at_layer=model.cfg.n_layers, return_type=None, padding_side="right")
    return {name: torch.stack([values[layer] for layer in layers], dim=2) for name, values in kept.items()}


def _reduced(activation: Tensor, weights: Tensor, spans: Tensor | None) -> Tensor:
    """One layer's activation at the named positions: `[transcript, round, ...]`, float32.

    Args:
        activation: `[transcript, token, (head,) d]`, or `[transcript, head, token, source token]` for a pattern.
        weights: `[transcript, round, token]`.
        spans: `[transcript, source token, source_position]` for a pattern, else None.
    """
    if spans is None:
        return torch.einsum("brt,bt...->br...", weights, activation.float())
    read = torch.einsum("brq,bhqk->brhk", weights, activation.float())
    return torch.einsum("brhk,bks->brhs", read, spans)


def position_weights(
    transcripts: Sequence[Transcript], position: str, *, rounds: int, end_ids: Collection[int]
) -> Tensor:
    """Weights over tokens that read a named position: `[transcript, round, token]`; nan rows where it is absent.

    Args:
        transcripts: conversations.
        position: one of `sites.POSITIONS`.
        rounds: size of the round axis.
        end_ids: tokens that end a turn.
    """
    weights = torch.zeros(len(transcripts), rounds, max(map(len, transcripts)))
    for row, transcript in enumerate(transcripts):
        for round in range(1, rounds + 1):
            tokens = position_tokens(transcript, position, round=round, end_ids=end_ids)
            weights[row, round - 1, list(tokens)] = 1.0 / len(tokens) if tokens else 0.0
            if not tokens:
                weights[row, round - 1] = torch.nan
    return weights


def position_tokens(transcript: Transcript, position: str, *, round: int, end_ids: Collection[int]) -> tuple[int, ...]:
    """The tokens that a named position averages over (one for a point); empty where the conversation has none."""
    if round > transcript.rounds:
        return ()
    if position == "prompt_end":
        return (transcript.prompt_end(round),)
    span, _, rule = position.partition("_")
    if rule == "mean":
        return transcript.content(span, round, end_ids)
    tokens = [i for s in transcript.spans_of(span, round) for i in s.indices if transcript.ids[i] not in end_ids]
    return tuple(tokens[-1:])


def source_sums(transcripts: Sequence[Transcript], *, rounds: int) -> Tensor:
    """Membership of tokens in spans, to sum a pattern over: `[transcript, token, source_position]`, `source_labels`."""
    labels = {label: i for i, label in enumerate(source_labels(rounds))}
    sums = torch.zeros(len(transcripts), max(map(len, transcripts)), len(labels))
    for row, transcript in enumerate(transcripts):
        for span in transcript.spans:
            if span.name in SOURCE_SPANS and span.round <= rounds:
                sums[row, span.start : span.end, labels[f"{span.name}@{span.round}"]] = 1.0
    return sums
