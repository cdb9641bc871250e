"""The one call behind `mechmsc simulate [RUN]`."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mechmsc.causal.simulation.posterior import posterior_curves, posterior_fit
from mechmsc.causal.simulation.predictive import predictive_test
from mechmsc.causal.simulation.structural import structural_grid
from mechmsc.causal.simulation.worlds import Confounder
from mechmsc.errors import InputError

if TYPE_CHECKING:
    import pandas


def simulate(
    *,
    table: "pandas.DataFrame | None" = None,
    betas: Sequence[float] = (0.0, -0.05, -0.1, -0.2, -0.4),
    gammas: Sequence[float] = (0.0, 0.5, 1.0),
    n_items: Sequence[int] = (60,),
    datasets: int = 200,
    confounder: Confounder = "length",
    workers: int | None = None,
    progress: bool = True,
    level: float = 0.95,
    n_boot: int = 1000,
    n_perm: int = 499,
    seed: int = 0,
) -> "dict[str, pandas.DataFrame]":
    """Does prediction mean causation? Without a table where the answer is known, with one what its numbers allow.

    Args:
        table: of a run, from `table_of_run`; None: the structural simulation.
        betas: see `structural_grid`, as the next five; without effect on a table.
        gammas: strengths of the confounder.
        n_items: numbers of items.
        datasets: data sets of each cell.
        confounder: length or round.
        workers: processes.
        progress: show a bar on stderr.
        level: of all intervals.
        n_boot: resamples.
        n_perm: permutations of the predictive test of a table.
        seed: of everything.

    Returns:
        Name -> table. Without a table: `structural`. With one, each with the column task first: `predictive`
        (`predictive_test`), `posterior` (`posterior_fit`) and `posterior_curves`.

    Raises:
        InputError: the table lacks a column, or is too small.
    """
    if table is None:
        grid = structural_grid(
            betas=betas,
            gammas=gammas,
            n_items=n_items,
            datasets=datasets,
            confounder=confounder,
            level=level,
            n_boot=n_boot,
            seed=seed,
            workers=workers,
            progress=progress,
        )
        return {"structural": grid}
    import pandas as pd

    if "task" not in table or table.empty:
        raise InputError(f"expected a table of a run with the column task, got {len(table)} rows of {list(table)}")
    found: dict[str, list] = {"predictive": [], "posterior": [], "posterior_curves": []}
    for task, rows in table.groupby("task", sort=False):
        released = [name for name in ("concept_as_released",) if name in rows and rows[name].notna().all()]
        same = {"level": level, "n_boot": n_boot, "seed": seed}
        told = {
            "predictive": predictive_test(rows, concepts=["concept", *released], n_perm=n_perm, **same),
            "posterior": posterior_fit(rows, **same),
            "posterior_curves": posterior_curves(rows, **same),
        }
        for name, one in told.items():
            one.insert(0, "task", task)
            found[name].append(one)
    return {name: pd.concat(parts, ignore_index=True) for name, parts in found.items()}
