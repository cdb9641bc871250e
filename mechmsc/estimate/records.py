"""What estimates are: a number with its interval, and the outcome of an equivalence test."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Estimate:
    """A number, its interval, and how many items stand behind it."""

    value: float
    """The estimate; nan without data."""
    low: float
    """Lower end of the interval; nan with fewer than two items."""
    high: float
    """Upper end of the interval; nan with fewer than two items."""
    level: float
    """Confidence level, e.g. 0.95."""
    n: int
    """Number of items (clusters) with data."""

    def __str__(self) -> str:
        return f"{self.value:.3g} [{self.low:.3g}, {self.high:.3g}] (n={self.n})"


@dataclass(frozen=True)
class Equivalence:
    """Outcome of `equivalence_test`; true where equivalence is shown."""

    equivalent: bool
    """The whole interval lies inside the margin."""
    difference: Estimate
    """Mean difference with the interval that decided."""
    margin: float
    """Largest difference that does not matter, in the unit of the values."""

    def __bool__(self) -> bool:
        return self.equivalent
