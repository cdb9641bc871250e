"""Commands that hold conversations and show them: run, show, demo."""

from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer

from mechmsc.cli.shared import Permutations, given
from mechmsc.errors import InputError


def run(
    task: Annotated[list[str], typer.Option(help="A task; give the option again for several.")],
    out: Annotated[str, typer.Option(help="Run folder, a path or an fsspec URL. The same command resumes.")],
    items: Annotated[list[str] | None, typer.Option(help="A file of items, once per task in the same order.")] = None,
    limit: Annotated[int | None, typer.Option(help="The first N items of each task.")] = None,
    model: Annotated[str | None, typer.Option(help="Embedded name, hub id, folder or GGUF file.")] = None,
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit of a hub model.")] = None,
    engine: Annotated[str | None, typer.Option(help="hooked or bridge; left out: hooked where it can be.")] = None,
    arms: Annotated[str | None, typer.Option(help="E.g. moral,neutral,none,moral+immoral@2/5/8.")] = None,
    rounds: Annotated[int | None, typer.Option(help="Rounds of each conversation.")] = None,
    samples: Annotated[int | None, typer.Option(help="Samples a round, beside the greedy main line.")] = None,
    temperature: Annotated[float | None, typer.Option(help="Of the samples.")] = None,
    top_p: Annotated[float | None, typer.Option(help="Of the samples.")] = None,
    max_new_tokens: Annotated[int | None, typer.Option(help="Longest response.")] = None,
    choice_mode: Annotated[str | None, typer.Option(help="forced_choice or free, for questions with options.")] = None,
    permutations: Permutations = None,
    system: Annotated[str | None, typer.Option(help="System prompt; left out: the template's own.")] = None,
    sites: Annotated[str | None, typer.Option(help="Activations to keep, e.g. resid_post.prompt_end; or none.")] = None,
    scorer: Annotated[str | None, typer.Option(help="Of free responses; left out: each task's own.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Conversations held at once.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, mps.")] = None,
    dtype: Annotated[str | None, typer.Option(help="float32, bfloat16, float16.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of the samples.")] = None,
    decoder: Annotated[str | None, typer.Option(help="huggingface (fast) or hooked (hooks act).")] = None,
) -> None:
    """Hold self-correction conversations, with activations, into a run folder."""
    held = given(
        rounds=rounds,
        samples=samples,
        temperature=temperature,
        top_p=top_p,
        max_new_tokens=max_new_tokens,
        choice_mode=choice_mode,
        permutations=permutations,
        seed=seed,
        decoder=decoder,
    )
    rest = given(arms=arms, system=system, sites=sites, scorer=scorer, batch_size=batch_size)
    loading = given(name_or_path=model, revision=revision, device=device, dtype=dtype, engine=engine)
    asked = _checked(task, items or [], limit, held, rest, loading, out)

    from mechmsc.model import load_model
    from mechmsc.rounds import self_correct

    finished = self_correct(load_model(**loading), asked, **held, **rest, out=out)
    typer.echo(f"{finished.path}: {finished.status}, {len(finished.transcripts)} conversation rounds")


def _checked(
    task: Sequence[str],
    files: Sequence[str],
    limit: int | None,
    held: dict[str, Any],
    rest: dict[str, Any],
    loading: dict[str, Any],
    out: str,
) -> list[Any]:
    """The items, after everything that can be wrong without a model has been looked at."""
    from mechmsc import runs
    from mechmsc.instructions import parse_arms
    from mechmsc.scorers import get_scorer
    from mechmsc.settings import ARMS, BATCH_SIZE, Settings, check_loading, check_settings
    from mechmsc.sites import DEFAULT_SITES, parse_sites
    from mechmsc.tasks import load_items
    from mechmsc.weights import check_name

    if len(set(task)) < len(task):
        raise InputError(f"a task can be given once in a run, got {', '.join(task)}")
    if files and len(files) != len(task):
        raise InputError(f"expected --items once per --task ({len(task)}) or not at all, got {len(files)}")
    paths = files or [None] * len(task)
    items = [item for name, path in zip(task, paths, strict=True) for item in load_items(name, path=path, limit=limit)]
    settings = Settings(**held)
    check_settings(settings, items, batch_size=rest.get("batch_size", BATCH_SIZE))
    parse_arms(rest.get("arms", ARMS), rounds=settings.rounds)
    parse_sites(rest.get("sites", DEFAULT_SITES))
    if "scorer" in rest:
        get_scorer(rest["scorer"])
    if "name_or_path" in loading:
        check_name(loading["name_or_path"])
    check_loading(**{name: loading.get(name) for name in ("device", "dtype", "engine")})
    runs.check_out(out)
    return items


def show(
    run: Annotated[str, typer.Argument(help="Run folder.")],
    item: Annotated[str | None, typer.Option(help="Show the conversations about this item, arms side by side.")] = None,
) -> None:
    """Show what a run holds, or one item's conversations."""
    from rich.console import Console

    from mechmsc.runs import open_run
    from mechmsc.show import conversation, run_overview

    opened = open_run(run)
    Console().print(run_overview(opened) if item is None else conversation(opened, item))


def demo(
    out: Annotated[str, typer.Option(help="Run folder.")] = "runs/demo",
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, mps.")] = None,
) -> None:
    """Run two tasks on the embedded model and draw the figures: some minutes on two cores. Resumes."""
    from mechmsc.demo import run_demo

    for path in run_demo(out, **given(device=device)):
        typer.echo(path)


COMMANDS: tuple[Callable[..., None], ...] = (run, show, demo)
"""In the order of the help."""
