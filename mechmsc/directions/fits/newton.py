"""Many L2-penalised logistic regressions at once: truncated Newton, the inner systems by conjugate gradients.

    min over w, b of    sum_i s_i [log(1 + exp(m_i)) - y_i m_i] + l/2 |w|^2,    m_i = w.x_i + b

A problem is a row: one layer's features (axis `layer`) under one set of weights s over statements (axis `problem`: a
fold, or everything). Problems of a layer share its features, so that a step of all of them is one product of matrices.
A product with the Hessian costs two of them; the Hessian itself is never made.

Nocedal & Wright 2006, Numerical Optimization, algorithm 7.1.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from mechmsc.directions.fits.training import precise

CG_STEPS = 100
NEWTON_STEPS = 50
HALVINGS = 12
EXACT_STEPS = 2


@dataclass(frozen=True, eq=False)
class Problem:
    """What does not change while it is solved."""

    features: Float[Tensor, "layer statement d_model"]
    """x"""
    labels: Float[Tensor, " statement"]
    """y: 0 or 1."""
    weights: Float[Tensor, "problem statement"]
    """s: how much each statement counts; 0 where it is held out."""
    penalty: Float[Tensor, "layer problem"]
    """l, of the sum over statements: scikit-learn's 1 / C."""
    squares: Float[Tensor, "layer 1 d_model"]
    """Mean square of each feature, the diagonal of the Hessian but for a factor."""

    @classmethod
    def of(cls, features: Tensor, labels: Tensor, weights: Tensor, penalty: Tensor) -> "Problem":
        """The problem, with the squares."""
        return cls(features, labels, weights, penalty, features.square().mean(1, keepdim=True))


@dataclass(frozen=True, eq=False)
class Point:
    """A solution so far, or a direction in which to change it."""

    w: Float[Tensor, "layer problem d_model"]
    b: Float[Tensor, "layer problem"]

    @classmethod
    def zero(cls, problem: Problem) -> "Point":
        """Where to begin."""
        layers, problems = problem.penalty.shape
        zeros = problem.features.new_zeros(layers, problems, problem.features.shape[2])
        return cls(zeros, zeros[..., 0].clone())

    def plus(self, other: "Point", times: Float[Tensor, "layer problem"]) -> "Point":
        """This one plus a multiple of another."""
        return Point(self.w + times[..., None] * other.w, self.b + times * other.b)

    def dot(self, other: "Point") -> Float[Tensor, "layer problem"]:
        """Inner product."""
        return (self.w * other.w).sum(-1) + self.b * other.b


def margins(problem: Problem, point: Point) -> Float[Tensor, "layer problem statement"]:
    """Margin m of every statement."""
    return point.w @ problem.features.mT + point.b[..., None]


def objective(problem: Problem, point: Point, m: Float[Tensor, "layer problem statement"]) -> Tensor:
    """The value that is minimised, [layer, problem]."""
    losses = torch.nn.functional.softplus(m) - problem.labels * m
    return (problem.weights * losses).sum(-1) + problem.penalty / 2 * point.w.square().sum(-1)


def gradient(problem: Problem, point: Point, m: Float[Tensor, "layer problem statement"]) -> Point:
    """Of the objective."""
    rest = problem.weights * (torch.sigmoid(m) - problem.labels)
    return Point(rest @ problem.features + problem.penalty[..., None] * point.w, rest.sum(-1))


@dataclass(frozen=True, eq=False)
class Search:
    """Conjugate gradients on their way to the Newton step."""

    step: Point
    rest: Point
    """What the step leaves of -gradient."""
    way: Point
    """Where the next step goes."""
    size: Float[Tensor, "layer problem"]
    """rest . (preconditioned rest)"""


def begin_search(problem: Problem, gradient: Point, curvature: Tensor) -> Search:
    """Before the first step: nothing done, everything left."""
    rest = Point(-gradient.w, -gradient.b)
    way = _preconditioned(problem, rest, curvature)
    return Search(Point(torch.zeros_like(rest.w), torch.zeros_like(rest.b)), rest, way, rest.dot(way))


def search_step(problem: Problem, search: Search, curvature: Float[Tensor, "layer problem statement"]) -> Search:
    """One step of preconditioned conjugate gradients; finished problems stand still."""
    way = search.way
    seen = curvature * margins(problem, way)
    bent = Point(seen @ problem.features + problem.penalty[..., None] * way.w, seen.sum(-1))
    length = _ratio(search.size, way.dot(bent))
    rest = search.rest.plus(bent, -length)
    solved = _preconditioned(problem, rest, curvature)
    size = rest.dot(solved)
    turned = solved.plus(way, _ratio(size, search.size))
    return Search(search.step.plus(way, length), rest, turned, size)


