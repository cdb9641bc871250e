"""Commands that read: fit a direction, measure a run, draw, report."""

from collections.abc import Callable
from typing import Annotated

import typer

from mechmsc.cli.shared import given, print_frame
from mechmsc.errors import InputError, nearest

Layers = Annotated[str | None, typer.Option(help="A layer or a band: 12, or 10-19; left out: the middle half.")]


def fit(
    concept: Annotated[str, typer.Argument(help="What the direction stands for: toxicity, stereotyping, harmfulness.")],
    out: Annotated[str, typer.Option(help="File to write, .safetensors.")],
    data: Annotated[str | None, typer.Option(help="Labelled statements; left out: the set inside the package.")] = None,
    format: Annotated[str | None, typer.Option(help="Format of the data; left out: recognised.")] = None,
    limit: Annotated[int | None, typer.Option(help="The first N statements.")] = None,
    model: Annotated[str | None, typer.Option(help="Embedded name, hub id, folder or GGUF file.")] = None,
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit of a hub model.")] = None,
    method: Annotated[str, typer.Option(help="mass_mean, logistic, lda, caa, pair_svd or ccs.")] = "mass_mean",
    position: Annotated[str, typer.Option(help="Where statements are read: last, mean or prompt_end.")] = "last",
    context: Annotated[str, typer.Option(help="chat (a user turn) or raw.")] = "chat",
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, mps.")] = None,
    dtype: Annotated[str | None, typer.Option(help="float32, bfloat16, float16.")] = None,
    seed: Annotated[int, typer.Option(help="Of folds, fits and nulls.")] = 0,
) -> None:
    """Fit a concept direction, test it on statements held out, and draw the layer sweep beside it."""
    from mechmsc.settings import METHODS, STATEMENT_POSITIONS, check_loading
    from mechmsc.statements import load_statements
    from mechmsc.weights import check_name

    for name, value, known in (
        ("method", method, METHODS),
        ("position", position, STATEMENT_POSITIONS),
        ("context", context, ("chat", "raw")),
    ):
        if value not in known:
            raise InputError(f"unknown {name} {value!r}: {nearest(value, known)}")
    if not out.endswith(".safetensors"):
        raise InputError(f"--out must end in .safetensors, got {out!r}")
    loading = given(name_or_path=model, revision=revision, device=device, dtype=dtype)
    if model is not None:
        check_name(model)
    check_loading(device=device, dtype=dtype)
    statements = load_statements(concept, path=data, format=format, limit=limit)

    from mechmsc.directions.scripts import store_probe
    from mechmsc.model import load_model

    options = {"method": method, "position": position, "context": context, "seed": seed}
    table, paths = store_probe(load_model(**loading), statements, out=out, **options)
    print_frame(table)
    for path in paths:
        typer.echo(path)


def measure(
    run: Annotated[str, typer.Argument(help="Run folder.")],
    direction: Annotated[list[str] | None, typer.Option(help="Read the concept by this direction; repeatable.")] = None,
    uncertainty: Annotated[str | None, typer.Option(help="Measures, separated by commas; left out: what fits.")] = None,
    clusterer: Annotated[str | None, typer.Option(help="embedding, exact, entailment or non_contradiction.")] = None,
    nli_model: Annotated[str | None, typer.Option(help="Folder or hub id, for the last two.")] = None,
    position: Annotated[str | None, typer.Option(help="Positions to read the concept at, separated by commas.")] = None,
    layers: Layers = None,
    margin: Annotated[float | None, typer.Option(help="Largest change that does not matter to convergence.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of bootstraps and nulls.")] = None,
) -> None:
    """Measure a run: uncertainty, concept, calibration, bias, convergence, with intervals. Resumes."""
    from mechmsc.measures import measure_run
    from mechmsc.runs import open_run
    from mechmsc.settings import check_layers

    band = check_layers(layers)
    options = given(
        uncertainty=uncertainty,
        clusterer=clusterer,
        clusterer_options={"model": nli_model} if nli_model else None,
        positions=position.split(",") if position else None,
        layers=(band.start, band.stop - 1) if band else None,
        margin=margin,
        seed=seed,
    )
    measured = measure_run(open_run(run), direction=direction or None, **options)
    for name in ("measures", "summaries"):
        typer.echo(f"{measured.folder.at(f'{name}.parquet')}: {len(getattr(measured, name))} rows")


def figures(
    run: Annotated[str, typer.Argument(help="Run folder.")],
    names: Annotated[list[str] | None, typer.Argument(help="Figures; left out: all that there is.")] = None,
    format: Annotated[str, typer.Option(help="png, pdf, svg, separated by commas.")] = "png",
) -> None:
    """Draw figures into RUN/figures, each with a table of the numbers in it."""
    from mechmsc.report import make_figures
    from mechmsc.runs import open_run

    for path in make_figures(open_run(run), names or None, formats=format.split(",")):
        typer.echo(path)


def report(
    run: Annotated[str, typer.Argument(help="Run folder.")],
    treatment: Annotated[str | None, typer.Option(help="Arm that is judged; left out: moral.")] = None,
    control: Annotated[str | None, typer.Option(help="Arm it is compared with; left out: neutral, else none.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of bootstraps and sign flips.")] = None,
) -> None:
    """Write RUN/report.html: a verdict in words, figures, tables, settings on one page."""
    from mechmsc.report import verdict_lines, write_report
    from mechmsc.runs import open_run

    opened = open_run(run)
    path, findings = write_report(opened, **given(treatment=treatment, control=control, seed=seed))
    typer.echo(path)
    for line in verdict_lines(opened, findings):
        typer.echo(line)


COMMANDS: tuple[Callable[..., None], ...] = (fit, measure, figures, report)
"""In the order of the help."""
