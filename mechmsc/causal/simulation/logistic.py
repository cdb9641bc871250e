"""Many small logistic regressions at once, and their margins on groups that they were not fitted on."""

import numpy as np

NEWTON_STEPS = 40
LONGEST_STEP = 8.0
"""Keeps the intercept of a problem with one class from leaping."""
TINY = 1e-6


def fit_logistic(features: np.ndarray, labels: np.ndarray, weights: np.ndarray, *, penalty: float = 1.0) -> np.ndarray:
    """L2-penalised logistic regressions by Newton's method, all of them in each step.

    min over w, b of    sum_i s_i [log(1 + exp(m_i)) - y_i m_i] + l/2 |w|^2,    m_i = w.x_i + b

    The same as scikit-learn's `LogisticRegression(C=1/l)`, of which a thousand would take seconds.

    Args:
        features: [..., row, feature], about standardised; no feature at all fits the intercept alone.
        labels: [..., row], 0 or 1.
        weights: [..., row], how much each row counts; 0 where it is held out. Leading axes are broadcast.
        penalty: l; the intercept is penalised by a millionth, so that one class alone has a finite fit.

    Returns:
        [..., feature + 1], the intercept last.
    """
    design = with_intercept(features)
    width = design.shape[-1]
    shape = np.broadcast_shapes(design.shape[:-2], labels.shape[:-1], weights.shape[:-1])
    ridge = np.full(width, penalty)
    ridge[-1] = TINY
    found = np.zeros((*shape, width))
    for _ in range(NEWTON_STEPS):
        chance = sigmoid((design @ found[..., None])[..., 0])
        uphill = ((weights * (labels - chance))[..., None, :] @ design)[..., 0, :] - ridge * found
        curve = (design.mT * (weights * chance * (1 - chance))[..., None, :]) @ design + np.diag(ridge)
        step = np.clip(np.linalg.solve(curve, uphill[..., None])[..., 0], -LONGEST_STEP, LONGEST_STEP)
        found += step
        if np.abs(step).max(initial=0.0) < 1e-9:
            break
    return found


def held_out_margins(features: np.ndarray, labels: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """The margin w.x + b of every row under the fit that left its fold out.

    Args:
        features: [..., row, feature].
        labels: [row], 0 or 1.
        folds: [repeat, row], the fold of each row, from 0.

    Returns:
        [..., repeat, row].
    """
    numbers = np.arange(folds.max() + 1)
    training = (folds[:, None, :] != numbers[:, None]).astype(float)  # [repeat, fold, row]
    design = with_intercept(features)[..., None, None, :, :]
    fits = fit_logistic(features[..., None, None, :, :], labels.astype(float), training)  # [..., repeat, fold, width]
    margins = (design @ fits[..., None])[..., 0]
    own = np.broadcast_to(folds[:, None, :], (*margins.shape[:-2], 1, margins.shape[-1]))
    return np.take_along_axis(margins, own, axis=-2)[..., 0, :]


def grouped_folds(groups: np.ndarray, *, folds: int, repeats: int, seed: int | np.random.Generator) -> np.ndarray:
    """Random folds of groups, [repeat, row]: all rows of a group in one fold, folds with equally many groups.

    Args:
        groups: [row], group of each row, codes from 0 with none left out.
        folds: number of folds, at most the number of groups.
        repeats: number of independent divisions.
        seed: of the divisions.
    """
    rng = np.random.default_rng(seed)
    n_groups = int(groups.max()) + 1
    fold_of = np.stack([rng.permutation(np.arange(n_groups) % folds) for _ in range(repeats)])
    return fold_of[:, groups]


def standardised(features: np.ndarray) -> np.ndarray:
    """Each feature [..., row, feature] with mean 0 and standard deviation 1 over rows; 0 where it is constant."""
    centred = features - features.mean(axis=-2, keepdims=True)
    spread = centred.std(axis=-2, keepdims=True)
    real = spread > 1e-12 * np.abs(features).max(axis=-2, keepdims=True, initial=0.0)
    return np.where(real, centred / np.where(real, spread, 1.0), 0.0)


def with_intercept(features: np.ndarray) -> np.ndarray:
    """Features with a column of ones at the end."""
    return np.concatenate([features, np.ones((*features.shape[:-1], 1))], axis=-1)


def sigmoid(x: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-x)), which never overflows."""
    return 0.5 * (1.0 + np.tanh(0.5 * x))
