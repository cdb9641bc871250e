"""What the arms of a run differ by: performance, concept and uncertainty, paired by item, with intervals and p."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mechmsc.errors import InputError, nearest
from mechmsc.figures.concept import grids, in_band
from mechmsc.figures.panels import curve_name
from mechmsc.runs import Run

if TYPE_CHECKING:
    import pandas

COLUMNS = [
    *("task", "link", "measure", "source", "unit", "better", "treatment", "control", "round"),
    *("value", "low", "high", "level", "n", "p", "margin"),
]
WITHIN = "choice_entropy_within"
"""Stands beside the entropy of a choice wherever that is shown."""


def arms_of(run: Run, treatment: str | None = None, control: str | None = None) -> tuple[str, str | None]:
    """The two arms that are compared: moral against neutral where the run has them, else against none.

    Args:
        run: whose arms.
        treatment: None: moral, else the first arm that is no control.
        control: None: neutral, else none, else another arm; None in the answer where the run has one arm.

    Raises:
        InputError: the run has no such arm, or both are the same.
    """
    arms = [str(arm) for arm in run.manifest["config"]["arms"]]
    for name in (treatment, control):
        if name is not None and name not in arms:
            raise InputError(f"{run.path} has no arm {name!r}: {nearest(name, arms)}")
    usual = [arm for arm in ("neutral", "none") if arm in arms]
    first = [arm for arm in ("moral",) if arm in arms] + [arm for arm in arms if arm not in usual] + arms
    treatment = treatment or next(arm for arm in first if arm != control or len(arms) == 1)
    if treatment == control:
        raise InputError(f"expected two arms to compare, got {treatment!r} twice; the run has {', '.join(arms)}")
    return treatment, control or next((arm for arm in [*usual, *arms] if arm != treatment), None)


def contrasts(
    run: Run, *, treatment: str | None = None, control: str | None = None, seed: int = 0
) -> "pandas.DataFrame":
    """Paired differences of every task, by round and on average.

    Links: `performance`, `concept`, `uncertainty`: treatment minus control in the same round (a control of one round,
    such as none, counts in all); `fall`: the treatment arm's later rounds minus its first; `fall_beyond`: this fall
    minus the control's. The row without a round is the mean over them. p-values (signs of items flipped) are corrected
    over mean and rounds together (max-statistic); intervals are cluster bootstraps over items.

    Args:
        run: measured, for all but performance.
        treatment: an arm, see `arms_of`.
        control: another.
        seed: of bootstraps and flips.

    Returns:
        task, link, measure, source, unit, better (higher, lower or nothing), treatment, control, round, value, low,
        high, level, n, p, margin (the largest difference that does not matter, in the unit).
    """
    import pandas as pd

    treatment, control = arms_of(run, treatment, control)
    rows = []
    for what, table in [*_scores(run), *_concepts(run), *_uncertainties(run)]:
        arms = {arm: part.pivot(index="item_id", columns="round", values="value") for arm, part in table.groupby("arm")}
        for link, name, grid in _links(what["link"], arms, treatment, control):
            for round, numbers in _tested(grid, seed):
                rows.append({**what, "link": link, "treatment": treatment, "control": name, "round": round, **numbers})
    return pd.DataFrame(rows, columns=COLUMNS).astype({"round": "Int32"})


def _links(
    link: str, arms: "dict[str, pandas.DataFrame]", treatment: str, control: str | None
) -> "Iterator[tuple[str, str, pandas.DataFrame]]":
    """(link, control, differences [item, round]) that can be had of these curves."""
    if treatment not in arms:
        return
    mine, theirs = arms[treatment], arms.get(control or "")
    if theirs is not None:
        base = mine - theirs if theirs.shape[1] > 1 or mine.shape[1] == 1 else mine.sub(theirs.iloc[:, 0], axis=0)
        yield link, str(control), base.dropna(how="all").dropna(axis=1, how="all")
    if link == "uncertainty" and mine.shape[1] > 1:
        fall = _since_first(mine)
        yield "fall", treatment, fall
        if theirs is not None and theirs.shape[1] > 1:
            yield "fall_beyond", str(control), (fall - _since_first(theirs)).dropna(axis=1, how="all")


def _since_first(grid: "pandas.DataFrame") -> "pandas.DataFrame":
    return grid.iloc[:, 1:].sub(grid.iloc[:, 0], axis=0)


def _tested(grid: "pandas.DataFrame", seed: int) -> Iterator[tuple[int | None, dict[str, Any]]]:
    """The mean over rounds (round None), then each round."""
    from mechmsc.convergence.contrasts import tested

    if grid.empty:
        return
    values = grid.to_numpy(float)
    mean = values.mean(axis=1, keepdims=True)  # of items that have every round
    cells = values if values.shape[1] == 1 else np.concatenate([mean, values], axis=1)
    found = tested(cells, "max_statistic", 0.95, 2000, 9999, np.random.default_rng(seed))
    rounds: Sequence[int | None] = [None, *map(int, grid.columns)] if values.shape[1] > 1 else [None]
    for round, (value, low, high, level, n, _, p) in zip(rounds, found, strict=True):
        yield round, {"value": value, "low": low, "high": high, "level": level, "n": n, "p": p}


def _scores(run: Run) -> "Iterator[tuple[dict[str, Any], pandas.DataFrame]]":
    from mechmsc.figures.performance import UNITS

    rows = run.transcripts
    for (task, name, better), part in rows[rows["score_name"].notna()].groupby(
        ["task", "score_name", "score_direction"], sort=False
    ):
        what = {"task": str(task), "link": "performance", "measure": str(name), "source": "", "better": str(better)}
        what |= {"unit": UNITS.get(name, "score")}
        what["margin"] = _margin(run, what["task"], curve_name(name, name), what["unit"])
        yield what, part[["item_id", "arm", "round"]].assign(value=part["score"].astype(float))


def _concepts(run: Run) -> "Iterator[tuple[dict[str, Any], pandas.DataFrame]]":
    import pandas as pd

    if run.measures is None or not (run.measures["measure"] == "concept").any():
        return
    for found, items, cells, values, layers in grids(run.measures, "concept", None):
        source, place = found["source"], found["position"]
        inside = in_band(layers, _band(run, source, place))
        label = f"concept.{place}.layers_{layers[inside][0]}-{layers[inside][-1]}"
        mean = values[:, :, inside].mean(axis=2)
        arms, rounds = zip(*cells, strict=True)
        table = pd.DataFrame({"arm": arms, "round": rounds}).merge(pd.DataFrame({"item_id": items}), how="cross")
        what = {"task": found["task"], "link": "concept", "measure": label, "source": source, "better": ""}
        what |= {"unit": found["unit"]}
        what["margin"] = _margin(run, what["task"], f"{label}/{source}", what["unit"])
        yield what, table.assign(value=mean.T.reshape(-1))


def _band(run: Run, source: str, place: str) -> tuple[int, int] | None:
    """The layers over which the run's summaries average this concept."""
    rows = run.summaries
    names = [] if rows is None else rows.loc[rows["source"] == source, "measure"].unique()
    start = f"concept.{place}.layers_"
    band = next((str(name).removeprefix(start) for name in names if str(name).startswith(start)), None)
    return None if band is None else tuple(map(int, band.split("-")))  # type: ignore[return-value]


