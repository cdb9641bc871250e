"""The planted model does what its formulas say, and works like any other model."""

import numpy as np
import pytest
import torch

from mechmsc.errors import InputError
from mechmsc.instructions import INSTRUCTIONS, STANCES

SIGNS = {"moral": 1.0, "neutral": 0.0, "immoral": -1.0}
DESIGNS = {
    "concept lowers entropy": {"effect": -0.4},
    "concept raises entropy": {"effect": 0.2},
    "no effect": {"effect": 0.0},
    "bypass and norm": {"effect": -0.4, "direct": -0.2},
    "bypass, additive": {"effect": -0.3, "direct": 0.1, "mechanism": "logits"},
    "confounded": {"effect": 0.0, "confounder": 0.3},
    "confounded effect": {"effect": -0.3, "confounder": 0.3},
}


def conversation(model, item, stance: str):
    """Two rounds under one stance, up to the second prompt."""
    from mechmsc.chat import ChatFormat

    chat, texts = ChatFormat.of(model.tokenizer), INSTRUCTIONS["social_bias"][stance]
    options = {"prefix": "The best answer is:", "labels": item.labels}
    transcript = chat.open(item.turn(), texts[0], **options)
    answer = chat.label_ids(options["prefix"], item.labels)[2]
    return chat.ask(chat.reply(transcript, answer, stop_reason="forced"), texts[1], **options)


def entropy(model, ids) -> float:
    with torch.no_grad():
        logp = model(torch.tensor([ids]))[0, -1].double().log_softmax(-1)
    return -(logp.exp() * logp).sum().item()


@pytest.mark.parametrize("design", DESIGNS.values(), ids=DESIGNS)
def test_the_entropy_of_every_item_under_every_stance_is_that_of_the_formula(design):
    from mechmsc.model.parity import difference
    from mechmsc.model.planted import planted_items, planted_model

    model = planted_model(**design, seed=3)
    assert difference(model, model.mechmsc) < 1e-6
    for item in planted_items(3, seed=1):
        for stance, sign in SIGNS.items():
            ids = conversation(model, item, stance).ids
            concept = model.planted.coordinate(sign, length=len(ids))
            case = item.item_id.split("-")[1]
            expected = model.planted.entropy(concept, sign, case=case, length=len(ids))
            assert entropy(model, ids) == pytest.approx(float(expected), abs=1e-4)
    if design["effect"]:  # the formula of another design does not fit
        other = planted_model(**(design | {"effect": design["effect"] / 2}), seed=3).planted
        assert abs(float(other.entropy(other.coordinate(-1.0), -1.0)) - float(expected)) > 1e-2


@pytest.mark.parametrize("mechanism", ["norm", "logits"])
def test_effects_are_as_planted_and_interact_through_the_norm_alone(mechanism):
    from mechmsc.model.planted import planted_model

    truth = planted_model(-0.3, direct=-0.2, mechanism=mechanism).planted
    u = lambda concept, stance: float(truth.entropy(truth.coordinate(concept), stance))  # noqa: E731
    indirect, direct, total = u(1, 0) - u(0, 0), u(0, 1) - u(0, 0), u(1, 1) - u(0, 0)
    assert (indirect, direct) == (pytest.approx(-0.3, abs=1e-6), pytest.approx(-0.2, abs=1e-6))
    interaction = total - indirect - direct
    assert abs(interaction) < 1e-6 if mechanism == "logits" else abs(interaction) > 1e-2


def test_the_concept_axis_holds_the_coordinate_and_w_u_does_not_see_it_in_the_norm_design():
    from mechmsc.model.planted import planted_axis, planted_items, planted_model

    model = planted_model(-0.4, seed=5)
    axis = planted_axis(model, seed=5)
    assert (axis @ model.W_U).abs().max() < 1e-4 * model.W_U.norm(dim=0).max()
    item = planted_items(1)[0]
    for stance, sign in SIGNS.items():
        ids = conversation(model, item, stance).ids
        _, cache = model.run_with_cache(torch.tensor([ids]), names_filter="blocks.3.hook_resid_post")
        read = (cache["resid_post", 3][0, -1] @ axis).item()
        assert read == pytest.approx(float(model.planted.coordinate(sign)), abs=1e-4)


def test_every_moral_and_immoral_instruction_has_a_marker_of_its_own_stance_alone_and_neutral_ones_have_none():
    from mechmsc.model.planted_weights import byte_and_word_tokenizer, markers

    tokenizer, signs = byte_and_word_tokenizer(), markers()
    token_sign = {tokenizer.convert_tokens_to_ids(word): sign for word, sign in signs.items()}
    for kind, texts in INSTRUCTIONS.items():
        for stance in STANCES:
            for text in texts[stance]:
                found = {token_sign[token] for token in tokenizer(text).input_ids if token in token_sign}
                assert found == {int(SIGNS[stance])} - {0}, (kind, stance, text)


def test_a_run_of_a_planted_model_has_the_planted_choices(tmp_path):
    import mechmsc as mm
    from mechmsc.model.planted import planted_items

    model = mm.planted_model(-0.4, seed=2)
    items = planted_items(3, seed=2)
    run = mm.self_correct(
        model, items, arms="moral,neutral", rounds=2, samples=2, max_new_tokens=3, out=tmp_path / "run", progress=False
    )
    assert set(run.samples["stop_reason"]) == {"eos"}  # an answer, then the end of turn
    probs = np.array([row[0] for row in run.transcripts["permutation_probs"]]).astype(float)
    measured = -(probs * np.log(probs)).sum(1)
    for (_, row), value in zip(run.transcripts.iterrows(), measured, strict=True):
        sign, case = SIGNS[row["arm"]], row["item_id"].split("-")[1]
        assert value == pytest.approx(
            float(model.planted.entropy(model.planted.coordinate(sign), sign, case=case)), abs=1e-4
        )


def test_what_cannot_be_planted_is_refused():
    from mechmsc.model.planted import planted_items, planted_model

    with pytest.raises(InputError, match="effect must lie between"):
        planted_model(-2.5)
    with pytest.raises(InputError, match="unknown mechanism 'nrom': did you mean norm"):
        planted_model(mechanism="nrom")
    with pytest.raises(InputError, match="1 to 1000 items, asked for 0"):
        planted_items(0)
