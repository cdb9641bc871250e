"""Directions that should do nothing: random, random within the activations' span, fitted on shuffled labels.

Each keeps the gaps and midpoints of the concept's direction, so that a strength moves the activation by as much.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from mechmsc.directions import METHODS, Direction
from mechmsc.errors import InputError


def random_directions(direction: Direction, n: int, *, seed: int) -> list[Direction]:
    """Directions drawn uniformly from the sphere, independently in every layer.

    Args:
        direction: of the concept; gaps, midpoints and the rest are kept.
        n: how many.
        seed: of the draws.
    """
    return [_instead(direction, vectors, "random") for vectors in _gaussian(direction, n, seed)]


def spanned_directions(
    direction: Direction, activations: Float[Tensor, "statement layer d_model"], n: int, *, seed: int
) -> list[Direction]:
    """Random combinations of centred activations: they point where activations vary, as a concept does.

    Args:
        direction: of the concept.
        activations: e.g. of the statements that it was fitted on.
        n: how many.
        seed: of the draws.
    """
    centred = activations.float() - activations.float().mean(0)
    generator = torch.Generator().manual_seed(seed)
    weights = torch.randn(n, len(centred), generator=generator).to(centred.device)
    vectors = torch.einsum("ns,sld->nld", weights, centred)
    return [_instead(direction, one, "random within the span") for one in vectors]


def shuffled_directions(
    direction: Direction,
    activations: Float[Tensor, "statement layer d_model"],
    labels: Tensor,
    n: int,
    *,
    groups: Sequence[str],
    seed: int,
) -> list[Direction]:
    """The mass-mean fit to labels that were shuffled: what the method finds where there is nothing.

    Args:
        direction: of the concept.
        activations: of the statements that it was fitted on.
        labels: 0 or 1, `[statement]`.
        n: how many.
        groups: of the statements.
        seed: of the shuffles.
    """
    generator = torch.Generator().manual_seed(seed)
    fit, made = METHODS["mass_mean"], []
    for _ in range(n):
        order = torch.randperm(len(labels), generator=generator).to(labels.device)
        vectors = fit(activations, labels[order], groups=list(groups), pairs=[None] * len(labels), seed=seed)
        made.append(_instead(direction, vectors.float(), "shuffled labels"))
    return made


def _gaussian(direction: Direction, n: int, seed: int) -> Tensor:
    if n < 0:
        raise InputError(f"placebos: expected at least 0, got {n}")
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, *direction.vectors.shape, generator=generator).to(direction.vectors.device)


def _instead(direction: Direction, vectors: Tensor, kind: str) -> Direction:
    return replace(direction, vectors=vectors, method=f"placebo: {kind}")
