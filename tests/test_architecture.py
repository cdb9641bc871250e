"""The house rules that a program can check: levels of imports, light imports, the public surface, sizes of files."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "mechmsc"

LEVELS = {
    "errors": 0,
    "estimate": 0,
    "weights": 1,
    "model": 1,
    "kv_cache": 1,
    "instructions": 1,
    "tasks": 1,
    "scorers": 1,
    "noise": 1,
    "progress": 1,
    "settings": 1,
    "statements": 1,
    "transcripts": 2,
    "encoding": 2,
    "templates": 2,
    "pictured": 2,
    "chat": 2,
    "budget": 2,
    "permutations": 2,
    "uncertainty": 2,
    "calibration": 2,
    "convergence": 2,
    "bias": 2,
    "sites": 3,
    "positions": 3,
    "decoders": 3,
    "generation": 3,
    "capture": 3,
    "figures": 3,
    "runs": 4,
    "conversations": 4,
    "rounds": 4,
    "directions": 4,
    "measures": 5,
    "outcomes": 5,
    "interventions": 5,
    "patching": 6,
    "attribution": 6,
    "causal": 6,
    "report": 7,
    "show": 7,
    "demo": 7,
    "cli": 7,
}
"""Room -> level (design): a module imports from its own level or lower ones, never in a cycle."""

LIGHT = (
    *("mechmsc", "mechmsc.cli", "mechmsc.settings", "mechmsc.sites", "mechmsc.uncertainty"),
    *("mechmsc.instructions", "mechmsc.tasks", "mechmsc.statements"),
)
HEAVY = ("torch", "transformers", "transformer_lens", "pandas", "xarray", "matplotlib", "sklearn", "scipy")


def room(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def imports(source: str) -> set[str]:
    """Rooms of mechmsc that a module imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("mechmsc"):
            names = (
                [f"{node.module}.{alias.name}" for alias in node.names] if node.module == "mechmsc" else [node.module]
            )
            found |= {room(name) for name in names}
        if isinstance(node, ast.Import):
            found |= {room(alias.name) for alias in node.names if alias.name.startswith("mechmsc.")}
    return found


def graph() -> dict[str, set[str]]:
    edges: dict[str, set[str]] = {}
    for path in PACKAGE.rglob("*.py"):
        here = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if here != "__init__":
            edges.setdefault(here, set()).update(imports(path.read_text()) - {here})
    return edges


def upward(edges: dict[str, set[str]]) -> list[str]:
    return [f"{a} -> {b}" for a, targets in edges.items() for b in targets if LEVELS[a] < LEVELS[b]]


def cycle(edges: dict[str, set[str]]) -> bool:
    left = {room: set(targets) for room, targets in edges.items()}
    while free := [room for room, targets in left.items() if not targets & left.keys()]:
        for room in free:
            del left[room]
    return bool(left)


def test_every_module_has_a_level_and_imports_from_its_own_or_lower_ones_without_a_cycle():
    edges = graph()
    assert set(edges) == set(LEVELS)
    assert upward(edges) == []
    assert not cycle(edges)


def test_the_checks_of_levels_and_cycles_can_fail():
    assert upward({"errors": {"cli"}, "cli": set()}) == ["errors -> cli"]
    assert cycle({"chat": {"budget"}, "budget": {"chat"}})
    assert imports("def f():\n    from mechmsc import runs\n    import mechmsc.model.config") == {"runs", "model"}


@pytest.mark.parametrize("module", LIGHT)
def test_light_modules_load_nothing_heavy_and_no_folder_is_needed(module, tmp_path):
    code = f"import sys, {module}; print(*[name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert done.stdout.split() == []
    assert list(tmp_path.iterdir()) == []


def test_the_public_names_exist_have_docstrings_and_fit_one_screen():
    import mechmsc

    assert len(mechmsc.__all__) <= 40
    for name in mechmsc.__all__:
        assert getattr(mechmsc, name).__doc__, name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        mechmsc.nothing  # noqa: B018 - the access is the test


def test_only_the_model_package_and_the_dequantiser_know_transformer_lens_and_causal_lm_classes():
    allowed = {"model", "weights.py"}
    for path in PACKAGE.rglob("*.py"):
        here = path.relative_to(PACKAGE).parts[0]
        for node in ast.walk(ast.parse(path.read_text())):
            module = node.module if isinstance(node, ast.ImportFrom) else None
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
            touches = "transformer_lens" in f"{module} {names}" or any("ForCausalLM" in name for name in names)
            if touches and here not in allowed:
                assert _type_checking_only(path.read_text(), node.lineno), f"{path}:{node.lineno}"


def _type_checking_only(source: str, line: int) -> bool:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            if node.lineno <= line <= node.end_lineno:
                return True
    return False


def test_files_stay_short():
    long = {
        str(path.relative_to(ROOT)): n
        for folder in ("mechmsc", "probes", "experiments")
        for path in (ROOT / folder).rglob("*.py")
        if (n := len(path.read_text().splitlines())) > 300
    }
    assert long == {}


def test_nothing_in_the_package_unpickles_or_prints():
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                assert called not in {"print", "torch.load", "pickle.load", "pickle.loads", "joblib.load"}, path
