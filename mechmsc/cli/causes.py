"""Commands that ask for causes: patch, dose, mediate, simulate."""

from collections.abc import Callable
from typing import Annotated, Any

import typer

from mechmsc.cli.analyses import Layers
from mechmsc.cli.shared import Permutations, given, print_frame
from mechmsc.errors import InputError, nearest

Task = Annotated[str | None, typer.Option(help="Items of this task alone; left out: all that have the outcome.")]


def dose(
    run: Annotated[str, typer.Argument(help="Run folder.")],
    direction: Annotated[str, typer.Option(help="The concept's direction, from mechmsc fit.")],
    outcome: Annotated[str | None, typer.Option(help="Outcomes, separated by commas.")] = None,
    task: Task = None,
    arm: Annotated[str | None, typer.Option(help="Whose conversations are steered.")] = None,
    layers: Layers = None,
    site: Annotated[str | None, typer.Option(help="Position that is steered, e.g. prompt_end.")] = None,
    strengths: Annotated[str | None, typer.Option(help="In class gaps, symmetric: -1,0,1.")] = None,
    rounds: Annotated[str | None, typer.Option(help="Rounds, separated by commas; left out: all.")] = None,
    placebos: Annotated[int | None, typer.Option(help="Random directions; left out: 99, or 20 with samples.")] = None,
    permutations: Permutations = None,
    samples: Annotated[int | None, typer.Option(help="Responses drawn, for outcomes through text.")] = None,
    validation: Annotated[
        float | None,
        typer.Option(help="Share of items, e.g. 0.25, to choose layer and strength on; the others are reported."),
    ] = None,
    name: Annotated[str, typer.Option(help="Name in RUN/effects.")] = "dose",
    model: Annotated[str | None, typer.Option(help="Left out: the model of the run, by its name.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, mps.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of placebos.")] = None,
) -> None:
    """Turn the concept up and down, and see what the outcome does beyond placebos."""
    options = given(arm=arm, task=task, site=site, placebos=placebos, permutations=permutations, seed=seed)
    if strengths is not None:
        options["strengths"] = _numbers("strengths", strengths, float)
    if validation is not None:
        options["validation"] = validation
    _analyse("store_dose", run, direction, outcome, layers, rounds, samples, name, model, device, options)


def mediate(
    run: Annotated[str, typer.Argument(help="Run folder.")],
    direction: Annotated[str | None, typer.Option(help="A direction, from mechmsc fit.")] = None,
    outcome: Annotated[str | None, typer.Option(help="Outcomes, separated by commas.")] = None,
    task: Task = None,
    treatment: Annotated[str | None, typer.Option(help="Arm x'.")] = None,
    control: Annotated[str | None, typer.Option(help="Arm x.")] = None,
    mediator: Annotated[str | None, typer.Option(help="concept or activation.")] = None,
    history: Annotated[str | None, typer.Option(help="shared (only the instruction differs) or own.")] = None,
    layers: Layers = None,
    site: Annotated[str | None, typer.Option(help="Position of the mediator, e.g. prompt_end.")] = None,
    rounds: Annotated[str | None, typer.Option(help="Rounds, separated by commas; left out: all.")] = None,
    placebos: Annotated[int | None, typer.Option(help="Random directions beside the concept's.")] = None,
    permutations: Permutations = None,
    samples: Annotated[int | None, typer.Option(help="Responses drawn, for outcomes through text.")] = None,
    name: Annotated[str, typer.Option(help="Name in RUN/effects.")] = "mediation",
    model: Annotated[str | None, typer.Option(help="Left out: the model of the run, by its name.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, mps.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of placebos.")] = None,
) -> None:
    """Does the instruction move the outcome through the concept? Total, indirect and direct effect."""
    if direction is None and mediator != "activation":
        raise InputError("expected --direction FILE (from mechmsc fit), or --mediator activation")
    options = given(
        treatment=treatment,
        control=control,
        task=task,
        mediator=mediator,
        history=history,
        site=site,
        placebos=placebos,
        permutations=permutations,
        seed=seed,
    )
    _analyse("store_mediation", run, direction, outcome, layers, rounds, samples, name, model, device, options)


