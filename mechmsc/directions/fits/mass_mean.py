"""`mass_mean`: the difference of the class means."""

from jaxtyping import Float
from torch import Tensor

from mechmsc.directions.fits.training import Column, check_training, class_means


def fit_mass_mean(
    activations: Float[Tensor, "statement layer d_model"],
    labels: Tensor,
    *,
    groups: Column,
    pairs: Column,
    seed: int,  # noqa: ARG001 - the signature of every fit; nothing is drawn
) -> Float[Tensor, "layer d_model"]:
    """Difference of the class means: d = mu+ - mu-. Marks & Tegmark 2024, arXiv:2310.06824.

    Args:
        activations: plain, float32.
        labels: 0 or 1 a statement.
        groups: not used.
        pairs: not used.
        seed: not used.

    Raises:
        InputError: see `check_training`.
    """
    check_training(activations, labels, groups, pairs)
    negative, positive = class_means(activations, labels)
    return positive - negative
