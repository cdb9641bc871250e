"""What is read from a patched run: one number an item, from the last logits or from more."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from mechmsc.errors import InputError
from mechmsc.outcomes import named_outcome, one_number_an_item

RECORDED = ("resid_pre", "resid_post")
"""Components that an outcome can read at a site."""


@dataclass(frozen=True, eq=False)
class Outcome:
    """A function of a patched run, and what it is given beside the last logits."""

    function: Callable[..., Tensor]
    """(logits[, activations=...][, baseline=...]) -> `[item]`."""
    positions: Literal["last", "all"] = "last"
    """Which positions logits and activations are given at."""
    sites: tuple[tuple[str, int], ...] = ()
    """(component, layer) of the activations that it reads."""
    baseline: bool = False
    """Whether it is given the logits of the unpatched destination run."""

    def __call__(self, logits: Tensor, activations: dict[tuple[str, int], Tensor], baseline: Tensor) -> object:
        """Only what was asked for is handed on."""
        more = ({"activations": activations} if self.sites else {}) | ({"baseline": baseline} if self.baseline else {})
        return self.function(logits, **more)


def outcome(
    function: Callable[..., Tensor],
    *,
    positions: Literal["last", "all"] = "last",
    sites: "list | tuple" = (),
    baseline: bool = False,
) -> Outcome:
    """An outcome that needs more than the logits at the last position; give it to `patch_grid` in place of a function.

    Args:
        function: called with logits `[item, position, d_vocab]` (float32; one position, the last, unless `positions`
            is "all", where shorter items are padded on the right), and by keyword with `activations` if there are
            sites and with `baseline` if that is asked for. Returns one number an item, `[item]`.
        positions: "last" or "all": where logits and activations are given.
        sites: (component, layer) pairs or `Site`s with one layer, of `resid_pre` and `resid_post`: `activations` is
            {(component, layer): `[item, position, d_model]`} of the patched run.
        baseline: whether `baseline`, the logits of the unpatched destination run, is given, e.g. for a KL.

    Example:
        >>> read = lambda logits, activations: activations["resid_post", 20][:, 0] @ u
        >>> projection = outcome(read, sites=[("resid_post", 20)])

    Raises:
        InputError: not a function, an unknown position or site.
    """
    if not callable(function):
        raise InputError(f"outcome: expected a function of logits, got {function!r}")
    if positions not in ("last", "all"):
        raise InputError(f"outcome: expected positions 'last' or 'all', got {positions!r}")
    return Outcome(function, positions, tuple(_site(site) for site in sites), bool(baseline))


def outcomes_of(outcome: object) -> dict[str, Outcome]:
    """Outcomes by name; a single function is named by itself. A text is a name of `outcomes.OUTCOMES`.

    Raises:
        InputError: neither a function nor a dict of functions, or a name that is unknown or needs labels.
    """
    many = outcome if isinstance(outcome, Mapping) else {_name(outcome): outcome}
    many = {name: _named(one) if isinstance(one, str) else one for name, one in many.items()}
    wrong = next((one for one in many.values() if not callable(one)), None)
    if wrong is not None or not many:
        got = repr(wrong) if many else "none"
        raise InputError(f"outcome: expected a function of logits or a dict of named functions, got {got}")
    return {str(name): one if isinstance(one, Outcome) else Outcome(one) for name, one in many.items()}


def checked(values: object, n_items: int, name: str) -> list[float]:
    """One finite or infinite number an item.

    Raises:
        InputError: says what arrived.
    """
    return one_number_an_item(values, n_items, name).detach().double().cpu().tolist()


def _named(name: str) -> Outcome:
    if name == "kl":
        return Outcome(lambda logits, baseline: named_outcome("kl", clean=baseline)(logits), baseline=True)
    return Outcome(named_outcome(name))


def _name(outcome: object) -> str:
    if isinstance(outcome, str):
        return outcome
    function = outcome.function if isinstance(outcome, Outcome) else outcome
    function = getattr(function, "func", function)  # of a partial
    name = getattr(function, "__name__", "outcome")
    return "outcome" if name == "<lambda>" else name


def _site(site: object) -> tuple[str, int]:
    component, layer = (
        site if isinstance(site, tuple) else (getattr(site, "component", None), getattr(site, "layer", None))
    )
    if component not in RECORDED or isinstance(layer, bool) or not isinstance(layer, int):
        raise InputError(
            f"outcome: expected a site (component, layer) with one of {', '.join(RECORDED)} and one layer, got {site!r}"
        )
    return component, layer
