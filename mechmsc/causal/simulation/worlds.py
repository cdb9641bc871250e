"""A known model of instruction, concept and uncertainty, its counterfactuals, and three estimators of the effect."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from mechmsc.causal.simulation.logistic import grouped_folds, held_out_margins, standardised
from mechmsc.errors import InputError
from mechmsc.estimate import Estimate, Seed, cluster_bootstrap_weighted

Confounder = Literal["length", "round"]
ESTIMATORS = ("interventional", "observational", "adjusted")
PREDICTORS = ("concept", "confounder", "majority")


@dataclass(frozen=True)
class Truth:
    """The model that data are drawn from; item i, round t, arm x (0 control, 1 treatment).

    z_itx = c_i + x a_i (1 - exp(-t / tau)) + gamma w_it + e_itx                          concept, class gaps
    u_itx(z) = d_i + x direct + beta z - gamma w_it + f_it + g_ix + h_itx                 uncertainty, nats

    w is the confounder, the same in both arms: it raises the concept and lowers the uncertainty, so that it looks like
    a negative beta. `length`: standard normal by item and round, as the length of a text that the instruction does not
    change. `round`: a course that settles with the number of the round, -exp(-(t - 1) / tau), standardised.
    a_i ~ N(response, (response / 3)^2). f is what common random numbers share between worlds, g and h what they do not.
    """

    beta: float
    """Effect of the concept on the uncertainty, nats per class gap."""
    gamma: float
    """Strength of the confounder, class gaps and nats per standard deviation of w."""
    n_items: int
    rounds: int = 6
    confounder: Confounder = "length"
    response: float = 1.0
    """By how much the instruction moves the concept in the end, class gaps."""
    direct: float = -0.1
    """Effect of the instruction that does not pass through the concept, nats."""
    tau: float = 2.0
    """How fast the instruction takes effect, rounds."""
    noise: float = 0.35
    """Standard deviation of e (class gaps) and of f (nats)."""
    unshared: float = 0.1
    """Standard deviation of g and of h, nats."""

    @property
    def indirect(self) -> float:
        """The true natural indirect effect, mean over items and rounds: beta E[z_it1 - z_it0], nats."""
        return self.beta * self.response * float(self.approach.mean())

    @property
    def approach(self) -> np.ndarray:
        """1 - exp(-t / tau), [round]."""
        return 1 - np.exp(-np.arange(1, self.rounds + 1) / self.tau)


@dataclass(frozen=True, eq=False)
class World:
    """One data set; arrays [item, round, arm], the arm 0 control, 1 treatment."""

    concept: np.ndarray
    uncertainty: np.ndarray
    clamped: np.ndarray
    """[item, round]: uncertainty of the control arm with the concept clamped to what it was in the treatment arm."""
    confounder: np.ndarray
    """[item, round]"""


def draw_world(truth: Truth, rng: np.random.Generator) -> World:
    """A data set from the model.

    Args:
        truth: the model.
        rng: where the noise comes from.

    Raises:
        InputError: fewer than 2 items or 3 rounds, or a confounder of another name.
    """
    n, rounds = truth.n_items, truth.rounds
    if n < 2 or rounds < 3 or truth.confounder not in ("length", "round"):
        raise InputError(
            f"expected 2 items, 3 rounds or more and the confounder length or round, got {n}, {rounds} and "
            f"{truth.confounder!r}"
        )
    if truth.confounder == "length":
        w = rng.standard_normal((n, rounds))
    else:
        course = -np.exp(-np.arange(rounds) / truth.tau)
        w = np.broadcast_to((course - course.mean()) / course.std(), (n, rounds))
    arm = np.arange(2)
    level = rng.normal(0, 0.5, (2, n, 1, 1))
    reacts = rng.normal(truth.response, abs(truth.response) / 3, (n, 1, 1)) * truth.approach[:, None] * arm
    concept = level[0] + reacts + truth.gamma * w[..., None] + rng.normal(0, truth.noise, (n, rounds, 2))
    shared = level[1] - truth.gamma * w[..., None] + rng.normal(0, truth.noise, (n, rounds, 1))

    def uncertainty(z: np.ndarray, x: np.ndarray) -> np.ndarray:
        own = rng.normal(0, truth.unshared, (n, 1, z.shape[2])) + rng.normal(0, truth.unshared, z.shape)
        return shared + truth.direct * x + truth.beta * z + own

    observed = uncertainty(concept, arm)
    clamped = uncertainty(concept[:, :, 1:], arm[:1])
    return World(concept, observed, clamped[..., 0], w)


def indirect_effects(world: World, *, level: float = 0.95, n_boot: int = 1000, seed: Seed) -> dict[str, Estimate]:
    """The natural indirect effect of the instruction through the concept, nats, by three estimators.

    interventional: mean over items and rounds of u(control, z clamped to the treatment's) - u(control), paired.
    observational: b mean(z_1 - z_0), b the slope of the change in uncertainty from round to round on the change of the
    concept: what the paper's test predicts, taken for a cause. adjusted: the same with the change of the confounder in
    the regression, as if someone had thought of it and measured it.

    Args:
        world: a data set.
        level: of the cluster-bootstrap intervals over items, all three from the same resamples.
        n_boot: resamples.
        seed: of the resamples.

    Returns:
        Estimator -> estimate.
    """
    n = len(world.clamped)
    caused = (world.clamped - world.uncertainty[..., 0]).mean(axis=1)
    moved = (world.concept[..., 1] - world.concept[..., 0]).mean(axis=1)
    dz, du = np.diff(world.concept, axis=1), np.diff(world.uncertainty, axis=1)
    dw = np.broadcast_to(np.diff(world.confounder, axis=1)[..., None], dz.shape)
    terms = np.stack([np.ones_like(dz), dz, dw, du], axis=-1).reshape(n, -1, 4)
    products = (terms.mT @ terms).reshape(n, 16)  # of each item: what a weighted regression needs

    def statistics(weights: np.ndarray) -> np.ndarray:
        sums = (weights @ products).reshape(-1, 4, 4)
        change = weights @ moved / weights.sum(axis=1)
        slopes = [slope(sums, [0, 1]), slope(sums, [0, 1, 2])]
        return np.stack([weights @ caused / weights.sum(axis=1), *(b * change for b in slopes)], axis=1)

    found = cluster_bootstrap_weighted(statistics, np.arange(n), level=level, n_boot=n_boot, seed=seed)
    return dict(zip(ESTIMATORS, found, strict=True))


def slope(sums: np.ndarray, terms: list[int]) -> np.ndarray:
    """Least-squares coefficient of term 1, [...]; nan where the terms cannot be told apart.

    Args:
        sums: [..., 4, 4], sums of products of (1, dz, dw, du).
        terms: which of the first three are in the regression.
    """
    gram, right = sums[..., terms, :][..., terms], sums[..., terms, 3]
    length = np.sqrt(np.einsum("...kk->...k", gram))
    usable = (length > 0).all(axis=-1)
    length = np.where(length > 0, length, 1.0)
    gram = gram / (length[..., :, None] * length[..., None, :])
    usable &= np.linalg.det(gram) > 1e-9
    gram = np.where(usable[..., None, None], gram, np.eye(len(terms)))
    found = np.linalg.solve(gram, (right / length)[..., None])[..., 0] / length
    return np.where(usable, found[..., 1], np.nan)


def predicted_share(world: World, *, seed: Seed, folds: int = 5) -> np.ndarray:
    """Share of changes in uncertainty whose sign is predicted on items left out, for each of `PREDICTORS`.

    As `predictive_test`, one division into folds and no interval.
    """
    dz, du = np.diff(world.concept, axis=1), np.diff(world.uncertainty, axis=1)
    dw = np.broadcast_to(np.diff(world.confounder, axis=1)[..., None], dz.shape)
    items = np.repeat(np.arange(len(du)), du[0].size)
    rises = (du.ravel() > 0).astype(int)
    fold_of = grouped_folds(items, folds=min(folds, len(du)), repeats=1, seed=seed)
    both = standardised(np.stack([dz.ravel(), dw.ravel()], axis=1))
    found = [held_out_margins(x, rises, fold_of)[0] for x in (both[:, :1], both[:, 1:], both[:, :0])]
    return np.array([((margins > 0) == (rises == 1)).mean() for margins in found])