def patch(
    run: Annotated[str, typer.Argument(help="Run folder.")],
    source_arm: Annotated[str, typer.Option("--from", help="Arm whose activations are taken.")],
    destination_arm: Annotated[str, typer.Option("--to", help="Arm whose conversations they are written into.")],
    round: Annotated[int, typer.Option(help="Round whose prompt is patched, from 1.")] = 1,
    component: Annotated[str, typer.Option(help="Components, separated by commas: resid_post, attn_out, z, ...")] = (
        "resid_post"
    ),
    span: Annotated[str, typer.Option(help="Span that is patched: instruction, question, prefix, prompt.")] = (
        "instruction"
    ),
    align: Annotated[str, typer.Option(help="last, mean or shared: how spans of unequal length meet.")] = "last",
    outcome: Annotated[str, typer.Option(help="Outcomes, separated by commas.")] = "choice_entropy",
    history: Annotated[str, typer.Option(help="shared (only the instruction differs) or own.")] = "shared",
    layers: Annotated[str | None, typer.Option(help="A layer or a band: 12, or 10-19; left out: all.")] = None,
    task: Task = None,
    limit: Annotated[int | None, typer.Option(help="The first N items.")] = None,
    name: Annotated[str, typer.Option(help="Name in RUN/effects and RUN/figures.")] = "patch",
    model: Annotated[str | None, typer.Option(help="Left out: the model of the run, by its name.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, mps.")] = None,
    seed: Annotated[int, typer.Option(help="Of bootstrap and permutations.")] = 0,
) -> None:
    """Patch activations of one arm into another, layer by token, and draw the map."""
    from mechmsc.runs import open_run
    from mechmsc.settings import check_layers, check_loading

    opened, band = open_run(run), check_layers(layers)
    check_loading(device=device)
    items = None if task is None else _items_of(opened, task)
    from mechmsc.patching import patch_run
    from mechmsc.runs.model import load_model_of

    patch_run(
        load_model_of(opened, model=model, device=device),
        opened,
        source_arm=source_arm,
        destination_arm=destination_arm,
        round=round,
        component=component.split(","),
        span=span,
        align=align,
        outcome=outcome.split(","),
        history=history,
        layers=None if band is None else list(band),
        items=items,
        limit=limit,
        seed=seed,
        name=name,
    )
    for folder in ("effects", "figures"):
        for file in opened.folder.names(folder):
            if file.startswith(f"{name}."):
                typer.echo(opened.folder.at(f"{folder}/{file}"))


def simulate(
    run: Annotated[str | None, typer.Argument(help="A measured run; left out: worlds whose truth is known.")] = None,
    out: Annotated[str | None, typer.Option(help="Folder for tables and figures; left out: RUN/effects.")] = None,
    source: Annotated[str | None, typer.Option(help="Direction whose concept is taken, of several.")] = None,
    uncertainty: Annotated[str | None, typer.Option(help="Measure of uncertainty; left out: what the run has.")] = None,
    layers: Layers = None,
    datasets: Annotated[int | None, typer.Option(help="Simulated data sets a cell.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of everything.")] = None,
) -> None:
    """Does prediction mean causation? The paper's test on a run; or on worlds in which the answer is known."""
    if run is None and out is None:
        raise InputError("without a run expected --out, a folder for the tables and figures of the simulation")
    from mechmsc.causal.simulation import store_simulation
    from mechmsc.settings import check_layers

    options = given(source=source, uncertainty=uncertainty, layers=check_layers(layers), datasets=datasets, seed=seed)
    tables, paths = store_simulation(run, out=out, **options)
    for table in tables.values():
        print_frame(table)
    for path in paths:
        typer.echo(path)


def _analyse(
    function: str,
    run: str,
    direction: str | None,
    outcome: str | None,
    layers: str | None,
    rounds: str | None,
    samples: int | None,
    name: str,
    model: str | None,
    device: str | None,
    options: dict[str, Any],
) -> None:
    """Open, load, call, print."""
    from mechmsc.runs import open_run
    from mechmsc.settings import check_layers, check_loading

    opened, band = open_run(run), check_layers(layers)
    check_loading(device=device)
    if (task := options.pop("task", None)) is not None:
        options["items"] = _items_of(opened, task)
    options |= given(layers=band, outcome=outcome.split(",") if outcome else None)
    if rounds is not None:
        options["rounds"] = _numbers("rounds", rounds, int)

    from mechmsc import causal
    from mechmsc.causal.outcomes import items_with, outcomes_named
    from mechmsc.directions import load_direction
    from mechmsc.runs.model import load_model_of

    if samples is not None:
        options["sampling"] = causal.Sampling(samples=samples)
    asked = [item for item in opened.items if item.item_id in options.get("items", [item.item_id])]
    items_with(outcomes_named(options.get("outcome", "choice_entropy")), asked)
    along = None if direction is None else load_direction(direction)
    if along is not None:
        along.check_model(opened.manifest["model"])
    loaded = load_model_of(opened, model=model, device=device)
    table, paths = getattr(causal, function)(loaded, opened, along, name=name, **options)
    print_frame(table)
    for path in paths:
        typer.echo(path)


def _items_of(run: Any, task: str) -> list[str]:
    tasks = list(dict.fromkeys(item.task for item in run.items))
    if task not in tasks:
        raise InputError(f"{run.path} has no task {task!r}: {nearest(task, tasks)}")
    return [item.item_id for item in run.items if item.task == task]


def _numbers(name: str, text: str, kind: Callable[[str], Any]) -> list[Any]:
    try:
        return [kind(part) for part in text.split(",")]
    except ValueError:
        raise InputError(f"{name}: expected numbers separated by commas, got {text!r}") from None


COMMANDS: tuple[Callable[..., None], ...] = (patch, dose, mediate, simulate)
"""In the order of the help."""
