"""The chain as a whole: claimed only where every link is shown and all signs fit; else which link is missing."""

from collections.abc import Mapping

from mechmsc.report.judging import STATES, Finding
from mechmsc.report.words import listed

CORE = ("concept", "uncertainty", "mediation", "dose")
"""instruction -> concept -> uncertainty, by intervention."""
WHOLE = ("performance", "fall", *CORE)
NAMES = {
    "performance": "instruction to performance",
    "concept": "instruction to concept",
    "uncertainty": "instruction to uncertainty",
    "fall": "fall of uncertainty over rounds",
    "mediation": "concept as carrier of the effect",
    "dose": "concept to uncertainty",
}
UNTESTED = (
    "That uncertainty in turn moves performance is not tested by any of these interventions: the two are seen to move "
    "together, or not"
)


def chain(task: str, findings: Mapping[str, Finding]) -> Finding:
    """The first sentence about a task.

    No correction for the number of links is needed: the chain is claimed only where each of them passes its own test.

    Args:
        task: its name.
        findings: link -> finding.
    """
    broken = {link: findings[link].state for link in WHOLE if findings[link].state != "shown"}
    core = [link for link in CORE if link in broken]
    clash = [] if core else _clashes(findings)
    if not broken and not clash:
        lower = findings["uncertainty"].sign < 0
        better = findings["performance"].better
        if lower and better > 0:
            said = "Every link holds in these data: the instruction moves the concept, the concept carries part of its "
            said += f"effect, which is to lower uncertainty, and performance is better. {UNTESTED}."
            return Finding(task, "chain", "shown", 0, said)
        what = f"{'lowers' if lower else 'raises'} uncertainty, and performance is "
        what += {1: "better", -1: "worse", 0: "better in some rounds and worse in others"}[better]
        said = f"Every link is shown, but not as the claim has it: the instruction {what}. {UNTESTED}."
        return Finding(task, "chain", "contrary", 0, said)
    parts = []
    if not core and not clash:
        way = "lowers" if findings["mediation"].sign < 0 else "raises"
        parts.append(
            f"The part instruction to concept to uncertainty holds: through the concept the instruction {way} it"
        )
    parts.append(f"The chain as a whole is not shown. {_lacking(broken, clash)}")
    return Finding(task, "chain", _state(broken, clash), 0, f"{'. '.join(parts)}. {UNTESTED}.")


def _clashes(findings: Mapping[str, Finding]) -> list[str]:
    """Links that are shown, and do not fit together."""
    concept, uncertainty, mediation, dose = (findings[link].sign for link in CORE)
    found = []
    if mediation != uncertainty:
        found.append("the effect through the concept and the difference between the arms have different signs")
    if concept * dose != mediation:
        found.append(
            "what the instruction does to the concept, times what the concept does to uncertainty, has another sign "
            "than the effect through the concept"
        )
    return found


def _lacking(broken: Mapping[str, str], clash: list[str]) -> str:
    parts = []
    for state, word in STATES.items():
        links = [NAMES[link] for link, now in broken.items() if now == state]
        if links:
            parts.append(f"{listed(links)} ({word})")
    said = []
    if parts:
        said.append(f"Lacking: {'; '.join(parts)}")
    if clash:
        said.append(f"What is shown does not fit together: {'; '.join(clash)}")
    if "undecided" in broken.values() or "missing" in broken.values():
        said.append("Where a link is not decided or not measured, absence of evidence is not evidence of absence")
    return ". ".join(said)


def _state(broken: Mapping[str, str], clash: list[str]) -> str:
    """The worst of the links: one that is known not to hold breaks the chain, whatever else is open."""
    if "absent" in broken.values():
        return "absent"
    if "contrary" in broken.values() or clash:
        return "contrary"
    return next((state for state in ("undecided", "missing") if state in broken.values()), "small")
