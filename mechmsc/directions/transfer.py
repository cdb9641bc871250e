"""Whether a concept is one thing: directions across data sets, across methods and across layers."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mechmsc.directions.detection import detection_estimates
from mechmsc.directions.evaluation import examples_of
from mechmsc.directions.heldout import Examples, Method, cross_validated, in_class_gaps
from mechmsc.directions.splitting import grouped_folds
from mechmsc.statements.grouping import normalised

if TYPE_CHECKING:
    import pandas

MEASURES = ("auroc", "accuracy", "balanced_accuracy")
COLUMNS = ["method", "layer", "train", "test", "measure", "value", "low", "high", "level", "n", "part"]


def transfer_table(
    sets: "Mapping[str, tuple[Tensor, pandas.DataFrame]]",
    *,
    methods: Mapping[str, Method],
    read: Mapping[str, Mapping[str, Tensor]] | None = None,
    layers: Sequence[int] | None = None,
    n_folds: int = 5,
    level: float = 0.95,
    n_boot: int = 2000,
    seed: int = 0,
) -> "pandas.DataFrame":
    """Fit on one data set, detect in another; inside one set, held out.

    A statement whose text is also in the other set is left out of the training part.

    Args:
        sets: name -> activations [statement, layer, d_model] and their statements, all of one concept and position.
        methods: name -> fit.
        read: set -> method -> other activations that it is fitted on, as in `evaluate`.
        layers: the model's layer of each column; None: from 0.
        n_folds: of the cross-validation inside a set.
        level: of the intervals, which resample groups of the test set.
        n_boot: resamples.
        seed: of folds, fits and resamples.

    Returns:
        `COLUMNS`; part is `held_out` where train and test are one set, `transfer` elsewhere; n: groups of the test set.
        nan where all statements of a class are in the other set too, so that none is left to fit on.

    Raises:
        InputError: as `evaluate`.
    """
    import pandas as pd

    all_examples = {
        name: examples_of(activations, statements, methods, (read or {}).get(name))
        for name, (activations, statements) in sets.items()
    }
    texts = {name: np.array([normalised(text) for text in frame["text"]]) for name, (_, frame) in sets.items()}
    columns = range(next(iter(sets.values()))[0].shape[1]) if layers is None else layers
    rows = []
    for method, fit in methods.items():
        for train, seen in all_examples.items():
            for test, new in all_examples.items():
                folds = grouped_folds(seen.labels, seen.groups, n_folds=n_folds, seed=seed) if train == test else None
                if folds is not None:
                    scores = cross_validated(fit, seen, folds, method=method, seed=seed)
                else:
                    own = ~np.isin(texts[train], texts[test])
                    scores = _across(fit, seen, own, new.activations, method=method, seed=seed)
                options = {"groups": new.groups, "folds": folds, "level": level, "n_boot": n_boot, "seed": seed}
                found = detection_estimates(scores, new.labels, **options)
                part = "transfer" if folds is None else "held_out"
                rows += [
                    (method, layer, train, test, measure, e.value, e.low, e.high, e.level, e.n, part)
                    for measure in MEASURES
                    for layer, e in zip(columns, found[measure], strict=True)
                ]
    return pd.DataFrame(rows, columns=COLUMNS)


def _across(
    fit: Method, seen: Examples, own: np.ndarray, activations: Tensor, *, method: str, seed: int
) -> Float[np.ndarray, "statement layer"]:
    """Scores of another set's activations, in class gaps of the set that is fitted on; nan with nothing to fit on."""
    if len(set(seen.labels[own])) < 2:
        return np.full(activations.shape[:2], np.nan)
    vectors, rows, labels = seen.fitted(fit, own, method=method, seed=seed)
    return in_class_gaps(activations, vectors, rows, labels).cpu().numpy()


def method_cosines(
    vectors: Mapping[str, Float[Tensor, "layer d_model"]], *, layers: Sequence[int] | None = None
) -> "pandas.DataFrame":
    """Cosine between the directions of methods (or of anything else that has names), layer by layer.

    Args:
        vectors: name -> directions, e.g. `Direction.vectors`.
        layers: the model's layer of each row; None: from 0.

    Returns:
        method, other_method, layer, cosine; every ordered pair of names.
    """
    import pandas as pd

    names = list(vectors)
    units = torch.nn.functional.normalize(torch.stack([vectors[name].float() for name in names]), dim=-1)
    cosines = torch.einsum("mld,nld->mnl", units, units).cpu().numpy()
    columns = range(cosines.shape[2]) if layers is None else layers
    rows = [
        (one, other, layer, float(cosines[i, j, place]))
        for i, one in enumerate(names)
        for j, other in enumerate(names)
        for place, layer in enumerate(columns)
    ]
    return pd.DataFrame(rows, columns=["method", "other_method", "layer", "cosine"])


def layer_cosines(
    vectors: Mapping[str, Float[Tensor, "layer d_model"]], *, layers: Sequence[int] | None = None
) -> "pandas.DataFrame":
    """Cosine between the directions of one method at any two layers: over which layers the concept keeps its place.

    Args:
        vectors: method -> directions.
        layers: the model's layer of each row; None: from 0.

    Returns:
        method, layer, other_layer, cosine.
    """
    import pandas as pd

    rows = []
    for name, directions in vectors.items():
        units = torch.nn.functional.normalize(directions.float(), dim=-1)
        cosines, columns = (units @ units.T).cpu().numpy(), range(len(units)) if layers is None else layers
        rows += [
            (name, one, other, float(cosines[i, j])) for i, one in enumerate(columns) for j, other in enumerate(columns)
        ]
    return pd.DataFrame(rows, columns=["method", "layer", "other_layer", "cosine"])
