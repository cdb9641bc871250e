"""`logistic`: L2-penalised logistic regression, its penalty chosen by grouped cross-validation, layer by layer."""

import torch
from jaxtyping import Float
from torch import Tensor

from mechmsc.directions.fits.newton import Point, Problem, margins, refined, solve
from mechmsc.directions.fits.training import Column, check_training, layer_chunks, standardised
from mechmsc.directions.splitting import grouped_folds

PENALTIES = (100.0, 10.0, 1.0, 0.1, 0.01, 0.001)
"""Penalties of the mean loss that are tried, strong to weak, on standardised features: scikit-learn's C = 1 / (n l)."""
N_FOLDS = 5


def fit_logistic(
    activations: Float[Tensor, "statement layer d_model"],
    labels: Tensor,
    *,
    groups: Column,
    pairs: Column,
    seed: int,
    penalty: Float[Tensor, " layer"] | None = None,
) -> Float[Tensor, "layer d_model"]:
    """Logistic regression on standardised features z: d = w / sd.

    min over w, b of mean_i [log(1 + exp(m_i)) - y_i m_i] + l/2 |w|^2, m = w.z + b, z = (h - mean) / sd by feature. The
    few features with massive values would otherwise escape the penalty, and all others bear it.

    Args:
        activations: plain, float32.
        labels: 0 or 1 a statement.
        groups: statements of one group are in one fold where the penalty is chosen.
        pairs: not used.
        seed: of the folds.
        penalty: l of each layer; None: `choose_penalty`.

    Raises:
        InputError: fewer groups than folds; see also `check_training`.
    """
    check_training(activations, labels, groups, pairs)
    if penalty is None:
        penalty = choose_penalty(activations, labels, groups=groups, seed=seed)["penalty"]
    vectors = []
    for layers in layer_chunks(activations):
        features, _, deviation = standardised(activations[:, layers])
        solution = _fitted(features, labels, penalty[layers])
        vectors.append(solution.w[:, 0] / deviation[:, 0])
    return torch.cat(vectors)


def choose_penalty(
    activations: Float[Tensor, "statement layer d_model"], labels: Tensor, *, groups: Column, seed: int
) -> dict[str, Float[Tensor, " layer"]]:
    """The penalty of `PENALTIES` with the smallest log loss on held-out groups, for each layer.

    Means and deviations of features are those of all statements given, labels unseen. The stronger penalty wins a tie.

    Args:
        activations: plain, float32.
        labels: 0 or 1 a statement.
        groups: of statements.
        seed: of the folds.

    Returns:
        `penalty`.

    Raises:
        InputError: fewer groups than folds, or a class in one group only.
    """
    try:
        folds = grouped_folds(labels.cpu().numpy(), groups, n_folds=N_FOLDS, seed=seed)
    except ValueError as error:
        raise type(error)(f"logistic chooses its penalty by {N_FOLDS}-fold cross-validation: {error}") from error
    fold = torch.arange(N_FOLDS, device=labels.device)[:, None]
    held_out = (torch.as_tensor(folds, device=labels.device) == fold).to(activations.dtype)
    chosen = []
    for layers in layer_chunks(activations):
        features, _, _ = standardised(activations[:, layers])
        chosen.append(_best(features, labels, held_out))
    return {"penalty": torch.cat(chosen)}


def _best(
    features: Float[Tensor, "layer statement d_model"], labels: Tensor, held_out: Float[Tensor, "fold statement"]
) -> Float[Tensor, " layer"]:
    values = torch.tensor(PENALTIES, dtype=features.dtype, device=features.device)
    m = margins_at(features, labels, kept=1 - held_out, penalties=values, exact=False)
    losses = torch.nn.functional.softplus(m) - labels.to(m.dtype) * m
    return values[(losses * held_out).sum((2, 3)).argmin(1)]


def margins_at(
    features: Float[Tensor, "layer statement d_model"],
    labels: Tensor,
    *,
    kept: Float[Tensor, "fold statement"],
    penalties: Float[Tensor, " penalty"],
    exact: bool,
) -> Float[Tensor, "layer penalty fold statement"]:
    """Decision values of all statements after fits at every penalty on every fold's training part, all at once.

    Args:
        features: standardised.
        labels: 0 or 1 a statement.
        kept: 1 for the statements that a fold is fitted on, else 0.
        penalties: of the mean loss.
        exact: to 1e-3 of a decision value; else to 1e-4 nats a statement, which is enough to choose by.
    """
    each = (penalties[:, None] * kept.sum(1)).flatten().expand(len(features), -1)
    weights = kept.repeat(len(penalties), 1)
    problem = Problem.of(features, labels.to(features.dtype), weights, each)
    m = margins(problem, _solved(problem) if exact else solve(problem, tolerance=1e-4, accuracy=0.3))
    return m.unflatten(1, (len(penalties), len(kept)))


def logistic_at(
    features: Float[Tensor, "statement layer d_model"], labels: Tensor, *, penalty: Float[Tensor, " layer"]
) -> tuple[Float[Tensor, "layer d_model"], Float[Tensor, " layer"]]:
    """Weights and intercept at a given penalty, on features as they are: scikit-learn's solution at C = 1 / (n l).

    Args:
        features: of statements; nothing is standardised.
        labels: 0 or 1 a statement.
        penalty: l of each layer, of the mean loss.
    """
    weights, intercepts = [], []
    for layers in layer_chunks(features):
        rows = features[:, layers].transpose(0, 1).contiguous()
        mean = rows.mean(1)
        part = _fitted(rows - mean[:, None], labels, penalty[layers])  # the same problem, better conditioned
        weights.append(part.w[:, 0])
        intercepts.append(part.b[:, 0] - (part.w[:, 0] * mean).sum(1))
    return torch.cat(weights), torch.cat(intercepts)


def _fitted(features: Float[Tensor, "layer statement d_model"], labels: Tensor, penalty: Tensor) -> Point:
    everything = features.new_ones(1, features.shape[1])
    problem = Problem.of(features, labels.to(features.dtype), everything, penalty[:, None] * features.shape[1])
    return _solved(problem)


def _solved(problem: Problem) -> Point:
    return refined(problem, solve(problem, tolerance=1e-5, accuracy=0.3), accuracy=0.1)
