"""A run in the terminal: what it holds, and a conversation by round with the arms side by side."""

from typing import TYPE_CHECKING, Any

from mechmsc.errors import InputError, nearest
from mechmsc.runs import Run
from mechmsc.tasks.records import LETTERS

if TYPE_CHECKING:
    import pandas
    from rich.console import RenderableType

GOOD, BAD, QUIET = "green", "red", "dim"
Row = dict[str, Any]


def run_overview(run: Run) -> "RenderableType":
    """What the run is, and a row an item: the score of each arm after its last round."""
    from rich.console import Group
    from rich.text import Text

    config, table = run.manifest["config"], run.transcripts
    planned = sum(len(batch["rows"]) for batch in run.manifest["plan"])
    done = table[["item_id", "arm"]].drop_duplicates().shape[0]
    lines = [
        f"run      {run.path}",
        f"status   {run.status}, {done} of {planned} conversations",
        f"model    {run.manifest['model']['name']} ({run.manifest['model']['sha256'][:12]}, {config['dtype']})",
        f"tasks    {', '.join(config['tasks'])}",
        f"rounds   {config['rounds']}, {config['samples']} samples each",
        f"arms     {', '.join(config['arms'])}",
    ]
    scores = [_last_scores(rows, config["arms"]) for _, rows in table.groupby("task", sort=False)]
    return Group(Text("\n".join(lines)), *scores, Text("mechmsc show RUN --item ID shows a conversation", QUIET))


def _last_scores(rows: "pandas.DataFrame", arms: list[str]) -> "RenderableType":
    """One task: a row an item, a column an arm, the score after the arm's last round."""
    from rich.table import Table
    from rich.text import Text

    measures = dict.fromkeys(filter(None, map(_measure, rows.to_dict("records"))))
    grid = Table(
        title="; ".join(measures), title_justify="left", caption="after the last round", caption_justify="left"
    )
    grid.add_column("item", no_wrap=True)
    for arm in arms:
        grid.add_column(arm, justify="right")
    for item_id, same in rows.groupby("item_id", sort=False):
        last = {row["arm"]: row for row in same.sort_values("round").to_dict("records")}
        grid.add_row(item_id, *(_score(last[arm]) if arm in last else Text("-", QUIET) for arm in arms))
    return grid


def conversation(run: Run, item_id: str) -> "RenderableType":
    """One item's conversations, a row a round, a column an arm.

    Raises:
        InputError: the run has no such item; names the nearest.
    """
    from rich.console import Group
    from rich.panel import Panel
    from rich.table import Table
    from rich.text import Text

    table = run.transcripts
    rows = table[table["item_id"] == item_id]
    if rows.empty:
        known = list(dict.fromkeys(table["item_id"]))
        raise InputError(f"{run.path} has no item {item_id!r}: {_some(item_id, known)}")
    arms = [arm for arm in run.manifest["config"]["arms"] if (rows["arm"] == arm).any()]
    grid = Table(show_lines=True, expand=True)
    grid.add_column("round", justify="right", width=5)
    for arm in arms:
        grid.add_column(arm, ratio=1, overflow="fold")
    for round, same in rows.groupby("round"):
        by_arm = {row["arm"]: row for row in same.to_dict("records")}
        grid.add_row(str(round), *(_cell(by_arm[arm]) if arm in by_arm else Text("") for arm in arms))
    first = rows.to_dict("records")[0]
    title, text = f"{item_id}  {_measure(first)}", Text()
    if isinstance(first.get("image"), str):  # runs of earlier versions have no such column
        text.append(f"{_picture(run, item_id, first['image'])}\n", QUIET)
    return Group(Panel(text.append(first["question"]), title=Text(title), title_align="left"), grid)


def _picture(run: Run, item_id: str, path: str) -> str:
    """Path and size of the picture that a question is about; the size as it was when it was asked."""
    size = next((item.metadata.get("image_size") for item in run.items if item.item_id == item_id), None)
    return f"picture {path}" + ("" if size is None else f" ({size[0]} x {size[1]} pixels)")


def _some(name: str, known: list[str]) -> str:
    text = nearest(name, known[:12])
    return text if len(known) <= 12 else f"{text} and {len(known) - 12} more"


def _cell(row: Row) -> "RenderableType":
    from rich.text import Text

    text = Text()
    if isinstance(row["instruction"], str):  # a missing text is nan in pandas
        text.append(f"{row['instruction']}\n\n", QUIET)
    text.append(row["response"].strip() or "(nothing)")
    text.append(f"  [{row['stop_reason']}]\n", QUIET)
    if row["choice_probs"] is not None:
        text.append(" ".join(f"({LETTERS[i]}) {p:.2f}" for i, p in enumerate(row["choice_probs"])) + "  ")
        text.append(f"choice {_label(row['choice'])}, right is {_label(row['gold'])}\n")
    return text.append(_score(row))


def _label(option: Any) -> str:
    import pandas as pd

    return "none" if pd.isna(option) else f"({LETTERS[int(option)]})"


def _score(row: Row) -> Any:
    import pandas as pd
    from rich.text import Text

    if pd.isna(row["score"]):
        return Text("no score", QUIET)
    if row["score_name"] == "accuracy":
        return Text("right", GOOD) if row["score"] else Text("wrong", BAD)
    return Text(f"{row['score']:.3f}")


def _measure(row: Row) -> str:
    return "" if not isinstance(row["score_name"], str) else f"{row['score_name']}, {row['score_direction']} is better"
