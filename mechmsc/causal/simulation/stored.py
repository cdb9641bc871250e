"""The simulation where a user keeps it: in a run's effects, or as a figure and its numbers in a folder."""

import importlib.metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mechmsc.causal.simulation.asked import simulate
from mechmsc.causal.simulation.measured import table_of_run
from mechmsc.errors import InputError
from mechmsc.runs import open_run
from mechmsc.runs.effects import write_effect

if TYPE_CHECKING:
    import pandas


def store_simulation(
    run: str | Path | None,
    *,
    out: str | Path | None = None,
    source: str | None = None,
    uncertainty: str | None = None,
    layers: range | None = None,
    **options: Any,
) -> "tuple[dict[str, pandas.DataFrame], list[str]]":
    """`simulate` on a run, stored in RUN/effects; or, without one, on worlds whose truth is known, drawn into `out`.

    Args:
        run: folder of a measured run, or None.
        out: folder for the simulation without a run.
        source: as in `table_of_run`, as the next two.
        uncertainty: a measure.
        layers: a band.
        options: of `simulate`.

    Returns:
        Name -> table, and the files written.

    Raises:
        InputError: the run was not measured, or neither run nor folder is given.
    """
    if run is None:
        if out is None:
            raise InputError("without a run expected a folder for the tables and figures of the simulation")
        from mechmsc.figures.saving import save_figure
        from mechmsc.figures.simulation import draw_structural

        tables = simulate(**options)
        table = tables["structural"]
        return tables, [str(path) for path in save_figure(draw_structural(table), table, out, "simulation")]
    opened = open_run(run)
    band = None if layers is None else (layers.start, layers.stop - 1)
    table = table_of_run(opened, source=source, uncertainty=uncertainty, layers=band)
    tables, paths = simulate(table=table, **options), []
    asked = {"source": source, "uncertainty": uncertainty, "layers": band, **options}
    versions = {name: importlib.metadata.version(name) for name in ("mechmsc", "numpy", "scipy", "pandas")}
    settings = {"analysis": "simulate", "arguments": asked, "versions": versions}
    for name, found in tables.items():
        paths += write_effect(opened.folder, name, found, settings)
    return tables, paths
