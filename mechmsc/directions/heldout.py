"""Scores of statements that a fit has not seen: grouped cross-validation, and the choice of a layer inside it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mechmsc.directions.detection import Scores, auroc
from mechmsc.directions.fitting import calibration_of
from mechmsc.directions.scoring import score
from mechmsc.errors import InputError

Method = Callable[..., Tensor]
"""A method of `METHODS`, or any fit(activations, labels, groups=..., pairs=..., seed=...) -> [layer, d_model], of a
training part's activations [statement, ..., layer, d_model] and labels [statement], both on one device."""


@dataclass(frozen=True, eq=False)
class Examples:
    """Labelled activations, and what must stay together when they are split."""

    activations: Float[Tensor, "statement layer d_model"]
    """What is scored, and fitted on by every method that reads nothing else."""
    labels: Int[np.ndarray, " statement"]
    """0 or 1."""
    groups: Int[np.ndarray, " statement"]
    """See `splitting.joined_groups`."""
    pairs: np.ndarray
    """[statement], object: the name of its contrastive pair, or None."""
    read: Mapping[str, Tensor]
    """Method -> other activations [statement, ...] that it is fitted on: the two sides for `ccs`, letters for `caa`."""

    def held_out(
        self,
        fit: Method,
        train: Bool[np.ndarray, " statement"],
        test: Bool[np.ndarray, " statement"],
        *,
        method: str = "",
        labels: Int[np.ndarray, " statement"] | None = None,
        chosen: Mapping[str, Any] | None = None,
        seed: int,
    ) -> Float[np.ndarray, "test layer"]:
        """Scores of one part by a direction fitted on another, in class gaps of the part that it was fitted on.

        Args:
            fit: the method.
            train: what is fitted on.
            test: what is scored.
            method: its name, a key of `read` where it reads other activations.
            labels: taken for the labels of the training part; None: the examples' own.
            chosen: keywords of the fit, from `choices`; None: it chooses for itself.
            seed: of the fit.
        """
        options = {"method": method, "labels": labels, "chosen": chosen, "seed": seed}
        vectors, seen, known = self.fitted(fit, train, **options)
        where = torch.as_tensor(test, device=self.activations.device)
        return in_class_gaps(self.activations[where], vectors, seen, known).cpu().numpy()

    def fitted(
        self,
        fit: Method,
        train: Bool[np.ndarray, " statement"],
        *,
        method: str = "",
        labels: Int[np.ndarray, " statement"] | None = None,
        chosen: Mapping[str, Any] | None = None,
        seed: int,
    ) -> tuple[Float[Tensor, "layer d_model"], Float[Tensor, "train layer d_model"], Int[Tensor, " train"]]:
        """The directions of a part, with its activations and labels; arguments as `held_out`."""
        labels = self.labels if labels is None else labels
        there = torch.as_tensor(train, device=self.activations.device)
        seen, known = self.activations[there], torch.as_tensor(labels[train], device=there.device)
        read = self.read[method][there] if method in self.read else seen
        options = {"groups": self.groups[train], "pairs": contrastive(self.pairs, labels, train), "seed": seed}
        return fit(read, known, **options, **(chosen or {})), seen, known


def contrastive(pairs: np.ndarray, labels: Int[np.ndarray, " statement"], part: np.ndarray) -> np.ndarray:
    """The pairs of a part; None where its two members are not both there, or have the same label."""
    members: dict[str, list[int]] = {}
    for row in np.flatnonzero(part):
        if pairs[row] is not None:
            members.setdefault(pairs[row], []).append(row)
    whole = {name for name, rows in members.items() if sorted(labels[rows]) == [0, 1]}
    return np.array([name if name in whole else None for name in pairs[part]], dtype=object)


