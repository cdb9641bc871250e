"""What a verdict is made of: states of a link, and the rules by which an interval decides.

A link is `shown` where the 95 % interval leaves 0 out, the signs of items flipped give p <= 5 %, corrected for rounds
and tasks, and, for interventions, the effect is beyond that of placebos. It is `absent` where the whole interval lies
inside the margin of what does not matter. Both at once: `small`. Neither: `undecided`, which is no evidence of absence.
`contrary`: shown, but the other way round than the link says. `missing`: the run does not hold the numbers.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from mechmsc.report.words import number, percent

STATES = {
    "shown": "shown",
    "small": "shown, but smaller than the margin",
    "absent": "no effect that matters",
    "contrary": "shown, the other way round",
    "undecided": "not decided",
    "missing": "not measured",
}
"""State -> how a reader is told."""
OF_CHAIN = {
    "shown": "holds in these data",
    "small": "not shown",
    "absent": "does not hold in these data",
    "contrary": "does not hold as claimed",
    "undecided": "not decided",
    "missing": "not decided: links were not measured",
}
"""State of the chain as a whole -> how a reader is told."""
LINKS = {
    "performance": "Does the instruction move performance?",
    "concept": "Does the instruction move the concept?",
    "fall": "Does uncertainty fall over rounds?",
    "fall_beyond": "Does it fall more than in the control arm?",
    "uncertainty": "Does the instruction move uncertainty?",
    "mediation": "Does the concept carry part of the instruction's effect on uncertainty?",
    "dose": "Does turning the concept up or down move uncertainty?",
}
"""In the order of the verdict."""
RESOLUTION = 1e-5
"""Effects below this are rounding (`causal.mediation_effects.RESOLUTION`)."""


class Finding(NamedTuple):
    """What a run says about one link, for one task."""

    task: str
    link: str
    """A key of `LINKS`, or "chain"."""
    state: str
    """A key of `STATES`."""
    sign: int
    """1 where treatment, or more of the concept, raises the quantity; -1: lowers it; 0: neither is shown."""
    sentence: str
    source: str = ""
    """File of the run that holds the numbers."""
    better: int = 0
    """Of performance: 1 where it is better under the treatment, -1 where worse."""


def told(finding: Finding) -> str:
    """The state of a finding as a reader is told."""
    return (OF_CHAIN if finding.link == "chain" else STATES)[finding.state]


def sure(row: Mapping[str, Any], *, family: int = 1) -> bool:
    """The interval leaves 0 out, and p, corrected for a family of so many tests, is at most 1 - level."""
    out = row["low"] > RESOLUTION or row["high"] < -RESOLUTION  # False for nan
    return bool(out and row["p"] * family <= 1 - row["level"] + 1e-12)


def within(row: Mapping[str, Any]) -> bool:
    """The whole interval lies inside the margin: equivalence, by a stricter interval than its test at 5 % asks for.

    Where no item differs in an outcome of 0 or 1, a bootstrap shrinks to a point whatever n is; then the share of items
    that may differ (Wilson's interval of 0 of n) must lie inside the margin.
    """
    if hidden := hidden_share(row):
        return bool(hidden < row["margin"])
    return bool(-row["margin"] < row["low"] and row["high"] < row["margin"])


def hidden_share(row: Mapping[str, Any]) -> float:
    """Largest share of items that may differ though none of these n does; 0 where the interval is no single point."""
    if not (str(row["unit"]).startswith("fraction") and row["high"] - row["low"] < RESOLUTION and abs(row["low"]) < 1):
        return 0.0
    from mechmsc.estimate import proportion_interval

    return float(proportion_interval(0.0, int(row["n"]), level=float(row["level"]))[1])


def too_few(row: Mapping[str, Any]) -> bool:
    """So few items that flipping signs can never reach p <= 1 - level; bootstrap intervals of them are too narrow."""
    return 2.0 ** (1 - int(row["n"])) > 1 - row["level"] + 1e-12


def few_words(row: Mapping[str, Any]) -> str:
    """What is said of too few items."""
    needed = next(n for n in range(2, 60) if 2.0 ** (1 - n) <= 1 - row["level"] + 1e-12)
    return (
        f"not decided: {row['n']:.0f} item{'s are' if row['n'] != 1 else ' is'} too few to tell anything from chance; "
        f"{needed} are the fewest with which a test at {percent(1 - row['level'])} can succeed"
    )


def unsettled(row: Mapping[str, Any], unit: str = "") -> str:
    """What an interval that decides nothing leaves open, against the margin."""
    if hidden := hidden_share(row):
        return (
            f"no item differs, which with {row['n']:.0f} items leaves a share of up to {number(hidden)} that may, "
            f"against a margin of \u00b1{row['margin']:g}: absence is not shown either"
        )
    reach = max(abs(row["low"]), abs(row["high"]))
    width = (row["high"] - row["low"]) / (2 * row["margin"])
    margin = f"\u00b1{row['margin']:g} {unit}".strip()
    return (
        f"the interval is {number(width, 1 if width > 1 else None)} times as wide as the margin of {margin} and "
        f"effects up to {number(reach)} are not excluded: absence is not shown either"
    )
