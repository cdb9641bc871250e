"""Which layer to use: by detection on a validation part, or by what steering there does. Never by a test part."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import numpy as np

from mechmsc.errors import InputError, nearest

if TYPE_CHECKING:
    import pandas

RULES = ("best", "one_standard_error")


def select_layer(
    table: "pandas.DataFrame",
    *,
    method: str,
    measure: str = "auroc",
    rule: str = "best",
) -> int:
    """The layer at which a method detects best.

    What is reported beside the chosen layer must come from statements that had no part in the choice: the rows of
    `evaluate` with part `nested`, or a split of its own. The best of many layers looks better than it is.

    Args:
        table: from `evaluate` or like it: method, layer, measure, value, low, high, level, part.
        method: whose layer.
        measure: what to look at, higher is better.
        rule: `best`: the largest value, the earliest on ties; `one_standard_error`: the earliest layer that is within
            one standard error of the largest (Breiman et al. 1984, section 3.4.3), where more of the model is left to
            act on what is written there.

    Raises:
        InputError: no such rows, an unknown rule, or rows of a test part.
    """
    if rule not in RULES:
        raise InputError(f"unknown rule {rule!r}: {nearest(rule, RULES)}")
    rows = table[(table["method"] == method) & (table["measure"] == measure) & table["layer"].notna()]
    if (rows["part"] == "test").any():
        raise InputError("a layer is chosen on a validation part, got rows of part 'test'; leave them out")
    rows = rows.dropna(subset=["value"]).sort_values("layer")
    if rows.empty:
        raise InputError(f"no {measure} of method {method!r} by layer in the table; it has {_contents(table)}")
    if rows["layer"].duplicated().any():
        raise InputError(f"expected one row a layer for {method!r} and {measure!r}, got several; keep one part")
    values = rows["value"].to_numpy(dtype=float)
    least = values.max() if rule == "best" else values.max() - _standard_error(rows.iloc[int(values.argmax())])
    return int(rows["layer"].iloc[int(np.argmax(values >= least))])


def select_layer_by_effect(effect: Callable[[int], float], layers: Iterable[int]) -> int:
    """The layer at which an edit does most of what is wanted.

    Args:
        effect: layer -> size of the effect on validation items, higher is better, e.g. of steering by one class gap;
            nan where it cannot be told.
        layers: to try.

    Raises:
        InputError: no layers, or no layer with a finite effect.
    """
    found = {layer: float(effect(layer)) for layer in layers}
    finite = {layer: value for layer, value in found.items() if np.isfinite(value)}
    if not finite:
        raise InputError(f"no finite effect at any of the {len(found)} layers tried; nothing to choose by")
    return max(sorted(finite), key=finite.__getitem__)


def _standard_error(row: "pandas.Series") -> float:
    """From the width of the interval, as of a normal distribution; 0 where there is none."""
    from scipy.stats import norm

    error = (row["high"] - row["low"]) / (2 * norm.ppf((1 + row["level"]) / 2))
    return float(error) if np.isfinite(error) else 0.0


def _contents(table: "pandas.DataFrame") -> str:
    return ", ".join(sorted({f"{row.measure} of {row.method}" for row in table.itertuples()})) or "no rows"
