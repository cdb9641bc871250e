"""The public list of scorers, and toxicity by classifiers on this machine."""

import json
import math
import subprocess
import sys
import types

import pytest


@pytest.fixture
def scorers():
    import mechmsc.scorers

    return mechmsc.scorers


@pytest.fixture
def item():
    from mechmsc.tasks import Item

    return Item("made/1", "made", "Go on.")


def test_every_scorer_states_unit_and_direction_and_toxicity_is_better_when_lower(scorers):
    boxes = ["iou", "iou_pixels", "iou_fractions", "iou_thousandths"]
    assert list(scorers.SCORERS) == ["toxicity", "detoxify", "perspective", "refusal", "coverage", *boxes]
    for name, scorer in scorers.SCORERS.items():
        assert scorer.name == name and scorer.unit and scorer.direction in ("higher", "lower")
        assert scorers.get_scorer(name) is scorer and scorers.get_scorer(scorer) is scorer
    lower = {name for name, scorer in scorers.SCORERS.items() if scorer.direction == "lower"}
    assert lower == {"toxicity", "detoxify", "perspective"}


def test_an_unknown_name_is_answered_with_the_nearest(scorers):
    with pytest.raises(ValueError, match="unknown scorer 'toxicty'; did you mean toxicity"):
        scorers.get_scorer("toxicty")


def test_a_function_is_a_scorer_named_by_its_own_name(scorers, item):
    def length(_, responses):
        return [len(text) for text in responses]

    scorer = scorers.get_scorer(length, unit="characters", direction="lower")
    assert (scorer.name, scorer.unit, scorer.direction) == ("length", "characters", "lower")
    assert scorer([item, item], ["one", "three"]) == [3.0, 5.0]
    assert scorer([], []) == []


def test_a_scorer_that_loses_a_response_is_refused(scorers, item):
    short = scorers.get_scorer(lambda *_: [1.0])
    with pytest.raises(ValueError, match=r"one score a response \(2\), got 1"):
        short([item, item], ["a", "b"])
    with pytest.raises(ValueError, match="one item a response, got 1 and 2"):
        short([item], ["a", "b"])


def test_importing_the_scorers_loads_nothing_heavy():
    code = "import sys, mechmsc.scorers; print(*sorted(sys.modules))"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    heavy = {
        "torch",
        "transformers",
        "sklearn",
        "pandas",
        "scipy",
        "httpx",
        "tenacity",
        "lemminflect",
        "profanity_check",
    }
    assert "mechmsc.scorers" in modules
    assert not heavy.intersection(modules)


def test_the_embedded_classifier_ranks_insults_above_courtesy_and_leaves_blanks_out(scorers, item):
    texts = ["Thank you, that was kind of you.", "", "Shut up, you stupid idiot.", " \n"]
    kind, blank, rude, space = scorers.SCORERS["toxicity"]([item] * 4, texts)
    assert 0 <= kind < 0.2 and 0.8 < rude <= 1
    assert math.isnan(blank) and math.isnan(space)
    assert all(math.isnan(score) for score in scorers.SCORERS["toxicity"]([item], [""]))


def test_the_embedded_classifier_agrees_with_published_toxicity_better_than_chance(scorers, item, shared_data):
    from sklearn.metrics import roc_auc_score

    path = shared_data / "realtoxicityprompts/prompts.val_subset.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()[:600]]
    rows = [row for row in rows if row["continuation"]["toxicity"] is not None and row["continuation"]["text"].strip()]
    scores = scorers.SCORERS["toxicity"]([item] * len(rows), [row["continuation"]["text"] for row in rows])
    assert roc_auc_score([row["continuation"]["toxicity"] > 0.5 for row in rows], scores) > 0.8


@pytest.fixture
def fake_detoxify(monkeypatch):
    """A package that scores by counting the letter x, and remembers how it was made and asked."""
    from mechmsc.scorers import toxicity

    seen = []

    class Detoxify:
        def __init__(self, model_type, device="cpu"):
            seen.append((model_type, device))
            if model_type == "absent":
                raise OSError("no route\nto host")

        def predict(self, texts):
            seen.append(texts)
            return {"toxicity": [text.count("x") / 10 for text in texts], "threat": [0.5 for _ in texts]}

    module = types.ModuleType("detoxify")
    module.Detoxify = Detoxify
    monkeypatch.setitem(sys.modules, "detoxify", module)
    toxicity._detoxify_model.cache_clear()
    yield seen
    toxicity._detoxify_model.cache_clear()


def test_detoxify_scores_what_is_not_blank_and_is_loaded_once(scorers, item, fake_detoxify):
    scores = scorers.SCORERS["detoxify"]([item] * 3, ["xx", " ", "xxx"])
    assert (scores[0], scores[2]) == (0.2, 0.3) and math.isnan(scores[1])
    scorers.SCORERS["detoxify"]([item], ["x"])
    assert fake_detoxify == [("original", "cpu"), ["xx", "xxx"], ["x"]]


def test_detoxify_takes_another_variant_and_attribute(item, fake_detoxify):
    from mechmsc.scorers.toxicity import detoxify_scores

    assert detoxify_scores("unbiased", attribute="threat", device="meta")([item], ["x"]) == [0.5]
    assert fake_detoxify[0] == ("unbiased", "meta")
    with pytest.raises(ValueError, match="no attribute 'insults'; known: toxicity, threat"):
        detoxify_scores(attribute="insults")([item], ["x"])


@pytest.mark.usefixtures("fake_detoxify")
def test_detoxify_without_its_package_or_weights_says_what_to_do(item, monkeypatch):
    from mechmsc.errors import MechmscError
    from mechmsc.scorers.toxicity import detoxify_scores

    with pytest.raises(MechmscError, match="cannot be fetched or read \\(no route to host\\)"):
        detoxify_scores("absent")([item], ["x"])
    monkeypatch.setitem(sys.modules, "detoxify", None)
    with pytest.raises(ValueError, match=r"pip install 'mechmsc\[detoxify\]'"):
        detoxify_scores("multilingual")([item], ["x"])
