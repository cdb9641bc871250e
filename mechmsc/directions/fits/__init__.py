"""The six fits, one a file: labelled activations -> one direction per layer, in raw space (science: section 3).

    METHODS["mass_mean"](activations, labels, groups=groups, pairs=pairs, seed=0)      [layer, d_model]

All run in torch, on the device of the activations, for all layers. `METHODS` is the public list: a new fit is one file,
its test and one line here.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor

from mechmsc.directions.fits.caa import fit_caa
from mechmsc.directions.fits.ccs import fit_ccs
from mechmsc.directions.fits.lda import fit_lda
from mechmsc.directions.fits.logistic import choose_penalty, fit_logistic
from mechmsc.directions.fits.mass_mean import fit_mass_mean
from mechmsc.directions.fits.pair_svd import fit_pair_svd
from mechmsc.directions.fits.training import Column

__all__ = [
    "METHODS",
    "Fit",
    "choose_penalty",
    "fit_caa",
    "fit_ccs",
    "fit_lda",
    "fit_logistic",
    "fit_mass_mean",
    "fit_pair_svd",
]


@dataclass(frozen=True)
class Fit:
    """A method of `METHODS`. Calling it gives the vectors alone, `[layer, d_model]`."""

    function: Callable[..., Tensor]
    """(activations, labels, *, groups, pairs, seed) -> vectors."""
    needs: str = "plain"
    """Activations it is made for: `plain` (read_statements), `sides` (read_sides: [statement, side, layer, d_model]) or
    `letters` (read_letters). Whatever it was fitted on, a direction is scored on plain activations."""
    choose: Callable[..., dict[str, Any]] | None = None
    """(activations, labels, *, groups, seed) -> keywords of `function` that the data decide, e.g. the penalty."""
    free_sign: bool = False
    """Its vectors have no sign of their own: labels give it, for a record those of the plain activations."""

    def __call__(
        self,
        activations: Float[Tensor, "statement *side layer d_model"],
        labels: Tensor,
        *,
        groups: Column,
        pairs: Column,
        seed: int,
        **chosen: Any,
    ) -> Float[Tensor, "layer d_model"]:
        """Fit.

        Args:
            activations: what `needs` names, float32.
            labels: 0 or 1 a statement.
            groups: statements of one group stay on one side of every split.
            pairs: shared by the two members of a contrastive pair; None without.
            seed: of folds and restarts.
            **chosen: what `choose` gave, to save choosing again.

        Raises:
            InputError: one class only, activations that are not finite, or what the method cannot do without.
        """
        return self.function(activations, labels, groups=groups, pairs=pairs, seed=seed, **chosen)


METHODS: dict[str, Fit] = {
    "mass_mean": Fit(fit_mass_mean),
    "logistic": Fit(fit_logistic, choose=choose_penalty),
    "lda": Fit(fit_lda),
    "caa": Fit(fit_caa, needs="letters"),
    "pair_svd": Fit(fit_pair_svd, free_sign=True),
    "ccs": Fit(fit_ccs, needs="sides", free_sign=True),
}
"""Name -> fit."""