def _preconditioned(problem: Problem, rest: Point, curvature: Tensor) -> Point:
    total = curvature.sum(-1).clamp(min=1e-12)
    return Point(rest.w / (total[..., None] * problem.squares + problem.penalty[..., None]), rest.b / total)


def _ratio(a: Tensor, b: Tensor) -> Tensor:
    return torch.where(b > 0, a / b.clamp(min=torch.finfo(b.dtype).tiny), torch.zeros_like(a))


def newton_step(problem: Problem, point: Point, *, accuracy: float) -> tuple[Point, Float[Tensor, "layer problem"]]:
    """One damped Newton step.

    Args:
        problem: the problem.
        point: the solution so far.
        accuracy: where conjugate gradients stop, as a fraction of the gradient's size.

    Returns:
        The next point, and half the Newton decrement: how far above its minimum the objective was, about.
    """
    m = margins(problem, point)
    p = torch.sigmoid(m)
    curvature = problem.weights * p * (1 - p)
    slope = gradient(problem, point, m)
    step = _searched(problem, slope, curvature, accuracy)
    length = _length(problem, point, step, m)
    return point.plus(step, length), -slope.dot(step) / 2


def _searched(problem: Problem, slope: Point, curvature: Tensor, accuracy: float) -> Point:
    """The Newton step, up to `accuracy` of the gradient's size."""
    search = begin_search(problem, slope, curvature)
    goal = search.size * accuracy**2
    for _ in range(CG_STEPS):
        search = search_step(problem, search, curvature)
        if (search.size <= goal).all():
            break
    return search.step


def _length(problem: Problem, point: Point, step: Point, m: Tensor) -> Float[Tensor, "layer problem"]:
    """1, or the first half, quarter, ... of the step that does not raise the objective."""
    before, change = objective(problem, point, m), margins(problem, step)
    length = torch.ones_like(before)
    slack = 1e-6 * before.abs()  # rounding of the sum
    for _ in range(HALVINGS):
        after = objective(problem, point.plus(step, length), m + length[..., None] * change)
        worse = after > before + slack
        if not worse.any():
            break
        length = torch.where(worse, length / 2, length)
    return length


def solve(problem: Problem, *, tolerance: float, accuracy: float) -> Point:
    """Newton steps, from 0, until no problem is further than `tolerance` times its weight above its minimum.

    Problems that are finished at every layer are taken out: strong penalties are met in a few steps, weak ones not.

    Args:
        problem: the problem.
        tolerance: in nats a statement; the last step is taken from there, so that the result is closer.
        accuracy: of the inner systems, as in `newton_step`.
    """
    found, open_ = Point.zero(problem), torch.arange(problem.penalty.shape[1], device=problem.penalty.device)
    left, point = problem, found
    for _ in range(NEWTON_STEPS):
        enough = tolerance * left.weights.sum(-1)
        point, above = newton_step(left, point, accuracy=accuracy)
        going = ~(above <= enough).all(0)
        found.w[:, open_], found.b[:, open_] = point.w, point.b
        if not going.any():
            break
        open_ = open_[going]
        left = replace(left, weights=left.weights[going], penalty=left.penalty[:, going])
        point = Point(point.w[:, going], point.b[:, going])
    return found


def refined(problem: Problem, point: Point, *, accuracy: float) -> Point:
    """A solution freed of what float32 added up: two more Newton steps whose gradients are summed in float64.

    Under a weak penalty classes may be separable, and decision values then hang on the last digits of the gradient.
    """
    exact = replace(
        problem, features=precise(problem.features), weights=precise(problem.weights), penalty=precise(problem.penalty)
    )
    dtype, point = point.w.dtype, Point(precise(point.w), precise(point.b))
    for _ in range(EXACT_STEPS):
        m = margins(exact, point)
        slope, p = gradient(exact, point, m), torch.sigmoid(m).to(dtype)
        step = _searched(problem, Point(slope.w.to(dtype), slope.b.to(dtype)), problem.weights * p * (1 - p), accuracy)
        point = Point(point.w + step.w, point.b + step.b)
    return Point(point.w.to(dtype), point.b.to(dtype))
