"""`lda`: linear discriminant analysis with the shrunk covariance of Ledoit and Wolf."""

import torch
from jaxtyping import Float
from torch import Tensor

from mechmsc.directions.fits.training import Column, check_training, class_means, layer_chunks, precise, standardised
from mechmsc.errors import InputError


def fit_lda(
    activations: Float[Tensor, "statement layer d_model"],
    labels: Tensor,
    *,
    groups: Column,
    pairs: Column,
    seed: int,  # noqa: ARG001 - the signature of every fit; nothing is drawn
) -> Float[Tensor, "layer d_model"]:
    """Discriminant d = C^-1 (mu+ - mu-), C the mean of the shrunk class covariances weighted by class size.

    Ledoit & Wolf 2004, doi:10.1016/S0047-259X(03)00096-4, of each class in units of its features' deviations, as
    scikit-learn's `LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")`, whose coefficients these are.

    Args:
        activations: plain, float32.
        labels: 0 or 1 a statement.
        groups: not used.
        pairs: not used.
        seed: not used.

    Raises:
        InputError: a class of one statement; see also `check_training`.
    """
    check_training(activations, labels, groups, pairs)
    classes = [activations[labels == label] for label in (0, 1)]
    if min(map(len, classes)) < 2:
        raise InputError(f"lda needs two statements of each class, got {len(classes[0])} and {len(classes[1])}")
    vectors = []
    for layers in layer_chunks(activations, also=48 * activations.shape[-1] ** 2):
        covariances = [shrunk_covariance(part[:, layers]) * (len(part) / len(labels)) for part in classes]
        negative, positive = class_means(activations[:, layers], labels)
        vectors.append(discriminant(covariances[0] + covariances[1], positive - negative))
    return torch.cat(vectors)


def shrunk_covariance(activations: Float[Tensor, "statement layer d_model"]) -> Float[Tensor, "layer d_model d_model"]:
    """(1 - s) S + s mu I in units of the features' deviations, put back into raw units, float64.

    S = Z'Z / n of standardised rows z; mu = tr S / d; s = min(b, a) / a with
    a = |S - mu I|^2 / d and b = (mean_i |z_i|^4 - |S|^2) / (n d).
    """
    rows, _, deviation = standardised(activations)
    n, d = rows.shape[1:]
    covariance = precise(rows.mT @ rows / n)
    mean = covariance.diagonal(dim1=1, dim2=2).mean(1)
    squared = covariance.square().sum((1, 2))
    fourth = precise(rows.square().sum(2)).square().mean(1)
    spread = squared / d - mean.square()
    noise = torch.minimum((fourth - squared) / (n * d), spread)
    shrinkage = torch.where(noise == 0, torch.zeros_like(noise), noise / spread)
    shrunk = (1 - shrinkage)[:, None, None] * covariance
    shrunk.diagonal(dim1=1, dim2=2).add_((shrinkage * mean)[:, None])
    scale = precise(deviation)
    return shrunk * scale * scale.mT


def discriminant(
    covariance: Float[Tensor, "layer d_model d_model"], difference: Float[Tensor, "layer d_model"]
) -> Float[Tensor, "layer d_model"]:
    """C^-1 d, solved in units of the features' deviations, where C is well conditioned."""
    scale = covariance.diagonal(dim1=1, dim2=2).sqrt()
    scale = torch.where(scale > 0, scale, torch.ones_like(scale))
    unit = covariance / scale[:, :, None] / scale[:, None, :]
    factor = torch.linalg.cholesky(unit)
    solved = torch.cholesky_solve((precise(difference) / scale)[:, :, None], factor)[:, :, 0]
    return (solved / scale).to(difference.dtype)
