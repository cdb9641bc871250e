"""Outcomes of a world: from its decoder and logits to one number a pair."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mechmsc.decoders import Decoder
from mechmsc.errors import InputError, nearest
from mechmsc.generation import Stream, draw, score_labels
from mechmsc.interventions.guards import guard_values
from mechmsc.model.looking import pictured
from mechmsc.noise import noise_key
from mechmsc.outcomes import CHOICES, first_token_entropy, one_number_an_item, option_probabilities
from mechmsc.positions import end_ids
from mechmsc.scorers import get_scorer
from mechmsc.tasks import TASKS, Item
from mechmsc.transcripts import Transcript

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer

    from mechmsc.causal.histories import Pair

GUARDS = ("perplexity", "distinct_2", "length")
"""Is what was drawn still language? Means over the samples; see `interventions.generation_guards`."""
SAMPLED = ("semantic_entropy", "predictive_entropy", "score", *GUARDS)
"""Outcomes through text: responses are drawn in every world, with the same noise. `score` is the task's scorer's."""
OF_CHOICES = (*CHOICES, "accuracy")
"""Outcomes that need options; `accuracy` is whether the likeliest option is the right one."""
NAMES = (*OF_CHOICES, "first_token_entropy", *SAMPLED)


@dataclass(frozen=True)
class Sampling:
    """How responses are drawn for the outcomes through text."""

    samples: int = 8
    max_new_tokens: int = 32
    temperature: float = 1.0
    seed: int = 0
    """Of the noise; a run's own seed gives the run's own samples in the unedited worlds."""
    clusterer: str | Callable[..., Any] = "embedding"


def outcomes_named(outcome: "str | Callable | Sequence[str] | Mapping[str, Any]") -> dict[str, Any]:
    """Name -> outcome, a known name or a function of logits `[pair, d_vocab]` -> `[pair]`.

    Raises:
        InputError: an unknown name, or none at all.
    """
    if isinstance(outcome, Mapping):
        wanted = dict(outcome)
    else:
        several = [outcome] if isinstance(outcome, str) or callable(outcome) else list(outcome)
        wanted = {one if isinstance(one, str) else getattr(one, "__name__", "outcome"): one for one in several}
    if not wanted:
        raise InputError(f"outcome: expected at least one of {', '.join(NAMES)}, or a function")
    for one in wanted.values():
        if not callable(one) and one not in NAMES:
            raise InputError(f"unknown outcome {one!r}: {nearest(str(one), NAMES)}")
    return wanted


def evaluate(
    model: "HookedTransformer",
    decoder: Decoder,
    logits: Tensor,
    pairs: "Sequence[Pair]",
    prompts: Sequence[Transcript],
    wanted: Mapping[str, Any],
    *,
    labels: Sequence[Sequence[int]],
    orders: Sequence[Sequence[int]],
    sampling: Sampling,
) -> dict[str, NDArray[np.float64]]:
    """One number a pair of one world.

    Args:
        model: the model.
        decoder: at the end of the prompts, a row for each pair and order.
        logits: `[row, d_vocab]` there.
        pairs: of the world.
        prompts: what each was asked, in canonical order.
        wanted: from `outcomes_named`.
        labels: ids of the options' labels; none where no outcome needs them.
        orders: of the options.
        sampling: for outcomes through text.
    """
    n, canonical = len(pairs), slice(None, None, len(orders))
    scores = score_labels(decoder, logits, labels).sum(2).view(n, len(orders), -1) if labels else None
    text = (
        _sampled(model, decoder, logits, pairs, prompts, wanted, len(orders), sampling)
        if set(wanted.values()) & {*SAMPLED}
        else {}
    )
    values: dict[str, NDArray[np.float64]] = {}
    for name, one in wanted.items():
        if isinstance(one, str) and one in SAMPLED:
            values[name] = text[one]
            continue
        if one == "log_odds":
            value = CHOICES[one](scores, orders, option=[pair.item.gold for pair in pairs])
        elif one == "accuracy":
            chosen = option_probabilities(scores, orders).mean(1).argmax(-1)
            value = (chosen.cpu() == torch.tensor([pair.item.gold for pair in pairs])).float()
        elif isinstance(one, str) and one in CHOICES:
            value = CHOICES[one](scores, orders)
        elif one == "first_token_entropy":
            value = first_token_entropy(logits[canonical])
        else:
            value = one(logits[canonical])
        values[name] = one_number_an_item(value, n, name).double().cpu().numpy()
    return values


def _sampled(
    model: "HookedTransformer",
    decoder: Decoder,
    logits: Tensor,
    pairs: "Sequence[Pair]",
    prompts: Sequence[Transcript],
    wanted: Mapping[str, Any],
    n_orders: int,
    how: Sampling,
) -> dict[str, NDArray[np.float64]]:
    """Entropies of drawn responses, one a pair; canonical order alone speaks."""
    from mechmsc import uncertainty

    ends = end_ids(model)
    streams = [
        Stream(i * n_orders, noise_key(seed=how.seed, item_id=pair.item.item_id, round=pair.round, sample=sample))
        for i, pair in enumerate(pairs)
        for sample in range(how.samples)
    ]
    drawn = draw(
        decoder,
        logits,
        streams,
        max_new_tokens=how.max_new_tokens,
        end_ids=ends,
        temperature=how.temperature,
    )
    texts = [model.tokenizer.decode([token for token in one.ids if token not in ends]) for one in drawn]
    sums = np.array([sum(one.logprobs) for one in drawn]).reshape(len(pairs), how.samples)
    asked, found = {one for one in wanted.values() if isinstance(one, str)}, {}
    if "predictive_entropy" in asked:
        found["predictive_entropy"] = -sums.mean(1)
    if "semantic_entropy" in asked:
        responses = [texts[i * how.samples : (i + 1) * how.samples] for i in range(len(pairs))]
        cluster = uncertainty.CLUSTERERS[how.clusterer]() if isinstance(how.clusterer, str) else how.clusterer
        clusters = cluster([pair.item.question for pair in pairs], responses)
        means = sums / np.array([max(len(one.ids), 1) for one in drawn]).reshape(sums.shape)
        entropies = [uncertainty.semantic_entropy(a, ids) for a, ids in zip(means, clusters, strict=True)]
        found["semantic_entropy"] = np.array(entropies, dtype=float)
    if "score" in asked:
        found["score"] = _scores(pairs, texts, how.samples)
    if asked & {*GUARDS}:
        found |= _guards(model, prompts, drawn, how.samples)
    return found


def _scores(pairs: "Sequence[Pair]", texts: Sequence[str], samples: int) -> NDArray[np.float64]:
    """Mean of the task's scorer over the samples of each pair; nan for items whose responses have no scorer."""
    values = np.full(len(texts), np.nan)
    for task in {pair.item.task for pair in pairs if not pair.item.options}:
        of = [i for i in range(len(texts)) if pairs[i // samples].item.task == task]
        scorer = get_scorer(TASKS[task].scorer)
        values[of] = scorer([pairs[i // samples].item for i in of], [texts[i] for i in of])
    blocks = values.reshape(len(pairs), samples)
    counts = np.isfinite(blocks).sum(1)
    return np.divide(np.nansum(blocks, axis=1), counts, out=np.full(len(pairs), np.nan), where=counts > 0)


def _guards(
    model: "HookedTransformer", prompts: Sequence[Transcript], drawn: Sequence[Any], samples: int
) -> dict[str, NDArray[np.float64]]:
    """Means over the samples of each pair."""
    told = [(pictured(prompts[i // samples]), list(one.ids)) for i, one in enumerate(drawn)]
    values = guard_values(model, told)
    return {name: np.array(values[name], float).reshape(-1, samples).mean(1) for name in GUARDS}


def check_outcomes(wanted: Mapping[str, Any], pairs: "Sequence[Pair]") -> "list[Pair]":
    """The pairs that have all outcomes: choices leave out items without options.

    Raises:
        InputError: none is left.
    """
    able = {item.item_id for item in items_with(wanted, [pair.item for pair in pairs])}
    return [pair for pair in pairs if pair.item.item_id in able]


def items_with(wanted: Mapping[str, Any], items: Sequence[Item]) -> list[Item]:
    """The items that have all outcomes; needs no model.

    Raises:
        InputError: none is left.
    """
    named = [one for one in wanted.values() if isinstance(one, str)]
    choices = [one for one in named if one in OF_CHOICES]
    kept = [item for item in items if item.options or not choices]
    if {"log_odds", "accuracy"} & set(named):
        kept = [item for item in kept if item.gold is not None]
    if not kept and choices:
        raise InputError(
            f"outcome {choices[0]!r} needs items with options (for log_odds and accuracy with a right one), and there "
            "are none; use first_token_entropy or semantic_entropy"
        )
    return kept
