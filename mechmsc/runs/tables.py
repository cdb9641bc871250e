"""Tables of a run: their columns, parts written batch by batch, and one sorted file when the run is complete."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from mechmsc.errors import InputError, RunError, nearest
from mechmsc.runs import manifest as manifests
from mechmsc.runs.folder import Folder

if TYPE_CHECKING:
    import pandas
    import pyarrow


class Column(NamedTuple):
    """A column of a table."""

    name: str
    type: str
    """A pyarrow type; `list<...>` may nest."""
    required: bool = True
    """Whether every row must have a value."""


TABLES: dict[str, tuple[Column, ...]] = {
    "transcripts": (
        Column("task", "string"),
        Column("item_id", "string"),
        Column("arm", "string"),
        Column("round", "int32"),
        Column("group", "string", required=False),
        Column("question", "string", required=False),
        Column("image", "string", required=False),
        Column("pair", "string", required=False),
        Column("instruction", "string", required=False),
        Column("prompt_ids", "list<int32>"),
        Column("response_ids", "list<int32>"),
        Column("response_logprobs", "list<float32>"),
        Column("response", "string"),
        Column("stop_reason", "string"),
        Column("spans", "string"),
        Column("first_token_entropy", "float64", required=False),
        Column("choice", "int32", required=False),
        Column("choice_probs", "list<float32>", required=False),
        Column("permutation_probs", "list<list<float32>>", required=False),
        Column("gold", "int32", required=False),
        Column("score", "float64", required=False),
        Column("score_name", "string", required=False),
        Column("score_direction", "string", required=False),
    ),
    "samples": (
        Column("item_id", "string"),
        Column("arm", "string"),
        Column("round", "int32"),
        Column("sample", "int32"),
        Column("seed", "int64"),
        Column("response_ids", "list<int32>"),
        Column("response_logprobs", "list<float32>"),
        Column("response", "string"),
        Column("stop_reason", "string", required=False),
    ),
}
"""The columns of each table, logprobs in nats. A new column is one line here."""

KEYS = {"transcripts": ("item_id", "arm", "round"), "samples": ("item_id", "arm", "round", "sample")}


def file(table: str) -> str:
    """Where the table is: a folder of parts while running, one file when complete."""
    return f"{table}.parquet"


def moved(table: str) -> str:
    """Where the parts go while the one file takes their place."""
    return f"{table}.parts"


def part(batch: int) -> str:
    """File name of the part of a batch."""
    return f"part-{batch:05d}.parquet"


def committed(folder: Folder, manifest: Mapping[str, Any]) -> set[int]:
    """Numbers of the batches whose transcripts are in the folder: these are done."""
    batches = [entry["batch"] for entry in manifest["plan"]]
    if folder.is_file(file("transcripts")):
        return set(batches)
    found = set(folder.names(file("transcripts"))) | set(folder.names(moved("transcripts")))
    return {batch for batch in batches if part(batch) in found}


def encode(
    rows: "Sequence[Mapping[str, Any]] | pandas.DataFrame", table: str, *, entry: Mapping[str, Any], rounds: int
) -> bytes:
    """The bytes of a part.

    Args:
        rows: dicts or a DataFrame, in the columns of `TABLES[table]`; nan, None and missing columns become null.
        table: `transcripts` or `samples`.
        entry: the batch of the plan that the rows belong to.
        rounds: number of rounds of the run.

    Raises:
        InputError: columns, types, or rows that the batch does not plan; the message names the first.
    """
    where = f"{table} of batch {entry['batch']}"
    records = rows.to_dict("records") if hasattr(rows, "to_dict") else list(rows)
    columns = {column.name: column for column in TABLES[table]}
    unknown = sorted({name for record in records for name in record} - columns.keys())
    if unknown:
        raise InputError(f"{where}: unknown column {unknown[0]!r}, {nearest(unknown[0], columns)}")
    arrays = [_column([record.get(name) for record in records], column, where) for name, column in columns.items()]
    _check_rows(records, table, entry=entry, rounds=rounds)
    return _bytes(_table(arrays, table))


def read(folder: Folder, manifest: Mapping[str, Any], table: str) -> "pyarrow.Table":
    """The committed rows of a table, sorted by item, arm, round (and sample), from the file or from its parts.

    Raises:
        RunError: a part that was committed is missing or damaged.
    """
    import pyarrow

    for _ in range(2):  # while parts are read, another process may put the file in their place
        whole = folder.read(file(table)) if folder.is_file(file(table)) else None
        if whole is not None:
            return _decode(whole, folder.at(file(table)))
        parts = {batch: _read_part(folder, table, batch) for batch in sorted(committed(folder, manifest))}
        missing = [batch for batch, rows in parts.items() if rows is None]
        if not missing:
            break
    if missing and table == "transcripts":
        raise RunError(f"{folder.at(file(table))} is damaged: {part(missing[0])} is missing; start in a new folder")
    tables = [_table([], table), *(rows for rows in parts.values() if rows is not None)]
    return _sorted(pyarrow.concat_tables(tables, promote_options="default"), table, manifest)


def _read_part(folder: Folder, table: str, batch: int) -> "pyarrow.Table | None":
    for place in (file(table), moved(table)):
        name = f"{place}/{part(batch)}"
        data = folder.read(name)
        if data is not None:
            return _decode(data, folder.at(name))
    return None


def merge(folder: Folder, manifest: Mapping[str, Any], table: str) -> None:
    """Put one sorted file in the place of the parts. May be killed at any moment and repeated.

    The file is written beside (1), the parts are moved away (2), the file takes the name (3). Until (3) the parts are
    read, from wherever each is; after it the file is.
    """
    parts = [name for name in folder.names(file(table)) if name.startswith("part-")]
    if folder.is_file(file(table)) or not (parts or folder.names(moved(table))):
        return
    beside = f".{file(table)}.whole.tmp"
    folder.write(beside, _bytes(read(folder, manifest, table)))
    for name in parts:
        folder.move(f"{file(table)}/{name}", f"{moved(table)}/{name}")
    folder.remove(file(table))
    folder.move(beside, file(table))


def read_file(folder: Folder, table: str) -> "pandas.DataFrame | None":
    """A table that is one file, or None where it is not there."""
    data = folder.read(file(table))
    return None if data is None else _decode(data, folder.at(file(table))).to_pandas()


def _arrow(name: str) -> "pyarrow.DataType":
    import pyarrow

    if name.startswith("list<"):
        return pyarrow.list_(_arrow(name.removeprefix("list<").removesuffix(">")))
    return pyarrow.type_for_alias(name)


def _table(arrays: "list[pyarrow.Array]", table: str) -> "pyarrow.Table":
    """Columns with the pinned types, and the note that makes pandas read nullable whole numbers as Int32."""
    import pandas
    import pyarrow

    columns = TABLES[table]
    schema = pyarrow.schema([pyarrow.field(c.name, _arrow(c.type), nullable=not c.required) for c in columns])
    nullable = {c.name for c in columns if c.type == "int32" and not c.required}
    empty = pandas.DataFrame(
        {c.name: pandas.Series([], dtype="Int32" if c.name in nullable else object) for c in columns}
    )
    for column in columns:
        if column.type in ("int32", "int64", "float64") and column.name not in nullable:
            empty[column.name] = empty[column.name].astype(column.type)
    schema = pyarrow.Table.from_pandas(empty, schema=schema, preserve_index=False).schema
    return pyarrow.Table.from_arrays(arrays, schema=schema) if arrays else schema.empty_table()


def _column(values: list[Any], column: Column, where: str) -> "pyarrow.Array":
    import pandas
    import pyarrow

    plain = [value.tolist() if hasattr(value, "tolist") else value for value in values]
    plain = [None if pandas.api.types.is_scalar(value) and pandas.isna(value) else value for value in plain]
    if column.required and any(value is None for value in plain):
        raise InputError(
            f"{where}: column {column.name!r} must have a value in every row; row {plain.index(None)} has none"
        )
    try:
        return pyarrow.array(plain, type=_arrow(column.type))
    except (pyarrow.ArrowException, OverflowError, TypeError, ValueError) as error:
        raise InputError(
            f"{where}: column {column.name!r} must be {column.type}: {' '.join(str(error).split())}"
        ) from error


def _check_rows(records: list[Any], table: str, *, entry: Mapping[str, Any], rounds: int) -> None:
    where = f"{table} of batch {entry['batch']}"
    planned = {(item, arm) for item, arm in entry["rows"]}
    keys = [tuple(record[name] for name in KEYS[table]) for record in records]
    strangers = [key for key in keys if key[:2] not in planned or not 1 <= key[2] <= rounds]
    if strangers:
        raise InputError(
            f"{where}: row {strangers[0]} is not planned (rounds 1 to {rounds} of {len(planned)} (item, arm))"
        )
    if len(set(keys)) != len(keys):
        raise InputError(f"{where}: {len(keys) - len(set(keys))} rows repeat a key ({', '.join(KEYS[table])})")
    absent = planned - {key[:2] for key in keys}
    if absent and table == "transcripts":
        raise InputError(f"{where}: no row for {min(absent)}, which the plan holds")


def _sorted(rows: "pyarrow.Table", table: str, manifest: Mapping[str, Any]) -> "pyarrow.Table":
    import numpy as np

    items, arms, _ = manifests.order(manifest)
    ranks = {"item_id": {name: i for i, name in enumerate(items)}, "arm": {name: i for i, name in enumerate(arms)}}
    keys = [rows.column(name).to_pylist() for name in KEYS[table]]
    keys = [
        [ranks[name][k] for k in key] if name in ranks else key for name, key in zip(KEYS[table], keys, strict=True)
    ]
    return rows.take(np.lexsort([np.asarray(key, dtype=np.int64) for key in reversed(keys)]))


def _bytes(rows: "pyarrow.Table") -> bytes:
    import pyarrow
    import pyarrow.parquet

    buffer = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(rows.combine_chunks(), buffer, compression="zstd")
    return buffer.getvalue().to_pybytes()


def _decode(data: bytes, where: str) -> "pyarrow.Table":
    import pyarrow
    import pyarrow.parquet

    try:
        return pyarrow.parquet.read_table(pyarrow.BufferReader(data))
    except (pyarrow.ArrowException, OSError) as error:
        raise RunError(f"{where} is damaged: {' '.join(str(error).split())[:120]}; start in a new folder") from error
