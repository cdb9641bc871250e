"""What a probe must beat: shuffled labels, a control task, a bag of words, the text's length, random directions."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int

from mechmsc.directions.detection import auroc
from mechmsc.directions.heldout import Examples, in_class_gaps
from mechmsc.directions.splitting import grouped_folds
from mechmsc.errors import InputError
from mechmsc.statements.grouping import words

Labels = Int[np.ndarray, " statement"]
PENALTIES = (0.1, 1.0, 10.0, 100.0)
"""Inverse strengths of L2 that the bag of words may choose from."""
DIRECTIONS_AT_ONCE = 20


def shuffled_labels(labels: Labels, groups: Labels, pairs: np.ndarray, *, seed: Sequence[int] | int) -> Labels:
    """Labels without their meaning, but with their structure.

    The two labels of a pair are exchanged or not; the other labels of a group with both are permuted inside it; groups
    with one label exchange theirs. Shuffling rows would make labels vary inside groups that never do, and a fit on them
    less noisy than the one that it stands beside.

    Args:
        labels: 0 or 1.
        groups: [statement].
        pairs: [statement], object: the pair, or None.
        seed: an integer or several.
    """
    rng, shuffled, free = np.random.default_rng(seed), labels.copy(), np.ones(len(labels), dtype=bool)
    members: dict[str, list[int]] = {}
    for row in np.flatnonzero([pair is not None for pair in pairs]):
        members.setdefault(pairs[row], []).append(row)
    for rows in members.values():
        shuffled[rows] = labels[rng.permutation(rows)]
        free[rows] = False
    pure = []
    for group in np.unique(groups[free]):
        rows = np.flatnonzero((groups == group) & free)
        shuffled[rows] = labels[rng.permutation(rows)]
        if len(set(labels[rows])) == 1:
            pure.append(rows)
    for rows, label in zip(pure, rng.permutation([labels[rows[0]] for rows in pure]), strict=True):
        shuffled[rows] = label
    return shuffled


def first_words(texts: Sequence[str]) -> np.ndarray:
    """The first word of each text without capitals, the type that control labels are given to."""
    return np.array([next(iter(words(text)), "") for text in texts], dtype=object)


def control_labels(types: np.ndarray, labels: Labels, *, seed: int) -> Labels:
    """A random label fixed per type, with about the share of 1 that the labels have (Hewitt & Liang 2019).

    Types cross groups, as first words do: a label fixed per group could not be learned for groups held out.

    Args:
        types: [statement], e.g. `first_words`.
        labels: 0 or 1; only their mean is looked at.
        seed: of the draw.

    Raises:
        InputError: fewer than two types.
    """
    names, codes, sizes = np.unique(types.astype(str), return_inverse=True, return_counts=True)
    if len(names) < 2:
        raise InputError(
            f"a control task gives a random label to each type, but all {len(types)} statements are of type "
            f"'{names[0]}'; give other control_types"
        )
    order = np.random.default_rng(seed).permutation(len(names))
    filled = np.cumsum(sizes[order]) - sizes[order] / 2  # where the middle of each type comes to lie
    chosen = np.zeros(len(names), dtype=int)
    chosen[order[filled <= labels.mean() * len(types)]] = 1
    if len(set(chosen)) == 1:  # one type is most of the statements
        chosen[order[0]] = 1 - chosen[order[0]]
    return chosen[codes]


def learnable(types: np.ndarray, folds: Labels) -> np.ndarray:
    """Whether a statement's type occurs outside its fold, [statement]: no other control label can be known."""
    here: dict[str, set[int]] = {}
    for name, fold in zip(types, folds, strict=True):
        here.setdefault(name, set()).add(int(fold))
    return np.array([len(here[name]) > 1 for name in types])


