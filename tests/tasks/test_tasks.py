"""What holds for every task: items of our own, ids, limits, and an import that stays light."""

import subprocess
import sys

import pytest

from mechmsc.tasks import TASKS, load_items


@pytest.mark.parametrize("task", TASKS)
def test_every_task_ships_at_least_forty_items_with_unique_ids_and_questions(task):
    items = load_items(task)
    assert len(items) >= 40
    asked = {(item.turn(), item.image) for item in items}
    assert len({item.item_id for item in items}) == len(asked) == len(items)
    assert all(item.task == task and item.item_id.startswith(f"{task}/") for item in items)


@pytest.mark.parametrize("task", TASKS)
def test_an_item_is_the_same_whatever_the_limit(task):
    items = load_items(task)
    assert load_items(task, limit=9) == items[:9] != items[1:10]
    assert load_items(task, limit=10**6) == items


@pytest.mark.parametrize("task", TASKS)
def test_a_task_has_a_prefix_for_choices_and_a_scorer_for_free_answers(task):
    known = TASKS[task]
    assert known.name == task and known.formats
    assert known.answer_prefix if any(item.options for item in load_items(task)) else known.scorer


def test_our_items_hold_no_markup_and_no_stray_spaces():
    for task in TASKS:
        for item in load_items(task):
            for text in (item.question, *item.options):
                assert text == text.strip() and "  " not in text and "<" not in text


def test_tasks_and_instructions_import_without_any_heavy_package():
    code = (
        "import sys; import mechmsc.tasks, mechmsc.instructions; "
        "print([m for m in ('torch', 'transformers', 'numpy', 'pandas', 'matplotlib', 'PIL') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    seen = subprocess.run([sys.executable, "-c", "import numpy;" + code], capture_output=True, text=True, check=True)
    assert seen.stdout.strip() == "['numpy']"  # the check can fail
