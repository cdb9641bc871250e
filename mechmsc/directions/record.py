"""`Direction`: one direction per layer that stands for a concept. Read it (`score`) or write it (`add`, `clamp`)."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from mechmsc.errors import InputError

if TYPE_CHECKING:
    from mechmsc.model import ModelIdentity

Array = TypeVar("Array")
"""Activations as they come: an xarray DataArray, a torch Tensor or a NumPy array; results are of the same kind."""


@dataclass(frozen=True, eq=False)
class Direction:
    """A concept direction at every layer, in raw activation space.

    u = d / |d|, m = midpoint of the two class means, gap = (mu+ - mu-) . u. One unit of strength or score is one class
    gap, whatever the method; positive means more of the concept.
    """

    concept: str
    """What a positive score means more of, e.g. `toxicity`."""
    vectors: Float[Tensor, "layer d_model"]
    """d, float32, raw activation space whatever was standardised inside the fit."""
    midpoints: Float[Tensor, "layer d_model"]
    """m, float32: midpoint of the two class means of the training part."""
    gaps: Float[Tensor, " layer"]
    """(mu+ - mu-) . u of plain statements, float32, in activation units; nan where it is below 1e-6 of the scale of
    activations. Negative where a method's vector points away from the concept: scores and strengths keep their sign."""
    layers: tuple[int, ...]
    """The model's layer that each row stands for, ascending."""
    method: str
    """Name of the fit: mass_mean, logistic, lda, caa, pair_svd, ccs, or where an imported vector came from."""
    component: str
    """Which activation it lives in, a key of `sites.COMPONENTS` with axis d_model, e.g. `resid_post`."""
    position: str
    """Where statements were read: `last`, `mean` (over content tokens) or `prompt_end`."""
    context: str
    """How statements were shown: `chat` (a user turn in the chat template) or `raw`."""
    model: "ModelIdentity"
    """Name, revision and checksum of the model it was fitted on."""
    data: Mapping[str, Any] = field(default_factory=dict)
    """The statements: sources, sha256 of texts and labels, number of each class, groups of each part of the split."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of the fit: seed, penalty chosen, standardised or not, package versions."""

    def row(self, layer: int) -> int:
        """The row of a layer of the model.

        Raises:
            InputError: the direction has no such layer; says which it has.
        """
        if layer not in self.layers:
            raise InputError(
                f"direction {self.concept!r} has layers {self.layers[0]} to {self.layers[-1]}, not layer {layer}"
            )
        return self.layers.index(layer)

    @property
    def units(self) -> Float[Tensor, "layer d_model"]:
        """Unit vectors u = d / |d|."""
        return self.vectors / self.vectors.norm(dim=1, keepdim=True)

    def to(self, device: str | torch.device) -> "Direction":
        """The same direction with its tensors on another device."""
        moved = {name: getattr(self, name).to(device) for name in ("vectors", "midpoints", "gaps")}
        return replace(self, **moved)

    def score(self, activations: Array) -> Array:
        """(h - m) . u / gap: how much of the concept, in class gaps; the class means are at +-0.5.

        Args:
            activations: a DataArray with d_model and layer, e.g. `run.activations["resid_post.prompt_end"]`, read block
                by block where it is on disk; or a tensor or array `[..., layer, d_model]`.

        Returns:
            The same without d_model, float32; nan where there is no activation or the gap is nan.

        Raises:
            InputError: another component or width, or layers that the direction does not have.
        """
        return self._read(activations, "score")

    def projection(self, activations: Array) -> Array:
        """(h - m) . u, in activation units; arguments as `score`."""
        return self._read(activations, "projection")

    def cosine(self, activations: Array) -> Array:
        """cos(h - m, d): centred, from -1 to 1; arguments as `score`."""
        return self._read(activations, "cosine")

    def cosine_as_released(self, activations: Array) -> Array:
        """cos(h, d) of arXiv:2510.07290: what all activations have in common dominates it; arguments as `score`."""
        return self._read(activations, "cosine_as_released")

    def check_model(self, model: object) -> None:
        """Refuse a model that this direction was not fitted on.

        Args:
            model: from `load_model`, a `ModelIdentity`, or the entry `model` of a run's manifest.

        Raises:
            InputError: other weights, width or number of layers; says which.
        """
        from mechmsc.directions.scoring import check_model

        check_model(self, model)

    def save(self, path: str | Path) -> None:
        """Write `path` (.safetensors, its card inside) and the card again beside it as .json, to be read by people.

        Raises:
            InputError: another ending, or a folder that does not exist.
        """
        from mechmsc.directions.files import save

        save(self, path)

    def _read(self, activations: Array, quantity: str) -> Array:
        from mechmsc.directions import scoring

        return scoring.read(self, activations, getattr(scoring, quantity))
