"""`fit_direction`: labelled statements -> a `Direction`, with everything that is needed to fit it again."""

import hashlib
import importlib.metadata
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from mechmsc.directions.fits import METHODS, Fit
from mechmsc.directions.fits.training import Column, check_training, class_means, layer_chunks
from mechmsc.directions.prompts import texts_of
from mechmsc.directions.reading import read_letters, read_sides, read_statements
from mechmsc.directions.record import Direction
from mechmsc.errors import InputError, nearest

if TYPE_CHECKING:
    import pandas
    from transformer_lens import HookedTransformer

    from mechmsc.model import ModelIdentity

VERSIONED = ("mechmsc", "torch", "transformers", "transformer-lens", "numpy")
OWN = {"letters": read_letters, "sides": read_sides}
"""What a method needs -> how it is read, where that is not the plain statements."""
SMALLEST_GAP = 1e-6
"""As a fraction of the root mean square distance of statements from their midpoint."""


def fit_direction(
    model: "HookedTransformer",
    statements: "pandas.DataFrame",
    *,
    method: str = "mass_mean",
    position: str = "last",
    context: str = "chat",
    component: str = "resid_post",
    max_tokens: int | None = None,
    activations: Float[Tensor, "statement layer d_model"] | None = None,
    fitted_on: Float[Tensor, "statement *side layer d_model"] | None = None,
    seed: int = 0,
    progress: bool = True,
) -> Direction:
    """A concept direction at every layer, fitted on all statements given.

    Args:
        model: from `load_model`.
        statements: a frame with columns concept (one), source, text, label (0 or 1), group, pair; see
            `load_statements`. Hold statements out yourself where the direction is to be tested on them.
        method: a key of `METHODS`.
        position: where statements are read; see `read_statements`.
        context: `chat` or `raw`.
        component: which activation.
        max_tokens: where statements are cut; None: nowhere.
        activations: what `read_statements` gave for the same arguments, where it was read before.
        fitted_on: what the method is fitted on where that is something else (`caa`: read_letters, `ccs`: read_sides),
            where it was read before.
        seed: of folds and restarts.
        progress: show bars on stderr.

    Raises:
        InputError: unknown names, several concepts, one class only, activations that are not finite or of other shape.
    """
    from mechmsc.model import identity

    fit, concept, labels = method_named(method), concept_of(statements), labels_of(statements)
    options = {"context": context, "component": component, "max_tokens": max_tokens, "progress": progress}
    if activations is None:
        activations = read_statements(model, statements, position=position, **options)
    expected = (len(statements), model.cfg.n_layers, model.cfg.d_model)
    if tuple(activations.shape) != expected:
        raise InputError(
            f"activations: expected [statement, layer, d_model] {expected}, got {tuple(activations.shape)}"
        )
    if fitted_on is None:
        fitted_on = OWN[fit.needs](model, statements, **options) if fit.needs in OWN else activations
    direction = direction_from(
        activations,
        labels.to(activations.device),
        concept=concept,
        model=identity(model),
        method=method,
        groups=list(statements["group"]),
        pairs=pairs_of(statements),
        seed=seed,
        fitted_on=fitted_on,
        position=position,
        context=context,
        component=component,
    )
    data = direction.data | _data(statements, labels)
    return replace(direction, data=data, settings=direction.settings | {"max_tokens": max_tokens})


def direction_from(
    activations: Float[Tensor, "statement layer d_model"],
    labels: Tensor,
    *,
    concept: str,
    model: "ModelIdentity",
    method: str = "mass_mean",
    groups: Column | None = None,
    pairs: Column | None = None,
    seed: int = 0,
    fitted_on: Float[Tensor, "statement *side layer d_model"] | None = None,
    layers: Sequence[int] | None = None,
    position: str = "last",
    context: str = "chat",
    component: str = "resid_post",
) -> Direction:
    """A direction from activations at hand; no model is run.

    Args:
        activations: plain ones, which midpoints and gaps are taken from.
        labels: 0 or 1 a statement, on the device of the activations.
        concept: what label 1 has more of.
        model: whose activations they are.
        method: a key of `METHODS`.
        groups: of statements; None: each is a group of its own.
        pairs: of statements; None: there are none.
        seed: of folds and restarts.
        fitted_on: activations that the vectors are fitted on; None: the plain ones.
        layers: the model's layer of each row; None: 0, 1, ...
        position: recorded, as are the next two.
        context: how statements were shown.
        component: which activation.

    Raises:
        InputError: see `fit_direction`.
    """
    fit, n = method_named(method), len(activations)
    groups = list(range(n)) if groups is None else list(groups)
    pairs = [None] * n if pairs is None else list(pairs)
    check_training(activations, labels, groups, pairs)
    fitted_on = activations if fitted_on is None else fitted_on
    chosen = {} if fit.choose is None else fit.choose(fitted_on, labels, groups=groups, seed=seed)
    vectors = fit(fitted_on, labels, groups=groups, pairs=pairs, seed=seed, **chosen).float()
    midpoints, gaps = calibration_of(vectors, activations, labels)
    if fit.free_sign:
        flip = torch.where(gaps < 0, -1.0, 1.0)
        vectors, gaps = vectors * flip[:, None], gaps * flip
    return Direction(
        concept=concept,
        vectors=vectors,
        midpoints=midpoints,
        gaps=gaps,
        layers=tuple(range(activations.shape[1])) if layers is None else tuple(layers),
        method=method,
        component=component,
        position=position,
        context=context,
        model=model,
        data={"statements": counts_of(labels), "groups": sorted({str(group) for group in groups})},
        settings={
            "seed": seed,
            **{name: value.tolist() for name, value in chosen.items()},
            "versions": {name: importlib.metadata.version(name) for name in VERSIONED},
        },
    )


