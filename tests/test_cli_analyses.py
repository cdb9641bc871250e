"""Commands that analyse, as a user meets them: from statements to figures, on a tiny model."""

import pandas as pd
import pytest


@pytest.fixture(scope="module")
def cli(tmp_path_factory, model_cache):
    """A function: words of a command line -> (exit code, stdout, stderr); MODEL, RUN and FILE stand for their paths."""
    import contextlib
    import io
    import os

    from tiny_runs import save_chatty

    from mechmsc.cli import main

    folder = tmp_path_factory.mktemp("cli")
    places = {
        "MODEL": save_chatty(folder / "model"),
        "RUN": folder / "run",
        "FILE": folder / "d.safetensors",
        "OUT": folder / "out",
    }
    os.environ["MECHMSC_CACHE"] = str(model_cache)

    def call(*words) -> tuple[int, str, str]:
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as stop:
            main([str(places.get(word, word)) for word in words])
        return stop.value.code, out.getvalue(), err.getvalue()

    yield call
    os.environ.pop("MECHMSC_CACHE")


@pytest.fixture(scope="module")
def analysed(cli):
    """The same command line after a run, a fit and the measures."""
    words = ("run", "--model", "MODEL", "--task", "social_bias", "--task", "detoxification", "--limit", "5")
    assert (
        cli(
            *words,
            "--arms",
            "moral,neutral",
            "--rounds",
            "3",
            "--samples",
            "2",
            "--max-new-tokens",
            "3",
            "--out",
            "RUN",
        )[0]
        == 0
    )
    code, out, _ = cli("fit", "stereotyping", "--model", "MODEL", "--limit", "80", "--out", "FILE")
    assert code == 0 and "auroc" in out and "bag_of_words" in out and "d_layer_sweep.png" in out
    code, out, _ = cli("measure", "RUN", "--direction", "FILE", "--clusterer", "exact")
    assert code == 0 and "measures.parquet" in out
    named = "choice_entropy,confidence,semantic_entropy"
    code, out, _ = cli("measure", "RUN", "--uncertainty", named, "--clusterer", "exact")
    assert code == 0
    return cli


def test_a_measured_run_has_concept_uncertainty_and_summaries_and_measuring_again_changes_nothing(analysed):
    from mechmsc.runs import open_run

    _, out, _ = analysed("show", "RUN")
    path = next(line for line in analysed("measure", "RUN", "--uncertainty", "choice_entropy")[1].splitlines())
    run = open_run(path.split("/measures.parquet")[0])
    assert {"concept", "choice_entropy", "semantic_entropy", "accuracy"} <= set(run.measures["measure"])
    assert {"ece", "convergence_round"} <= set(run.summaries["measure"]) and out
    before = run.measures
    analysed("measure", "RUN", "--uncertainty", "choice_entropy")
    pd.testing.assert_frame_equal(run.measures, before)


@pytest.mark.filterwarnings("ignore:.*items are few")
def test_causes_are_asked_for_stored_and_drawn(analysed):
    code, out, _ = analysed(
        *("patch", "RUN", "--model", "MODEL", "--from", "moral", "--to", "neutral", "--round", "2"),
        *("--outcome", "choice_entropy,first_token_entropy", "--task", "social_bias", "--limit", "3"),
    )
    assert code == 0 and "patch.nc" in out and "patch.json" in out
    code, _, err = analysed("patch", "RUN", "--model", "MODEL", "--from", "moral", "--to", "neutral", "--task", "bias")
    assert code == 2 and "has no task 'bias': did you mean social_bias" in err
    options = ("--direction", "FILE", "--model", "MODEL", "--outcome", "choice_entropy_within", "--layers", "1-2")
    code, out, _ = analysed("mediate", "RUN", *options, "--placebos", "2", "--rounds", "2,3")
    assert code == 0 and "indirect" in out and "mediation.nc" in out
    few = ("--placebos", "2", "--strengths", "-1,0,1", "--rounds", "1", "--task", "social_bias", "--permutations", "1")
    code, out, _ = analysed("dose", "RUN", *options, *few)
    assert code == 0 and "slope" in out and "dose.nc" in out
    code, _, err = analysed("dose", "RUN", "--direction", "FILE", "--task", "detoxification", "--model", "NO/MODEL")
    assert code == 2 and "'choice_entropy' needs items with options" in err, "before the model is looked for"
    code, out, _ = analysed("simulate", "RUN")
    assert code == 0 and "majority" in out and "predictive.parquet" in out
    code, out, _ = analysed("figures", "RUN")
    assert code == 0
    drawn = {line.rsplit("/", 1)[-1] for line in out.split() if line.endswith(".png")}
    assert {"performance.png", "concept.png", "uncertainty.png", "convergence.png", "patch.png"} <= drawn
    assert {"dose.png", "mediation.png", "predictive.png", "posterior.png"} <= drawn


def test_a_simulation_without_a_run_goes_into_a_folder(cli):
    code, out, _ = cli("simulate", "--out", "OUT", "--datasets", "2")
    assert code == 0 and "interventional" in out and "simulation.png" in out and "simulation.csv" in out


WRONG = {
    "unknown concept": (("fit", "toxicty", "--out", "FILE"), "did you mean toxicity"),
    "unknown method": (("fit", "toxicity", "--method", "mass", "--out", "FILE"), "did you mean mass_mean"),
    "unknown position": (("fit", "toxicity", "--position", "first", "--out", "FILE"), "unknown position 'first'"),
    "file ending": (("fit", "toxicity", "--out", "x.bin"), "must end in .safetensors"),
    "missing data": (("fit", "toxicity", "--data", "nowhere.csv", "--out", "FILE"), "nowhere.csv"),
    "no run": (("measure", "nowhere"), "does not exist"),
    "layers": (("mediate", "nowhere", "--direction", "FILE", "--layers", "9-3"), "does not exist"),
    "no direction": (("mediate", "nowhere"), "--direction FILE"),
    "strengths": (("dose", "nowhere", "--direction", "FILE", "--strengths", "a,b"), "numbers separated by commas"),
    "no folder": (("simulate",), "expected --out"),
}


@pytest.mark.parametrize("words, message", WRONG.values(), ids=WRONG)
def test_wrong_arguments_end_with_2_and_one_line(cli, words, message):
    code, out, err = cli(*words)
    assert (code, out) == (2, "") and message in err and err.count("\n") == 1


def test_an_unknown_measure_and_one_without_data_are_refused(analysed):
    code, _, err = analysed("measure", "RUN", "--uncertainty", "choice_entrpy")
    assert code == 2 and "choice_entropy" in err
    code, _, err = analysed("mediate", "RUN", "--direction", "FILE", "--model", "MODEL", "--treatment", "morral")
    assert code == 2 and "did you mean moral" in err
    code, _, err = analysed("mediate", "RUN", "--direction", "FILE", "--task", "social_bais")
    assert code == 2 and "has no task 'social_bais': did you mean social_bias" in err


def test_the_methods_and_positions_of_the_command_line_are_those_of_the_library():
    from mechmsc import settings
    from mechmsc.directions import METHODS
    from mechmsc.directions.prompts import POSITIONS

    assert settings.METHODS == tuple(METHODS) and settings.STATEMENT_POSITIONS == tuple(POSITIONS)
