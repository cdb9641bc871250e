"""How often the answer changes from one round to the next."""

from typing import TYPE_CHECKING

import numpy as np

from mechmsc.convergence.curves import curves
from mechmsc.errors import InputError
from mechmsc.estimate import proportion_interval

if TYPE_CHECKING:
    import pandas

COLUMNS = ["task", "arm", "round", "value", "low", "high", "level", "n"]


def flip_rate(table: "pandas.DataFrame", *, choice: str = "choice", level: float = 0.95) -> "pandas.DataFrame":
    """Share of items whose choice differs from that of the round before.

    Every item flips or does not, so the interval is Wilson's, over items: it does not shrink to a point where nothing
    flips. A right and a wrong answer may flip equally often while accuracy stands still: a settled mean is not yet a
    settled answer.

    Args:
        table: a row per (item_id, arm, round), with `task` where there are several.
        choice: the column with the chosen option (any values that can be compared); missing where no option could be
            read: such an item counts in neither of the two transitions.
        level: of the intervals.

    Returns:
        A row per task, arm and round from the second on: task, arm, round, value, low, high, level, n (items with a
        choice in both rounds).

    Raises:
        InputError: a column is missing, rows are doubled, or no arm has two rounds.
    """
    import pandas as pd

    rows = []
    for task, arm, wide in curves(table, choice):
        for before, now in zip(wide.columns, wide.columns[1:], strict=False):
            both = wide[[before, now]].dropna()
            n, share = len(both), float((both[before] != both[now]).mean()) if len(both) else float("nan")
            low, high = proportion_interval(share, n, level=level)
            rows.append((task, arm, int(now), share, float(low), float(high), level, n))
    if not rows:
        raise InputError("a flip rate needs at least 2 rounds, got 1; run more rounds")
    return pd.DataFrame(rows, columns=COLUMNS).astype({"value": np.float64})
