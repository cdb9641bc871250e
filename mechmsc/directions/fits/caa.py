"""`caa`: contrastive activation addition, the mean difference of contrastive pairs."""

from jaxtyping import Float
from torch import Tensor

from mechmsc.directions.fits.pairs import checked_codes, pair_differences
from mechmsc.directions.fits.training import Column, check_training


def fit_caa(
    activations: Float[Tensor, "statement layer d_model"],
    labels: Tensor,
    *,
    groups: Column,
    pairs: Column,
    seed: int,  # noqa: ARG001 - the signature of every fit; nothing is drawn
) -> Float[Tensor, "layer d_model"]:
    """Mean difference of contrastive pairs: d = mean over pairs of (h+ - h-).

    Rimsky et al. 2024, arXiv:2312.06681.

    Read at the answer letter, which `read_letters` does. On plain activations of complete pairs it is the difference of
    means. Incomplete pairs and statements without a pair are left out.

    Args:
        activations: of letters (or plain), float32.
        labels: 0 or 1 a statement.
        groups: not used.
        pairs: shared by the members of a pair.
        seed: not used.

    Raises:
        InputError: no complete pair; see also `check_training`.
    """
    check_training(activations, labels, groups, pairs)
    codes, n_pairs = checked_codes(labels, pairs, "caa")
    return mean_difference(*pair_differences(activations, labels, codes, n_pairs))


def mean_difference(
    differences: Float[Tensor, "pair layer d_model"], complete: Tensor
) -> Float[Tensor, "layer d_model"]:
    """The mean over complete pairs; the others are 0."""
    return differences.sum(0) / complete.sum()
