"""What the README shows, the demo and every experiment run as a reader would run them."""

import importlib.util
import re
import warnings
from pathlib import Path

import pandas as pd
import pytest
from tiny_runs import load_chatty

ROOT = Path(__file__).resolve().parents[1]
EXPERIMENTS = sorted((ROOT / "experiments").glob("*.py"))
SMALL = {
    "does_an_injected_instruction_raise_uncertainty": [],
    "does_prediction_mean_causation": ["--datasets", "4"],
    "does_steering_move_uncertainty": ["--placebos", "2"],
    "which_site_mediates": ["--every", "2", "--limit", "1", "--rounds", "2"],
}
"""What makes experiments quick."""
DIRECTED = SMALL.keys() - {"does_prediction_mean_causation"}
"""Those that need a direction."""
LOADING = DIRECTED | {"does_concept_follow_instruction", "which_position_carries_the_instruction"}
"""Those that load the run's model."""


def test_the_example_of_the_readme_runs_on_the_embedded_model(smollm2, tmp_path, monkeypatch):
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert len(blocks) == 1
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("mechmsc.model.load_model", lambda *_, **__: smollm2)
    scope: dict = {}
    exec(compile(blocks[0], "README.md", "exec"), scope)
    assert scope["run"].status == "complete"
    assert len(scope["run"].transcripts) == 2 * (2 + 2 + 1)
    assert scope["run"].activations["resid_post.prompt_end"].dims == ("item", "arm", "round", "layer", "d_model")


@pytest.fixture(scope="module")
def small_demo(tmp_path_factory):
    """The demo's run folder and its figures, on a tiny model, with fewer rounds, statements and placebos."""
    from mechmsc import demo

    folder = tmp_path_factory.mktemp("demo")
    model, out = load_chatty(folder), str(folder / "demo")
    with pytest.MonkeyPatch.context() as patched:
        arms = (*demo.SETTINGS["arms"], "moral+immoral@2")
        small = {**demo.SETTINGS, "arms": arms, "rounds": 3, "samples": 2, "max_new_tokens": 2}
        patched.setattr(demo, "SETTINGS", small)
        patched.setattr(demo, "ITEMS", 2)
        patched.setattr(demo, "STATEMENTS", 80)
        patched.setattr(demo, "STEERED", {**demo.STEERED, "placebos": 2, "strengths": (-1.0, 0.0, 1.0)})
        patched.setattr(demo, "MEDIATED", {**demo.MEDIATED, "placebos": 2})
        patched.setattr("mechmsc.model.load_model", lambda **_: model)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*items")
            yield out, demo.run_demo(out)


@pytest.mark.filterwarnings("ignore:.*items")
def test_the_demo_ends_with_figures_and_their_numbers_and_resumes(small_demo, monkeypatch):
    from mechmsc import demo, open_run

    out, files = small_demo
    names = [Path(file).name for file in files]
    assert names[:2] == ["performance.png", "performance.csv"] and names[-1] == "report.html"
    assert {"concept.png", "uncertainty.png", "convergence.png", "mediation.png", "dose.png", "injection.png"} <= set(
        names
    )
    table = pd.read_csv(Path(out) / "figures" / "performance.csv")
    assert set(table["task"]) == set(demo.TASKS)
    before = open_run(out).transcripts
    monkeypatch.setattr(demo, "write_report", lambda _: (files[-1], []))  # drawn once is enough
    assert demo.run_demo(out) == files
    pd.testing.assert_frame_equal(open_run(out).transcripts, before)


@pytest.mark.filterwarnings("ignore:.*item")  # few of them
@pytest.mark.parametrize("script", EXPERIMENTS, ids=lambda path: path.stem)
def test_every_experiment_is_short_and_draws_its_figure_from_a_run(script, small_demo, tmp_path):
    assert len(script.read_text().splitlines()) <= 80
    spec = importlib.util.spec_from_file_location(script.stem, script)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    asked = [str(small_demo[0]), "--out", str(tmp_path / "figures")]
    asked += SMALL.get(script.stem, [])
    if script.stem in LOADING:
        asked += ["--model", "FOLDER"]
    if script.stem in DIRECTED:
        asked += ["--direction", f"{small_demo[0]}/directions/stereotyping.safetensors"]
    module.main(asked)
    assert (tmp_path / "figures" / f"{script.stem}.png").stat().st_size > 10_000
    assert not pd.read_csv(tmp_path / "figures" / f"{script.stem}.csv").empty


def test_there_is_an_experiment_to_run():
    assert EXPERIMENTS
