"""Tables of the page: rows of text made of the frames behind the figures."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from mechmsc.report.words import interval, listed, number, percent, plain, probability

if TYPE_CHECKING:
    import pandas


class Table(NamedTuple):
    """A table of the page, all text."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    source: str
    """File of the run that holds the numbers."""
    note: str = ""


def estimate(row: Any) -> str:
    """Of a row: value [low, high]."""
    return interval(float(row["value"]), float(row["low"]), float(row["high"]))


def stated(rows: "pandas.DataFrame") -> str:
    """Level of the intervals and number of items."""
    levels = sorted({float(level) for level in rows["level"].dropna()})
    n = sorted({int(n) for n in rows["n"]})
    many = f"{n[0]} to {n[-1]}" if len(n) > 1 else f"{n[0]}"
    return f"In brackets: {listed([percent(level) for level in levels])} intervals over items; n = {many} items."


def by_round(rows: "pandas.DataFrame", title: str, source: str) -> Table:
    """A row a round, a column an arm.

    Args:
        rows: arm, round, value, low, high, level, n; one row per arm and round.
        title: over the table.
        source: file of the run.
    """
    arms = list(rows["arm"].unique())
    cells = {(row["arm"], int(row["round"])): estimate(row) for row in rows.to_dict("records")}
    counts = rows.groupby("round")["n"].agg(["min", "max"])
    body = []
    for round in sorted(rows["round"].unique()):
        low, high = counts.loc[round]
        n = f"{low}" if low == high else f"{low} to {high}"
        body.append([str(int(round)), *(cells.get((arm, int(round)), "") for arm in arms), n])
    return Table(title, ["round", *map(str, arms), "n"], body, source, stated(rows))


def by_measure(rows: "pandas.DataFrame", title: str, source: str) -> Table:
    """A row an arm and round, a column a measure.

    Args:
        rows: arm, round, measure, value, low, high, level, n.
        title: over the table.
        source: file of the run.
    """
    measures, body = list(rows["measure"].unique()), []
    for (arm, round), part in rows.groupby(["arm", "round"], sort=False):
        cells = {row["measure"]: estimate(row) for row in part.to_dict("records")}
        n = str(int(part["n"].max()))
        body.append([str(arm), str(int(round)), *(cells.get(name, "") for name in measures), n])
    return Table(title, ["arm", "round", *map(plain, measures), "n"], body, source, stated(rows))


def contrast_table(contrasts: "pandas.DataFrame", links: Sequence[str]) -> Table | None:
    """Differences between arms (or from the first round), with p."""
    rows = contrasts[contrasts["link"].isin(links)]
    if rows.empty:
        return None
    body = []
    for row in rows.to_dict("records"):
        later = row["link"].startswith("fall")
        what = f"{row['treatment']} minus {row['control']}"
        what = {"fall": f"{row['treatment']}, minus its round 1", "fall_beyond": f"{what}, change since round 1"}.get(
            row["link"], what
        )
        mean = "mean of later rounds" if later else "mean of rounds"
        place = mean if row["round"] != row["round"] or row["round"] is None else f"{row['round']}"
        numbers = [estimate(row), probability(row["p"]), f"{row['margin']:g}", str(row["n"])]
        body.append([row["task"], plain(row["measure"]), what, place, *numbers])
    note = f"p: signs of items flipped, corrected over the mean and all rounds of a row's block. {stated(rows)}"
    head = ["task", "measure", "difference", "round", "value", "p", "margin", "n"]
    return Table("Paired differences", head, body, "effects/contrasts.parquet", note)


def effect_table(rows: "pandas.DataFrame", title: str, source: str) -> Table:
    """Effects of an intervention beside placebos.

    Args:
        rows: of `mediated` or `dosed`.
        title: over the table.
        source: file of the run.
    """
    body = []
    for row in rows.to_dict("records"):
        beside = row["placebos"] > 0
        excess = interval(row["excess"], row["excess_low"], row["excess_high"]) if beside else ""
        share = row["effect"] == "proportion"
        value = "not defined: the total effect is not sure" if share and row["value"] != row["value"] else estimate(row)
        body.append(
            [
                *(
                    row["task"],
                    plain(row["outcome"]),
                    *([row["layer"]] if "layer" in row else []),
                    NAMES[row["effect"]],
                ),
                *(value, "" if share else row["unit"], "" if row["p"] != row["p"] else probability(row["p"])),
                *(probability(row["p_placebo"]) if beside else "", excess, f"{row['n']:.0f}"),
            ]
        )
    layer = ["layers"] if "layer" in rows else []
    head = ["task", "outcome", *layer, "effect", "value", "unit", "p (flips)", "p (placebos)", "excess", "n"]
    counts = listed([str(int(k)) for k in sorted(rows.loc[rows["placebos"] > 0, "placebos"].unique())] or ["no"])
    note = f"{counts} placebo directions; excess: size beyond their root mean square. {stated(rows)}"
    return Table(title, head, body, source, note)


NAMES = {
    "total": "total effect",
    "indirect": "natural indirect effect: control with the treatment's concept",
    "direct": "natural direct effect: treatment with the control's concept",
    "interaction": "interaction",
    "removed": "total minus direct: lost with the control's concept",
    "proportion": "proportion mediated: indirect / total",
    "slope": "slope (odd part)",
    "curvature": "curvature (even part)",
}


def plain_table(rows: "pandas.DataFrame", title: str, source: str, *, columns: Sequence[str], note: str = "") -> Table:
    """Columns of a frame as they are; value, low and high become one column, numbers are rounded.

    Args:
        rows: the frame.
        title: over the table.
        source: file of the run.
        columns: that are shown; "value" stands for value, low and high.
        note: under the table, before level and n.
    """
    body = [
        [estimate(row) if name == "value" else _shown(row[name], name) for name in columns]
        for row in rows.to_dict("records")
    ]
    said = f"{note} {stated(rows)}".strip() if {"level", "n"} <= set(rows) else note
    return Table(title, [plain(name) for name in columns], body, source, said)


def _shown(value: Any, name: str) -> str:
    if value is None or value != value:
        return ""
    if isinstance(value, float):
        return probability(value) if name == "p" else number(value)
    return str(value)