def calibration_of(
    vectors: Float[Tensor, "layer d_model"], activations: Float[Tensor, "statement layer d_model"], labels: Tensor
) -> tuple[Float[Tensor, "layer d_model"], Float[Tensor, " layer"]]:
    """Midpoints of the class means, and gaps along vectors, of plain activations.

    m = (mu+ + mu-) / 2; gap = (mu+ - mu-) . d / |d|, nan where |gap| is below 1e-6 of the activation scale, the root
    mean square of |h - m|.
    """
    negative, positive = class_means(activations, labels)
    midpoints = (positive + negative) / 2
    gaps = ((positive - negative) * vectors).sum(1) / vectors.norm(dim=1)
    scales = [
        (activations[:, layers] - midpoints[layers]).square().sum(2).mean(0).sqrt()
        for layers in layer_chunks(activations)
    ]
    return midpoints, torch.where(gaps.abs() > SMALLEST_GAP * torch.cat(scales), gaps, torch.nan)


def method_named(method: str) -> Fit:
    """The fit of this name.

    Raises:
        InputError: there is none; names the nearest.
    """
    if method not in METHODS:
        raise InputError(f"unknown method {method!r}: {nearest(method, METHODS)}")
    return METHODS[method]


def labels_of(statements: "pandas.DataFrame") -> Tensor:
    """Labels of a frame of statements, on the CPU.

    Raises:
        InputError: something else than 0 and 1, or one class only.
    """
    texts_of(statements)
    missing = [name for name in ("concept", "label", "group", "pair") if name not in statements.columns]
    if missing:
        raise InputError(f"expected statements with column {missing[0]}, got {', '.join(map(str, statements.columns))}")
    values = list(statements["label"])
    if {float(value) for value in values} != {0.0, 1.0}:
        raise InputError(
            f"expected statements of both classes, labels 0 and 1, got labels {sorted(set(values))[:5]} in "
            f"{len(values)} statements; give both"
        )
    return torch.tensor([int(value) for value in values])


def pairs_of(statements: "pandas.DataFrame") -> list[str | None]:
    """Pair of each statement; None for whatever says that there is none."""
    return [pair if isinstance(pair, str) else None for pair in statements["pair"]]


def concept_of(statements: "pandas.DataFrame") -> str:
    """The one concept of a frame of statements.

    Raises:
        InputError: there are several.
    """
    texts_of(statements)
    found = sorted({str(concept) for concept in statements["concept"]}) if "concept" in statements.columns else []
    if len(found) != 1:
        raise InputError(f"expected statements of one concept, got {', '.join(found) or 'no column concept'}")
    return found[0]


def counts_of(labels: Tensor) -> dict[str, int]:
    """How many statements have each label."""
    return {"label_0": int((labels == 0).sum()), "label_1": int((labels == 1).sum())}


def _data(statements: "pandas.DataFrame", labels: Tensor) -> dict[str, Any]:
    lines = [json.dumps(row) for row in zip(statements["text"], labels.tolist(), strict=True)]
    sources = sorted({str(source) for source in statements["source"]}) if "source" in statements.columns else []
    texts = sorted({text_digest(text) for text in statements["text"]})
    return {"sources": sources, "sha256": hashlib.sha256("\n".join(lines).encode()).hexdigest(), "texts": texts}


def text_digest(text: str) -> str:
    """Twelve hexadecimal digits of a text without regard to blanks and case: has a direction been fitted on it?"""
    return hashlib.sha256(" ".join(text.casefold().split()).encode()).hexdigest()[:12]
