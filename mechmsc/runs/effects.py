"""RUN/effects (contract 4.1): what each analysis found, NAME.parquet or NAME.nc, and its settings, NAME.json.

What an interrupted analysis has computed stands in NAME.begun.nc until the same call finishes it.
"""

import io
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mechmsc.errors import InputError, RunError, nearest
from mechmsc.runs.folder import Folder

if TYPE_CHECKING:
    import pandas
    import xarray


def write_effect(
    folder: Folder, name: str, effect: "pandas.DataFrame | xarray.Dataset", settings: Mapping[str, Any]
) -> list[str]:
    """Store an effect and the settings that made it; the settings come last, so that what has them is whole.

    Args:
        folder: the run folder.
        name: of the analysis, e.g. "mediation".
        effect: a table (Parquet) or a grid (netCDF).
        settings: JSON values: arguments, model and versions.

    Returns:
        The files written.

    Raises:
        InputError: settings that are not plain JSON.
        RunError: the disk is full or refuses.
    """
    try:
        text = json.dumps(dict(settings), indent=1, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InputError(f"settings of effect {name!r} must be plain JSON: {error}") from error
    folder.remove(f"effects/{name}.json")
    kind, data = ("nc", _netcdf(effect)) if hasattr(effect, "data_vars") else ("parquet", _parquet(effect))
    files = {f"effects/{name}.{kind}": data, f"effects/{name}.json": (text + "\n").encode()}
    for file, content in files.items():
        folder.write(file, content)
    folder.remove(f"effects/{name}.begun.nc")
    return [folder.at(file) for file in files]


def write_begun(folder: Folder, name: str, grid: "xarray.Dataset", settings: Mapping[str, Any]) -> None:
    """Store a grid that is not whole yet, with the settings that make it.

    Raises:
        RunError: the disk is full or refuses.
    """
    told = json.dumps(dict(settings), sort_keys=True)
    folder.write(f"effects/{name}.begun.nc", _netcdf(grid.assign_attrs(settings=told)))


def read_begun(folder: Folder, name: str, settings: Mapping[str, Any]) -> "xarray.Dataset | None":
    """What `write_begun` stored under the same settings; None if there is none, or none that can be read."""
    data = folder.read(f"effects/{name}.begun.nc")
    if data is None:
        return None
    import xarray

    try:
        grid = xarray.load_dataset(io.BytesIO(data), engine="scipy")
    except (ValueError, TypeError, OSError):
        return None
    return grid if grid.attrs.pop("settings", None) == json.dumps(dict(settings), sort_keys=True) else None


def read_effect(folder: Folder, name: str) -> "tuple[pandas.DataFrame | xarray.Dataset, dict[str, Any]]":
    """An effect and its settings.

    Raises:
        InputError: there is none of this name; says which there are.
        RunError: it is damaged.
    """
    settings = folder.read(f"effects/{name}.json")
    if settings is None:
        raise InputError(f"{folder.path} has no effect {name!r}: {nearest(name, effect_names(folder)) or 'none yet'}")
    try:
        data = folder.read(f"effects/{name}.parquet")
        if data is not None:
            import pandas

            return pandas.read_parquet(io.BytesIO(data)), json.loads(settings)
        import xarray

        grid = folder.read(f"effects/{name}.nc")
        return xarray.load_dataset(io.BytesIO(grid), engine="scipy"), json.loads(settings)
    except (ValueError, TypeError, OSError) as error:
        raise RunError(f"{folder.at('effects')}/{name} is damaged: {' '.join(str(error).split())[:120]}") from error


def effect_names(folder: Folder) -> list[str]:
    """Names of the effects that are whole."""
    return [name.removesuffix(".json") for name in folder.names("effects") if name.endswith(".json")]


def _parquet(table: "pandas.DataFrame") -> bytes:
    buffer = io.BytesIO()
    table.to_parquet(buffer, index=False)
    return buffer.getvalue()


def _netcdf(grid: "xarray.Dataset") -> bytes:
    plain = {key: _attribute(value) for key, value in grid.attrs.items()}
    texts = {name: (c.dims, c.values.astype(str)) for name, c in grid.coords.items() if c.dtype.kind == "O"}
    return bytes(grid.assign_coords(texts).assign_attrs(plain).to_netcdf(engine="scipy"))


def _attribute(value: Any) -> str | int | float:
    """As netCDF 3 can hold it: whole numbers have 32 bits there."""
    if isinstance(value, int) and abs(value) >= 2**31:
        return float(value)
    return value if isinstance(value, str | int | float) else json.dumps(value)
