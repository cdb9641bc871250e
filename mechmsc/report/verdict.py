"""The verdict: what the intervals of a run say about each link of the chain, in words, and never more than they say.

instruction -> concept -> uncertainty -> performance
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mechmsc.report.chain import chain
from mechmsc.report.judging import LINKS, Finding, few_words, sure, too_few, unsettled, within
from mechmsc.report.placebos import dose_link, mediation_link
from mechmsc.report.words import interval, listed, percent, plain, probability

if TYPE_CHECKING:
    import pandas


def verdict(
    contrasts: "pandas.DataFrame",
    mediated: "pandas.DataFrame | None" = None,
    dosed: "pandas.DataFrame | None" = None,
    *,
    tasks: Sequence[str],
    missing: Mapping[tuple[str, str], str],
) -> list[Finding]:
    """Every link of the chain, and the chain as a whole, for every task.

    Args:
        contrasts: from `contrasts`.
        mediated: from `mediated`; None where the run has no mediation.
        dosed: from `dosed`; None where the run has no dose-response.
        tasks: of the run.
        missing: (task, link) -> what to do where its numbers are not there.

    Returns:
        For each task the chain, then its links in the order of `LINKS`.
    """
    found = []
    for task in tasks:
        mine = [
            _contrast_link(contrasts, task, link) or _lacking(task, link, missing)
            for link in LINKS
            if link not in ("mediation", "dose")
        ]
        measure = uncertainty_of(contrasts, task)
        for link, table, judge in (("mediation", mediated, mediation_link), ("dose", dosed, dose_link)):
            rows = None if table is None else table[table["task"] == task]
            if rows is None or rows.empty:
                mine.append(_lacking(task, link, missing))
            else:
                mine.append(judge(rows, task=task, measure=measure, family=table["task"].nunique()))
        found += [chain(task, {one.link: one for one in mine}), *mine]
    return found


def _lacking(task: str, link: str, missing: Mapping[tuple[str, str], str]) -> Finding:
    return Finding(task, link, "missing", 0, f"Not measured: {missing[task, link]}.")


def uncertainty_of(contrasts: "pandas.DataFrame", task: str) -> str | None:
    """The measure that stands for the uncertainty of a task."""
    rows = contrasts[(contrasts["task"] == task) & contrasts["link"].isin(["uncertainty", "fall"])]
    return None if rows.empty else str(rows["measure"].iloc[0])


def _contrast_link(contrasts: "pandas.DataFrame", task: str, link: str) -> Finding | None:
    """Judge treatment minus control (or later rounds minus the first), mean and rounds together."""
    of_link = contrasts[contrasts["link"] == link]
    rows = of_link[of_link["task"] == task]
    if rows.empty:
        return None
    family = int(of_link["task"].nunique())
    rows = rows[rows["measure"] == rows["measure"].iloc[0]]
    mean = rows[rows["round"].isna()].iloc[0].to_dict()
    each = rows[rows["round"].notna()].to_dict("records")
    state, sign, said = _judged(mean, each, family)
    better = 0
    if link == "performance" and sign:
        better = sign if mean["better"] == "higher" else -sign
    if link.startswith("fall") and sign > 0 and state in ("shown", "small"):
        state = "contrary"
    return Finding(task, link, state, sign, f"{_subject(mean, better)}: {said}.", "effects/contrasts.parquet", better)


def _subject(row: Mapping[str, Any], better: int) -> str:
    measure, unit = plain(row["measure"]), row["unit"]
    if row["link"] == "performance":
        verdict = {1: "better", -1: "worse", 0: "neither"}[better]
        told = f"{row['better']} is better" + (f"; here {row['treatment']} is {verdict}" if better else "")
        return f"{measure} ({unit}; {told}), {row['treatment']} minus {row['control']}"
    if row["link"] == "concept":
        where = measure.removeprefix("concept.").replace(".layers ", ", layers ")
        return f"{row['source']} at {where} ({unit}), {row['treatment']} minus {row['control']}"
    if row["link"] == "fall":
        return f"{measure} ({unit}) of arm {row['treatment']}, later rounds minus the first"
    if row["link"] == "fall_beyond":
        return f"{measure} ({unit}), change since round 1 under {row['treatment']} minus that under {row['control']}"
    return f"{measure} ({unit}), {row['treatment']} minus {row['control']}"


def _judged(mean: Mapping[str, Any], each: Sequence[Mapping[str, Any]], family: int) -> tuple[str, int, str]:
    """State, sign and what is said; `each` is empty where there is one round."""
    corrected = min(1.0, mean["p"] * family)
    told = f"{interval(mean['value'], mean['low'], mean['high'])}"
    how = f"({percent(mean['level'])} interval, n = {mean['n']:.0f} items, {probability(corrected)}"
    how += f"{_family(each, family)})"
    average = "averaged over rounds " if each else ""
    if too_few(mean) or not mean["low"] == mean["low"]:
        return "undecided", 0, few_words(mean)
    cells = [row for row in each if sure(row, family=family) and not within(row)]
    every = all(within(row) for row in [mean, *each])
    sign = 1 if mean["value"] > 0 else -1
    if sure(mean, family=family) and not within(mean):
        return "shown", sign, f"{average}{_way(sign)}, {told} {how}"
    if cells:
        signs = {1 if row["value"] > 0 else -1 for row in cells}
        rounds = [
            f"round {row['round']} {interval(row['value'], row['low'], row['high'])} "
            f"({probability(min(1.0, row['p'] * family))})"
            for row in cells
        ]
        mixed = "" if len(signs) == 1 else ", with different signs"
        said = f"differs in {listed(rounds)}{mixed}; averaged over rounds {told} {how}, not decided"
        return "shown", signs.pop() if len(signs) == 1 else 0, said
    if sure(mean, family=family):
        said = f"{average}{_way(sign)}, {told} {how}: surely, but by less than the margin of {mean['margin']:g}"
        return "small", sign, said
    if every:
        where = "on average and in every round" if each else "in the one round"
        return (
            "absent",
            0,
            f"no difference that matters was found: {told} {how}; {where} inside \u00b1{mean['margin']:g}",
        )
    return "undecided", 0, f"not decided: {average}{told} {how}; {unsettled(_widest([mean, *each]))}"


def _widest(rows: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The mean where its own interval leaves the margin, else the round that reaches farthest."""
    if not within(rows[0]):
        return rows[0]
    return max(rows, key=lambda row: max(abs(row["low"]), abs(row["high"])))


def _way(sign: int) -> str:
    return "higher" if sign > 0 else "lower"


def _family(each: Sequence[Any], family: int) -> str:
    parts = [f"{len(each)} rounds and their mean"] if each else []
    parts += [f"{family} tasks"] if family > 1 else []
    return f" corrected for {listed(parts)}" if parts else ""
