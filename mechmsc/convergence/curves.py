"""A table with a row per (item_id, arm, round) -> one grid [item, round] for every task and arm."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from mechmsc.errors import InputError

if TYPE_CHECKING:
    import pandas


def curves(table: "pandas.DataFrame", value: str) -> Iterator[tuple[str, str, "pandas.DataFrame"]]:
    """Task, arm, and its values [item, round]: rounds in rising order, nan where a row is missing.

    Rounds and items without a single value are left out; a table without `task` has the task "".

    Raises:
        InputError: a column is missing, an item has two rows for one task, arm and round, or there is no value.
    """
    needed = ["item_id", "arm", "round", value]
    if missing := [name for name in needed if name not in table]:
        raise InputError(f"the table lacks {', '.join(missing)}; expected a row per item_id, arm and round")
    keys = ["task", "arm"] if "task" in table else ["arm"]
    twice = table.duplicated([*keys, "item_id", "round"])
    if twice.any():
        row = table[twice].iloc[0]
        raise InputError(
            f"two rows for item {row['item_id']}, arm {row['arm']}, round {row['round']}; expected one: choose one "
            "measure, or average first"
        )
    known = table[table[value].notna()]
    if known.empty:
        raise InputError(f"there is no value in column {value!r}, in {len(table)} rows; was it measured?")
    for key, part in known.groupby(keys, sort=False):
        wide = part.pivot(index="item_id", columns="round", values=value)
        yield (str(key[0]) if len(keys) == 2 else "", str(key[-1]), wide.sort_index(axis=1))
