"""Commands that list what there is: models, tasks."""

import typer

from mechmsc.cli.shared import print_table

models = typer.Typer(no_args_is_help=True, help="Models that can be had without a hub.")
tasks = typer.Typer(no_args_is_help=True, help="What conversations are held about.")


@models.command("list")
def list_models() -> None:
    """List the embedded models, and whether each is in the cache."""
    from mechmsc.weights import MODELS, is_fetched

    print_table(
        ("model", "licence", "in the cache", "note"),
        [(name, m.licence, "yes" if is_fetched(name) else "no", m.note) for name, m in MODELS.items()],
    )


@models.command("fetch")
def fetch_model(name: str) -> None:
    """Fetch an embedded model's weights, check them, and keep them ready in the cache."""
    from mechmsc.weights import fetch

    typer.echo(fetch(name, progress=lambda text: typer.echo(text, err=True)))


@tasks.command("list")
def list_tasks() -> None:
    """List the tasks, the published formats that each reads, and how responses are scored."""
    from mechmsc.tasks import TASKS, load_items

    print_table(
        ("task", "reads", "score", "items inside"),
        [
            (name, " or ".join(task.formats), task.scorer or "accuracy", str(len(load_items(name))))
            for name, task in TASKS.items()
        ],
    )
