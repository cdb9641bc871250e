"""Does the concept of one round predict the uncertainty of the next?"""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from mechmsc.errors import InputError

if TYPE_CHECKING:
    import pandas

COLUMNS = ["model", "term", "value", "low", "high", "level", "se", "p", "n", "n_rows"]


def lag_regression(
    concept: ArrayLike, uncertainty: ArrayLike, *, clusters: ArrayLike | None = None, level: float = 0.95
) -> "pandas.DataFrame":
    """Uncertainty at t + 1 on concept at t, given uncertainty at t: a question of order in time, not of cause.

    U_{i,t+1} = a + b C_{i,t} + c U_{i,t} + e                model "lag"
    the same with an intercept a_t for every round           model "lag + round"

    Ordinary least squares over all pairs of consecutive rounds, with cluster-robust standard errors (Liang & Zeger
    1986; factor G/(G-1) (N-1)/(N-K)) and a t distribution with G - 1 degrees of freedom. The second model asks whether
    the concept says more than the number of the round, which both quantities follow. Lasting differences between items
    remain in both: b also holds what an item's level of C says about its level of U.

    Args:
        concept: [item, round], consecutive rounds, e.g. in class gaps; nan where missing.
        uncertainty: [item, round], e.g. in nats; nan where missing.
        clusters: [item], rows that belong together, such as the arms of one item; None: every row by itself.
        level: of the intervals.

    Returns:
        A row per model and term ("concept", "uncertainty"): model, term, value, low, high, level, se, p, n (clusters),
        n_rows (pairs of rounds); nan where there are fewer than two clusters, or the terms cannot be told apart.

    Raises:
        InputError: shapes differ, or there are fewer than two rounds.
    """
    import pandas as pd

    concept, uncertainty = np.asarray(concept, dtype=float), np.asarray(uncertainty, dtype=float)
    clusters = np.arange(len(concept)) if clusters is None else np.asarray(clusters)
    if concept.ndim != 2 or concept.shape != uncertainty.shape or clusters.shape != concept.shape[:1]:
        raise InputError(
            f"expected concept and uncertainty [item, round] of one shape and a cluster an item, got {concept.shape}, "
            f"{uncertainty.shape} and {clusters.shape}"
        )
    if concept.shape[1] < 2:
        raise InputError(f"a lag needs at least 2 rounds, got {concept.shape[1]}; run more rounds")
    before, after = (concept[:, :-1], uncertainty[:, :-1]), uncertainty[:, 1:]
    known = ~np.isnan(before[0] + before[1] + after)
    item, round = np.nonzero(known)
    groups = np.unique(clusters[item], return_inverse=True)[1]
    predictors = np.column_stack([before[0][known], before[1][known]])
    dummies = (round[:, None] == np.unique(round)).astype(float)
    rows = []
    for model, intercepts in (("lag", np.ones((len(item), 1))), ("lag + round", dummies)):
        design = np.column_stack([predictors, intercepts])
        for term, numbers in zip(("concept", "uncertainty"), fit(design, after[known], groups, level), strict=True):
            value, low, high, se, p = numbers
            rows.append((model, term, value, low, high, level, se, p, len(np.unique(groups)), len(item)))
    return pd.DataFrame(rows, columns=COLUMNS)


def fit(design: np.ndarray, outcome: np.ndarray, groups: np.ndarray, level: float) -> np.ndarray:
    """Value, low, high, standard error and p of the first two columns, [column, number]; nan where undefined."""
    from statsmodels.regression.linear_model import OLS

    if len(np.unique(groups)) < 2 or len(outcome) <= design.shape[1]:
        return np.full((2, 5), np.nan)
    if np.linalg.matrix_rank(design / np.maximum(np.linalg.norm(design, axis=0), 1e-300)) < design.shape[1]:
        return np.full((2, 5), np.nan)
    found = OLS(outcome, design).fit(cov_type="cluster", cov_kwds={"groups": groups}, use_t=True)
    bounds = found.conf_int(alpha=1 - level)
    return np.column_stack([found.params, bounds, found.bse, found.pvalues])[:2]
