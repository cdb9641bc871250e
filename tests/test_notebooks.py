"""The interactive session: the notebook and the script that it is paired with agree, and its cells run."""

import json
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1] / "experiments"
SCRIPT, NOTEBOOK = ROOT / "notebooks" / "interactive_patching.py", ROOT / "interactive_patching.ipynb"


def cells_of_script(text: str) -> list[tuple[str, str]]:
    """(kind, source) of every cell of a percent-format script, by its format's definition."""
    cells = []
    for part in re.split(r"^# %%", text, flags=re.MULTILINE)[1:]:
        head, _, body = part.partition("\n")
        if "[markdown]" in head:
            cells.append(("markdown", re.sub(r"^# ?", "", body.strip("\n"), flags=re.MULTILINE)))
        else:
            cells.append(("code", body.strip("\n")))
    return cells


def test_notebook_and_script_hold_the_same_cells():
    notebook = json.loads(NOTEBOOK.read_text())
    theirs = [(cell["cell_type"], "".join(cell["source"])) for cell in notebook["cells"]]
    assert cells_of_script(SCRIPT.read_text()) == theirs and len(theirs) > 10
    assert not any(cell.get("outputs") for cell in notebook["cells"])


def test_the_cells_run_on_the_embedded_model_and_the_cell_by_hand_is_that_of_the_grid(smollm2, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("mechmsc.model.load_model", lambda *_, **__: smollm2)
    scope: dict = {}
    for kind, source in cells_of_script(SCRIPT.read_text()):
        if kind == "code":
            exec(compile(source, str(SCRIPT), "exec"), scope)
    cell, entropy = scope["cell"], scope["entropy"]
    assert abs(entropy - float(cell)) < 0.02 * abs(entropy - float(cell.destination))
    assert scope["clean"] != scope["pushed"]
    assert scope["figure"].axes and scope["guess"].sizes["layer"] == 30
    assert not any(point.fwd_hooks for point in smollm2.hook_dict.values())
