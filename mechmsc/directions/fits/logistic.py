"""`logistic`: L2-penalised logistic regression, its penalty chosen by grouped cross-validation, layer by layer."""

import torch
from jaxtyping import Float
from torch import Tensor

from mechmsc.directions.fits.newton import Point, Problem, margins, solve, with_penalty
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

    Means and deviations of features are those of all statements given, labels unseen. A chunk of layers stops when two
    penalties in a row, going from strong to weak, were worse than the best before for all its layers.

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
    kept = 1 - held_out
    sizes = kept.sum(1).expand(len(features), -1)
    problem = Problem.of(features, labels.to(features.dtype), kept, sizes)
    best = torch.full_like(sizes[:, 0], torch.inf)
    chosen, worse, point = torch.full_like(best, PENALTIES[0]), torch.zeros_like(best), None
    for penalty in PENALTIES:
        problem = with_penalty(problem, penalty * sizes)
        point = solve(problem, point, tolerance=1e-4, accuracy=0.1)
        m = margins(problem, point)
        losses = torch.nn.functional.softplus(m) - problem.labels * m
        loss = (losses * held_out).sum((1, 2)) / held_out.sum()
        better = loss < best
        chosen = torch.where(better, penalty, chosen)
        best, worse = torch.minimum(best, loss), torch.where(better, 0, worse + 1)
        if (worse >= 2).all():
            break
    return chosen


def logistic_at(
    features: Float[Tensor, "statement layer d_model"], labels: Tensor, *, penalty: Float[Tensor, " layer"]
) -> tuple[Float[Tensor, "layer d_model"], Float[Tensor, " layer"]]:
    """Weights and intercept at a given penalty, on features as they are: scikit-learn's solution at C = 1 / (n l).

    Args:
        features: of statements; nothing is standardised.
        labels: 0 or 1 a statement.
        penalty: l of each layer, of the mean loss.
    """
    parts = [_fitted(features[:, layers].transpose(0, 1), labels, penalty[layers]) for layers in layer_chunks(features)]
    return torch.cat([part.w[:, 0] for part in parts]), torch.cat([part.b[:, 0] for part in parts])


def _fitted(features: Float[Tensor, "layer statement d_model"], labels: Tensor, penalty: Tensor) -> Point:
    everything = features.new_ones(1, features.shape[1])
    problem = Problem.of(features, labels.to(features.dtype), everything, penalty[:, None] * features.shape[1])
    return solve(problem, tolerance=1e-8, accuracy=0.03)
