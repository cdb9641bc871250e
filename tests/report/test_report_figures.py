"""Figures of a run: chosen by name, honest in the caption, written into local and remote folders."""

import pytest
from tiny_runs import CHOOSE, CONTINUE, correct, load_chatty


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load_chatty(tmp_path_factory.mktemp("report"))


def test_figures_go_into_a_remote_folder_with_their_numbers(model):
    import fsspec

    from mechmsc.report import make_figures

    run = correct(model, CONTINUE[:2] + CHOOSE[:1], "memory://report-test", arms=["moral", "none"], rounds=1)
    written = make_figures(run, formats=("png", "pdf"))
    assert [name.rsplit("/", 1)[1] for name in written] == ["performance.png", "performance.pdf", "performance.csv"]
    assert fsspec.filesystem("memory").cat("/report-test/figures/performance.png")[:4] == b"\x89PNG"


def test_an_unknown_figure_or_format_is_refused_before_anything_is_drawn(model, tmp_path):
    from mechmsc import InputError
    from mechmsc.report import make_figures

    run = correct(model, CONTINUE[:1], tmp_path / "run", arms=["moral"], rounds=1)
    with pytest.raises(InputError, match="did you mean performance"):
        make_figures(run, ["performence"])
    with pytest.raises(InputError, match="gif"):
        make_figures(run, formats=("gif",))
    assert not (tmp_path / "run" / "figures").exists()


def test_the_caption_says_that_the_small_model_is_no_evidence_and_that_a_run_is_unfinished(model, tmp_path):
    from dataclasses import replace

    from mechmsc.report import caption

    run = correct(model, CONTINUE[:1], tmp_path / "run", arms=["moral"], rounds=1)
    assert "no evidence" not in caption(run) and "not complete" not in caption(run)
    small = {**run.manifest, "status": "running", "model": {**run.manifest["model"], "name": "smollm2-135m-instruct"}}
    text = caption(replace(run, manifest=small))
    assert "no evidence about large models" in text and "not complete" in text


def test_tasks_and_arms_stand_in_the_order_of_the_run_whatever_the_order_of_the_table(model, tmp_path):
    import pandas as pd

    from mechmsc.report import figures_of
    from mechmsc.runs.effects import write_effect

    run = correct(model, CHOOSE[:1] + CONTINUE[:1], tmp_path / "run", arms=["neutral", "immoral"], rounds=1)
    rows = [(task, arm) for task in ("detoxification", "social_bias") for arm in ("immoral", "neutral")]
    curves = pd.DataFrame(rows, columns=["task", "arm"]).assign(
        round=1, value=0.1, low=0.0, high=0.2, level=0.95, n=1, posterior=0.1, leaky=0.1
    )
    told = [("leaky", "leak"), ("leaky", "r2"), ("posterior", "r2")]
    fit = pd.DataFrame(
        [(task, *one, 0.5, 0.4, 0.6) for task in ("detoxification", "social_bias") for one in told],
        columns=["task", "model", "quantity", "value", "low", "high"],
    )
    write_effect(run.folder, "posterior_curves", curves, {"analysis": "simulate"})
    write_effect(run.folder, "posterior", fit, {"analysis": "simulate"})
    figure, table = figures_of(run)["posterior"](run)
    assert [axis.get_title(loc="left") for axis in figure.axes] == ["Social bias mitigation", "Text detoxification"]
    assert list(zip(table["task"], table["arm"], strict=True)) == [
        (task, arm) for task in ("social_bias", "detoxification") for arm in ("neutral", "immoral")
    ]