def in_class_gaps(
    activations: Float[Tensor, "statement layer d_model"],
    vectors: Float[Tensor, "layer d_model"],
    seen: Float[Tensor, "seen layer d_model"],
    labels: Int[Tensor, " seen"],
) -> Float[Tensor, "statement layer"]:
    """(h - m).u / gap, with midpoint and gap of the part that was seen (science: section 3).

    A direction that points from the concept away has a negative gap: the score still rises with the concept, as the
    seen part has it.

    Returns:
        nan at layers where the classes do not differ along the direction.
    """
    midpoints, gaps = calibration_of(vectors, seen, labels)
    return score(activations, vectors / vectors.norm(dim=1, keepdim=True), midpoints, gaps)


def choices(
    fit: Method, examples: Examples, folds: Int[np.ndarray, " statement"], *, method: str = "", seed: int
) -> list[Mapping[str, Any]]:
    """What a method lets its data decide, e.g. the penalty, for each fold by the statements outside it.

    The same values serve its fits on other labels: a null or a control task is then one of the same probe, and cheap.
    """
    choose, found = getattr(fit, "choose", None), []
    for fold in range(int(folds.max()) + 1):
        train = folds != fold
        there = torch.as_tensor(train, device=examples.activations.device)
        read, labels = examples.read.get(method, examples.activations), torch.as_tensor(examples.labels[train])
        options = {"groups": examples.groups[train], "seed": seed}
        found.append(choose(read[there], labels.to(there.device), **options) if choose else {})
    return found


def cross_validated(
    fit: Method,
    examples: Examples,
    folds: Int[np.ndarray, " statement"],
    *,
    method: str = "",
    labels: Int[np.ndarray, " statement"] | None = None,
    chosen: Sequence[Mapping[str, Any]] | None = None,
    seed: int,
    on_fit: Callable[[], None] = lambda: None,
) -> Scores:
    """Score of every statement, [statement, layer], by the fit that left its fold out.

    Args:
        fit: the method.
        examples: labelled activations.
        folds: from `splitting.grouped_folds`.
        method: as in `Examples.held_out`, as is `labels`.
        labels: of the training parts.
        chosen: of each fold, from `choices`.
        seed: of the fits.
        on_fit: called after each.
    """
    scores = np.full((len(folds), examples.activations.shape[1]), np.nan)
    for fold in np.unique(folds):
        test = folds == fold
        options = {"labels": labels, "chosen": chosen[fold] if chosen else None, "seed": seed}
        scores[test] = examples.held_out(fit, ~test, test, method=method, **options)
        on_fit()
    return scores


def validation_areas(
    fit: Method,
    examples: Examples,
    folds: Int[np.ndarray, " statement"],
    *,
    method: str = "",
    seed: int,
    on_fit: Callable[[], None] = lambda: None,
) -> Float[np.ndarray, "fold layer"]:
    """AUROC by layer that can be known without a fold: a cross-validation among the other folds.

    A fit that leaves two folds out validates either for the other, so K folds need K (K - 1) / 2 fits.

    Args:
        fit: the method.
        examples: labelled activations.
        folds: from 0, at least three.
        method: as in `Examples.held_out`.
        seed: of the fits.
        on_fit: called after each.

    Returns:
        Row f: from statements outside fold f alone, as are the fits.

    Raises:
        InputError: fewer than three folds.
    """
    n_folds = int(folds.max()) + 1
    if n_folds < 3:
        raise InputError(f"choosing a layer inside a cross-validation needs at least 3 folds, got {n_folds}")
    scores = np.full((n_folds, *examples.activations.shape[:2]), np.nan)
    for one, other in combinations(range(n_folds), 2):
        out = np.isin(folds, (one, other))
        found = examples.held_out(fit, ~out, out, method=method, seed=seed)
        for left_out, held in ((one, other), (other, one)):
            scores[left_out, folds == held] = found[(folds == held)[out]]
        on_fit()
    rest = [folds != fold for fold in range(n_folds)]
    return np.concatenate(
        [auroc(scores[f, rows], examples.labels[rows], folds=folds[rows]) for f, rows in enumerate(rest)]
    )
