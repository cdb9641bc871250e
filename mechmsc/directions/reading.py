"""Labelled statements -> activations, at one place of each, for every layer.

Hooks keep weighted sums over tokens alone, as `capture` does, so memory does not grow with the length of statements:
beside the result (statements x layers x d_model, float32) there is one pass of at most `batch_tokens` tokens. The model
is causal: a prompt is cut after the last token that is read.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from mechmsc.directions.prompts import (
    CHOICE,
    LETTERS,
    POSITIONS,
    PREFIX,
    QUESTION,
    SIDES,
    Prompts,
    cut_texts,
    first_difference,
    partners,
    statement_tokens,
    texts_of,
)
from mechmsc.errors import InputError, nearest
from mechmsc.progress import bar
from mechmsc.sites import COMPONENTS
from mechmsc.transcripts import Transcript

if TYPE_CHECKING:
    import pandas
    from transformer_lens import HookedTransformer

BATCH_TOKENS = 1024
"""Tokens in one pass, padding included: larger passes need more memory and are slower on a CPU, by page faults."""

Reads = Sequence[tuple[Transcript, tuple[int, ...]]]
"""Prompts, each with the tokens whose mean is kept."""


def read_statements(
    model: "HookedTransformer",
    statements: "pandas.DataFrame",
    *,
    position: str = "last",
    context: str = "chat",
    component: str = "resid_post",
    max_tokens: int | None = None,
    first_token: bool = False,
    batch_tokens: int = BATCH_TOKENS,
    progress: bool = True,
) -> Float[Tensor, "statement layer d_model"]:
    """Activations of statements, each shown by itself: what directions are fitted on and scored with.

    Args:
        model: from `load_model`.
        statements: a frame with column `text`.
        position: `last`: the last token of the statement; `mean`: over the statement's tokens, template and the
            sequence's first token left out; `prompt_end`: the last token before the model would answer.
        context: `chat`: a user turn in the model's chat template; `raw`: the text alone.
        component: which activation, a key of `sites.COMPONENTS` with axis d_model.
        max_tokens: longer statements are cut after so many tokens; None: none is cut.
        first_token: put the sequence's first token into the mean: only to show what that does.
        batch_tokens: tokens in one pass.
        progress: show a bar on stderr.

    Returns:
        float32, on the model's device.

    Raises:
        InputError: an unknown name, no statements, a statement that the template or the model's context cannot hold.
    """
    _check_names(component, position)
    if first_token and position != "mean":
        raise InputError(f"first_token is for position 'mean', got position {position!r}")
    prompts, reads = Prompts.of(model, context), []
    for row, text in enumerate(cut_texts(model, texts_of(statements), max_tokens)):
        with _naming(row):
            transcript = prompts.plain(text)
            tokens = statement_tokens(transcript, position, first_token=first_token)
            if not tokens:
                raise InputError(f"{text!r} has no token besides the first of the sequence, which is left out")
            reads.append((transcript, tokens))
    return read_tokens(model, reads, component=component, batch_tokens=batch_tokens, progress=progress)


def read_sides(
    model: "HookedTransformer",
    statements: "pandas.DataFrame",
    *,
    context: str = "chat",
    component: str = "resid_post",
    max_tokens: int | None = None,
    batch_tokens: int = BATCH_TOKENS,
    progress: bool = True,
) -> Float[Tensor, "statement side layer d_model"]:
    """Every statement with an affirming and a denying answer to the question whether it shows its concept, for `ccs`.

    Read at the last token of the answer. Side 0 affirms, side 1 denies: two sides of one statement, never the two
    members of a contrastive pair (Burns et al. 2023, arXiv:2212.03827).

    Args:
        model: from `load_model`.
        statements: a frame with columns `text` and `concept`, which the question names.
        context: as in `read_statements`, as are the others.
        component: which activation.
        max_tokens: where statements are cut.
        batch_tokens: tokens in one pass.
        progress: show a bar on stderr.

    Raises:
        InputError: as `read_statements`.
    """
    _check_names(component)
    prompts, reads = Prompts.of(model, context), []
    texts = cut_texts(model, texts_of(statements), max_tokens)
    for row, (text, concept) in enumerate(zip(texts, statements["concept"], strict=True)):
        with _naming(row):
            sides = prompts.answered(text, QUESTION.format(concept=concept), None, SIDES)
            reads += [(side, (len(side) - 1,)) for side in sides]
    read = read_tokens(model, reads, component=component, batch_tokens=batch_tokens, progress=progress)
    return read.unflatten(0, (len(texts), len(SIDES)))


def read_letters(
    model: "HookedTransformer",
    statements: "pandas.DataFrame",
    *,
    context: str = "chat",
    component: str = "resid_post",
    max_tokens: int | None = None,
    batch_tokens: int = BATCH_TOKENS,
    progress: bool = True,
) -> Float[Tensor, "statement layer d_model"]:
    """Every statement as the chosen one of its pair, read at the letter that names it, for `caa`.

    The two members of a pair are options (A) and (B) of one question, and the answer names one of them (Rimsky et al.
    2024, arXiv:2312.06681). Each pair is asked in both orders and a statement's two activations are averaged, so that
    the letter itself cancels in the difference of a pair.

    Args:
        model: from `load_model`.
        statements: a frame with columns `text` and `pair`; every pair has two members.
        context: as in `read_statements`, as are the others.
        component: which activation.
        max_tokens: where statements are cut.
        batch_tokens: tokens in one pass.
        progress: show a bar on stderr.

    Raises:
        InputError: a statement without a partner; otherwise as `read_statements`.
    """
    _check_names(component)
    prompts, texts = Prompts.of(model, context), cut_texts(model, texts_of(statements), max_tokens)
    reads, rows = [], []
    for one, other in partners(list(statements["pair"])):
        for first, second in ((one, other), (other, one)):
            with _naming(first):
                question = CHOICE.format(first=texts[first].strip(), second=texts[second].strip())
                chosen = prompts.answered(question, None, PREFIX, LETTERS)
            letter = first_difference(*chosen)
            reads += [(conversation, (letter,)) for conversation in chosen]
            rows += [first, second]
    read = read_tokens(model, reads, component=component, batch_tokens=batch_tokens, progress=progress)
    total = read.new_zeros(len(texts), *read.shape[1:])
    return total.index_add_(0, torch.tensor(rows, device=read.device), read) / 2


def read_tokens(
    model: "HookedTransformer", reads: Reads, *, component: str, batch_tokens: int = BATCH_TOKENS, progress: bool = True
) -> Float[Tensor, "row layer d_model"]:
    """The mean over given tokens of each prompt, at every layer, in passes of prompts of like length.

    Args:
        model: from `load_model`.
        reads: prompts, each with the tokens to average over.
        component: which activation, with axis d_model.
        batch_tokens: tokens in one pass, padding included (or one prompt).
        progress: show a bar on stderr.

    Returns:
        float32, on the model's device.
    """
    cut = [(transcript.ids[: max(tokens) + 1], tokens) for transcript, tokens in reads]
    for row, (ids, _) in enumerate(cut):
        if len(ids) > model.cfg.n_ctx:
            raise InputError(
                f"prompt {row} has {len(ids)} tokens, more than the {model.cfg.n_ctx} of the model's context; "
                "cut statements with max_tokens"
            )
    out = torch.empty(len(cut), model.cfg.n_layers, model.cfg.d_model, device=model.cfg.device)
    with bar("reading prompts", len(cut), show=progress) as advance:
        for chunk in _chunks([len(ids) for ids, _ in cut], batch_tokens):
            rows = torch.tensor(chunk, device=out.device)
            out[rows] = _pass(model, [cut[i] for i in chunk], component)
            advance(len(chunk))
    return out


def _pass(
    model: "HookedTransformer", prompts: Sequence[tuple[tuple[int, ...], tuple[int, ...]]], component: str
) -> Float[Tensor, "row layer d_model"]:
    device, width = torch.device(model.cfg.device), max(len(ids) for ids, _ in prompts)
    tokens = torch.tensor([[*ids, *[0] * (width - len(ids))] for ids, _ in prompts], device=device)
    weights = torch.zeros(len(prompts), width)
    for row, (_, read) in enumerate(prompts):
        weights[row, list(read)] = 1.0 / len(read)
    weights = weights.to(device)
    kept: dict[int, Tensor] = {}

    def keep(activation: Tensor, hook: object, *, layer: int) -> None:  # noqa: ARG001 - a hook's signature
        kept[layer] = torch.einsum("rt,rtd->rd", weights, activation.float())

    layers = range(model.cfg.n_layers)
    hooks = [(f"blocks.{layer}.{COMPONENTS[component][0]}", partial(keep, layer=layer)) for layer in layers]
    with torch.no_grad(), model.hooks(fwd_hooks=hooks):
        model(tokens, stop_at_layer=model.cfg.n_layers, return_type=None, padding_side="right")
    return torch.stack([kept[layer] for layer in layers], dim=1)


def _chunks(lengths: Sequence[int], batch_tokens: int) -> list[list[int]]:
    """Rows of like length together, at most `batch_tokens` a pass (or one row)."""
    chunks: list[list[int]] = []
    for row in sorted(range(len(lengths)), key=lengths.__getitem__):
        if chunks and (len(chunks[-1]) + 1) * lengths[row] <= batch_tokens:
            chunks[-1].append(row)
        else:
            chunks.append([row])
    return chunks


def _check_names(component: str, position: str = "last") -> None:
    wide = [name for name, (_, axes) in COMPONENTS.items() if axes == ("d_model",)]
    if component not in wide:
        raise InputError(
            f"directions live in components with axis d_model, got {component!r}: {nearest(component, wide)}"
        )
    if position not in POSITIONS:
        raise InputError(f"unknown position {position!r}: {nearest(position, POSITIONS)}")


@contextmanager
def _naming(row: int) -> Iterator[None]:
    """Say which statement an error is about."""
    try:
        yield
    except InputError as error:
        raise type(error)(f"statement {row}: {error}") from error
