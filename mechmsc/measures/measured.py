"""The measures of a run as arrays over its items, arms, rounds and layers: what summaries are computed from."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mechmsc.estimate import Estimate
from mechmsc.figures.concept import in_band
from mechmsc.figures.panels import curve_name
from mechmsc.measures.table import KEY, Cells

if TYPE_CHECKING:
    import pandas

MARGINS = {"nats per token": 0.02, "nats": 0.05, "class gaps": 0.05, "": 0.02}
"""Largest change that does not matter to convergence, by the beginning of the unit; the last is for fractions."""


class Summary(NamedTuple):
    """A row of the summaries."""

    task: str
    group: str
    """Empty: all items of the task."""
    arm: str
    round: int | None
    """None for what belongs to an arm as a whole."""
    measure: str
    source: str
    layer: int | None
    estimate: Estimate


@dataclass(frozen=True)
class Settings:
    """How everything is summarised."""

    level: float
    n_boot: int
    seed: int
    margin: float | Mapping[str, float] | None
    band: tuple[int, int] | None
    """First and last layer that layered measures are averaged over; None: the middle half."""

    def margin_of(self, measure: str, unit: str) -> float:
        """The margin of a measure in its unit."""
        if isinstance(self.margin, Mapping):
            name = measure.split(".")[0]
            if measure in self.margin or name in self.margin:
                return float(self.margin.get(measure, self.margin.get(name)))
        elif self.margin is not None:
            return float(self.margin)
        return next(MARGINS[start] for start in MARGINS if unit.startswith(start))


@dataclass(frozen=True, eq=False)
class Cube:
    """The values of one block as an array, which summaries are computed from."""

    measure: str
    """The measure, with its position where it has one: concept.prompt_end."""
    source: str
    unit: str
    values: np.ndarray
    """[item, arm, round, layer], nan where there is nothing."""
    there: np.ndarray
    """[item, arm, round], whether there is a row, be its value nan."""
    layers: tuple[int | None, ...]

    @property
    def key(self) -> str:
        """As the record names it."""
        return f"{self.measure}|{self.source}"

    @property
    def label(self) -> str:
        """In the column `source` of what is derived from it: the measure, with its source where that says more."""
        return curve_name(self.measure, self.source)

    def digest(self) -> str:
        """SHA-256 of all that is in it."""
        found = hashlib.sha256(f"{self.key}|{self.unit}|{self.layers}|{self.values.shape}".encode())
        found.update(np.ascontiguousarray(self.values).tobytes() + self.there.tobytes())
        return found.hexdigest()


class Job(NamedTuple):
    """Rows of the summaries that are computed together."""

    name: str
    cubes: Sequence[Cube]
    """What they are computed from."""
    compute: Callable[[], list[Summary]]
    extra: Any = None
    """What else they depend on; JSON."""


@dataclass(frozen=True, eq=False)
class Measured:
    """All that is summarised: the measures of a run as arrays over its cells."""

    cells: Cells
    rows: "pandas.DataFrame"
    """measures.parquet."""
    transcripts: "pandas.DataFrame"
    settings: Settings

    @cached_property
    def groups(self) -> dict[str, dict[str, np.ndarray]]:
        """Task -> group -> items (places in `cells.items`); the group "" has all."""
        found: dict[str, dict[str, np.ndarray]] = {}
        places = {name: i for i, name in enumerate(self.cells.items)}
        for task, rows in self.transcripts.drop_duplicates("item_id").groupby("task", sort=False):
            of = {"": rows, **dict(list(rows[rows["group"].notna()].groupby("group", sort=True)))}
            found[str(task)] = {str(name): rows["item_id"].map(places).to_numpy(int) for name, rows in of.items()}
        return found

    @cached_property
    def cubes(self) -> dict[tuple[str, str], Cube]:
        """(measure, source) -> values."""
        keys = self.rows.groupby(KEY, dropna=False, sort=True).indices
        cubes = [self._cube(self.rows.iloc[rows]) for rows in keys.values()]
        return {(cube.measure, cube.source): cube for cube in cubes}

    @cached_property
    def curves(self) -> list[Cube]:
        """Those without layers, and those with layers as their mean over a band, named concept.prompt_end.layers_8-21.

        Raises:
            InputError: the band holds no layer that was measured.
        """
        cubes = self.cubes.values()
        return [cube if cube.layers == (None,) else averaged(cube, self.settings.band) for cube in cubes]

    def _cube(self, rows: "pandas.DataFrame") -> Cube:
        first = rows.iloc[0]
        layers = sorted(rows["layer"].dropna().unique().tolist()) or [None]
        place = {layer: i for i, layer in enumerate(layers)}
        at = rows["layer"].map(place).to_numpy(int) if layers != [None] else 0
        codes = np.unravel_index(self.cells.codes(rows), self.cells.shape)
        values = np.full((*self.cells.shape, len(layers)), np.nan)
        there = np.zeros(self.cells.shape, dtype=bool)
        values[(*codes, at)] = rows["value"].to_numpy(float)
        there[codes] = True
        position = first["position"]
        name = first["measure"] if not isinstance(position, str) else f"{first['measure']}.{position}"
        return Cube(name, first["source"], first["unit"], values, there, tuple(layers))

    def each_group(self) -> Iterator[tuple[str, str, np.ndarray]]:
        """(task, group, items) one after the other."""
        for task, of in self.groups.items():
            for group, items in of.items():
                yield task, group, items


def averaged(cube: Cube, band: tuple[int, int] | None) -> Cube:
    """A layered measure as its mean over the layers of a band, nan where one of them is.

    Raises:
        InputError: the band holds no layer that was measured.
    """
    layers = np.array(cube.layers, dtype=int)
    inside = in_band(layers, band)
    mean = cube.values[..., inside].mean(axis=-1, keepdims=True)
    name = f"{cube.measure}.layers_{layers[inside][0]}-{layers[inside][-1]}"
    return Cube(name, cube.source, cube.unit, mean, cube.there, (None,))
