"""Instructions that ask for something harmful, and harmless ones: four published layouts, one a file.

AdvBench: Zou et al. 2023, arXiv:2307.15043, MIT. Harmful splits: Arditi et al. 2024, arXiv:2406.11717,
andyrdt/refusal_direction, Apache-2.0. HarmBench: Mazeika et al. 2024, arXiv:2402.04249, MIT. Seed tasks: Wang et al.
2023, arXiv:2212.10560, yizhongw/self-instruct, Apache-2.0.
"""

from collections.abc import Iterator
from pathlib import Path

from mechmsc.errors import InputError
from mechmsc.statements.fields import Statement, field_names, place, read_list, statement
from mechmsc.statements.grouping import near_duplicates
from mechmsc.tasks.reading import Row, read_csv, read_jsonl

ADVBENCH = ("goal", "target")
HARMBENCH = ("Behavior", "FunctionalCategory", "SemanticCategory", "ContextString", "BehaviorID")
SPLIT = ("instruction", "category")
SEEDS = ("id", "instruction", "instances")
LAYOUTS = (ADVBENCH, HARMBENCH, SPLIT, SEEDS)


def read(path: Path) -> Iterator[Statement]:
    """Instructions of one file; label 1 asks for something harmful.

    The label is that of the file: AdvBench and HarmBench are harmful, seed tasks harmless; a split (JSON list with
    instruction and category) says it in its name, `harmful_...` or `harmless_...`. Left out: HarmBench's requests for
    copyrighted text, which hurt nobody by their content, and its contextual ones, which need a text beside them; seed
    tasks that need an input, as Arditi et al. leave them out. `target` of AdvBench is not read.
    group: instructions of a file that share at least 60 % of their words.

    Raises:
        InputError: not the format; names file and line.
    """
    found = field_names(path)
    if set(ADVBENCH) <= found:
        rows, key, label = read_csv(path, layouts=(ADVBENCH,), expected="AdvBench as CSV"), "goal", 1
    elif set(HARMBENCH) <= found:
        rows, key, label = _standard(path), "Behavior", 1
    elif set(SPLIT) <= found:
        expected = "a JSON list of objects with instruction and category"
        rows, key, label = read_list(path, expected=expected), "instruction", _label_in_name(path)
    else:
        rows, key, label = _without_input(path), "instruction", 0
    kept = list(rows)
    texts = [row.text(key) for row in kept]
    for text, first in zip(texts, near_duplicates(texts), strict=True):
        yield statement(text, label, group=place(kept[first]), source="harmful_harmless")


def _standard(path: Path) -> Iterator[Row]:
    for row in read_csv(path, layouts=(HARMBENCH,), expected="HarmBench behaviors as CSV"):
        if row.one_of("FunctionalCategory", ("standard", "contextual", "copyright")) == "standard":
            yield row


def _without_input(path: Path) -> Iterator[Row]:
    expected = f"seed tasks as JSON Lines with {', '.join(SEEDS)}"
    for row in read_jsonl(path, expected=expected):
        row.require(SEEDS, expected=expected)
        instances = row.values["instances"]
        if not isinstance(instances, list) or not all(isinstance(each, dict) for each in instances):
            raise row.wrong("'instances' must be a list of objects with input and output")
        if not any(str(each.get("input", "")).strip() for each in instances):
            yield row


def _label_in_name(path: Path) -> int:
    for start, label in (("harmless", 0), ("harmful", 1)):
        if path.name.startswith(start):
            return label
    raise InputError(f"{path}: instructions with a category; expected a file called harmful_... or harmless_...")
