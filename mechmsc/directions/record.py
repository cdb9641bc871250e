"""`Direction`: one direction per layer that stands for a concept. Read it (`score`) or write it (`add`, `clamp`)."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from mechmsc.errors import InputError

if TYPE_CHECKING:
    from mechmsc.model import ModelIdentity


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
    """(mu+ - mu-) . u, float32, in activation units."""
    layers: tuple[int, ...]
    """The model's layer that each row stands for, ascending."""
    method: str
    """Name of the fit: mass_mean, logistic, lda, caa, pair_svd, ccs, or where an imported vector came from."""
    component: str
    """Which activation it lives in, a key of `sites.COMPONENTS` with axis d_model, e.g. `resid_post`."""
    position: str
    """Where statements were read: `last` or `mean` (over content tokens)."""
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
        """u = d / |d|."""
        return self.vectors / self.vectors.norm(dim=1, keepdim=True)

    def to(self, device: str | torch.device) -> "Direction":
        """The same direction with its tensors on another device."""
        moved = {name: getattr(self, name).to(device) for name in ("vectors", "midpoints", "gaps")}
        return replace(self, **moved)
