"""Tables that are computed from a run: measures.parquet and summaries.parquet (contract 4.1), each with its record.

The record (what each block of rows was computed with) is JSON inside the Parquet file, so that numbers and settings
change in one step. A run may be measured while it is being written, so these tables have a lock of their own.
"""

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from mechmsc.errors import InputError, RunError
from mechmsc.runs import lock, tables
from mechmsc.runs.folder import Folder
from mechmsc.runs.tables import Column

if TYPE_CHECKING:
    import pandas
    import pyarrow

RESULTS: dict[str, tuple[Column, ...]] = {
    "measures": (
        Column("item_id", "string"),
        Column("arm", "string"),
        Column("round", "int32"),
        Column("measure", "string"),
        Column("source", "string"),
        Column("position", "string", required=False),
        Column("layer", "int32", required=False),
        Column("value", "float64", required=False),
        Column("unit", "string"),
    ),
    "summaries": (
        Column("task", "string"),
        Column("group", "string"),
        Column("arm", "string"),
        Column("round", "int32", required=False),
        Column("measure", "string"),
        Column("source", "string"),
        Column("layer", "int32", required=False),
        Column("value", "float64", required=False),
        Column("low", "float64", required=False),
        Column("high", "float64", required=False),
        Column("level", "float64"),
        Column("n", "int32"),
    ),
}
"""The columns of each table; a null value, low or high is nan: there was nothing to measure, or too few items."""

_RECORD = b"mechmsc"


@contextlib.contextmanager
def held(folder: Folder) -> Iterator[None]:
    """Hold the run's results for writing; the run itself may be written meanwhile.

    Raises:
        RunError: another process is measuring this run.
    """
    place = replace(folder, path=f"{folder.path} (its measures)", root=folder.at(".measuring"))
    place.make()
    with lock.held(place):
        yield


def read_results(folder: Folder, name: str) -> "tuple[pandas.DataFrame, dict[str, Any]]":
    """A table of results and its record; an empty table and record where there is none yet.

    Raises:
        RunError: the file is damaged.
    """
    data = folder.read(tables.file(name))
    if data is None:
        return _schema(name).empty_table().to_pandas(), {}
    rows = tables._decode(data, folder.at(tables.file(name)))
    try:
        record = json.loads((rows.schema.metadata or {}).get(_RECORD, b"{}"))
    except json.JSONDecodeError as error:
        raise RunError(f"{folder.at(tables.file(name))} is damaged: {error}; delete it and measure again") from error
    return rows.to_pandas(), record


def write_results(folder: Folder, name: str, rows: "pandas.DataFrame", record: Mapping[str, Any]) -> None:
    """Put a table of results in the place of the old one, in one step.

    Args:
        folder: the run folder, held (`held`).
        name: a key of `RESULTS`.
        rows: in its columns.
        record: JSON values: what the rows were computed with.

    Raises:
        InputError: a column is missing or of another type, or a row lacks a value it must have.
        RunError: the disk is full or refuses.
    """
    import pyarrow
    import pyarrow.parquet

    schema = _schema(name)
    if missing := [column for column in schema.names if column not in rows]:
        raise InputError(f"{name}: columns {', '.join(missing)} are missing; expected {', '.join(schema.names)}")
    if null := [c.name for c in RESULTS[name] if c.required and rows[c.name].isna().any()]:
        raise InputError(f"{name}: column {null[0]!r} must have a value in every row")
    try:
        table = pyarrow.Table.from_pandas(rows[schema.names], schema=schema, preserve_index=False)
    except (pyarrow.ArrowException, OverflowError, TypeError, ValueError) as error:
        raise InputError(f"{name}: {' '.join(str(error).split())}") from error
    notes = {**(schema.metadata or {}), _RECORD: json.dumps(record, sort_keys=True).encode()}
    buffer = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(table.replace_schema_metadata(notes), buffer, compression="zstd")
    folder.write(tables.file(name), buffer.getvalue().to_pybytes())


