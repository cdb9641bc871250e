"""Numbers in words: rounded to what their interval can bear."""

import math

MINUS = "\u2212"


def number(value: float | int, scale: float | int | None = None) -> str:
    """A number with as many decimals as show `scale` (its own size, where none is given) to two digits.

    >>> number(0.123456, 0.04), number(-0.0004, 0.3), number(1234.6), number(float("nan"))
    ('0.123', '0.00', '1235', 'nan')
    """
    if not math.isfinite(value):
        return "nan"
    scale = abs(value) if scale is None or not math.isfinite(scale) else abs(scale)
    decimals = 2 if scale == 0 else min(6, max(0, 1 - math.floor(math.log10(scale) + 1e-9)))
    text = f"{value:.{decimals}f}"
    return text.lstrip("-") if float(text) == 0 else text.replace("-", MINUS)


def interval(value: float | int, low: float | int, high: float | int) -> str:
    """A number with its interval.

    >>> interval(0.1234, 0.05, 0.21), interval(0.5, float("nan"), float("nan"))
    ('0.123 [0.050, 0.210]', '0.50 (no interval)')
    """
    if math.isnan(value):
        return "no number"
    if math.isnan(low) or math.isnan(high):
        return f"{number(value)} (no interval)"
    scale = max((high - low) / 2, max(abs(low), abs(high)) / 100) or None
    return f"{number(value, scale)} [{number(low, scale)}, {number(high, scale)}]"


def probability(p: float | int) -> str:
    """A p-value: p = 0.032, p < 0.001.

    >>> probability(0.0324), probability(0.0001), probability(1.0)
    ('p = 0.032', 'p < 0.001', 'p = 1')
    """
    if math.isnan(p):
        return "no p"
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}"


def percent(level: float | int) -> str:
    """0.95 -> 95 %."""
    return f"{100 * level:.4g} %"


def listed(names: list[str]) -> str:
    """Names with commas, and "and" before the last.

    >>> listed(["a"]), listed(["a", "b", "c"])
    ('a', 'a, b and c')
    """
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def plain(name: str) -> str:
    """A name of the tables as a reader says it."""
    return name.replace("_", " ")
