"""`ccs`: contrast-consistent search, a direction from answers that exclude each other; labels give its sign alone."""

import torch
from jaxtyping import Float
from torch import Tensor

from mechmsc.directions.fits.training import Column, check_training, layer_chunks
from mechmsc.errors import InputError

RESTARTS = 10
STEPS = 80
"""No more: with more features than statements constrain, the loss falls on to 0 along ever longer weights."""
RATE = 0.02
DECAY = 0.01
"""Weight decay, decoupled (AdamW)."""
BETAS = (0.9, 0.999)
EPSILON = 1e-8


def fit_ccs(
    activations: Float[Tensor, "statement *side layer d_model"],
    labels: Tensor,
    *,
    groups: Column,
    pairs: Column,
    seed: int,
) -> Float[Tensor, "layer d_model"]:
    """The best of `RESTARTS` minima of the mean over statements of (p+ - (1 - p-))^2 + min(p+, p-)^2.

    p+- = sigmoid(w.z+- + b), z+- = (h+- - mean of that side) / sd, one sd a feature for both sides so that one
    direction serves both; d = w / sd. Burns et al. 2023, arXiv:2212.03827. The sides are one statement with an
    affirming and a denying answer (`read_sides`); what only tells the answers apart goes with the means. The sign is
    that for which affirming is more probable of statements with label 1.

    Args:
        activations: of sides, affirming first, float32.
        labels: 0 or 1 a statement, for the sign alone.
        groups: not used.
        pairs: not used.
        seed: of the starting points.

    Raises:
        InputError: activations without an axis of two sides; see also `check_training`.
    """
    if activations.ndim != 4 or activations.shape[1] != 2:
        raise InputError(
            f"ccs needs activations [statement, 2 sides, layer, d_model], got {list(activations.shape)}; read_sides "
            "makes them"
        )
    check_training(activations, labels, groups, pairs)
    starts = starting_points(activations.shape[2], activations.shape[3], seed=seed)
    vectors = []
    for layers in layer_chunks(activations):
        sides, deviation = normalised_sides(activations[:, :, layers])
        w, b = (start[layers].to(activations.device) for start in starts)
        w, b, losses = minimised(sides, w, b)
        best = losses.argmin(1)
        picked = torch.take_along_dim(w, best[:, None, None], 1)[:, 0]
        vectors.append(signed(picked, sides, labels) / deviation)
    return torch.cat(vectors)


def starting_points(layers: int, d_model: int, *, seed: int) -> tuple[Tensor, Tensor]:
    """Weights [layer, restart, d_model] of length about 1 and intercepts 0, on the CPU, the same for every device."""
    generator = torch.Generator().manual_seed(seed)
    w = torch.randn(layers, RESTARTS, d_model, generator=generator) / d_model**0.5
    return w, torch.zeros(layers, RESTARTS)


def normalised_sides(
    activations: Float[Tensor, "statement side layer d_model"],
) -> tuple[Float[Tensor, "layer side statement d_model"], Float[Tensor, "layer d_model"]]:
    """Both sides as z, and sd; a feature that never varies is divided by 1."""
    rows = activations.permute(2, 1, 0, 3).contiguous()
    mean = rows.mean(2, keepdim=True)
    centred = rows - mean
    deviation = centred.square().mean((1, 2)).sqrt()
    deviation = torch.where(deviation > 1e-6 * mean.abs().amax((1, 2)), deviation, torch.ones_like(deviation))
    return centred / deviation[:, None, None], deviation


def ccs_loss(
    sides: Float[Tensor, "layer side statement d_model"], w: Tensor, b: Tensor
) -> tuple[Float[Tensor, "layer restart"], Tensor, Tensor]:
    """The loss of every restart with its gradient in w and b.

    With c = p+ + p- - 1 and m = min(p+, p-), each statement's loss is c^2 + m^2.
    """
    layers, _, statements, d_model = sides.shape
    rows = sides.reshape(layers, 2 * statements, d_model)
    p = torch.sigmoid(w @ rows.mT + b[..., None]).unflatten(2, (2, statements))
    consistency, least = p.sum(2) - 1, p.amin(2)
    lower = p[:, :, 0] <= p[:, :, 1]
    losses = (consistency.square() + least.square()).mean(2)
    slope = consistency[:, :, None] + least[:, :, None] * torch.stack([lower, ~lower], 2)
    slope = (2 / statements * slope * p * (1 - p)).flatten(2)
    return losses, slope @ rows, slope.sum(2)


def adam_step(
    values: tuple[Tensor, Tensor], slopes: tuple[Tensor, Tensor], moments: tuple[Tensor, ...], step: int
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """One step of AdamW (Loshchilov & Hutter 2019, arXiv:1711.05101) of weights and intercepts.

    Args:
        values: w, b.
        slopes: their gradients.
        moments: first and second moment of w, then of b.
        step: from 1.

    Returns:
        New values and moments.
    """
    new_values, new_moments = [], []
    for i, (value, slope) in enumerate(zip(values, slopes, strict=True)):
        first = BETAS[0] * moments[2 * i] + (1 - BETAS[0]) * slope
        second = BETAS[1] * moments[2 * i + 1] + (1 - BETAS[1]) * slope.square()
        scaled = (second / (1 - BETAS[1] ** step)).sqrt() + EPSILON
        new_values.append(value * (1 - RATE * DECAY) - RATE / (1 - BETAS[0] ** step) * first / scaled)
        new_moments += [first, second]
    return tuple(new_values), tuple(new_moments)


def minimised(
    sides: Float[Tensor, "layer side statement d_model"], w: Tensor, b: Tensor
) -> tuple[Tensor, Tensor, Float[Tensor, "layer restart"]]:
    """Weights and intercepts after `STEPS` steps, all layers and restarts at once, and their losses."""
    moments = (torch.zeros_like(w), torch.zeros_like(w), torch.zeros_like(b), torch.zeros_like(b))
    for step in range(1, STEPS + 1):
        _, *slopes = ccs_loss(sides, w, b)
        (w, b), moments = adam_step((w, b), tuple(slopes), moments, step)
    return w, b, ccs_loss(sides, w, b)[0]


def signed(
    w: Float[Tensor, "layer d_model"], sides: Float[Tensor, "layer side statement d_model"], labels: Tensor
) -> Float[Tensor, "layer d_model"]:
    """The sign for which w.(z+ - z-) is larger for label 1."""
    contrast = torch.einsum("lsd,ld->ls", sides[:, 0] - sides[:, 1], w)
    positive = labels.to(w.dtype)
    difference = contrast @ (positive / positive.sum() - (1 - positive) / (1 - positive).sum())
    return torch.where(difference[:, None] < 0, -w, w)
