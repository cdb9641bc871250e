"""Is an intervened response still language? What is reported beside every effect on generated text."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mechmsc.errors import InputError
from mechmsc.model.forward import unembed_last
from mechmsc.model.looking import looking, pictured
from mechmsc.positions import end_ids, in_flight, suspended
from mechmsc.transcripts import Transcript

if TYPE_CHECKING:
    import pandas
    from transformer_lens import HookedTransformer

MAX_TOKENS = 1024
"""Tokens in one pass, padding included."""
NGRAMS = (1, 2, 3)
KEYS = ("item_id", "arm", "round", "sample", "conversation")


def generation_guards(
    model: "HookedTransformer", conversations: Transcript | Sequence[Transcript], responses: "pandas.DataFrame"
) -> "pandas.DataFrame":
    """Perplexity under the unedited model, distinct-n and length of each response.

    A steered model can have low entropy because it is broken (science, section 7). The model is unedited while its
    perplexity is taken, also inside `applied`.

        perplexity   exp(-1/n sum_i log p(token_i | conversation, tokens before)), end of turn included
        distinct_n   distinct n-grams / n-grams, end of turn left out; nan below n tokens   Li et al. 2016, 1510.03055
        length       tokens, end of turn left out

    Args:
        model: the model.
        conversations: those that the responses were given to, in the order of `respond`.
        responses: from `respond`.

    Returns:
        A row for each row of `responses`, same index: item_id, arm, round, sample, conversation, perplexity,
        distinct_1, distinct_2, distinct_3, length.
    """
    import pandas

    given = [conversations] if isinstance(conversations, Transcript) else list(conversations)
    if responses.empty or not {"conversation", "response_ids"} <= set(responses.columns):
        raise InputError("responses: expected a table from respond, with columns conversation and response_ids")
    if responses["conversation"].max() >= len(given):
        raise InputError(f"responses name conversation {responses['conversation'].max()}, but {len(given)} were given")
    pairs = [
        (pictured(given[number]), list(ids))
        for number, ids in zip(responses["conversation"], responses["response_ids"], strict=True)
    ]
    table = pandas.DataFrame(guard_values(model, pairs), index=responses.index)
    return pandas.concat([responses[[key for key in KEYS if key in responses.columns]], table], axis=1)


def guard_values(
    model: "HookedTransformer", pairs: Sequence[tuple[Sequence[int], Sequence[int]]]
) -> dict[str, list[float]]:
    """What `generation_guards` reports, for (prompt ids, response ids): name -> one number a pair."""
    ends, found = end_ids(model), {}
    said = [[token for token in response if token not in ends] for _, response in pairs]
    found["perplexity"] = [(-logprobs.mean()).exp().item() for logprobs in response_logprobs(model, pairs)]
    found |= {f"distinct_{n}": [distinct_ngrams(tokens, n) for tokens in said] for n in NGRAMS}
    return found | {"length": [float(len(tokens)) for tokens in said]}


def distinct_ngrams(tokens: Sequence[int], n: int) -> float:
    """Distinct n-grams over n-grams, in (0, 1]; nan where there are none.

    >>> distinct_ngrams([1, 2, 1, 2], 2)
    0.6666666666666666
    """
    grams = list(zip(*(tokens[i:] for i in range(n)), strict=False))
    return len(set(grams)) / len(grams) if grams else float("nan")


def response_logprobs(model: "HookedTransformer", pairs: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[Tensor]:
    """Log-probability of every token of a response after its prompt, under the unedited model, teacher-forced.

    Args:
        model: the model.
        pairs: (prompt ids, response ids).

    Returns:
        One float32 tensor a pair, `[token]`, nats.
    """
    out: list[Tensor] = [torch.empty(0)] * len(pairs)
    order = sorted(range(len(pairs)), key=lambda i: len(pairs[i][0]) + len(pairs[i][1]))
    chunk: list[int] = []
    for i in order:
        if chunk and (len(chunk) + 1) * (len(pairs[i][0]) + len(pairs[i][1])) > MAX_TOKENS:
            _fill(model, pairs, chunk, out)
            chunk = []
        chunk.append(i)
    _fill(model, pairs, chunk, out)
    return out


def _fill(
    model: "HookedTransformer",
    pairs: Sequence[tuple[Sequence[int], Sequence[int]]],
    chunk: Sequence[int],
    out: list[Tensor],
) -> None:
    """One pass, padded on the right, where no token before can see it; logits of responses alone."""
    texts = [[*pairs[i][0], *pairs[i][1]] for i in chunk]
    width, device = max(map(len, texts)), torch.device(model.cfg.device)
    tokens = torch.tensor([[*text, *[0] * (width - len(text))] for text in texts], device=device)
    seen, longer = ([pairs[i][side] for i in chunk] for side in (0, 1))
    looks = looking(model, seen, longer=list(map(len, longer)))
    with torch.no_grad(), suspended(model), in_flight(model, None), looks:
        residual = model(tokens, stop_at_layer=model.cfg.n_layers, padding_side="right")
        for row, i in enumerate(chunk):
            prompt, response = pairs[i]
            here = residual[row, len(prompt) - 1 : len(prompt) + len(response) - 1]
            logprobs = unembed_last(model, here[:, None]).log_softmax(-1)
            ids = torch.tensor(response, device=device)
            out[i] = logprobs.gather(1, ids[:, None])[:, 0]
