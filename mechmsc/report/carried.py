"""What interventions stored in a run say, task by task: mediation and dose-response, each beside its placebos."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from mechmsc.estimate import cluster_bootstrap_columns, permutation_test
from mechmsc.report.contrasts import margin_of
from mechmsc.runs import Run
from mechmsc.runs.effects import read_effect

if TYPE_CHECKING:
    import pandas
    import xarray

NUMBERS = [
    *("value", "low", "high", "level", "n", "p"),
    *("placebos", "p_placebo", "excess", "excess_low", "excess_high", "unit", "margin"),
]
MEDIATED = [
    *("task", "outcome", "layer", "effect", *NUMBERS),
    *("treatment", "control", "concept", "mediator", "site", "history", "rounds", "name"),
]
DOSED = [
    *("task", "outcome", "effect", *NUMBERS),
    *("arm", "concept", "site", "layers", "strengths", "rounds", "guard", "name"),
]
UNITS = {"accuracy": "fraction correct", "score": "unit of the score"}
"""Of outcomes that are not in nats."""
GUARDS = ("perplexity", "distinct_2", "length")
"""Outcomes that only watch over others (`causal.outcomes.GUARDS`, which needs torch)."""
NOTHING = {"placebos": 0} | dict.fromkeys(("p", "p_placebo", "excess", "excess_low", "excess_high"), np.nan)


def mediated(run: Run, name: str = "mediation") -> "pandas.DataFrame":
    """Natural effects of a stored mediation, averaged over rounds, of each task by itself.

    Args:
        run: holds the effect.
        name: in RUN/effects.

    Returns:
        task, outcome, layer, effect (total, indirect, direct, interaction; removed = total - direct: what is lost of
        the total effect when the treatment's conversations get the control's concept; proportion), value, low, high,
        level, n, p (signs of items flipped), placebos (how many), p_placebo, excess with its interval, unit, margin;
        and what the analysis was.
    """
    import pandas as pd

    worlds, settings = read_effect(run.folder, name)
    said = {key: worlds.attrs[key] for key in ("treatment", "control", "concept", "mediator", "site", "history")}
    said |= {"rounds": _ranges(worlds), "name": name}
    said["concept"] = said["concept"] or (settings.get("direction") or {}).get("concept", "")
    rows = []
    for task, part in _by_task(worlds):
        rows += [{"task": task, **found, **said} for found in _effects(part)]
    return pd.DataFrame(rows, columns=MEDIATED)


def _effects(worlds: "xarray.Dataset") -> Iterator[dict[str, Any]]:
    from mechmsc.causal import mediation_table, natural_effects

    table, effects = mediation_table(worlds), natural_effects(worlds)
    table = table[table["round"].isna()].set_index(["outcome", "layer", "effect"])
    for outcome in effects["outcome"].values:
        for layer in effects["layer"].values:
            here = effects.sel(outcome=outcome, layer=layer).mean("round", skipna=True)
            if not np.isfinite(here["total"]).any():
                continue  # items of a task that has no such outcome
            place = {
                "outcome": str(outcome),
                "layer": str(layer),
                "unit": unit_of(outcome),
                "margin": margin_of(unit_of(outcome)),
            }
            for effect in ("total", "indirect", "direct", "interaction"):
                found = _row(table.loc[(outcome, layer, effect)]) | {"p": _flipped(here[effect])}
                if effect == "indirect" and "placebo_world" in worlds:
                    found |= _placebos(table.loc[(outcome, layer)], worlds.sizes["placebo"])
                yield {**NOTHING, **place, "effect": effect, **found}
            lost = (here["total"] - here["direct"]).values
            (e,) = cluster_bootstrap_columns(lost[:, None], np.arange(len(lost)), seed=0)
            found = {"value": e.value, "low": e.low, "high": e.high, "level": e.level, "n": e.n}
            yield {**NOTHING, **place, "effect": "removed", **found, "p": _flipped(here["total"] - here["direct"])}
            yield {**NOTHING, **place, "effect": "proportion", **_row(table.loc[(outcome, layer, "proportion")])}


def _placebos(table: "pandas.DataFrame", count: int) -> dict[str, Any]:
    excess = table.loc["excess"]
    return {
        "placebos": int(count),
        "p_placebo": float(table.loc["placebo_p", "value"]),
        **{"excess": float(excess["value"]), "excess_low": float(excess["low"]), "excess_high": float(excess["high"])},
    }


def dosed(run: Run, name: str = "dose") -> "pandas.DataFrame":
    """Slope (odd part) and curvature (even part) of a stored dose-response, of each task by itself.

    Args:
        run: holds the effect.
        name: in RUN/effects.

    Returns:
        As `mediated`, with effect slope or curvature, guard (what the strongest steering does to perplexity, where text
        was drawn), and what was steered.
    """
    import pandas as pd

    doses, settings = read_effect(run.folder, name)
    said = {key: str(doses.attrs[key]) for key in ("arm", "site", "layers")}
    strengths = doses["strength"].values
    said |= {"concept": settings["direction"]["concept"], "rounds": _ranges(doses), "name": name}
    said |= {"strengths": f"{strengths.min():g} to {strengths.max():g}"}
    rows = []
    for task, part in _by_task(doses):
        said["guard"] = _guard(part)
        rows += [{"task": task, **found, **said} for found in _slopes(part)]
    return pd.DataFrame(rows, columns=DOSED)


def _slopes(doses: "xarray.Dataset") -> Iterator[dict[str, Any]]:
    from mechmsc.causal import dose_table, odd_and_even

    shapes = odd_and_even(doses["response"]).mean("round", skipna=True)
    for row in dose_table(doses).to_dict("records"):
        values = shapes[row["effect"]].sel(outcome=row["outcome"])
        if row["outcome"] in GUARDS or not np.isfinite(values).any():
            continue
        unit = f"{unit_of(row['outcome'])} per {'class gap' if row['effect'] == 'slope' else 'squared class gap'}"
        found = {key: row[key] for key in ("outcome", "effect", "excess", "excess_low", "excess_high")} | _row(row)
        found |= {"p": _flipped(values), "p_placebo": row["p"], "placebos": int(doses.sizes["placebo"])}
        yield {**found, "unit": unit, "margin": margin_of(unit)}


def unit_of(outcome: str) -> str:
    """The unit of a named outcome."""
    return UNITS.get(str(outcome), "nats")


def _guard(doses: "xarray.Dataset") -> str:
    if "perplexity" not in doses["outcome"].values:
        return ""
    means = doses["response"].sel(outcome="perplexity").mean(["item", "round"])
    ends = [float(means.sel(strength=a)) for a in (means["strength"].min(), 0.0, means["strength"].max())]
    return (
        f"perplexity of what is said under the unedited model, from the lowest strength over 0 to the highest: "
        f"{', '.join(f'{end:.3g}' for end in ends)}"
    )


def _by_task(grid: "xarray.Dataset") -> "Iterator[tuple[str, xarray.Dataset]]":
    tasks = np.array([str(item).split("/")[0] for item in grid["item"].values])
    for task in dict.fromkeys(tasks.tolist()):
        yield task, grid.isel(item=np.flatnonzero(tasks == task))


def _ranges(grid: "xarray.Dataset") -> str:
    return ", ".join(str(int(round)) for round in grid["round"].values)


def _row(row: Any) -> dict[str, Any]:
    return {key: float(row[key]) for key in ("value", "low", "high", "level")} | {"n": int(row["n"])}


def _flipped(values: "xarray.DataArray") -> float:
    return permutation_test(values.values, seed=0)
