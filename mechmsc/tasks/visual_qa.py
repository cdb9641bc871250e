"""Visual question answering: a picture, a question about it, and options.

MMVP: Tong et al. 2024, arXiv:2401.06209, pairs of pictures that are alike to a vision encoder; a pair counts only if
both answers are right. POPE: Li et al. 2023, arXiv:2305.10355. VSR: Liu et al. 2023, arXiv:2205.00363.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from mechmsc.tasks.images import find_image
from mechmsc.tasks.reading import Row, read_csv, read_jsonl
from mechmsc.tasks.records import LETTERS, Item, Task

MMVP = ("Index", "Question", "Options", "Correct Answer")
POPE = ("question_id", "image", "text", "label")
VSR = ("image", "caption", "label", "relation")
FORMATS = (
    f"MMVP CSV ({','.join(MMVP)})",
    f"POPE JSON Lines ({', '.join(POPE)})",
    f"VSR JSON Lines ({', '.join(VSR)})",
)
ENDINGS = (".jpg", ".png", ".jpeg", ".JPG", ".PNG")
VERDICTS = ("yes", "no")


def read(path: Path) -> Iterator[Item]:
    """Items of an MMVP file (a name in .csv), or of a POPE or VSR file (JSON Lines), whose fields decide which.

    Pictures stand beside the file or in a folder beside it (`images.FOLDERS`): those of MMVP are named by their index.
    An MMVP item has `metadata["pair"]`: rows 2k - 1 and 2k are pair k.

    Raises:
        InputError: none of the formats; names file and line.
    """
    expected = " or ".join(FORMATS)
    if path.suffix.lower() == ".csv":
        yield from map(_mmvp, read_csv(path, layouts=(MMVP,), expected=expected))
        return
    for row in read_jsonl(path, expected=expected):
        if "caption" in row.values:
            row.require(VSR, expected=expected)
            yield _vsr(row)
        else:
            row.require(POPE, expected=expected)
            yield _pope(row)


def _mmvp(row: Row) -> Item:
    """A question about one picture of a pair."""
    index = row.text("Index").strip()
    if not re.fullmatch(r"[1-9]\d{0,8}", index):
        raise row.wrong(f"'Index' must be a whole number from 1, got {index!r}")
    options = _options(row)
    answer = row.text("Correct Answer").strip().lower().strip("().")
    letters = LETTERS[: len(options)]
    if len(answer) != 1 or answer not in letters:
        raise row.wrong(f"'Correct Answer' must be one of (a) to ({letters[-1]}), got {row.values['Correct Answer']!r}")
    return Item(
        item_id=f"{TASK.name}/{index}",
        task=TASK.name,
        question=row.text("Question").strip(),
        options=options,
        gold=letters.index(answer),
        image=find_image([f"{index}{ending}" for ending in ENDINGS], row.path),
        metadata={"line": row.line, "pair": str((int(index) + 1) // 2)},
    )


def _options(row: Row) -> tuple[str, ...]:
    """Options from a text such as "(a) Open (b) Closed"."""
    text = row.text("Options").strip()
    before, *parts = re.split(r"\(([a-zA-Z])\)\s*", text)
    named, options = [letter.lower() for letter in parts[::2]], tuple(part.strip() for part in parts[1::2])
    if before or len(options) < 2 or named != list(LETTERS[: len(options)]) or not all(options):
        raise row.wrong(f"'Options' must be two or more as in '(a) Open (b) Closed', got {text[:60]!r}")
    return options


def _pope(row: Row) -> Item:
    """Is there such a thing in the picture?"""
    number = row.integer("question_id")
    return Item(
        item_id=f"{TASK.name}/pope-{number}",
        task=TASK.name,
        question=row.text("text").strip(),
        options=("Yes", "No"),
        gold=VERDICTS.index(row.one_of("label", VERDICTS)),
        image=find_image([row.text("image").strip()], row.path),
        metadata={"line": row.line, "question_id": number},
    )


def _vsr(row: Row) -> Item:
    """Is the caption true of the picture?"""
    label = row.integer("label")
    if label not in (0, 1):
        raise row.wrong(f"'label' must be 1 (the caption is true) or 0, got {label}")
    names = ("caption", "relation", "subj", "obj")
    return Item(
        item_id=f"{TASK.name}/vsr-{row.id}",
        task=TASK.name,
        question=f"Is this true of the picture? {row.text('caption').strip()}",
        options=("Yes, it is true.", "No, it is false."),
        gold=1 - label,
        image=find_image([row.text("image").strip()], row.path),
        metadata={"line": row.line, **{name: row.values.get(name) for name in names}},
    )


TASK = Task(
    name="visual_qa",
    title="Visual QA",
    concept=None,
    formats=FORMATS,
    read=read,
    data="visual_qa/Questions.csv",
    scorer=None,
    answer_prefix="The best answer is:",
)
