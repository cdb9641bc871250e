"""Curves over rounds as sums of evidence: designs of the posterior models, and their least-squares fits by item."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mechmsc.errors import InputError
from mechmsc.instructions import STANCES, parse_arms

if TYPE_CHECKING:
    import pandas

LEAKS = np.linspace(0.0, 1.0, 51)
"""Values of the leak that are tried."""
MODELS = ("constant", "linear", "posterior", "leaky")
SINGULAR = 1e-8
"""Smallest eigenvalue of the correlation matrix of terms that can be told apart."""
RIDGE = 1e-12


@dataclass(frozen=True, eq=False)
class Curves:
    """The measured rows, and what each model makes of their arm and round."""

    items: np.ndarray
    """[row], codes from 0."""
    scores: np.ndarray
    """[row]"""
    cells: "pandas.DataFrame"
    """arm and round of each row."""
    stances: tuple[str, ...]
    """Those that speak, in the order of `STANCES`: the terms of the posterior models."""
    designs: dict[str, np.ndarray]
    """Model -> [candidate, row, term]; the leaky model has a candidate for each leak, the others one."""
    leaks: np.ndarray
    """[candidate] of the leaky model."""


@dataclass(frozen=True, eq=False)
class Fit:
    """A model fitted to weighted items, of each resample."""

    terms: np.ndarray
    """[resample, term]"""
    level: np.ndarray
    """[resample]: mean of what the terms leave, the prior."""
    candidate: np.ndarray
    """[resample], which candidate fits best."""


def curves_of(table: "pandas.DataFrame", value: str) -> Curves:
    """The rows of a table with a value, in which at least one stance speaks.

    Raises:
        InputError: a column is missing, rows are double, an arm is no schedule, or the stances cannot be told apart.
    """
    needed = ["item_id", "arm", "round", value]
    if missing := [name for name in needed if name not in table]:
        raise InputError(f"the table lacks {', '.join(missing)}; expected {', '.join(needed)}")
    rows = table.loc[table[value].notna(), needed].sort_values(["item_id", "arm", "round"]).reset_index(drop=True)
    twice = rows.duplicated(["item_id", "arm", "round"])
    if twice.any():
        row = rows[twice].iloc[0]
        raise InputError(f"two rows for item {row['item_id']}, arm {row['arm']}, round {row['round']}; expected one")
    if rows["item_id"].nunique() < 2:
        raise InputError(f"expected two items or more with a {value}, got {rows['item_id'].nunique()}; run more items")
    last = int(rows["round"].max())
    courses = {arm: _evidence(arm, last) for arm in rows["arm"].unique()}
    spoken = np.any([course[-1].any(axis=0) for course in courses.values()], axis=0)
    number = rows["round"].to_numpy(int)
    place = rows["arm"].map({arm: k for k, arm in enumerate(courses)}).to_numpy(int)
    evidence = np.stack(list(courses.values()))[place, :, number - 1][..., spoken].transpose(1, 0, 2)
    items = np.unique(rows["item_id"].to_numpy(), return_inverse=True)[1]
    usable = np.array([_identified(design, items) for design in evidence])
    if not usable[-1]:
        raise InputError(
            f"the stances {', '.join(np.array(STANCES)[spoken])} cannot be told apart from the level of an item in "
            f"{last} rounds of arms {', '.join(courses)}: run two rounds or more"
        )
    empty = np.zeros((1, len(rows), 0))
    designs = {"constant": empty, "linear": number.astype(float)[None, :, None], "posterior": evidence[-1:]}
    return Curves(
        items,
        rows[value].to_numpy(float),
        rows[["arm", "round"]],
        tuple(stance for stance, speaks in zip(STANCES, spoken, strict=True) if speaks),
        designs | {"leaky": evidence[usable]},
        LEAKS[usable],
    )


def _evidence(arm: str, rounds: int) -> np.ndarray:
    """How much evidence of each stance has been gathered, [leak, round, stance]: e_t = leak e_{t-1} + [stance at t]."""
    (schedule,) = parse_arms(str(arm), rounds=rounds)
    gathered = np.zeros((len(LEAKS), rounds, len(STANCES)))
    for t in range(rounds):
        speaking = np.array([schedule.stance(t + 1) == stance for stance in STANCES], dtype=float)
        gathered[:, t] = speaking + (LEAKS[:, None] * gathered[:, t - 1] if t else 0.0)
    return gathered


def _identified(design: np.ndarray, items: np.ndarray) -> bool:
    """Whether the terms [row, term] can be told apart from each other and from the items' levels."""
    inside = within(design, items)
    gram = inside.T @ inside
    length = np.sqrt(np.diag(gram))
    if not len(length) or (length == 0).any():
        return False
    return bool(np.linalg.eigvalsh(gram / np.outer(length, length))[0] > SINGULAR)


def within(values: np.ndarray, items: np.ndarray) -> np.ndarray:
    """Values [row, ...] minus the mean of their item."""
    n = np.bincount(items)
    sums = np.zeros((len(n), *values.shape[1:]))
    np.add.at(sums, items, values)
    return values - (sums / n.reshape(-1, *[1] * (values.ndim - 1)))[items]


class Fitter:
    """Fits one model to any weights of items: sums of products of each item, made once."""

    def __init__(self, curves: Curves, model: str) -> None:
        designs, items = curves.designs[model], curves.items
        n, terms = int(items.max()) + 1, designs.shape[2]
        own = np.stack([np.column_stack([within(x, items), within(curves.scores, items)]) for x in designs])
        products = np.zeros((len(designs), n, terms + 1, terms + 1))
        sums = np.zeros((len(designs), n, terms + 2))  # of the terms, of the score, and how many rows
        for c, (inside, x) in enumerate(zip(own, designs, strict=True)):
            np.add.at(products[c], items, inside[:, :, None] * inside[:, None, :])
            np.add.at(sums[c], items, np.column_stack([x, curves.scores, np.ones(len(items))]))
        self._products, self._sums, self._terms = products.reshape(len(designs), n, -1), sums, terms

    def fit(self, weights: np.ndarray) -> Fit:
        """Least squares within items.

        Args:
            weights: [resample, item], how often each item counts.
        """
        size, terms = self._terms + 1, self._terms
        found, errors = [], []
        for products in self._products:
            gram = (weights @ products).reshape(-1, size, size)
            left, right = gram[:, :terms, :terms], gram[:, :terms, terms]
            ridge = RIDGE * np.einsum("rkk->rk", left)[:, :, None] * np.eye(terms)  # resamples of too few items
            ridge = ridge + 1e-300 * np.eye(terms)
            solved = np.linalg.solve(left + ridge, right[..., None])[..., 0]
            found.append(solved)
            errors.append(gram[:, terms, terms] - (solved * right).sum(axis=1))
        best, rows = np.argmin(errors, axis=0), np.arange(len(weights))
        solved = np.stack(found)[best, rows]
        sums = np.einsum("ri,rik->rk", weights, self._sums[best]) if len(found) > 1 else weights @ self._sums[0]
        level = (sums[:, -2] - (sums[:, :terms] * solved).sum(axis=1)) / sums[:, -1]
        return Fit(solved, level, best)
