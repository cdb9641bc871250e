"""The simulation of the paper: does the change of the concept predict the sign of the change in uncertainty?

Liu et al. (arXiv:2510.07290) answer with an accuracy (83.18 %). An accuracy by itself says little: one class may be the
rule, both quantities may follow the number of the round or the text. Here it stands beside what each of these predicts
alone. It stays a prediction, whatever its accuracy: `structural_grid` shows it passing where there is no effect at all.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mechmsc.causal.simulation.logistic import grouped_folds, held_out_margins, standardised
from mechmsc.errors import InputError
from mechmsc.estimate import Estimate, cluster_bootstrap_columns, cluster_bootstrap_weighted

if TYPE_CHECKING:
    import pandas

COLUMNS = ["predictor", "measure", "value", "low", "high", "level", "n", "n_rows", "n_left_out", "p"]
FEW_ITEMS = 5
NUMBERS_AT_ONCE = 4_000_000
"""Features of permutations in memory at a time."""


@dataclass(frozen=True, eq=False)
class Changes:
    """What changed from one round to the next; a row per item, arm and pair of consecutive rounds."""

    items: np.ndarray
    """[row], codes from 0."""
    rises: np.ndarray
    """[row], 1 where the uncertainty rises, 0 where it falls."""
    features: dict[str, np.ndarray]
    """Predictor -> [row, feature]."""
    exchange: dict[str, np.ndarray]
    """Concept -> its changes [item, cell], a cell being an arm and a pair of rounds; items without a row included."""
    places: tuple[np.ndarray, np.ndarray]
    """Item and cell of each row in `exchange`."""
    n_left_out: int
    """Pairs of rounds between which the uncertainty did not change."""


def predictive_test(
    table: "pandas.DataFrame",
    *,
    concepts: Sequence[str] = ("concept",),
    others: Sequence[str] = ("length",),
    uncertainty: str = "uncertainty",
    folds: int = 5,
    repeats: int = 10,
    n_perm: int = 499,
    level: float = 0.95,
    n_boot: int = 1000,
    seed: int = 0,
) -> "pandas.DataFrame":
    """How well the sign of the change in uncertainty is predicted on items that the prediction was not fitted on.

    P(U_{t+1} > U_t) = sigmoid(w.x + b), x standardised, L2 penalty 1; x is one of

        majority        nothing: the class that is more frequent among the other items
        each concept    C_{t+1} - C_t
        round           which round it is, one indicator each: all that the number of the round can say
        each other      its change, such as that of the length
        others          round and the changes of all others
        all             others and the first concept

    Folds are of items. Intervals are cluster bootstraps over items of the held-out predictions. p is that of a
    permutation: the changes of the concept, over all arms and rounds at once, are exchanged between items, so that what
    the round and the arm explain stays in the null, as does what the others explain of `all`; p = (1 + #{null >=
    observed}) / (1 + n_perm), on the first division into folds. An unmeasured cause that differs between items and
    moves both quantities makes p small, too: this is a test of association.

    Args:
        table: a row per (item_id, arm, round) with the columns named below.
        concepts: columns of concept quantities, e.g. centred and as released.
        others: columns of other quantities whose change may predict.
        uncertainty: the column whose change is predicted; pairs of rounds without any change are left out, and counted.
        folds: of the cross-validation; at most as many as items.
        repeats: divisions into folds, over which predictions are averaged.
        n_perm: permutations; 0 for none.
        level: of the intervals.
        n_boot: resamples.
        seed: of divisions, permutations and resamples.

    Returns:
        predictor, measure, value, low, high, level, n (items), n_rows, n_left_out, p. Measures: accuracy; auroc, within
        folds; gain, the accuracy beyond that of the majority class, paired. p is nan where nothing is permuted.

    Raises:
        InputError: a column is missing, an item has two rows for one arm and round, no pair of rounds has all values,
            or an option is out of range.
    """
    import pandas as pd

    if folds < 2 or repeats < 1 or n_perm < 0:
        raise InputError(f"expected folds >= 2, repeats >= 1, n_perm >= 0, got {folds}, {repeats}, {n_perm}")
    changes = changes_of(table, concepts=concepts, others=others, uncertainty=uncertainty)
    n = int(changes.items.max()) + 1
    if n < FEW_ITEMS:
        warnings.warn(f"the predictive test has {n} items: expected {FEW_ITEMS} or more to mean anything", stacklevel=2)
    if n < 2:
        raise InputError("the predictive test has 1 item: its prediction needs others to be fitted on; run more items")
    division, permuting, resampling = np.random.SeedSequence(seed).spawn(3)
    fold_of = grouped_folds(changes.items, folds=min(folds, n), repeats=repeats, seed=np.random.default_rng(division))
    margins = {name: held_out_margins(standardised(x), changes.rises, fold_of) for name, x in changes.features.items()}
    numbers = _estimates(changes, margins, fold_of, level, n_boot, int(resampling.generate_state(1)[0]))
    p = _permuted(changes, margins, fold_of[:1], n_perm, np.random.default_rng(permuting)) if n_perm else {}
    rows = [
        (name, measure, e.value, e.low, e.high, e.level, e.n, len(changes.rises), changes.n_left_out)
        + (p.get((name, measure), np.nan),)
        for (name, measure), e in numbers.items()
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def changes_of(
    table: "pandas.DataFrame", *, concepts: Sequence[str], others: Sequence[str], uncertainty: str
) -> Changes:
    """Changes between consecutive rounds, see `predictive_test`."""
    values = [*concepts, *others, uncertainty]
    needed = ["item_id", "arm", "round", *values]
    if missing := [name for name in needed if name not in table]:
        raise InputError(f"the table lacks {', '.join(missing)}; expected {', '.join(needed)}")
    if not concepts or (clash := {"majority", "round", "others", "all"} & set(values)):
        raise InputError(f"expected one concept or more, none named {sorted(clash) if concepts else 'nothing'}")
    rows = table[needed].sort_values(["item_id", "arm", "round"]).reset_index(drop=True)
    twice = rows.duplicated(["item_id", "arm", "round"])
    if twice.any():
        row = rows[twice].iloc[0]
        raise InputError(f"two rows for item {row['item_id']}, arm {row['arm']}, round {row['round']}; expected one")
    steps = rows.groupby(["item_id", "arm"])[["round", *values]].diff().astype(float)
    steps = rows[["item_id", "arm", "round"]].join(steps.rename(columns={"round": "round_step"}))
    steps = steps[(steps["round_step"] == 1) & steps[list(concepts)].notna().all(axis=1)]
    known = steps[steps[values].notna().all(axis=1)]
    kept = known[known[uncertainty] != 0]
    if kept.empty:
        raise InputError(
            f"no pair of consecutive rounds in which {uncertainty} changes and {', '.join(values[:-1])} are known, in "
            f"{len(table)} rows; were two or more rounds measured?"
        )
    codes = np.unique(kept["item_id"].to_numpy(), return_inverse=True)[1]
    exchange, places = _exchangeable(steps, concepts, steps.index.isin(kept.index))
    features = _features(kept, concepts, others)
    rises = (kept[uncertainty] > 0).to_numpy().astype(int)
    return Changes(codes, rises, features, exchange, places, len(known) - len(kept))


def _features(kept: "pandas.DataFrame", concepts: Sequence[str], others: Sequence[str]) -> dict[str, np.ndarray]:
    """Predictor -> [row, feature]."""
    found = {"majority": np.zeros((len(kept), 0))} | {name: kept[[name]].to_numpy() for name in concepts}
    found["round"] = (kept["round"].to_numpy()[:, None] == np.unique(kept["round"])[1:]).astype(float)
    found |= {name: kept[[name]].to_numpy() for name in others}
    found["others"] = np.concatenate([found[name] for name in ("round", *others)], axis=1)
    found["all"] = np.concatenate([found["others"], found[concepts[0]]], axis=1)
    return found


def _exchangeable(
    steps: "pandas.DataFrame", concepts: Sequence[str], kept: np.ndarray
) -> tuple[dict[str, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """`Changes.exchange` and `Changes.places`."""
    cells = steps.groupby(["arm", "round"]).ngroup().to_numpy()
    names, items = np.unique(steps["item_id"].to_numpy(), return_inverse=True)
    exchange = {name: np.full((len(names), cells.max() + 1), np.nan) for name in concepts}
    for name, grid in exchange.items():
        grid[items, cells] = steps[name]
    return exchange, (items[kept], cells[kept])


def _estimates(
    changes: Changes, margins: dict[str, np.ndarray], folds: np.ndarray, level: float, n_boot: int, seed: int
) -> dict[tuple[str, str], Estimate]:
    """(predictor, measure) -> estimate, all from the same resamples of items."""
    names = [name for name in margins if name != "majority"]
    right = np.stack([_right(margins[name], changes.rises).mean(axis=-2) for name in ("majority", *names)], axis=1)
    gain = right[:, 1:] - right[:, :1]
    columns = np.concatenate([right, gain], axis=1)
    means = cluster_bootstrap_columns(columns, changes.items, level=level, n_boot=n_boot, seed=seed)
    scores = np.stack([margins[name] for name in names], axis=-1)  # [repeat, row, predictor]
    both = len(np.unique(changes.rises)) == 2
    areas = cluster_bootstrap_weighted(
        lambda weights: (
            _areas(scores, changes.rises, folds, weights) if both else np.full((len(weights), len(names)), np.nan)
        ),
        changes.items,
        level=level,
        n_boot=n_boot,
        seed=seed,
    )
    found = {("majority", "accuracy"): means[0]}
    for place, name in enumerate(names):
        found[name, "accuracy"] = means[1 + place]
        found[name, "auroc"] = areas[place]
        found[name, "gain"] = means[1 + len(names) + place]
    return found


def _right(margins: np.ndarray, rises: np.ndarray) -> np.ndarray:
    """Whether the sign was predicted, [..., row]; half where the margin is 0."""
    towards = np.where(rises == 1, margins, -margins)
    return (towards > 0) + 0.5 * (towards == 0)


def _areas(scores: np.ndarray, rises: np.ndarray, folds: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """AUROC within folds, mean over repeats, [resample, predictor]; scores are [repeat, row, predictor]."""
    from mechmsc.directions.detection import auroc

    found = [auroc(s, rises, weights=weights, folds=fold) for s, fold in zip(scores, folds, strict=True)]
    return np.mean(found, axis=0)


def _permuted(
    changes: Changes, margins: dict[str, np.ndarray], folds: np.ndarray, n_perm: int, rng: np.random.Generator
) -> dict[tuple[str, str], float]:
    """The p of accuracy and AUROC of every concept and of `all`; folds are those of the first division, [1, row]."""
    orders = np.stack([_exchanged(next(iter(changes.exchange.values())), rng) for _ in range(n_perm)])
    first = next(iter(changes.exchange))
    tested = {name: (name, None) for name in changes.exchange} | {"all": (first, changes.features["others"])}
    found = {}
    for name, (concept, beside) in tested.items():
        items, cells = changes.places
        drawn = changes.exchange[concept][orders[:, items], cells]  # [permutation, row]
        null = np.concatenate([_null(part, beside, changes.rises, folds) for part in _blocks(drawn, beside, folds)])
        observed = _scored(margins[name][:1], changes.rises, folds)
        reached = (null >= observed - 1e-9).sum(axis=0)
        found |= {(name, m): float((1 + k) / (1 + n_perm)) for m, k in zip(("accuracy", "auroc"), reached, strict=True)}
        if len(np.unique(changes.rises)) < 2:
            found[name, "auroc"] = np.nan
    return found


def _exchanged(grid: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A random order of items, [item], that exchanges only items whose changes are known in the same cells."""
    order = np.arange(len(grid))
    for pattern in np.unique(~np.isnan(grid), axis=0):
        alike = np.flatnonzero((np.isnan(grid) != pattern).all(axis=1))
        order[alike] = rng.permutation(alike)
    return order


