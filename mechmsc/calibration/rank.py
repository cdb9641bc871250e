"""Rank calibration: is the answer of higher uncertainty the worse one? With what the number is worth beside it."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from mechmsc.calibration.binning import equal_count_codes, paired
from mechmsc.errors import InputError
from mechmsc.estimate import Estimate, Seed, cluster_bootstrap_weighted

if TYPE_CHECKING:
    import pandas

TIES = ("definition", "mid")
_SHUFFLES_AT_ONCE = 250


def rank_calibration_error(
    uncertainty: ArrayLike, correctness: ArrayLike, *, n_bins: int = 20, ties: str = "definition"
) -> float:
    """How far the rank of the expected correctness is from the rank of the uncertainty, 0 (best) to 1.

    RCE = E_U | P(reg(U') >= reg(U)) - P(U' <= U) |,  reg(u) = E[A | U = u]      Huang et al. 2024, arXiv:2404.03163

    Estimated on bins of equal count over sorted U: reg of a bin is its mean correctness, the probabilities are shares
    of items. Bins that share a value of U are merged, so that the order of rows does not matter. (The released code
    keeps them apart, and leaves the bin itself out of both probabilities.)

    Read it only beside its null and the level of a perfect ranking (`rank_calibration`): at high accuracy most bins
    have the same mean correctness, ties in reg count as >=, and a perfectly ranked U scores badly (400 items with 1 to
    10 errors: 0.43). One value of U for all items is a single bin, which scores 0 and says nothing.

    Args:
        uncertainty: [item], any scale. Rows with a nan are left out.
        correctness: [item], A, higher is better: 0/1 or a score.
        n_bins: before merging; no more than items are used.
        ties: "definition" counts ties as above; "mid" counts them by half on both sides, P(. > x) + P(. = x) / 2,
            with which the perfectly ranked U above scores 0.23.

    Returns:
        The error; nan without items.

    Raises:
        InputError: lengths differ, a value is infinite, or an option is unknown.
    """
    uncertainty, correctness, _ = _checked(uncertainty, correctness, None, n_bins, ties)
    if not len(uncertainty):
        return float("nan")
    starts, order = _bins(uncertainty, correctness, n_bins)
    return float(_errors(correctness[order][None], starts, ties)[0])


def rank_calibration(
    uncertainty: ArrayLike,
    correctness: ArrayLike,
    *,
    clusters: ArrayLike | None = None,
    n_bins: int = 20,
    ties: str = "definition",
    level: float = 0.95,
    n_boot: int = 2000,
    n_null: int = 1000,
    seed: Seed,
) -> "pandas.DataFrame":
    """The rank calibration error with all that is needed to read it.

    Rows (`measure`):
        rce: the error. It has no interval: it is made of comparisons between bins, so it does not settle to a normal
            distribution and no bootstrap covers it; compare it with its null.
        rce_null: uncertainty shuffled over the items: mean, and the central `level` of the shuffles as low and high.
        rce_perfect: the same items and bins, the worst answers where uncertainty is highest: what a perfect ranking
            scores at this accuracy. It is not the least that can be had: errors spread so that bins differ in
            accuracy may score less.
        auroc: probability that a wrong answer has the higher uncertainty (ties by half), 0.5 is chance; nan unless
            correctness is 0/1 with both present.
        spearman: rank correlation of uncertainty and correctness, -1 is best; nan if one of them is constant.
        correctness: its mean.

    Args:
        uncertainty: [item], any scale. Rows with a nan are left out.
        correctness: [item], higher is better: 0/1 or a score.
        clusters: [item], what is resampled together in the bootstrap of auroc, spearman and correctness; None: every
            row is an item of its own. The null shuffles rows whatever the clusters.
        n_bins: as in `rank_calibration_error`.
        ties: as in `rank_calibration_error`.
        level: of the intervals.
        n_boot: resamples for auroc, spearman and correctness.
        n_null: shuffles for the null.
        seed: an integer, or a generator of the caller's own.

    Returns:
        A row per measure: measure, value, low, high, level, n.

    Raises:
        InputError: lengths differ, a value is infinite, or an option is out of range.
    """
    import pandas as pd

    uncertainty, correctness, clusters = _checked(uncertainty, correctness, clusters, n_bins, ties)
    rng = np.random.default_rng(seed)
    found = _against_null(uncertainty, correctness, n_bins, ties, level, n_null, rng)
    found |= ranking(uncertainty, correctness, clusters, level, n_boot, rng)
    rows = [(name, one.value, one.low, one.high, one.level, one.n) for name, one in found.items()]
    return pd.DataFrame(rows, columns=["measure", "value", "low", "high", "level", "n"])


def _checked(
    uncertainty: ArrayLike, correctness: ArrayLike, clusters: ArrayLike | None, n_bins: int, ties: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    if ties not in TIES:
        raise InputError(f"unknown ties {ties!r}; known: {', '.join(TIES)}")
    if n_bins < 1:
        raise InputError(f"expected at least 1 bin, got {n_bins}")
    return paired(uncertainty, correctness, clusters, ("uncertainty", "correctness"))


def _bins(uncertainty: np.ndarray, correctness: np.ndarray, n_bins: int) -> tuple[np.ndarray, np.ndarray]:
    """Where each bin starts among the sorted rows, and the rows in that order.

    Inside a bin rows are sorted by correctness, so that sums do not round differently in another order of rows.
    """
    codes = equal_count_codes(uncertainty, n_bins)
    order = np.lexsort([correctness, codes])
    return np.flatnonzero(np.diff(codes[order], prepend=-1)), order


def _errors(correctness: np.ndarray, starts: np.ndarray, ties: str) -> np.ndarray:
    """RCE of each arrangement [arrangement, row in order of uncertainty] -> [arrangement]."""
    n = correctness.shape[1]
    share = np.diff(np.append(starts, n)) / n
    scale = max(float(np.abs(correctness).max()), 1e-300)
    reg = np.round(np.add.reduceat(correctness, starts, axis=1) / (share * n * scale), 12)  # rounding makes no ties
    above = (reg[:, None, :] > reg[:, :, None]) @ share
    level = (reg[:, None, :] == reg[:, :, None]) @ share
    before = np.cumsum(share) - share
    if ties == "mid":
        return np.abs(above + level / 2 - before - share / 2) @ share
    return np.abs(above + level - before - share) @ share


def _against_null(
    uncertainty: np.ndarray,
    correctness: np.ndarray,
    n_bins: int,
    ties: str,
    level: float,
    n_null: int,
    rng: np.random.Generator,
) -> dict[str, Estimate]:
    """The error, its null under shuffled uncertainty, and what a perfect ranking scores."""
    n = len(uncertainty)
    if n_null < 1 or not 0 < level < 1:
        raise InputError(f"expected n_null of at least 1 and a level between 0 and 1, got {n_null} and {level}")
    if n == 0:
        return dict.fromkeys(("rce", "rce_null", "rce_perfect"), Estimate(np.nan, np.nan, np.nan, level, 0))
    starts, order = _bins(uncertainty, correctness, n_bins)
    best_first = np.sort(correctness)[::-1]
    observed, perfect = _errors(np.stack([correctness[order], best_first]), starts, ties)
    blocks = range(0, n_null, _SHUFFLES_AT_ONCE)
    null = np.concatenate(
        [
            _errors(rng.permuted(np.tile(correctness, (min(_SHUFFLES_AT_ONCE, n_null - at), 1)), axis=1), starts, ties)
            for at in blocks
        ]
    )
    low, high = np.quantile(null, [(1 - level) / 2, (1 + level) / 2]) if n > 1 else (np.nan, np.nan)
    return {
        "rce": Estimate(float(observed), np.nan, np.nan, level, n),
        "rce_null": Estimate(float(null.mean()), float(low), float(high), level, n),
        "rce_perfect": Estimate(float(perfect), np.nan, np.nan, level, n),
    }


def ranking(
    uncertainty: np.ndarray,
    correctness: np.ndarray,
    clusters: np.ndarray,
    level: float,
    n_boot: int,
    rng: np.random.Generator,
) -> dict[str, Estimate]:
    """AUROC, Spearman and mean correctness with cluster-bootstrap intervals."""
    names = ("auroc", "spearman", "correctness")
    if not len(uncertainty):
        return dict.fromkeys(names, Estimate(np.nan, np.nan, np.nan, level, 0))
    by_u, by_a = _TieGroups(uncertainty), _TieGroups(correctness)
    binary = np.isin(correctness, (0, 1)).all()

    def statistics(weights: np.ndarray) -> np.ndarray:
        auroc = by_u.auroc(weights, correctness) if binary else np.full(len(weights), np.nan)
        spearman = _correlation(by_u.ranks(weights), by_a.ranks(weights), weights)
        return np.stack([auroc, spearman, weights @ correctness / weights.sum(axis=1)], axis=1)

    estimates = cluster_bootstrap_weighted(statistics, clusters, level=level, n_boot=n_boot, seed=rng)
    return dict(zip(names, estimates, strict=True))


class _TieGroups:
    """Rows sorted by a column, with the places where a new value begins."""

    def __init__(self, column: np.ndarray):
        self.order = np.argsort(column, kind="stable")
        ordered = column[self.order]
        self.starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))
        self.codes = np.unique(column, return_inverse=True)[1]

    def totals(self, weights: np.ndarray) -> np.ndarray:
        """[resample, row] -> [resample, distinct value in rising order]."""
        return np.add.reduceat(weights[:, self.order], self.starts, axis=1)

    def ranks(self, weights: np.ndarray) -> np.ndarray:
        """Mid-ranks of the resampled rows (up to a constant), [resample, row]."""
        totals = self.totals(weights)
        return (np.cumsum(totals, axis=1) - totals / 2)[:, self.codes]

    def auroc(self, weights: np.ndarray, correctness: np.ndarray) -> np.ndarray:
        """P(column of a wrong row > column of a right row) + P(=) / 2, [resample]; nan with one class only."""
        right, wrong = self.totals(weights * correctness), self.totals(weights * (1 - correctness))
        below = np.cumsum(right, axis=1) - right / 2
        with np.errstate(invalid="ignore"):
            return (wrong * below).sum(axis=1) / (wrong.sum(axis=1) * right.sum(axis=1))


def _correlation(x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weighted Pearson correlation in each resample, [resample]; nan where a side is constant."""
    share = weights / weights.sum(axis=1, keepdims=True)
    x = x - (share * x).sum(axis=1, keepdims=True)
    y = y - (share * y).sum(axis=1, keepdims=True)
    xx, yy, xy = ((share * product).sum(axis=1) for product in (x * x, y * y, x * y))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where((xx > 1e-12) & (yy > 1e-12), xy / np.sqrt(xx * yy), np.nan)