def read_columns(folder: Folder, manifest: Mapping[str, Any], columns: Sequence[str]) -> "pandas.DataFrame":
    """Some columns of the transcripts, committed so far; columns that an older run does not have are left out."""
    import pyarrow.parquet

    name = tables.file("transcripts")
    if not folder.is_file(name):
        rows = tables.read(folder, manifest, "transcripts")
        return rows.select([column for column in columns if column in rows.column_names]).to_pandas()
    with folder.fs.open(folder.at(name)) as file:
        there = pyarrow.parquet.ParquetFile(file).schema_arrow.names
        return pyarrow.parquet.read_table(file, columns=[c for c in columns if c in there]).to_pandas()


def sample_sets(folder: Folder, manifest: Mapping[str, Any], *, rows: int) -> "Iterator[pandas.DataFrame]":
    """The samples in pieces, each of whole sets (item_id, arm, round), so that a run larger than memory can be read.

    Args:
        folder: the run folder.
        manifest: its run.json.
        rows: about how many samples a piece has.

    Yields:
        item_id, arm, round, sample, response, log_likelihood (summed over tokens, nats), length (tokens), sequence
        (bytes of the token ids); sorted within a set.
    """
    carried = None
    for piece in _pieces(folder, manifest, rows):
        if not piece.num_rows:
            continue
        found = _likelihoods(piece)
        if carried is not None:
            import pandas as pd

            found = pd.concat([carried, found], ignore_index=True)
        key = found[["item_id", "arm", "round"]]
        cut = int((key != key.iloc[-1]).any(axis=1).to_numpy().nonzero()[0].max(initial=-1)) + 1
        carried = found.iloc[cut:]
        if cut:
            yield found.iloc[:cut].reset_index(drop=True)
    if carried is not None:
        yield carried.reset_index(drop=True)


def _pieces(folder: Folder, manifest: Mapping[str, Any], rows: int) -> "Iterator[pyarrow.Table]":
    import pyarrow
    import pyarrow.parquet

    columns = ["item_id", "arm", "round", "sample", "response", "response_ids", "response_logprobs"]
    name = tables.file("samples")
    if folder.is_file(name):
        with folder.fs.open(folder.at(name)) as file:
            for batch in pyarrow.parquet.ParquetFile(file).iter_batches(batch_size=rows, columns=columns):
                yield pyarrow.Table.from_batches([batch])
        return
    for batch in sorted(tables.committed(folder, manifest)):
        part = tables._read_part(folder, "samples", batch)
        if part is not None:
            yield part.select(columns).sort_by([(key, "ascending") for key in columns[:4]])


def _likelihoods(piece: "pyarrow.Table") -> "pandas.DataFrame":
    """A row a sample, its tokens reduced to what estimators take."""
    ids, logprobs = (piece.column(name).combine_chunks() for name in ("response_ids", "response_logprobs"))
    found = piece.select(["item_id", "arm", "round", "sample", "response"]).to_pandas()
    lengths = np.diff(logprobs.offsets.to_numpy())
    values = logprobs.flatten().to_numpy().astype(np.float64)
    owner = np.repeat(np.arange(len(found)), lengths)
    starts = ids.offsets.to_numpy() - ids.offsets[0].as_py()
    tokens = ids.flatten().to_numpy()
    found["log_likelihood"] = np.bincount(owner, weights=values, minlength=len(found))
    found["length"] = lengths
    found["sequence"] = [tokens[a:b].tobytes() for a, b in zip(starts, starts[1:], strict=False)]
    return found


def _schema(name: str) -> "pyarrow.Schema":
    """Pinned types, and the note that makes pandas read nullable whole numbers as Int32."""
    import pandas as pd
    import pyarrow

    kinds = {"int32": "int32", "float64": "float64", "string": object}
    empty = {
        c.name: pd.Series([], dtype="Int32" if c.type == "int32" and not c.required else kinds[c.type])
        for c in RESULTS[name]
    }
    fields = [pyarrow.field(c.name, tables._arrow(c.type), nullable=not c.required) for c in RESULTS[name]]
    return pyarrow.Table.from_pandas(pd.DataFrame(empty), schema=pyarrow.schema(fields), preserve_index=False).schema
