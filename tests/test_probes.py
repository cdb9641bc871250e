"""Every script in probes/ runs as a reader would run it: on a tiny model, from statements to files."""

import importlib.util
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).resolve().parents[1]
PROBES = sorted((ROOT / "probes").glob("*.py"))
QUICK = ["--limit", "48", "--null", "2", "--max-tokens", "12"]


@pytest.fixture
def script(monkeypatch, load_tiny):
    """A function: name of a script -> the module, with a tiny model behind every name."""
    monkeypatch.setattr("mechmsc.model.load_model", lambda *_, **__: load_tiny("llama"))
    monkeypatch.setattr("mechmsc.directions.baselines.PENALTIES", (1.0,))

    def load(name):
        spec = importlib.util.spec_from_file_location(name, ROOT / "probes" / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture
def facts(tmp_path):
    """True and false statements in the published format."""
    words = "amber basil cedar delta ember fjord grove heron ivory jetty karst larch maple north ochre prism".split()
    rows = [(f"{words[n % 16]} {words[n % 5]} {words[n % 7]} {n} {words[n % 11]}", n % 2) for n in range(48)]
    pd.DataFrame(rows, columns=["statement", "label"]).to_csv(tmp_path / "facts.csv", index=False)
    return tmp_path / "facts.csv"


def test_scripts_are_short_and_say_what_they_ask_and_cost():
    assert {path.stem for path in PROBES} == {
        "compare_positions", "train_harmfulness", "train_stereotyping", "train_toxicity", "train_truth",
    }  # fmt: skip
    for path in PROBES:
        text = path.read_text()
        assert len(text.splitlines()) <= 80
        assert text.splitlines()[0].endswith("?") and "Cost:" in text and "Output:" in text


@pytest.mark.parametrize("concept", ["toxicity", "stereotyping", "harmfulness"])
def test_a_concept_family_is_trained_from_the_set_inside_the_package(script, concept, tmp_path, capsys):
    from mechmsc.directions import load_direction

    methods = ["mass_mean", "caa"] if concept == "stereotyping" else ["mass_mean"]
    arguments = [*QUICK, "--method", ",".join(methods), "--out", str(tmp_path / "out")]
    script(f"train_{concept}").main(arguments)
    out = tmp_path / "out"
    printed = capsys.readouterr().out
    table = pd.read_csv(out / f"{concept}_layer_sweep.csv")
    for method in methods:
        direction = load_direction(out / f"{concept}.{method}.safetensors")
        assert (direction.concept, direction.method) == (concept, method)
        assert direction.position == {"toxicity": "mean", "stereotyping": "last", "harmfulness": "prompt_end"}[concept]
        rows = table[(table["method"] == method) & (table["measure"] == "auroc") & (table["part"] == "held_out")]
        assert list(rows["layer"]) == [0, 1, 2]
        assert direction.settings["layer"] == rows.loc[rows["value"].idxmax(), "layer"]
        assert method in printed
    assert {"bag_of_words", "text_length", "random_direction"} < set(table["method"])
    assert (out / f"{concept}_layer_sweep.png").stat().st_size > 10_000
    assert "selectivity" in printed and "layer_sweep.png" in printed


def test_a_control_concept_is_trained_from_a_published_file_and_carried_to_another(script, facts, tmp_path, capsys):
    other = facts.with_name("others.csv")
    pd.read_csv(facts).replace({"statement": {"a": "o"}}, regex=True).to_csv(other, index=False)
    arguments = ["--data", str(facts), "--also", str(other), "--method", "mass_mean", "--out", str(tmp_path / "out")]
    script("train_truth").main([*QUICK, *arguments])
    table = pd.read_csv(tmp_path / "out" / "truth_transfer.csv")
    assert set(zip(table["train"], table["test"], strict=True)) == {
        ("facts", "facts"), ("facts", "others.csv"), ("others.csv", "facts"), ("others.csv", "others.csv"),
    }  # fmt: skip
    assert (tmp_path / "out" / "truth_transfer.png").stat().st_size > 10_000
    assert "truth_transfer.csv" in capsys.readouterr().out


def test_positions_are_compared_line_by_line(script, tmp_path, capsys):
    script("compare_positions").main([*QUICK, "--limit", "100", "--out", str(tmp_path)])
    table = pd.read_csv(tmp_path / "toxicity_positions.csv")
    places = script("compare_positions").PLACES
    assert {name for _, methods in places for name in methods} < set(table["method"])
    rows = table[(table["measure"] == "auroc") & (table["part"] == "held_out") & (table["layer"] == 2)]
    values = rows.set_index("method")["value"]
    assert values["mass_mean, mean"] != values["mass_mean, mean with first token"]
    assert len(table[(table["method"] == "bag_of_words") & (table["measure"] == "auroc")]) == 1
    assert "logistic, same" in capsys.readouterr().out
