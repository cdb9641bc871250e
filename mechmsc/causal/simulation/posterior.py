"""The concept as a posterior: each instruction is evidence, and the log odds add up.

    logit p_t = logit p_{t-1} + l_s(t),     logit p_t = a + b score_t

l_s is the mean log-likelihood ratio of an instruction of stance s with the response to it, for the concept against its
absence. From scores alone a, b and the logit of the prior cannot be told apart: with b = 1 and a = 0 one class gap is
one unit of log odds, so l_s is in class gaps a round, and `prior` is the score before any instruction. What the scores
do tell: the sign of each l_s, their ratios, and whether the log odds add up at all.

That is a strong claim: under a constant instruction the score then moves by the same amount in every round and never
settles. A second model therefore lets evidence leak, logit p_t - prior = leak (logit p_{t-1} - prior) + l_s(t): leak 1
is the posterior, a leak between 0 and 1 settles at l_s / (1 - leak), leak 0 follows the instruction of the round alone.
"""

import warnings
from typing import TYPE_CHECKING

import numpy as np

from mechmsc.causal.simulation.evidence import MODELS, Curves, Fitter, curves_of, within
from mechmsc.causal.simulation.logistic import grouped_folds
from mechmsc.estimate import Estimate, cluster_bootstrap_columns, cluster_bootstrap_weighted

if TYPE_CHECKING:
    import pandas

COLUMNS = ["model", "quantity", "value", "low", "high", "level", "n"]
FEW_ITEMS = 5


def posterior_fit(
    table: "pandas.DataFrame",
    *,
    value: str = "concept",
    folds: int = 5,
    repeats: int = 5,
    level: float = 0.95,
    n_boot: int = 1000,
    seed: int = 0,
) -> "pandas.DataFrame":
    """Fit the posterior models to measured curves, and ask how well they predict items that they were not fitted on.

    Least squares within items: every item has a level of its own, the evidence is common to all. The models are
    `constant` (no change over rounds and arms), `linear` (the same slope over rounds in every arm), `posterior` and
    `leaky` (see above; the leak is searched on a grid of 0.02). Arms are read as schedules, `moral+immoral@2/5/8`;
    `none` is no evidence.

    Args:
        table: a row per (item_id, arm, round).
        value: the column of the score, in class gaps.
        folds: of the cross-validation over items; at most as many as items.
        repeats: divisions into folds.
        level: of the cluster-bootstrap intervals over items.
        n_boot: resamples; the models are fitted again to each, not so for the held-out errors.
        seed: of divisions and resamples.

    Returns:
        model, quantity, value, low, high, level, n (items). Quantities: llr_STANCE (class gaps a round), moral_minus_
        neutral where both speak, prior, leak; slope (linear); and of all models, on items left out, mse (within items,
        class gaps squared), r2 = 1 - mse / mse of constant, and beyond_linear = mse of linear - mse, paired.

    Raises:
        InputError: a column is missing, rows are double, an arm is no schedule, fewer than two items, or stances that
            cannot be told apart.
    """
    import pandas as pd

    curves = curves_of(table, value)
    n = int(curves.items.max()) + 1
    if n < FEW_ITEMS:
        warnings.warn(f"the posterior fit has {n} items: expected {FEW_ITEMS} or more to mean anything", stacklevel=2)
    division, resampling = np.random.SeedSequence(seed).spawn(2)
    same = {"level": level, "n_boot": n_boot, "seed": int(resampling.generate_state(1)[0])}
    rows = []
    for model in MODELS:
        names, told = _quantities(curves, model)
        found = cluster_bootstrap_weighted(told, np.arange(n), **same)
        rows += [(model, name, *_numbers(e)) for name, e in zip(names, found, strict=True)]
    fold_of = grouped_folds(np.arange(n), folds=min(folds, n), repeats=repeats, seed=np.random.default_rng(division))
    for (model, name), e in _held_out(curves, fold_of, same).items():
        rows.append((model, name, *_numbers(e)))
    return pd.DataFrame(rows, columns=COLUMNS)


