"""Differences of contrastive pairs, which `caa` and `pair_svd` are made of."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mechmsc.directions.fits.training import Column
from mechmsc.errors import InputError


def pair_codes(pairs: Column) -> tuple[list[int], int]:
    """A number for the pair of each statement, and how many pairs there are; statements without one share the last."""
    names: dict[str, int] = {}
    codes = [names.setdefault(pair, len(names)) if isinstance(pair, str) else -1 for pair in pairs]
    return [len(names) if code < 0 else code for code in codes], len(names)


def pair_differences(
    activations: Float[Tensor, "statement layer d_model"], labels: Tensor, codes: Tensor, n_pairs: int
) -> tuple[Float[Tensor, "pair layer d_model"], Bool[Tensor, " pair"]]:
    """Mean of a pair's statements with label 1 minus that of its statements with label 0; which pairs have both.

    Args:
        activations: of statements.
        labels: 0 or 1 each.
        codes: pair of each statement, from 0; n_pairs for none.
        n_pairs: number of pairs.

    Returns:
        Differences, 0 for incomplete pairs, and whether each pair is complete.
    """
    positive = labels.to(activations.dtype)
    counts = positive.new_zeros(2, n_pairs + 1).index_add_(1, codes, torch.stack([1 - positive, positive]))
    complete = (counts > 0).all(0)
    complete = complete & (torch.arange(n_pairs + 1, device=codes.device) < n_pairs)
    signs = (positive / counts[1].clamp(min=1)[codes] - (1 - positive) / counts[0].clamp(min=1)[codes]) * complete[
        codes
    ]
    total = activations.new_zeros(n_pairs + 1, *activations.shape[1:])
    total.index_add_(0, codes, activations * signs[:, None, None])
    return total[:-1], complete[:-1]


def checked_codes(labels: Tensor, pairs: Column, method: str) -> tuple[Tensor, int]:
    """Pair codes on the labels' device.

    Raises:
        InputError: no pair has statements of both labels.
    """
    codes, n_pairs = pair_codes(pairs)
    kinds = set(zip(codes, labels.tolist(), strict=True))
    if not any((code, 0) in kinds and (code, 1) in kinds for code in range(n_pairs)):
        raise InputError(
            f"{method} needs contrastive pairs, but none of the {n_pairs} pairs among {len(codes)} statements has "
            "both labels; use another method, e.g. mass_mean"
        )
    return torch.tensor(codes, device=labels.device), n_pairs
