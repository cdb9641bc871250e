"""Is an effect more than placebos have? Placebos have no sign, so sizes are compared, not means."""

import numpy as np

from mechmsc.errors import InputError
from mechmsc.estimate import Estimate
from mechmsc.estimate.resampling import cluster_counts


def beyond_placebos(
    concept: np.ndarray, placebos: np.ndarray, *, level: float = 0.95, n_boot: int = 2000, seed: int
) -> tuple[Estimate, float]:
    """|mean effect of the concept| over the root mean square of the placebos' mean effects.

    excess = |e| - sqrt(mean_k e_k^2);  p = (1 + #{|e_k| >= |e|}) / (1 + n_placebo)

    Placebo directions have no sign, so their mean effect is 0 whatever they do: subtracting it would prove nothing
    (science, section 7). The interval resamples items, for concept and placebos alike, and placebos.

    Args:
        concept: effect of each item, `[item]`; items with a nan are left out.
        placebos: `[item, placebo]`.
        level: of the interval.
        n_boot: number of resamples.
        seed: of the resamples.

    Returns:
        The excess in the unit of the effects, bounds nan with fewer than two items; and p.

    Raises:
        InputError: no placebos, or shapes that do not fit.
    """
    concept, placebos = np.asarray(concept, float), np.asarray(placebos, float)
    if placebos.ndim != 2 or placebos.shape[1] < 1 or len(placebos) != len(concept):
        raise InputError(f"expected placebos [item, placebo] of {len(concept)} items, got shape {placebos.shape}")
    kept = np.isfinite(concept) & np.isfinite(placebos).all(axis=1)
    concept, placebos = concept[kept], placebos[kept]
    n, k = len(concept), placebos.shape[1]
    if n == 0:
        return Estimate(np.nan, np.nan, np.nan, level, 0), np.nan
    effect, others = abs(concept.mean()), np.abs(placebos.mean(0))
    value = effect - np.sqrt((others**2).mean())
    p = (1 + int((others >= effect * (1 - 1e-12)).sum())) / (1 + k)
    if n < 2:
        return Estimate(float(value), np.nan, np.nan, level, n), p
    weights = np.concatenate(list(cluster_counts(n, n_boot, seed))) / n
    drawn = np.random.default_rng([seed, 1]).integers(0, k, size=(n_boot, k))
    squares = np.take_along_axis((weights @ placebos) ** 2, drawn, axis=1)
    draws = np.abs(weights @ concept) - np.sqrt(squares.mean(1))
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return Estimate(float(value), float(low), float(high), level, n), p