def posterior_curves(
    table: "pandas.DataFrame", *, value: str = "concept", level: float = 0.95, n_boot: int = 1000, seed: int = 0
) -> "pandas.DataFrame":
    """Measured means by arm and round beside what each model says, fitted to all items.

    Every item's level (its mean over arms and rounds) is replaced by the mean level: the intervals are those of the
    course, which the models are about, not of the levels, which they are not.

    Args:
        table: as for `posterior_fit`.
        value: the column of the score.
        level: of the intervals.
        n_boot: resamples.
        seed: of the resamples.

    Returns:
        arm, round, value, low, high, level, n (items), and a column for each of `MODELS`: its mean over these items.
    """
    curves = curves_of(table, value)
    n = int(curves.items.max()) + 1
    score = within(curves.scores, curves.items) + curves.scores.mean()
    rows = curves.cells.assign(item=curves.items, score=score)
    for model in MODELS:
        fit = Fitter(curves, model).fit(np.ones((1, n)))
        rows[model] = fit.level[0] + curves.designs[model][fit.candidate[0]] @ fit.terms[0]
    fitted = rows.groupby(["arm", "round"], sort=False)[list(MODELS)].mean().reset_index()
    wide = rows.pivot(index="item", columns=["arm", "round"], values="score")
    wide = wide[[(arm, round) for arm, round in zip(fitted["arm"], fitted["round"], strict=True)]]
    means = cluster_bootstrap_columns(wide.to_numpy(), wide.index.to_numpy(), level=level, n_boot=n_boot, seed=seed)
    for place, name in enumerate(COLUMNS[2:]):
        fitted.insert(2 + place, name, [_numbers(e)[place] for e in means])
    return fitted


def _numbers(e: Estimate) -> tuple:
    return e.value, e.low, e.high, e.level, e.n


def _quantities(curves: Curves, model: str) -> tuple:
    """Names of what a model says, and a function of item weights [resample, item] -> [resample, quantity]."""
    fitter = Fitter(curves, model)
    stances = curves.stances if model in ("posterior", "leaky") else ()
    both = {"moral", "neutral"} <= set(stances)
    names = [f"llr_{stance}" for stance in stances] + ["moral_minus_neutral"] * both + ["slope"] * (model == "linear")
    names += ["prior"] + ["leak"] * (model == "leaky")

    def told(weights: np.ndarray) -> np.ndarray:
        fit = fitter.fit(weights)
        columns = list(fit.terms.T)
        if both:
            columns.insert(len(stances), columns[stances.index("moral")] - columns[stances.index("neutral")])
        columns.append(fit.level)
        if model == "leaky":
            columns.append(curves.leaks[fit.candidate])
        return np.stack(columns, axis=1)

    return names, told


def _held_out(curves: Curves, fold_of: np.ndarray, options: dict) -> dict[tuple[str, str], Estimate]:
    """(model, measure) -> estimate, from squared errors within items of each row, mean over divisions."""
    errors = np.stack([_squared_errors(curves, model, fold_of) for model in MODELS], axis=1)
    beyond = errors[:, [MODELS.index("linear")]] - errors
    means = cluster_bootstrap_columns(np.hstack([errors, beyond]), curves.items, **options)

    def shares(weights: np.ndarray) -> np.ndarray:
        mean = weights @ errors
        return 1 - mean / np.where(mean[:, :1] > 0, mean[:, :1], np.nan)

    explained = cluster_bootstrap_weighted(shares, curves.items, **options)
    found = {}
    for place, model in enumerate(MODELS):
        found[model, "mse"] = means[place]
        found[model, "r2"] = explained[place]
        found[model, "beyond_linear"] = means[len(MODELS) + place]
    return found


def _squared_errors(curves: Curves, model: str, fold_of: np.ndarray) -> np.ndarray:
    """Squared error of each row, [row], under fits to the other folds; the item's own level is taken from the item."""
    fitter, total = Fitter(curves, model), np.zeros(len(curves.scores))
    for division in fold_of:
        numbers = np.arange(division.max() + 1)
        fit = fitter.fit((division[None] != numbers[:, None]).astype(float))
        for fold in numbers:
            held = division[curves.items] == fold
            left = curves.scores[held] - curves.designs[model][fit.candidate[fold]][held] @ fit.terms[fold]
            codes = np.unique(curves.items[held], return_inverse=True)[1]
            total[held] += within(left, codes) ** 2
    return total / len(fold_of)
