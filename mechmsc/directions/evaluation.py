"""Everything that is said about a probe, as one table: how well it detects held-out statements, and beside what.

All numbers come from one grouped K-fold cross-validation: no pair, group or text is on both sides. Intervals resample
groups and take the held-out scores as they are; bands span draws of a null. The rows:

    method            measure                               layer   part
    a fit             auroc, accuracy, balanced_accuracy    each    held_out
    a fit             auroc_difference (to bag_of_words)    each    held_out
    a fit             control_accuracy, selectivity         each    held_out
    a fit             shuffled_auroc (a band)               each    held_out
    a fit             the first two lines                   none    nested: the layer chosen without the fold it scores
    a fit             layer_share (of the folds)            chosen  nested
    best_of_methods   the first two lines                   none    nested: the method chosen as well
    bag_of_words, text_length   as the first line           none    held_out
    random_direction  auroc (a band)                        each    held_out
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float
from torch import Tensor

from mechmsc.directions import baselines
from mechmsc.directions.detection import Scores, auroc, correct, detection_estimates
from mechmsc.directions.heldout import Examples, Method, choices, cross_validated, validation_areas
from mechmsc.directions.splitting import grouped_folds, joined_groups
from mechmsc.errors import InputError
from mechmsc.estimate import Estimate
from mechmsc.progress import bar
from mechmsc.statements.grouping import normalised

if TYPE_CHECKING:
    import pandas

COLUMNS = ["method", "layer", "measure", "value", "low", "high", "level", "n", "part"]


def evaluate(
    activations: Float[Tensor, "statement layer d_model"],
    statements: "pandas.DataFrame",
    *,
    methods: Mapping[str, Method],
    read: Mapping[str, Tensor] | None = None,
    layers: Sequence[int] | None = None,
    n_folds: int = 5,
    n_null: int = 20,
    n_random: int = 100,
    control_types: Sequence[str] | None = None,
    level: float = 0.95,
    n_boot: int = 2000,
    seed: int = 0,
    progress: bool = True,
) -> "pandas.DataFrame":
    """Held-out detection, baselines and nulls of one or several methods, by layer; see the module for the rows.

    It costs K (K + 3) / 2 + n_null fits a method: K folds, K (K - 1) / 2 to choose the layer, K for the control task.

    Args:
        activations: from `read_statements`; every method is scored on them.
        statements: columns text, label (0 or 1), group, pair (a name, or None).
        methods: name -> fit.
        read: method -> other activations [statement, ...] that it is fitted on.
        layers: the model's layer of each column; None: from 0.
        n_folds: K, at least 3.
        n_null: fits on shuffled labels, one fold each; their band is a little wide, since a fold has few statements.
        n_random: random directions.
        control_types: [statement], what the control task gives a random label to; None: the first word. Control
            accuracy is that of statements whose type occurs outside their fold; with one type there is no such task.
        level: of intervals and bands.
        n_boot: resamples of the intervals.
        seed: of folds, fits, shuffles, control labels, random directions and resamples.
        progress: show a bar on stderr.

    Returns:
        `COLUMNS`; n is the number of groups, of draws for a band, of folds for a share.

    Raises:
        InputError: no methods, columns missing, fewer groups than folds, one class only.
    """
    import pandas as pd

    examples = examples_of(activations, statements, methods, read)
    folds = grouped_folds(examples.labels, examples.groups, n_folds=n_folds, seed=seed)
    columns = tuple(range(activations.shape[1]) if layers is None else layers)
    texts = list(statements["text"])
    types = baselines.first_words(texts) if control_types is None else np.array(list(control_types), dtype=object)
    bench = _Bench(examples, folds, columns, level, n_boot, seed)
    words = baselines.bag_of_words_scores(texts, examples.labels, groups=examples.groups, folds=folds, seed=seed)
    lengths = baselines.length_scores(texts, examples.labels, folds=folds)
    rows, nested = [], {}
    with bar("fits", len(methods) * (n_folds * (n_folds + 3) // 2 + n_null), show=progress) as tick:
        for name, fit in methods.items():
            chosen = choices(fit, examples, folds, method=name, seed=seed)
            options = {"method": name, "seed": seed, "on_fit": tick}
            scores = cross_validated(fit, examples, folds, chosen=chosen, **options)
            control = bench.control(fit, types, chosen, options) if len(set(types)) > 1 else None
            rows += bench.rows(name, scores, "held_out", against=words, control=control)
            rows += bench.bands(name, "shuffled_auroc", bench.null(fit, n_null, chosen, options))
            nested[name] = scores, validation_areas(fit, examples, folds, **options)
    rows += _nested_rows(bench, nested, words)
    for name, scores in (("bag_of_words", words), ("text_length", lengths)):
        rows += bench.rows(name, scores, "held_out")
    random = baselines.random_direction_areas(examples, folds, n=n_random, seed=seed)
    rows += bench.bands("random_direction", "auroc", random)
    return pd.DataFrame(rows, columns=COLUMNS).astype({"layer": "Int64"})


@dataclass(frozen=True, eq=False)
class _Bench:
    """What all rows of one table share."""

    examples: Examples
    folds: np.ndarray
    layers: tuple[int, ...]
    level: float
    n_boot: int
    seed: int

    def rows(
        self,
        method: str,
        scores: np.ndarray,
        part: str,
        *,
        against: np.ndarray | None = None,
        control: np.ndarray | None = None,
    ) -> list[tuple]:
        """Detection by out-of-fold scores [statement, column], a row per measure and column; scores alone: no layer."""
        layers = self.layers if scores.ndim == 2 else (None,)
        found = detection_estimates(
            scores.reshape(len(scores), -1), self.examples.labels, groups=self.examples.groups, folds=self.folds,
            against=against, control=control, level=self.level, n_boot=self.n_boot, seed=self.seed,
        )  # fmt: skip
        return [
            (method, layer, measure, *_numbers(estimate), part)
            for measure, estimates in found.items()
            for layer, estimate in zip(layers, estimates, strict=True)
        ]

    def bands(self, method: str, measure: str, draws: Float[np.ndarray, "draw layer"]) -> list[tuple]:
        """Mean and percentiles of a null, a row per layer."""
        ends = baselines.band(draws, self.level)
        return [
            (method, layer, measure, *map(float, numbers), self.level, len(draws), "held_out")
            for layer, numbers in zip(self.layers, ends.T, strict=True)
        ]

    def control(self, fit: Method, types: np.ndarray, chosen: list, options: dict) -> Scores | None:
        """Whether each statement's control label is told rightly; nan where it cannot be learned, None if none can."""
        labels = baselines.control_labels(types, self.examples.labels, seed=self.seed)
        try:
            scores = cross_validated(fit, self.examples, self.folds, labels=labels, chosen=chosen, **options)
        except InputError:  # pairs whose members are of one type are not contrastive to a method that needs pairs
            return None
        right = correct(scores, labels)
        right[~baselines.learnable(types, self.folds)] = np.nan
        return right

    def null(self, fit: Method, n: int, chosen: list, options: dict) -> Float[np.ndarray, "draw layer"]:
        """AUROC by layer of fits on shuffled labels, on the true labels of a fold that they have not seen."""
        examples, folds = self.examples, self.folds
        n_folds, found = int(folds.max()) + 1, []
        for draw in range(n):
            test = folds == draw % n_folds
            labels = examples.labels.copy()
            labels[~test] = baselines.shuffled_labels(
                labels[~test], examples.groups[~test], examples.pairs[~test], seed=[self.seed, draw]
            )
            settings = {"labels": labels, "chosen": chosen[draw % n_folds], "seed": self.seed + draw}
            scores = examples.held_out(fit, ~test, test, method=options["method"], **settings)
            found.append(auroc(scores, examples.labels[test])[0])
            options["on_fit"]()
        return np.stack(found)


