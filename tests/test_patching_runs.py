"""Patching between arms of a run: what is stored equals the grid of the conversations, and is not computed twice."""

import numpy as np
import pytest
import torch
import xarray as xr
from tiny_runs import CHOOSE, CONTINUE, correct, load_chatty

from mechmsc.errors import InputError
from mechmsc.patching import patch_grid, patch_run, runs
from mechmsc.patching.runs import patch_figure


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load_chatty(tmp_path_factory.mktemp("patching"))


@pytest.fixture(scope="module")
def made(model, tmp_path_factory):
    arms = ["moral", "neutral"]
    return correct(
        model, [*CHOOSE, *CONTINUE[:1]], tmp_path_factory.mktemp("run") / "run", arms=arms, rounds=2, samples=0
    )


FROM_TO = {"source_arm": "moral", "destination_arm": "neutral", "round": 2}


def test_the_effect_is_that_of_the_arms_conversations_and_stays_in_the_run(model, made):
    effect = patch_run(model, made, **FROM_TO, history="own", outcome=["choice_entropy", "log_odds", "kl"], name="own")
    items = [item.item_id for item in CHOOSE]
    assert effect["item"].values.tolist() == items and effect["effect"].dims == (
        "outcome",
        "component",
        "layer",
        "position",
    )
    sides = [[made.transcript(item, arm=arm, round=2) for item in items] for arm in ("moral", "neutral")]
    entropies = []
    from mechmsc.chat import ChatFormat
    from mechmsc.tasks import TASKS

    chat = ChatFormat.of(model.tokenizer)
    labels = [ids[0] for ids in chat.label_ids(TASKS["social_bias"].answer_prefix, CHOOSE[0].labels)]

    def entropy(logits):
        q = logits[:, 0, labels].softmax(-1)
        entropies.append(q)
        return -(q * q.log()).sum(-1)

    grid = patch_grid(model, *sides, sites="resid_post", outcome=entropy, span="instruction", round=2, align="last")
    patched = effect["patched"].sel(outcome="choice_entropy")
    np.testing.assert_allclose(patched, grid, atol=1e-5)
    np.testing.assert_allclose(effect["effect"][0], (grid - grid.destination).mean("item"), atol=1e-5)
    gold = torch.tensor([item.gold for item in CHOOSE])
    odds = entropies[1].gather(1, gold[:, None])[:, 0].logit()  # of the destination run
    np.testing.assert_allclose(effect["patched"].destination.sel(outcome="log_odds"), odds, atol=1e-4)
    assert (effect["patched"].sel(outcome="kl") >= -1e-6).all()
    names = made.folder.names("figures")
    assert [name for name in names if name.startswith("own.")] == [
        f"own.{one}.{kind}" for one in ("choice_entropy", "kl", "log_odds") for kind in ("csv", "png")
    ]


def test_the_same_call_again_reads_what_is_stored_and_another_computes(model, made, monkeypatch):
    first = patch_run(model, made, **FROM_TO, layers=[0, 2])
    monkeypatch.setattr(runs, "patch_grid", lambda *_, **__: pytest.fail("computed again"))
    again = patch_run(model, made, **FROM_TO, layers=[0, 2])
    for name in ("effect", "patched", "normalised", "significant"):
        xr.testing.assert_allclose(again[name].drop_attrs(), first[name].drop_attrs())
    assert again.attrs["history"] == "shared" and again["token"].values.tolist() == first["token"].values.tolist()
    with pytest.raises(pytest.fail.Exception, match="computed again"):
        patch_run(model, made, **FROM_TO, layers=[1])


def test_with_a_shared_history_only_the_instruction_differs(model, made):
    shared = patch_run(model, made, **FROM_TO, outcome="first_token_entropy", align="mean", name="shared", limit=2)
    assert shared.sizes["item"] == 2
    figure, table = patch_figure(made, "shared")
    text = " ".join(text.get_text() for text in figure.texts).replace("\n", " ")
    assert "Round 2, from arm moral into neutral, history shared." in text and "Tokens aligned by mean." in text
    assert len(table) == 3 and {"effect", "low", "high", "p", "n"} <= set(table)
    other = patch_run(
        model, made, **FROM_TO, outcome="first_token_entropy", align="mean", name="own2", limit=2, history="own"
    )
    np.testing.assert_allclose(shared["patched"].destination, other["patched"].destination, atol=1e-6)
    assert not np.allclose(shared["patched"].source, other["patched"].source)


def test_heads_by_token_are_stored_without_a_map_and_together_with_one(model, made):
    patch_run(model, made, **FROM_TO, component="z", align="shared", name="heads")
    together = patch_run(model, made, **FROM_TO, component=["z", "v"], align="shared", together=True, name="together")
    assert together["effect"].dims == ("component", "layer", "head")
    names = made.folder.names("figures")
    assert "together.png" in names and "heads.png" not in names


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"outcome": "choice_entropi"}, "did you mean choice_entropy"),
        ({"source_arm": "moralistic"}, "has no arm 'moralistic'"),
        ({"source_arm": "neutral"}, "must differ"),
        ({"items": ["detoxification/0"]}, "no item of the run has options"),
        ({"items": ["detoxification/9"]}, "has no item 'detoxification/9'"),
        ({"span": "prefixes"}, "did you mean prefix"),
        ({"align": "first"}, "unknown alignment"),
        ({"limit": 0}, "at least 1 item"),
    ],
)
def test_what_cannot_be_patched_is_refused_in_one_line_and_nothing_is_stored(model, made, changes, match):
    with pytest.raises(InputError, match=match) as caught:
        patch_run(model, made, **(FROM_TO | changes), name="bad")
    assert "\n" not in str(caught.value)
    assert "bad.json" not in made.folder.names("effects")
