"""What the estimators of uncertainty take, checked before anything is computed, and how they give it back."""

import numpy as np
from numpy.typing import ArrayLike

from mechmsc.errors import InputError

ABOVE_ZERO = 1e-6
"""How far above 0 rounding may leave a log-probability."""


def log_likelihoods_of(values: ArrayLike, *, name: str = "log_likelihoods") -> np.ndarray:
    """Log-probabilities [..., sample] as float64.

    Raises:
        InputError: no number, not finite, above 0, or fewer than two samples.
    """
    values = np.asarray(values, dtype=float)
    check_samples(values, name)
    wrong = ~np.isfinite(values) | (values > ABOVE_ZERO)
    if wrong.any():
        where = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise InputError(
            f"{name} are natural logarithms of probabilities: expected finite values of at most 0, "
            f"got {values[where]} at {list(where)}"
        )
    return values


def cluster_ids_of(ids: ArrayLike, *, name: str = "cluster_ids") -> np.ndarray:
    """Integer ids [..., sample]; any integers, equal ones belong together.

    Raises:
        InputError: not integers, or fewer than two samples.
    """
    ids = np.asarray(ids)
    check_samples(ids, name)
    if ids.dtype.kind not in "iu":
        raise InputError(f"{name} are integers, one a sample; got values of type {ids.dtype}")
    return ids


def check_samples(values: np.ndarray, name: str) -> None:
    """Refuse sets of one sample, which show no spread, and of none.

    Raises:
        InputError: says how many samples there are.
    """
    if values.ndim == 0 or values.shape[-1] < 2:
        n = values.shape[-1] if values.ndim else 0
        raise InputError(
            f"uncertainty over samples needs at least 2 samples, got {n} ({name} of shape {values.shape}, the last "
            "axis is the sample); draw more, e.g. mechmsc run --samples 10"
        )


def check_same_shape(a: np.ndarray, b: np.ndarray, names: str) -> None:
    """Refuse arrays that do not belong to the same samples.

    Raises:
        InputError: gives both shapes.
    """
    if a.shape != b.shape:
        raise InputError(f"expected {names} of one shape, [..., sample], got {a.shape} and {b.shape}")


def probabilities_of(values: ArrayLike, *, tolerance: float = 1e-4) -> np.ndarray:
    """Distributions [..., choice] as float64, divided by their sums, which are 1 up to `tolerance`.

    Raises:
        InputError: not finite, below 0, or a row that does not sum to 1.
    """
    values = np.asarray(values, dtype=float)
    if values.ndim == 0 or values.shape[-1] == 0:
        raise InputError(f"expected probabilities [..., choice], got an array of shape {values.shape}")
    wrong = ~np.isfinite(values) | (values < -tolerance)
    if wrong.any():
        where = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise InputError(f"expected probabilities from 0 to 1, got {values[where]} at {list(where)}")
    values = np.maximum(values, 0.0)
    sums = values.sum(axis=-1)
    off = np.abs(sums - 1.0) > tolerance
    if off.any():
        where = tuple(int(i) for i in np.argwhere(off)[0])
        raise InputError(
            f"expected probabilities that sum to 1 over the choices (up to {tolerance:g}), got a sum of "
            f"{sums[where]:.6g}{f' at {list(where)}' if where else ''}; give probabilities, not log-probabilities"
        )
    return values / sums[..., None]


def plain(values: np.ndarray | np.floating) -> np.ndarray | float:
    """An array as it is; what has no axes as a float."""
    return values if np.ndim(values) else float(values)
