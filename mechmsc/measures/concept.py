"""The concept by round and layer: stored activations read by directions, a few items at a time."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mechmsc.errors import InputError, nearest
from mechmsc.measures.table import Block, Table
from mechmsc.runs import Run

if TYPE_CHECKING:
    import pandas
    import xarray

    from mechmsc.directions import Direction

BYTES_AT_ONCE = 64 * 2**20
"""Activations in memory at a time."""
READINGS: dict[str, tuple[str, str]] = {
    "concept": ("score", "class gaps"),
    "concept_cosine": ("cosine", "cosine"),
    "concept_cosine_as_released": ("cosine_as_released", "cosine"),
}
"""Measure -> method of `Direction`, and unit."""


def open_directions(direction: Any, run: Run) -> "dict[str, Direction]":
    """Directions by the name that they have in the column `source`.

    Args:
        direction: a `Direction` (named concept/method), a file (named as the file without ending), several of them, or
            a mapping from names to either; None for none.
        run: whose activations they read.

    Raises:
        InputError: two have one name, a file that is no direction, or a direction of another model.
    """
    if direction is None:
        return {}
    from mechmsc.directions import Direction, load_direction

    if not isinstance(direction, Mapping):
        several = [direction] if isinstance(direction, Direction | str | Path) else list(direction)
        names = [f"{one.concept}/{one.method}" if isinstance(one, Direction) else Path(one).stem for one in several]
        if twice := [name for name in names if names.count(name) > 1]:
            raise InputError(
                f"two directions are named {twice[0]!r}: give a mapping from names to directions, or rename a file"
            )
        direction = dict(zip(names, several, strict=True))
    opened = {name: one if isinstance(one, Direction) else load_direction(one) for name, one in direction.items()}
    for name, one in opened.items():
        _check_model(name, one, run)
    return opened


def _check_model(name: str, direction: "Direction", run: Run) -> None:
    config = run.manifest["config"]
    try:
        direction.check_model(run.manifest["model"])
    except InputError as error:
        raise InputError(f"direction {name!r} does not fit {run.path}: {error}") from error
    if not _sites(run, direction.component):
        raise InputError(
            f"direction {name!r} reads {direction.component}, but {run.path} keeps "
            f"{', '.join(config['sites']) or 'no activations'}; run again with --sites {direction.component}.prompt_end"
        )


def add_concepts(
    table: Table,
    transcripts: "pandas.DataFrame",
    directions: "Mapping[str, Direction]",
    *,
    positions: Sequence[str] | None,
    readings: Sequence[str],
    advance: Callable[[int], None],
) -> None:
    """Read every direction at every stored place that it fits.

    Args:
        table: held for writing.
        transcripts: rows that took place.
        directions: from `open_directions`.
        positions: of `sites.POSITIONS`; None takes all that the run keeps.
        readings: keys of `READINGS`.
        advance: called with the number of items read.

    Raises:
        InputError: a position that the run does not keep, or an unknown reading.
    """
    for name, direction in directions.items():
        for position, site in chosen_sites(table.run, direction, positions).items():
            blocks = {reading: _block(reading, name, direction, position) for reading in readings}
            missing = {reading: table.lacks(block, transcripts) for reading, block in blocks.items()}
            _read_site(table, transcripts, direction, table.run.activations[site], blocks, missing, advance)
            table.commit(now=False)


def chosen_sites(run: Run, direction: "Direction", positions: Sequence[str] | None) -> dict[str, str]:
    """Position -> site of the run that this direction reads.

    Raises:
        InputError: a position that the run does not keep.
    """
    sites = _sites(run, direction.component)
    for position in positions or ():
        if position not in sites:
            raise InputError(f"{run.path} keeps no {direction.component}.{position}: {nearest(position, sites)}")
    return {position: sites[position] for position in positions or sites}


def check_readings(readings: Sequence[str]) -> None:
    """Refuse unknown readings.

    Raises:
        InputError: with the nearest.
    """
    for reading in readings:
        if reading not in READINGS:
            raise InputError(f"unknown reading {reading!r}: {nearest(reading, READINGS)}")


def _sites(run: Run, component: str) -> dict[str, str]:
    """Position -> site, for the sites of a component."""
    pairs = (site.split(".", 1) for site in run.manifest["config"]["sites"])
    return {position: f"{part}.{position}" for part, position in pairs if part == component}


def _block(reading: str, name: str, direction: "Direction", position: str) -> Block:
    unit = READINGS[reading][1]
    unit = f"{unit}, positive = more {direction.concept}"
    return Block(reading, name, position, unit, {"concept": direction.concept, "direction": digest(direction)})


def digest(direction: "Direction") -> str:
    """SHA-256 of what a reading depends on: two directions with one digest read the same."""
    found = hashlib.sha256(f"{direction.concept}|{direction.component}|{direction.layers}".encode())
    for tensor in (direction.vectors, direction.midpoints, direction.gaps):
        found.update(np.ascontiguousarray(tensor.detach().cpu().float().numpy()).tobytes())
    return found.hexdigest()


def _read_site(
    table: Table,
    transcripts: "pandas.DataFrame",
    direction: "Direction",
    stored: "xarray.DataArray",
    blocks: Mapping[str, Block],
    missing: Mapping[str, np.ndarray],
    advance: Callable[[int], None],
) -> None:
    """Some items at a time, those alone that a block lacks something of."""
    any_missing = np.logical_or.reduce(list(missing.values()))
    places = {name: i for i, name in enumerate(table.cells.items)}
    wanted = sorted({places[item] for item in transcripts["item_id"][any_missing]})
    at_once = max(1, BYTES_AT_ONCE // max(1, stored[:1].nbytes))
    item_of = transcripts["item_id"].map(places).to_numpy(int)
    for start in range(0, len(wanted), at_once):
        items = wanted[start : start + at_once]
        activations = stored.isel(item=items).sel(layer=list(direction.layers)).load()
        inside = np.isin(item_of, items)
        for reading, block in blocks.items():
            rows = transcripts[inside & missing[reading]]
            if len(rows):
                read = getattr(direction, READINGS[reading][0])(activations)
                table.add(block, rows, *_values(read, rows))
        advance(len(items))
        table.commit(now=False)


def _values(read: "xarray.DataArray", rows: "pandas.DataFrame") -> tuple[np.ndarray, list[int]]:
    """The numbers of these rows, [row, layer], and the layers."""
    read = read.transpose("item", "arm", "round", "layer")
    places = [{label: i for i, label in enumerate(read[dim].values.tolist())} for dim in ("item", "arm", "round")]
    index = tuple(
        rows[name].map(where).to_numpy(int) for name, where in zip(("item_id", "arm", "round"), places, strict=True)
    )
    return read.values[index], [int(layer) for layer in read["layer"].values]
