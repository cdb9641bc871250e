"""From a run to its verdict: the numbers it holds, what it lacks, and which command would make that."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mechmsc.report.carried import dosed, mediated
from mechmsc.report.contrasts import arms_of, contrasts
from mechmsc.report.drawing import analyses_of
from mechmsc.report.judging import Finding
from mechmsc.report.verdict import verdict
from mechmsc.runs import Run

if TYPE_CHECKING:
    import pandas


def evidence_of(
    run: Run, *, treatment: str | None = None, control: str | None = None, seed: int = 0
) -> "dict[str, pandas.DataFrame]":
    """The tables that the verdict is read from: contrasts, and mediated and dosed where the run has such effects.

    Of several analyses of one kind each task gets the first that has it and is between the arms of the verdict.

    Raises:
        InputError: the run has no such arm.
        RunError: an effect is damaged.
    """
    found = {"contrasts": contrasts(run, treatment=treatment, control=control, seed=seed)}
    arms = arms_of(run, treatment, control)
    for key, analysis, read in (("mediated", "mediate", mediated), ("dosed", "dose_response", dosed)):
        tables = [read(run, name) for name, made in analyses_of(run).items() if made == analysis]
        rows = first_of_each_task(tables, *arms)
        if rows is not None:
            found[key] = rows
    return found


def first_of_each_task(
    tables: "Sequence[pandas.DataFrame]", treatment: str, control: str | None
) -> "pandas.DataFrame | None":
    """For each task the rows of the first analysis that has it, so that every task is read by its own concept.

    Args:
        tables: of `mediated` or `dosed`; those between other arms are left out.
        treatment: arm of the verdict.
        control: arm of the verdict.
    """
    import pandas as pd

    kept: list[pandas.DataFrame] = []
    for table in tables:
        if "treatment" in table:
            table = table[(table["treatment"] == treatment) & (table["control"] == control)]
        known = {task for rows in kept for task in rows["task"]}
        kept.append(table[~table["task"].isin(known)])
    kept = [rows for rows in kept if not rows.empty]
    return pd.concat(kept, ignore_index=True) if kept else None


def verdict_of(run: Run, *, treatment: str | None = None, control: str | None = None, seed: int = 0) -> list[Finding]:
    """The verdict on a run, link by link and task by task.

    Args:
        run: finished, or as far as it is.
        treatment: arm; None: moral, else the first that is no control.
        control: arm; None: neutral, else none.
        seed: of bootstraps and flips.

    Raises:
        InputError: the run has no such arm.
    """
    tables = evidence_of(run, treatment=treatment, control=control, seed=seed)
    missing = missing_of(run, *arms_of(run, treatment, control))
    return verdict(**tables, tasks=tasks_of(run), missing=missing)


def tasks_of(run: Run) -> list[str]:
    """Tasks of a run, in its order."""
    return list(dict.fromkeys(str(item).split("/")[0] for item in run.manifest["config"]["item_ids"]))


def missing_of(run: Run, treatment: str, control: str | None) -> dict[tuple[str, str], str]:
    """(task, link) -> what would make its numbers, in case they are not there."""
    alone = f"the run has no arm beside {treatment}; mechmsc run ... --arms moral,neutral"
    measure = f"mechmsc measure {run.path}"
    there, tasks = analyses_of(run), tasks_of(run)
    found: dict[tuple[str, str], str] = {}
    for task in tasks:
        links = {
            "performance": "no response of this task has a score in these arms",
            "concept": f"{measure} --direction FILE (from mechmsc fit)",
            "uncertainty": measure,
            "fall": f"it takes two rounds and {measure}",
            "fall_beyond": f"it takes two rounds in both arms and {measure}",
        }
        for link, command in (("mediation", "mediate"), ("dose", "dose")):
            links[link] = f"mechmsc {command} {run.path} --direction FILE"
            if len(tasks) > 1:
                links[link] += f" --task {task}"
            if link in there:  # of another task, and it shall stay
                links[link] += f" --name {link}_{task}"
        links["mediation"] += " --placebos 99"
        if control is None:
            links |= dict.fromkeys(("performance", "concept", "uncertainty", "fall_beyond", "mediation"), alone)
        found |= {(task, link): said for link, said in links.items()}
    return found


def sizes(run: Run) -> str:
    """How much was looked at, and what it can speak about."""
    from mechmsc.report.drawing import SMALL

    config, model = run.manifest["config"], run.manifest["model"]
    ids = [str(item).split("/")[0] for item in config["item_ids"]]
    items = ", ".join(f"{ids.count(task)} of {task}" for task in tasks_of(run))
    said = f"{len(ids)} items ({items}), arms {', '.join(map(str, config['arms']))}, {config['rounds']} rounds, "
    said += f"{config.get('samples', 0)} samples a round, model {model['name']}."
    if run.status != "complete":
        said += " The run is not complete: these numbers will change."
    if model["name"] in SMALL:
        return f"{said} A 135M model is a default that shows that the tools work; it is no evidence about large models."
    return f"{said} What is found speaks about this model, these items and these instructions alone."
