"""measures.parquet while it grows: which rows a block has, which it lacks, and commits in one step."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mechmsc.runs import Run
from mechmsc.runs.manifest import order
from mechmsc.runs.results import RESULTS, read_results, write_results

if TYPE_CHECKING:
    import pandas

COMMIT_SECONDS = 30.0
"""Long work is committed about so often."""
KEY = ["measure", "source", "position"]


class Block(NamedTuple):
    """One measure from one source at one place: rows that are computed together."""

    measure: str
    source: str
    position: str | None
    unit: str
    settings: Mapping[str, Any]
    """JSON values that the numbers depend on; rows computed with others are computed again."""

    @property
    def key(self) -> str:
        """As the record names it."""
        return "|".join([self.measure, self.source, self.position or ""])


@dataclass(frozen=True)
class Cells:
    """Numbers for the (item, arm, round) of a run, in the order of its tables."""

    items: tuple[str, ...]
    arms: tuple[str, ...]
    rounds: int

    @classmethod
    def of(cls, run: Run) -> "Cells":
        """Those of a run."""
        items, arms, rounds = order(run.manifest)
        return cls(tuple(items), tuple(arms), rounds)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(item, arm, round)."""
        return len(self.items), len(self.arms), self.rounds

    @cached_property
    def _places(self) -> tuple[dict[str, int], dict[str, int]]:
        return {name: i for i, name in enumerate(self.items)}, {name: i for i, name in enumerate(self.arms)}

    def codes(self, rows: "pandas.DataFrame") -> np.ndarray:
        """The cell of each row with item_id, arm and round."""
        items, arms = (rows[name].map(places) for name, places in zip(("item_id", "arm"), self._places, strict=True))
        return np.ravel_multi_index(
            (items.to_numpy(int), arms.to_numpy(int), rows["round"].to_numpy(int) - 1), self.shape
        )


@dataclass
class Table:
    """The measures of a run, held for writing."""

    run: Run
    rows: "pandas.DataFrame"
    """As committed or about to be."""
    record: dict[str, Any]
    """Key of a block -> its settings."""
    cells: Cells
    _new: "list[pandas.DataFrame]" = field(default_factory=list)
    _there: dict[str, np.ndarray] = field(default_factory=dict)
    """Key of a block -> which cells it has."""
    _committed_at: float = field(default_factory=time.monotonic)

    @classmethod
    def read(cls, run: Run) -> "Table":
        """The table of a run as it is, perhaps empty."""
        rows, record = read_results(run.folder, "measures")
        return cls(run, rows, record, Cells.of(run))

    def lacks(self, block: Block, rows: "pandas.DataFrame") -> np.ndarray:
        """Which of these rows (item_id, arm, round) the block does not have yet, [row].

        A block that was computed with other settings has none of its rows: they are dropped.
        """
        if self.record.get(block.key) != dict(block.settings):
            self.rows = self.rows[~_is(self.rows, block)].reset_index(drop=True)
            self.record[block.key] = dict(block.settings)
        if block.key not in self._there:
            there = self._there[block.key] = np.zeros(self.cells.shape, dtype=bool).ravel()
            there[self.cells.codes(self.rows[_is(self.rows, block)])] = True
        return ~self._there[block.key][self.cells.codes(rows)]

    def add(self, block: Block, rows: "pandas.DataFrame", values: Any, layers: Sequence[int] | None = None) -> None:
        """Add a value for each of these rows (item_id, arm, round), or [row, layer] for each layer.

        The block was asked what it lacks before.
        """
        import pandas as pd

        values = np.asarray(values, dtype=float)
        times = 1 if layers is None else len(layers)
        keys = rows[["item_id", "arm", "round"]]
        new = keys.iloc[np.repeat(np.arange(len(keys)), times)].reset_index(drop=True)
        new["round"] = new["round"].astype("int32")
        for name, value in zip(KEY, block[:3], strict=True):
            new[name] = value
        label = pd.NA if layers is None else np.tile(np.asarray(layers, dtype=int), len(keys))
        new["layer"] = pd.Series(label, index=new.index, dtype="Int32")
        new["value"], new["unit"] = values.reshape(-1), block.unit
        self._new.append(new)
        self._there[block.key][self.cells.codes(keys)] = True

    def commit(self, *, now: bool = True) -> bool:
        """Write what was added, and say whether; with `now=False` only if the last commit is a while ago."""
        import pandas as pd

        if not self._new or not (now or time.monotonic() - self._committed_at >= COMMIT_SECONDS):
            return False
        columns = [column.name for column in RESULTS["measures"]]
        parts = [part[columns] for part in (self.rows, *self._new) if len(part)]
        self.rows, self._new = self._sorted(pd.concat(parts, ignore_index=True)), []
        write_results(self.run.folder, "measures", self.rows, self.record)
        self._committed_at = time.monotonic()
        return True

    def _sorted(self, rows: "pandas.DataFrame") -> "pandas.DataFrame":
        layers = rows["layer"].fillna(-1).to_numpy(int)
        names = [np.unique(rows[name].fillna("").to_numpy(str), return_inverse=True)[1] for name in KEY]
        return rows.iloc[np.lexsort([layers, self.cells.codes(rows), *reversed(names)])].reset_index(drop=True)


def _is(rows: "pandas.DataFrame", block: Block) -> "pandas.Series":
    place = rows["position"].isna() if block.position is None else rows["position"] == block.position
    return (rows["measure"] == block.measure) & (rows["source"] == block.source) & place
