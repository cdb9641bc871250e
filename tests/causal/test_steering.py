"""Layer and strength are chosen on items that are not reported, by what they do to the concept and what they cost."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xarray
from planted_runs import planted_direction, planted_run

from mechmsc.errors import InputError

pytestmark = pytest.mark.filterwarnings("ignore:.*items are few")
QUICK = {"samples": 1, "max_new_tokens": 3, "progress": False}


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    model, run = planted_run(tmp_path_factory.mktemp("steering") / "run", n=8, rounds=1, arms="neutral", effect=-0.4)
    return model, run, planted_direction(model)


@pytest.fixture(scope="module")
def found(planted):
    from mechmsc.causal import select_steering

    return select_steering(
        *planted, layers=[0, 1, 2], strengths=[0.5, 1.0, 30.0], max_kl=5.0, max_perplexity_ratio=9.0, **QUICK
    )


def test_the_effect_is_the_strength_where_the_concept_is_carried_to_the_layer_that_is_read(found):
    for strength in (0.5, 1.0):  # the planted axis stays in the residual stream as it is
        np.testing.assert_allclose(found["effect"].sel(strength=strength), strength, atol=1e-4)


def test_the_cost_is_the_kl_of_a_plain_pass_of_the_worse_sign(planted, found):
    import mechmsc as mm

    model, run, direction = planted
    item = str(found["item"].values[0])
    conversation = run.transcript(item, arm="neutral", round=1)
    clean, costs = _logprobs(model, conversation), []
    for sign in (1.0, -1.0):
        site = replace(mm.Site.named("prompt_end"), layer=1, round=1)
        with mm.applied(model, [mm.add(direction, strength=sign, at=site)], on=conversation):
            steered = _logprobs(model, conversation)
        costs.append(float((clean.exp() * (clean - steered)).sum()))
    assert float(found["kl"].sel(item=item, round=1, strength=1.0, layer="1")) == pytest.approx(max(costs), abs=1e-5)


def _logprobs(model, conversation):
    import torch

    with torch.no_grad():
        return model(torch.tensor([list(conversation.ids)]))[0, -1].float().log_softmax(-1)


def test_the_largest_effect_within_both_limits_is_chosen(planted, found):
    from mechmsc.causal import select_steering, steering_table

    table = steering_table(found)
    chosen = table[table["chosen"]].iloc[0]
    allowed = table[table["kl"] <= 5.0]
    assert len(table[table["chosen"]]) == 1 and chosen["effect"] == allowed["effect"].max()
    cheap = table["kl"].min() * 1.01
    least = select_steering(
        *planted, layers=[0, 1, 2], strengths=[0.5, 1.0], max_kl=cheap, max_perplexity_ratio=9.0, **QUICK
    )
    assert least.attrs["chosen_strength"] == 0.5
    with pytest.raises(InputError, match="no layer and strength raises the concept at KL"):
        select_steering(*planted, layers=[0, 1], max_kl=0.0, **QUICK)
    with pytest.raises(InputError, match="keeps perplexity within 0.01"):
        select_steering(*planted, layers=[0], strengths=[0.5], max_kl=5.0, max_perplexity_ratio=0.01, **QUICK)


def test_a_dose_response_as_chosen_leaves_out_the_items_of_the_choice(planted, found):
    from mechmsc.causal import dose_response

    model, run, direction = planted
    quick = {"outcome": "first_token_entropy", "placebos": 1, "permutations": 1, "progress": False}
    doses = dose_response(model, run, direction, steering=found, **quick)
    looked_at, reported = set(found["item"].values), set(doses["item"].values)
    assert not looked_at & reported and looked_at | reported == {item.item_id for item in run.items}
    assert doses.attrs["layers"].split("-")[0] == found.attrs["chosen_layer"]
    assert doses["strength"].values.max() == found.attrs["chosen_strength"]
    with pytest.raises(InputError, match="was used to choose layer and strength"):
        dose_response(model, run, direction, steering=found, items=sorted(looked_at), **quick)


def test_items_of_one_template_are_chosen_on_together():
    from mechmsc.causal import validation_items
    from mechmsc.tasks import Item

    def made(families):
        return [
            Item(f"social_bias/{i}", "social_bias", "q", group="Religion", metadata={"question_index": str(family)})
            for i, family in enumerate(families)
        ]

    chosen = validation_items(made([1, 1, 2, 2, 3, 3, 4, 4]), share=0.5, seed=0)
    numbers = [int(one.split("/")[1]) for one in chosen]
    assert len(chosen) == 4 and {n // 2 for n in numbers} == {n // 2 for n in numbers if n % 2}
    assert chosen == validation_items(made([1, 1, 2, 2, 3, 3, 4, 4]), share=0.5, seed=0)
    others = [Item(f"detoxification/{i}", "detoxification", "q") for i in range(2)]
    both = validation_items([*made([1, 1, 2]), *others])
    assert len({one.split("/")[0] for one in both}) == 2 and sum(one.startswith("detox") for one in both) == 1
    with pytest.raises(InputError, match="all of one template"):
        validation_items(made([1, 1, 1]))


def test_stored_it_is_chosen_once_and_names_its_files(planted):
    from mechmsc.causal import store_dose
    from mechmsc.runs.effects import read_effect

    model, run, direction = planted
    quick = {"outcome": ["first_token_entropy"], "placebos": 1, "permutations": 1, "progress": False}
    _, paths = store_dose(model, run, direction, validation=0.25, layers=range(0, 2), **quick)
    assert [path.rsplit("/", 1)[1] for path in paths] == [
        "dose_steering.nc",
        "dose_steering.json",
        "dose.nc",
        "dose.json",
    ]
    steering, _ = read_effect(run.folder, "dose_steering")
    doses, settings = read_effect(run.folder, "dose")
    assert isinstance(steering, xarray.Dataset) and not set(steering["item"].values) & set(doses["item"].values)
    assert settings["arguments"]["steering"]["chosen_layer"] == steering.attrs["chosen_layer"]
    times = [run.folder.at(f"effects/{name}.nc") for name in ("dose", "dose_steering")]
    before = [Path(path).stat().st_mtime_ns for path in times]
    store_dose(model, run, direction, validation=0.25, layers=range(0, 2), **quick)
    assert before == [Path(path).stat().st_mtime_ns for path in times]
    asked = [item.item_id for item in run.items[:5]]
    store_dose(model, run, direction, validation=0.4, layers=range(0, 2), items=asked, name="some", **quick)
    chosen, reported = (read_effect(run.folder, name)[0]["item"].values for name in ("some_steering", "some"))
    assert sorted([*chosen, *reported]) == sorted(asked)


WRONG = {
    "layer": ({"layers": [3]}, "expected layers below read_layer 3, got 3"),
    "strength": ({"strengths": [0.0, 1.0]}, "expected numbers above 0"),
    "arm": ({"arm": "morral"}, "no arm 'morral'"),
    "item": ({"items": ["social_bias/case-x"]}, "has no item"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_requests_are_refused_in_one_line(planted, case):
    from mechmsc.causal import select_steering

    options, message = WRONG[case]
    with pytest.raises(InputError, match=message) as caught:
        select_steering(*planted, **options, **QUICK)
    assert "\n" not in str(caught.value)