def _blocks(drawn: np.ndarray, beside: np.ndarray | None, folds: np.ndarray) -> list[np.ndarray]:
    """Permutations in parts that fit into memory."""
    width = drawn.shape[1] * (2 + (0 if beside is None else beside.shape[1])) * int(folds.max() + 1)
    size = max(1, NUMBERS_AT_ONCE // width)
    return [drawn[start : start + size] for start in range(0, len(drawn), size)]


def _null(drawn: np.ndarray, beside: np.ndarray | None, rises: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """Accuracy and AUROC of each permutation, [permutation, 2]."""
    features = drawn[..., None]
    if beside is not None:
        features = np.concatenate([np.broadcast_to(beside, (len(drawn), *beside.shape)), features], axis=-1)
    return _scored(held_out_margins(standardised(features), rises, folds), rises, folds)


def _scored(margins: np.ndarray, rises: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """Accuracy and AUROC, [..., 2], of margins [..., 1, row] under one division."""
    from mechmsc.directions.detection import auroc

    margins = np.atleast_2d(np.squeeze(margins, axis=-2)) if margins.ndim > 2 else margins
    accuracy = _right(margins, rises).mean(axis=-1)
    return np.stack([accuracy, auroc(margins.T, rises, folds=folds[0])[0]], axis=-1)