def _nested_rows(bench: _Bench, nested: dict[str, tuple[Scores, np.ndarray]], words: np.ndarray) -> list[tuple]:
    """Scores at the layer that each fold's other folds chose, by method, and with the method chosen as well."""
    rows, n_folds = [], int(bench.folds.max()) + 1
    together = tuple(np.concatenate(parts, axis=1) for parts in zip(*nested.values(), strict=True))
    choices = {**nested, "best_of_methods": together} if len(nested) > 1 else nested
    for name, (scores, areas) in choices.items():
        best = np.argmax(np.nan_to_num(areas), axis=1)  # [fold], the earliest on ties
        chosen = scores[np.arange(len(scores)), best[bench.folds]]
        rows += bench.rows(name, chosen, "nested", against=words)
        if name in nested:
            for place, count in zip(*np.unique(best, return_counts=True), strict=True):
                numbers = (float(count / n_folds), np.nan, np.nan, np.nan, n_folds)
                rows.append((name, bench.layers[place], "layer_share", *numbers, "nested"))
    return rows


def _numbers(estimate: Estimate) -> tuple:
    return estimate.value, estimate.low, estimate.high, estimate.level, estimate.n


def examples_of(
    activations: Tensor,
    statements: "pandas.DataFrame",
    methods: Mapping[str, Method],
    read: Mapping[str, Tensor] | None = None,
) -> Examples:
    """Activations and statements as one, with groups that tie pairs and equal texts as well; arguments of `evaluate`.

    Raises:
        InputError: no methods, columns missing, activations of other length or not finite.
    """
    needed = ["text", "label", "group", "pair"]
    if missing := [name for name in needed if name not in statements]:
        raise InputError(
            f"statements lack {', '.join(missing)}; expected {', '.join(needed)}, as load_statements gives"
        )
    if not methods:
        raise InputError("expected at least one method to evaluate, got none")
    for name, values in {"activations": activations, **(read or {})}.items():
        if len(values) != len(statements):
            raise InputError(f"expected {name} of {len(statements)} statements, got {len(values)}")
        _check_finite(name, values)
    pairs = np.array([pair if isinstance(pair, str) else None for pair in statements["pair"]], dtype=object)
    groups = joined_groups(statements["group"], pairs, [normalised(text) for text in statements["text"]])
    return Examples(
        activations, statements["label"].to_numpy(dtype=np.int64, copy=True), groups, pairs, dict(read or {})
    )


def _check_finite(name: str, values: Tensor) -> None:
    """Say which statement and layer hold a number that is none."""
    if bool(values.isfinite().all()):
        return
    where = (~values.isfinite()).nonzero()[0].tolist()
    raise InputError(f"{name}: not a finite number at statement {where[0]}, layer {where[-2]}; read them again")
