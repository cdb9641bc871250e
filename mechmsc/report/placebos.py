"""The links that were intervened on: is there an effect, and is it beyond what random directions do?"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mechmsc.report.judging import Finding, few_words, sure, too_few, unsettled, within
from mechmsc.report.words import interval, percent, plain, probability

if TYPE_CHECKING:
    import pandas

NONE_FOUND = "no effect beyond placebo was found"


def beyond(row: Mapping[str, Any], *, family: int = 1) -> tuple[str, str]:
    """State of an effect with placebos, and why.

    Shown: sure (interval and flipped signs), p against placebos at most 1 - level, and an excess over their root mean
    square whose interval lies above 0. Absent: the interval, or the upper end of the excess, lies inside the margin.

    Args:
        row: value, low, high, level, n, p, placebos, p_placebo, excess, excess_low, excess_high, margin, unit.
        family: tests among which this one was made (tasks, layers): p is multiplied by it.
    """
    alpha = 1 - row["level"]
    told = f"{interval(row['value'], row['low'], row['high'])} {row['unit']}"
    numbers = f"{told} ({percent(row['level'])} interval, n = {row['n']:.0f} items)"
    if too_few(row) or not row["low"] == row["low"]:
        return "undecided", few_words(row)
    if not row["placebos"]:
        if within(row):
            return (
                "absent",
                f"no effect that matters was found: {numbers}, inside the margin of \u00b1{row['margin']:g}",
            )
        return "undecided", f"{numbers}, but no placebos were computed: not decided whether any direction does as much"
    corrected = min(1.0, row["p_placebo"] * family)
    excess = interval(row["excess"], row["excess_low"], row["excess_high"])
    beside = f"{probability(corrected)} against {row['placebos']:.0f} placebos, excess over them {excess}"
    past = corrected <= alpha + 1e-12 and row["excess_low"] > 0
    if sure(row, family=family) and past:
        if within(row):
            return "small", f"{numbers}, beyond placebo ({beside}), but smaller than the margin of {row['margin']:g}"
        return "shown", f"{numbers}, beyond placebo ({beside})"
    if within(row):
        return "absent", f"{NONE_FOUND}: {numbers}, inside the margin of \u00b1{row['margin']:g}; {beside}"
    if not past and row["excess_high"] < row["margin"]:
        return "absent", f"{NONE_FOUND}: {numbers}, less than {row['margin']:g} above what placebos do; {beside}"
    if family / (1 + row["placebos"]) > alpha + 1e-12:
        needed = round(family / alpha) - 1
        return "undecided", (
            f"not decided: {numbers}; {row['placebos']:.0f} placebos cannot reach p \u2264 {alpha:.2g}"
            f"{f' corrected for {family} tests' if family > 1 else ''}: take {needed} or more ({beside})"
        )
    return "undecided", f"not decided, {NONE_FOUND}: {numbers}; {beside}; {unsettled(row, row['unit'])}"


def mediation_link(rows: "pandas.DataFrame", *, task: str, measure: str | None, family: int) -> Finding:
    """Does the concept carry part of the total effect?

    Args:
        rows: of `mediated`, of this task.
        task: its name.
        measure: the uncertainty of the other links; another outcome is taken where the mediation has none of it.
        family: number of tasks that were analysed.
    """
    rows = rows[rows["outcome"] == _outcome(rows, measure)]
    bands = list(rows["layer"].unique())
    judged = [_band(rows[rows["layer"] == band].set_index("effect"), family * len(bands)) for band in bands]
    order = ("shown", "contrary", "small", "undecided", "absent")  # absent only where every band is
    state, sign, said = min(judged, key=lambda one: order.index(one[0]))
    first = rows.iloc[0].to_dict()
    where = (
        f"{plain(first['outcome'])}, {first['treatment']} against {first['control']}, mediator {_mediator(first)} at "
        f"{first['site']}, layers {bands[judged.index((state, sign, said))]}"
        f"{f' (one of {len(bands)} bands)' if len(bands) > 1 else ''}, history {first['history']}, "
        f"rounds {first['rounds']}"
    )
    return Finding(task, "mediation", state, sign, f"{where}: {said}.", f"effects/{first['name']}.nc")


def _outcome(rows: "pandas.DataFrame", measure: str | None) -> str:
    there = list(rows["outcome"].unique())
    return measure if measure in there else str(there[0])


def _mediator(row: Mapping[str, Any]) -> str:
    return str(row["concept"]) if row["mediator"] == "concept" else "the whole activation"


def _band(rows: "pandas.DataFrame", family: int) -> tuple[str, int, str]:
    """State, sign of the indirect effect, and what is said of one band of layers."""
    total, indirect, removed = (rows.loc[name].to_dict() for name in ("total", "indirect", "removed"))
    state, why = beyond(indirect, family=family)
    sign = 0 if state not in ("shown", "small") else 1 if indirect["value"] > 0 else -1
    given = f"giving the control's conversations the treatment's value moves it by {why}"
    if state in ("absent", "undecided"):
        given = why
    whole = f"total effect {interval(total['value'], total['low'], total['high'])} {total['unit']}"
    lost = f"with the control's value instead {_of(removed)} of it is lost"
    if indirect["mediator"] != "concept":
        return "undecided", sign, f"not decided about the concept: the whole activation was set; {whole}; {given}"
    if state not in ("shown", "small"):
        return state, sign, f"{given}; {whole}"
    if within(total):
        return "absent", sign, f"{given}; but there is no total effect to carry part of: {whole}, inside the margin"
    if not sure(total, family=family):
        return "undecided", sign, f"{given}; but not decided whether there is a total effect to carry part of: {whole}"
    if indirect["value"] * total["value"] < 0:
        return "contrary", sign, f"{given}; this works against the {whole}"
    return state, sign, f"{given}; {whole}, {lost}{_share(rows)}"


def _of(row: Mapping[str, Any]) -> str:
    return interval(row["value"], row["low"], row["high"])


def _share(rows: "pandas.DataFrame") -> str:
    """The proportion mediated, where there is one."""
    one = rows.loc["proportion"].to_dict()
    if one["value"] != one["value"]:
        return ""
    low, high = (f"{100 * one[end]:.0f}" for end in ("low", "high"))
    return f"; proportion mediated {100 * one['value']:.0f} % [{low}, {high}]"


def dose_link(rows: "pandas.DataFrame", *, task: str, measure: str | None, family: int) -> Finding:
    """Does the outcome follow the concept's strength? The odd part decides; the even part is said beside it.

    Args:
        rows: of `dosed`, of this task.
        task: its name.
        measure: as in `mediation_link`.
        family: number of tasks that were analysed.
    """
    rows = rows[rows["outcome"] == _outcome(rows, measure)].set_index("effect")
    slope, bend = rows.loc["slope"].to_dict(), rows.loc["curvature"].to_dict()
    state, why = beyond(slope, family=family)
    bent, whether = beyond(bend, family=family)
    sign = 0 if state not in ("shown", "small") else 1 if slope["value"] > 0 else -1
    where = (
        f"{plain(slope['outcome'])} against {slope['concept']} at {slope['site']}, layers {slope['layers']}, strengths "
        f"{slope['strengths']} class gaps, arm {slope['arm']}, rounds {slope['rounds']}"
    )
    if bent == "shown":
        whether += "; more and less of the concept then do the same, as they would in a model that breaks"
    if state in ("undecided", "absent") and bent == "shown":
        why = f"{why}, in its odd part"
    said = f"odd part (slope) {why}; even part (curvature) {whether}"
    if slope["guard"]:
        said += f"; {slope['guard']}"
    return Finding(task, "dose", state, sign, f"{where}: {said}.", f"effects/{slope['name']}.nc")