def bag_of_words_scores(
    texts: Sequence[str], labels: Labels, *, groups: Labels, folds: Labels, seed: int
) -> Float[np.ndarray, " statement"]:
    """Out-of-fold decision values of logistic regression on TF-IDF of single words, classes weighted alike.

    The penalty is chosen in each training part, by AUROC over grouped folds of it.

    Args:
        texts: [statement].
        labels: 0 or 1.
        groups: [statement].
        folds: the folds that the directions were scored with.
        seed: of the inner folds.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    texts, scores = np.array(texts, dtype=object), np.full(len(labels), np.nan)

    def decisions(train: np.ndarray, test: np.ndarray, penalties: Sequence[float]) -> np.ndarray:
        counter = TfidfVectorizer(sublinear_tf=True, token_pattern=r"\w+")
        seen, new = counter.fit_transform(texts[train]), counter.transform(texts[test])
        logistic = [LogisticRegression(C=c, class_weight="balanced", solver="liblinear") for c in penalties]
        return np.column_stack([model.fit(seen, labels[train]).decision_function(new) for model in logistic])

    for fold in np.unique(folds):
        train, test = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
        n_inner = min(3, len(np.unique(groups[train])))
        inner = grouped_folds(labels[train], groups[train], n_folds=n_inner, seed=seed)
        tried = np.full((len(train), len(PENALTIES)), np.nan)
        for held in np.unique(inner):
            tried[inner == held] = decisions(train[inner != held], train[inner == held], PENALTIES)
        best = int(np.argmax(np.nan_to_num(auroc(tried, labels[train], folds=inner)[0])))
        scores[test] = decisions(train, test, PENALTIES[best : best + 1])[:, 0]
    return scores


def length_scores(texts: Sequence[str], labels: Labels, *, folds: Labels) -> Float[np.ndarray, " statement"]:
    """Log number of characters as a detector, out of fold: 0 at the midpoint, one unit a class gap, as a direction."""
    lengths = torch.tensor([[[np.log1p(len(text))]] for text in texts], dtype=torch.float64)  # one layer, one dimension
    scores, known = np.full(len(labels), np.nan), torch.as_tensor(labels)
    for fold in np.unique(folds):
        train, test = torch.as_tensor(folds != fold), folds == fold
        unit = torch.ones(1, 1, dtype=torch.float64)
        scores[test] = in_class_gaps(lengths[torch.as_tensor(test)], unit, lengths[train], known[train])[:, 0]
    return np.nan_to_num(scores)  # equal lengths tell nothing


def random_direction_areas(
    examples: Examples, folds: Labels, *, n: int, seed: int
) -> Float[np.ndarray, "direction layer"]:
    """AUROC of random directions, each given its sign by the training part, as every fit is.

    Args:
        examples: labelled activations.
        folds: as for the fits.
        n: number of directions, uniform on the sphere.
        seed: of the directions.
    """
    activations, generator = examples.activations, torch.Generator().manual_seed(seed)
    known, found = torch.as_tensor(examples.labels, device=activations.device), []
    for start in range(0, n, DIRECTIONS_AT_ONCE):
        shape = (min(DIRECTIONS_AT_ONCE, n - start), *activations.shape[1:])
        vectors = torch.randn(shape, generator=generator).to(activations.device)
        read = torch.einsum("sld,nld->snl", activations, vectors).flatten(1)[..., None]  # each a space of one dimension
        scores = np.full(read.shape[:2], np.nan)
        for fold in np.unique(folds):
            test = torch.as_tensor(folds == fold, device=activations.device)
            one = torch.ones(read.shape[1], 1, device=activations.device)
            scores[folds == fold] = in_class_gaps(read[test], one, read[~test], known[~test]).cpu().numpy()
        found.append(auroc(scores, examples.labels, folds=folds)[0].reshape(shape[0], -1))
    return np.concatenate(found)


def band(draws: Float[np.ndarray, "draw layer"], level: float) -> Float[np.ndarray, "3 layer"]:
    """Mean, lower and upper percentile over draws: where a fit without the concept lies."""
    if not np.isfinite(draws).any(axis=0).all():
        raise InputError("a null distribution has no finite draw at some layer; are the activations constant there?")
    ends = np.nanquantile(draws, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return np.stack([np.nanmean(draws, axis=0), *ends])
