"""The only splitter of labelled statements: whole groups on one side, so that no template or pair tells the answer.

Statements that share a pair, a template or a text resemble each other. A probe that has seen one of them scores the
others too well, so they stay together: in one fold, or in one of the parts train, validation and test.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mechmsc.errors import InputError
from mechmsc.statements.grouping import joined

SHARES = {"train": 0.6, "validation": 0.2, "test": 0.2}


def split_by_group(
    labels: ArrayLike, groups: ArrayLike, *, shares: Mapping[str, float] = SHARES, seed: int
) -> np.ndarray:
    """Part of each statement: whole groups, classes balanced as far as groups allow.

    Args:
        labels: [statement], 0 or 1.
        groups: [statement]; see `joined_groups` where several things tie statements together.
        shares: part -> the share of statements wanted in it; they are scaled to sum to 1.
        seed: of the order in which groups of one size are dealt out.

    Returns:
        [statement], keys of `shares`.

    Raises:
        InputError: fewer groups than parts, or a class whose groups do not reach every part.
    """
    names = np.array(list(shares))
    part = names[_deal(labels, groups, list(shares.values()), seed=seed)]
    labels = np.asarray(labels)
    for name in names:
        for label in (0, 1):
            if not (labels[part == name] == label).any():
                n = len(np.unique(np.asarray(groups)[labels == label]))
                raise InputError(
                    f"no statement with label {label} is left for the part {name!r}: "
                    f"its {n} groups cannot be spread over {len(names)} parts; give more groups, or fewer parts"
                )
    return part


def grouped_folds(labels: ArrayLike, groups: ArrayLike, *, n_folds: int = 5, seed: int) -> NDArray[np.int64]:
    """Fold of each statement for a grouped K-fold cross-validation, classes balanced as far as groups allow.

    Args:
        labels: [statement], 0 or 1.
        groups: [statement].
        n_folds: number of folds, at least 2.
        seed: of the order in which groups of one size are dealt out.

    Returns:
        [statement], 0 to n_folds - 1. What is left outside any fold has both classes.

    Raises:
        InputError: fewer groups than folds, one class only, or a class that lies in a single fold.
    """
    if n_folds < 2:
        raise InputError(f"cross-validation needs at least 2 folds, got {n_folds}")
    folds = _deal(labels, groups, [1.0] * n_folds, seed=seed)
    labels = np.asarray(labels)
    for label in (0, 1):
        if len(np.unique(folds[labels == label])) < 2:
            raise InputError(
                f"all statements with label {label} are in one group: no fold can be held out; "
                "give at least two groups of each class"
            )
    return folds


def joined_groups(*keys: Sequence | ArrayLike) -> NDArray[np.int64]:
    """Groups in which statements that share any key are together, also by way of others.

    Args:
        keys: [statement] each, e.g. the group, the pair and the text; None and nan tie nothing.

    Returns:
        [statement], from 0: the connected components.

    Raises:
        InputError: keys of different length.
    """
    import pandas as pd

    if len({len(key) for key in keys}) != 1:
        raise InputError(f"expected keys of one length, got {', '.join(str(len(key)) for key in keys)}")
    tied = [
        [f"row {row}", *(f"{place}: {name}" for place, name in enumerate(names) if not pd.isna(name))]
        for row, names in enumerate(zip(*keys, strict=True))
    ]
    return pd.factorize(np.array(joined(tied), dtype=object))[0].astype(np.int64)


def _deal(labels: ArrayLike, groups: ArrayLike, shares: Sequence[float], *, seed: int) -> NDArray[np.int64]:
    """Give out groups, large ones first, each to the part that lacks most of what the group has.

    need_pc = share_p n_c - (statements of class c that part p has already), as a fraction of n_c; a group goes to the
    part with the largest sum of need over its own statements (weights: its classes).
    """
    labels, groups = np.asarray(labels), np.asarray(groups)
    if labels.shape != groups.shape or labels.ndim != 1:
        raise InputError(f"expected one group a statement, got {labels.shape} labels and {groups.shape} groups")
    if set(np.unique(labels)) != {0, 1}:
        raise InputError(f"expected statements of both labels 0 and 1, got labels {sorted(set(labels.tolist()))}")
    names, codes = np.unique(groups, return_inverse=True)
    if len(names) < len(shares):
        raise InputError(f"{len(names)} groups cannot be split into {len(shares)} parts; give fewer parts")
    counts = np.zeros((len(names), 2))
    np.add.at(counts, (codes, labels.astype(int)), 1.0)
    counts /= counts.sum(axis=0)  # fractions of a class: both classes weigh the same
    shuffled = np.random.default_rng(seed).permutation(len(names))
    order = shuffled[np.argsort(-counts[shuffled].sum(axis=1), kind="stable")]
    wanted = np.asarray(shares, dtype=float)[:, None] / np.sum(shares)
    given, part = np.zeros((len(shares), 2)), np.zeros(len(names), dtype=np.int64)
    for group in order:
        need = ((wanted - given) / wanted) @ counts[group]
        part[group] = int(np.argmax(np.round(need, 12)))  # sums in another order must not decide ties
        given[part[group]] += counts[group]
    return part[codes]
