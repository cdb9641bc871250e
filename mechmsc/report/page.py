"""RUN/report.html: verdict, tables, figures and settings in one file that needs nothing else to be read or printed."""

import base64
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mechmsc.errors import InputError
from mechmsc.report.contrasts import arms_of
from mechmsc.report.drawing import figures_of, store_figure
from mechmsc.report.judging import LINKS, Finding, told
from mechmsc.report.reading import evidence_of, missing_of, sizes, tasks_of
from mechmsc.report.sections import Section, sections_of
from mechmsc.report.verdict import verdict
from mechmsc.runs import Run
from mechmsc.runs.effects import write_effect

if TYPE_CHECKING:
    import pandas

NAME = "report.html"
TEMPLATE = "page.html"
COLOURS = 128
"""Of an embedded picture: lines and text look the same, in a third of the bytes."""
CHAIN = "Does the chain hold as a whole?"


def write_report(
    run: Run, *, treatment: str | None = None, control: str | None = None, seed: int = 0
) -> tuple[str, list[Finding]]:
    """Draw the figures that the run has numbers for, judge its chain, and write the page.

    Numbers that are computed here go into RUN/effects/contrasts.parquet and verdict.parquet, so that everything on the
    page stands in a file of the run.

    Args:
        run: finished, or as far as it is.
        treatment: arm whose effect is judged; None: moral, else the first that is no control.
        control: arm that it is compared with; None: neutral, else none.
        seed: of bootstraps and sign flips.

    Returns:
        The file, and the verdict.

    Raises:
        InputError: the run has no such arm, or nothing was committed to it.
        RunError: an effect is damaged, or the disk refuses.
    """
    if run.transcripts.empty:
        raise InputError(f"{run.path} holds no conversations yet: repeat its mechmsc run command to go on")
    treatment, control = arms_of(run, treatment, control)
    tables = evidence_of(run, treatment=treatment, control=control, seed=seed)
    findings = verdict(**tables, tasks=tasks_of(run), missing=missing_of(run, treatment, control))
    _keep(run, tables["contrasts"], findings, {"treatment": treatment, "control": control, "seed": seed})
    sections = sections_of(run, tables["contrasts"], _drawn(run))
    run.folder.write(NAME, _page(run, findings, sections).encode())
    return run.folder.at(NAME), findings


def verdict_lines(run: Run, findings: Sequence[Finding]) -> list[str]:
    """The verdict as lines of plain text."""
    lines = [sizes(run)]
    for one in findings:
        lines.append(f"{one.task} | {LINKS.get(one.link, CHAIN)} {told(one).upper()}. {one.sentence}")
    return lines


def _keep(run: Run, contrasts: "pandas.DataFrame", findings: Sequence[Finding], arguments: Mapping[str, Any]) -> None:
    import importlib.metadata

    import pandas as pd

    versions = {name: importlib.metadata.version(name) for name in ("mechmsc", "numpy", "pandas")}
    settings = {"arguments": dict(arguments), "versions": versions}
    write_effect(run.folder, "contrasts", contrasts, {"analysis": "contrasts", **settings})
    write_effect(run.folder, "verdict", pd.DataFrame(findings), {"analysis": "verdict", **settings})


def _drawn(run: Run) -> "dict[str, pandas.DataFrame]":
    """Every figure that there are numbers for, drawn anew, so that none is older than the tables beside it."""
    found = {}
    for name in figures_of(run):
        try:
            found[name] = store_figure(run, name)[1]
        except InputError:
            continue  # not measured or analysed yet: its section says so
    return found


def _page(run: Run, findings: Sequence[Finding], sections: Sequence[Section]) -> str:
    import jinja2

    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    pages = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    by_task = {task: [one for one in findings if one.task == task] for task in tasks_of(run)}
    return pages.get_template(TEMPLATE).render(
        title=f"{Path(str(run.path)).name}: moral self-correction",
        sizes=sizes(run),
        verdict=by_task,
        links=LINKS | {"chain": CHAIN},
        told=told,
        sections=[(section, _pictures(run, section.figures)) for section in sections],
        settings=_settings(run),
        instructions=_instructions(run),
    )


def _pictures(run: Run, names: Sequence[str]) -> list[tuple[str, str]]:
    """Name and data URI of the figures that there are."""
    found = []
    for name in names:
        data = run.folder.read(f"figures/{name}.png")
        if data is not None:
            found.append((name, f"data:image/png;base64,{base64.b64encode(_smaller(data)).decode()}"))
    return found


def _smaller(png: bytes) -> bytes:
    """The same picture with a palette."""
    from PIL import Image

    buffer = io.BytesIO()
    with Image.open(io.BytesIO(png)) as picture:
        picture.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _settings(run: Run) -> list[tuple[str, str]]:
    """What run.json says of how the run was made."""
    manifest = run.manifest
    rows = [("status", manifest["status"])]
    for part in ("model", "config", "seeds", "versions"):
        for key, value in manifest[part].items():
            if key == "item_ids":
                value = f"{len(value)} items"
            rows.append((f"{part}: {key}", value if isinstance(value, str) else json.dumps(value)))
    return rows


def _instructions(run: Run) -> list[tuple[str, str, str, str]]:
    """Task, arm, round and text of the first instructions that were given."""
    rows = run.transcripts
    rows = rows[rows["instruction"].notna() & (rows["round"] <= 2)].drop_duplicates(["task", "arm", "round"])
    return [
        (str(row["task"]), str(row["arm"]), str(row["round"]), str(row["instruction"]))
        for row in rows.to_dict("records")
    ]