def _uncertainties(run: Run) -> "Iterator[tuple[dict[str, Any], pandas.DataFrame]]":
    if run.measures is None:
        return
    rows = run.measures
    tasks = rows["item_id"].str.split("/").str[0]
    for task in tasks.unique():
        mine = rows[(tasks == task) & rows["layer"].isna()]
        for name in uncertainties_of(set(mine["measure"])):
            part = mine[mine["measure"] == name]
            part = part[part["source"] == part["source"].iloc[0]]
            source, unit = part["source"].iloc[0], part["unit"].iloc[0]
            what = {"task": str(task), "link": "uncertainty", "measure": name, "source": source, "better": ""}
            what |= {"unit": unit, "margin": _margin(run, str(task), curve_name(name, source), unit)}
            yield what, part[["item_id", "arm", "round", "value"]]


def uncertainties_of(measured: set[str]) -> list[str]:
    """What stands for the uncertainty of a task: the first that was measured, and `WITHIN` beside a choice's."""
    from mechmsc.causal.simulation.measured import PREFERRED

    first = [name for name in PREFERRED if name in measured][:1]
    return first + [WITHIN] * (first == ["choice_entropy"] and WITHIN in measured)


def _margin(run: Run, task: str, label: str, unit: str) -> float:
    """As the run's convergence was judged, else `MARGINS` of the unit."""
    rows = run.summaries
    if rows is not None:
        told = rows[(rows["measure"] == "convergence_margin") & (rows["source"] == label) & (rows["task"] == task)]
        if len(told):
            return float(told["value"].iloc[0])
    return margin_of(unit)


def margin_of(unit: str) -> float:
    """Largest difference that does not matter, by the unit."""
    from mechmsc.measures import MARGINS

    return next(value for start, value in MARGINS.items() if unit.startswith(start))
