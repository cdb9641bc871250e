"""The whole way on the embedded model, from conversations to the report. For two cores."""

from pathlib import Path
from typing import Any

from mechmsc.report import figures_of, write_report
from mechmsc.tasks import load_items

TASKS = ("detoxification", "social_bias")
ITEMS = 8
SETTINGS: dict[str, Any] = {
    "arms": ("moral", "neutral", "immoral", "none"),
    "rounds": 4,
    "samples": 3,
    "max_new_tokens": 24,
}
CONCEPTS = ("toxicity", "stereotyping")
STATEMENTS: int | None = None
"""Statements a concept; None: all inside the package."""
MEDIATED: dict[str, Any] = {
    "rounds": [2],
    "placebos": 20,
    "outcome": ["choice_entropy", "choice_entropy_within"],
}
STEERED: dict[str, Any] = {
    "rounds": [2],
    "placebos": 20,
    "strengths": (-2.0, -1.0, 0.0, 1.0, 2.0),
    "outcome": ["choice_entropy", "first_token_entropy"],
    "permutations": 1,  # canonical order of the options alone: 85 passes a conversation are enough for a demo
}
PATCHED: dict[str, Any] = {"source_arm": "moral", "destination_arm": "neutral", "round": 2, "align": "shared"}
PATCHED_ITEMS, PATCHED_EVERY = 4, 3
"""Items of the patching map, and every how many layers it has a row."""


def run_demo(out: str = "runs/demo", *, device: str = "cpu") -> list[str]:
    """Run the demo, or what is left of it: every step is stored, and done once.

    Args:
        out: run folder.
        device: where the model runs.

    Returns:
        The figure files, and the report last.
    """
    from mechmsc.causal import store_dose, store_mediation
    from mechmsc.causal.simulation import store_simulation
    from mechmsc.directions import load_direction
    from mechmsc.measures import measure_run
    from mechmsc.model import load_model
    from mechmsc.patching import patch_run
    from mechmsc.rounds import self_correct

    model = load_model(device=device)
    items = [item for task in TASKS for item in load_items(task, limit=ITEMS)]
    run = self_correct(model, items, **SETTINGS, out=out)
    files = [_direction(model, concept, Path(out) / "directions") for concept in CONCEPTS]
    measure_run(run, direction=files)
    run = measure_run(run)
    direction = load_direction(files[-1], model=model)
    store_mediation(model, run, direction, **MEDIATED)
    store_dose(model, run, direction, **STEERED)
    patch_run(model, run, **PATCHED, layers=range(0, model.cfg.n_layers, PATCHED_EVERY), limit=PATCHED_ITEMS)
    store_simulation(out)
    page, _ = write_report(run)
    drawn = [f"figures/{name}.{kind}" for name in figures_of(run) for kind in ("png", "csv")]
    return [*(run.folder.at(file) for file in drawn if run.folder.read(file) is not None), page]


def _direction(model: Any, concept: str, folder: Path) -> str:
    """The file of a direction, fitted, tested and drawn if it is not there."""
    from mechmsc.directions.scripts import store_probe
    from mechmsc.statements import load_statements

    path = folder / f"{concept}.safetensors"
    if not path.is_file():
        store_probe(model, load_statements(concept, limit=STATEMENTS), out=path)
    return str(path)
