"""Mediation recovers what was planted, obeys its algebra, and refuses what it cannot answer."""

import dataclasses
import warnings

import numpy as np
import pytest
import torch
from planted_runs import planted_direction, planted_run, true_effects

from mechmsc.errors import InputError
from mechmsc.sites import Site

pytestmark = pytest.mark.filterwarnings("ignore:.*items are few")
DESIGNS = {"interacting": {"direct": -0.2}, "additive": {"direct": -0.2, "mechanism": "logits"}}
QUICK = {"permutations": 1, "progress": False}


@pytest.fixture(scope="module", params=DESIGNS)
def planted(request, tmp_path_factory):
    """(model, run, direction) with a path through the concept and one past it."""
    model, run = planted_run(tmp_path_factory.mktemp("planted") / "run", **DESIGNS[request.param])
    return model, run, planted_direction(model)


def effects_of(worlds, *, layer, outcome="first_token_entropy"):
    from mechmsc.causal import natural_effects

    return natural_effects(worlds).sel(layer=layer, outcome=outcome)


def test_every_item_has_its_planted_effects_and_a_layer_before_the_concept_mediates_nothing(planted):
    from mechmsc.causal import mediate

    model, run, direction = planted
    outcomes = ["first_token_entropy", "choice_entropy_within"]
    worlds = mediate(model, run, direction, outcome=outcomes, layers=[0, 3, range(1, 4)], **QUICK)
    expected = true_effects(model, worlds["item"].values)
    for layer in ("3", "1-3"):
        found = effects_of(worlds, layer=layer)
        for name, values in expected.items():
            assert found[name].values == pytest.approx(np.repeat(values[:, None], 2, axis=1), abs=1e-4), name
    early = effects_of(worlds, layer="0")
    assert abs(early["indirect"]).max() < 1e-5 < abs(early["direct"]).min()
    choice = effects_of(worlds, layer="3", outcome="choice_entropy_within")  # nearly all of the probability is there
    assert choice["indirect"].values == pytest.approx(effects_of(worlds, layer="3")["indirect"].values, abs=1e-4)
    moved = worlds["concept_treatment"] - worlds["concept_control"]
    np.testing.assert_allclose(moved, np.broadcast_to(1.0 * (moved["layer"] != "0"), moved.shape), atol=1e-4)
    assert worlds.attrs["row_passes"] <= 1.5 * worlds.attrs["row_passes_needed"]
    assert worlds.attrs["tokens_encoded"] < 0.4 * worlds.attrs["tokens_without_sharing"]


def test_rounds_go_on_from_one_another_and_give_what_each_gives_alone(tmp_path):
    import xarray
    from tiny_runs import CHOOSE, correct, load_chatty

    from mechmsc.causal import mediate

    model = load_chatty(tmp_path)
    run = correct(model, CHOOSE, tmp_path / "run", arms="moral,neutral", samples=0)
    asked = {"mediator": "activation", "site": "prompt_end", "outcome": "choice_entropy", "layers": 1}
    together = mediate(model, run, None, **asked, progress=False)
    alone = [mediate(model, run, None, **asked, rounds=[number], progress=False) for number in (1, 2, 3)]
    for name, worlds in together.items():
        of_each = xarray.concat([one[name] for one in alone], "round").transpose(*worlds.dims)
        np.testing.assert_allclose(worlds, of_each, atol=1e-5, err_msg=name)
    assert abs(together["control"].diff("round")).max() > 1e-4  # rounds differ, so that a mix-up would be seen
    passes, tokens = "row_passes", "tokens_encoded"
    assert together.attrs[passes] == sum(one.attrs[passes] for one in alone)
    assert together.attrs[tokens] < 0.8 * sum(one.attrs[tokens] for one in alone)


def test_without_a_bypass_and_the_norm_nothing_interacts(planted):
    from mechmsc.causal import mediate

    model, run, direction = planted
    found = effects_of(mediate(model, run, direction, outcome="first_token_entropy", layers=3, **QUICK), layer="3")
    interaction = abs(found["interaction"]).max()
    assert interaction < 1e-5 if model.planted.mechanism == "logits" else interaction > 1e-2


def test_a_crossed_world_equals_a_plain_pass_with_a_hand_written_hook(planted):
    from mechmsc.causal import mediate
    from mechmsc.causal.histories import pairs_of

    model, run, direction = planted
    worlds = mediate(model, run, direction, outcome="first_token_entropy", layers=2, **QUICK)
    u = direction.vectors[2]
    pair = pairs_of(model, run, treatment="moral", control="neutral", rounds=[2])[1]
    tokens = {side: torch.tensor([getattr(pair, side).ids]) for side in ("control", "treatment")}
    _, cache = model.run_with_cache(tokens["treatment"], names_filter="blocks.2.hook_resid_post")
    z = cache["resid_post", 2][0, -1] @ u

    def set_coordinate(activation, hook):  # noqa: ARG001
        activation[0, -1] += (z - activation[0, -1] @ u) * u
        return activation

    logits = model.run_with_hooks(tokens["control"], fwd_hooks=[("blocks.2.hook_resid_post", set_coordinate)])[0, -1]
    entropy = torch.special.entr(logits.double().softmax(-1)).sum().item()
    at = {"item": pair.item.item_id, "round": 2, "outcome": "first_token_entropy"}
    assert worlds["indirect_world"].sel(at).item() == pytest.approx(entropy, abs=1e-5)
    assert worlds["control"].sel(at).item() != pytest.approx(entropy, abs=1e-2)


def test_swapping_treatment_and_control_turns_effects_around(planted):
    from mechmsc.causal import mediate

    model, run, direction = planted
    options = {"outcome": "first_token_entropy", "layers": 3, "history": "own", **QUICK}
    one = effects_of(mediate(model, run, direction, **options), layer="3")
    other = mediate(model, run, direction, treatment="neutral", control="moral", **options)
    other = effects_of(other, layer="3")
    np.testing.assert_allclose(other["indirect"], -(one["total"] - one["direct"]), atol=1e-5)
    np.testing.assert_allclose(other["direct"], -(one["total"] - one["indirect"]), atol=1e-5)


def test_the_whole_last_activation_mediates_everything_and_one_coordinate_does_not(planted):
    from mechmsc.causal import mediate

    model, run, direction = planted
    options = {"outcome": "choice_entropy_within", "layers": 3, **QUICK}
    worlds = mediate(model, run, mediator="activation", **options)
    found = effects_of(worlds, layer="3", outcome="choice_entropy_within")
    assert abs(found["total"]).min() > 0.1
    assert abs(found["indirect"] - found["total"]).max() < 1e-5 and abs(found["direct"]).max() < 1e-5
    one = effects_of(mediate(model, run, direction, **options), layer="3", outcome="choice_entropy_within")
    assert abs(one["direct"]).min() > 0.05


def test_every_differing_token_at_all_layers_mediates_everything(planted, monkeypatch, tmp_path):
    from mechmsc.causal import mediate
    from mechmsc.instructions import INSTRUCTIONS

    model, run, _ = planted
    texts = INSTRUCTIONS["social_bias"]["moral"]
    monkeypatch.setitem(INSTRUCTIONS["social_bias"], "neutral", tuple(text.replace("fair", "x") for text in texts))
    model, run = planted_run(tmp_path / "equal", n=3, rounds=1, direct=-0.2)  # instructions of equal length
    site = Site("resid_post", span="instruction", at="all")
    options = {"mediator": "activation", "site": site, "outcome": "first_token_entropy", **QUICK}
    found = effects_of(mediate(model, run, layers=range(4), **options), layer="0-3")
    assert abs(found["indirect"] - found["total"]).max() < 1e-5 and abs(found["direct"]).max() < 1e-5
    late = effects_of(mediate(model, run, layers=2, **options), layer="2")  # read before that layer
    assert abs(late["indirect"]).max() < 1e-5 < abs(late["total"]).min()


def test_setting_the_mediator_to_what_it_was_changes_nothing(planted):
    from mechmsc.causal.histories import pairs_of
    from mechmsc.causal.worlds import clean_worlds, crossed_worlds, ready

    model, run, direction = planted
    pairs = pairs_of(model, run, treatment="moral", control="neutral", rounds=[2])
    for span, at in (("instruction", "mean"), ("prompt", "last")):
        site = Site("resid_post", span=span, round=2, at=at)
        batch = ready(model, pairs, site, permutations=1, choices=True)
        for mediator in (direction, None):
            _, clean, [(control, treatment)] = clean_worlds(batch, [1, 2], [mediator])
            _, crossed = crossed_worlds(batch, (1, 2), mediator, treatment, control)  # each its own
            assert (clean - crossed).abs().max() < 1e-4
            _, crossed = crossed_worlds(batch, (1, 2), mediator, control, treatment)
            # after layer 1 nobody looks at the instruction any more
            assert ((clean - crossed).abs().max() > 1e-2) == (span == "prompt")


def test_outcomes_through_text_use_the_noise_of_the_run(tmp_path):
    from mechmsc.causal import Sampling, mediate

    model, run = planted_run(tmp_path / "run", n=3, rounds=1, samples=4)
    sampling = Sampling(samples=4, max_new_tokens=3, clusterer="exact")
    outcomes = ["predictive_entropy", "semantic_entropy", "length", "perplexity"]
    worlds = mediate(model, run, planted_direction(model), outcome=outcomes, layers=3, sampling=sampling, **QUICK)
    samples = run.samples[run.samples["arm"] == "neutral"]
    expected = -samples["response_logprobs"].map(sum).groupby(samples["item_id"], sort=False).mean()
    found = worlds["control"].sel(round=1, outcome="predictive_entropy")
    assert found.values == pytest.approx(expected[found["item"].values].values, abs=1e-4)
    assert (worlds["control"].sel(outcome="length") == 1).all()  # one answer, then the end of turn
    assert (worlds["control"].sel(outcome="semantic_entropy") > 0).any()


def test_over_many_data_sets_intervals_cover_the_planted_effect_and_random_directions_are_found_rarely(tmp_path):
    from mechmsc.causal import mediate, natural_effects
    from mechmsc.causal.beyond import beyond_placebos
    from mechmsc.estimate import cluster_bootstrap_columns, proportion_interval

    model, run = planted_run(tmp_path / "run", n=30, rounds=1, direct=-0.1)
    direction = planted_direction(model)
    options = {"outcome": "first_token_entropy", "layers": 3, "batch_size": 64, **QUICK}
    effects = natural_effects(mediate(model, run, direction, placebos=40, seed=5, **options)).squeeze(drop=True)
    expected = true_effects(model, effects["item"].values)
    draw = np.random.default_rng(20261125)  # fixed before looking
    names, covered = ("total", "indirect", "direct"), []
    columns = np.stack([effects[name].values for name in names], axis=1)
    for number in range(200):
        items = draw.integers(0, 30, 60)
        estimates = cluster_bootstrap_columns(columns[items], np.arange(60), n_boot=500, seed=number)
        covered.append([e.low <= expected[n].mean() <= e.high for n, e in zip(names, estimates, strict=True)])
    for share in np.mean(covered, axis=0):
        low, high = proportion_interval(float(share), 200, level=0.99)
        assert low <= 0.97 and high >= 0.93, share
    placebos, positives = effects["placebo"].transpose("item", "placebo").values, 0
    for number in range(200):
        items, (own, *others) = draw.integers(0, 30, 40), draw.permutation(40)[:25]
        _, p = beyond_placebos(placebos[items, own], placebos[np.ix_(items, others)], n_boot=2, seed=number)
        positives += p <= 0.05
    assert proportion_interval(positives / 200, 200, level=0.99)[0] <= 0.05
    _, p = beyond_placebos(effects["indirect"].values, placebos, n_boot=2, seed=0)
    assert p < 0.05


def test_few_items_are_warned_about_and_one_has_no_interval(planted):
    from mechmsc.causal import mediate, mediation_table

    model, run, direction = planted
    item = run.items[0].item_id
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning, match="1 items are few"):
            mediate(model, run, direction, items=[item], layers=3, **QUICK)
    worlds = mediate(model, run, direction, items=[item], outcome="first_token_entropy", layers=3, rounds=[1], **QUICK)
    table = mediation_table(worlds).set_index(["effect", "round"])
    assert table.loc[("indirect", 1), "value"] < -0.1 and table.loc["indirect"]["low"].isna().all()
    assert table.loc["proportion"]["value"].isna().all()  # nobody knows whether the total effect is 0


def test_the_proportion_is_given_only_where_the_total_effect_is_sure(tmp_path):
    from mechmsc.causal import mediate, mediation_table

    model, run = planted_run(tmp_path / "null", n=5, rounds=1, effect=0.0)
    table = mediation_table(
        mediate(model, run, planted_direction(model), outcome="first_token_entropy", layers=3, **QUICK)
    ).set_index("effect")
    assert abs(table.loc["total", "value"]).max() < 1e-5
    model, run = planted_run(tmp_path / "effect", n=5, rounds=1, direct=-0.1)
    table = mediation_table(
        mediate(model, run, planted_direction(model), outcome="first_token_entropy", layers=3, **QUICK)
    ).set_index("effect")
    ratio = table.loc["indirect", "value"].iloc[0] / table.loc["total", "value"].iloc[0]
    assert table.loc["proportion", "value"].iloc[0] == pytest.approx(ratio)
    assert 0.5 < table.loc["proportion", "low"].iloc[0] <= ratio <= table.loc["proportion", "high"].iloc[0] < 1


def test_a_total_effect_made_of_rounding_errors_has_no_proportion():
    import xarray

    from mechmsc.causal import mediation_table

    def world(values):
        return ("item", "round", "outcome"), np.array(values).reshape(5, 1, 1)

    def worlds(scale):
        noise = scale * np.array([1.0, 2.0, 0.0, 1.0, 3.0])
        part = (("item", "round", "outcome", "layer"), (0.5 * noise).reshape(5, 1, 1, 1))
        worlds = {
            "treatment": world(noise),
            "control": world(np.zeros(5)),
            "indirect_world": part,
            "direct_world": part,
        }
        coords = {"item": list("abcde"), "round": [1], "outcome": ["x"], "layer": ["3"]}
        return mediation_table(xarray.Dataset(worlds, coords)).set_index("effect").loc["proportion"]

    assert worlds(1e-7)["value"].isna().all()
    assert worlds(1.0)["value"].to_numpy() == pytest.approx(0.5)  # though one item alone has none
    assert worlds(1.0)["low"].to_numpy() == pytest.approx(0.5)


WRONG = {
    "no such arm": ({"treatment": "morral"}, "no arm 'morral': did you mean moral"),
    "same arm": ({"treatment": "neutral"}, "must differ"),
    "layer": ({"layers": 4}, "expected layers from 0 to 3, got \\[4\\]"),
    "history": ({"history": "common"}, "unknown history"),
    "mediator": ({"mediator": "text"}, "unknown mediator 'text'"),
    "outcome": ({"outcome": "choice_entrpy"}, "did you mean choice_entropy"),
    "item": ({"items": ["social_bias/case-x"]}, "has no item 'social_bias/case-x'"),
    "round": ({"rounds": [7]}, "no round that both"),
    "component": (
        {"site": Site("attn_out", span="prompt", at="last")},
        "fitted at resid_post, but the site is attn_out",
    ),
    "unequal span": (
        {"mediator": "activation", "site": Site("resid_post", span="instruction", at="all")},
        "cannot replace each other one by one",
    ),
}


@pytest.mark.parametrize("changes, message", WRONG.values(), ids=WRONG)
def test_what_cannot_be_answered_is_refused_in_one_line(planted, changes, message):
    from mechmsc.causal import mediate

    model, run, direction = planted
    with pytest.raises(InputError, match=message) as caught:
        mediate(model, run, direction, **({"layers": 3} | QUICK | changes))
    assert "\n" not in str(caught.value)


def test_a_direction_of_the_runs_own_items_or_of_another_model_is_refused(planted):
    from mechmsc.causal import mediate
    from mechmsc.directions.fitting import text_digest

    model, run, direction = planted
    own = dataclasses.replace(direction, data={"texts": [text_digest(run.items[0].question)]})
    with pytest.raises(InputError, match="was fitted on the text of social_bias/case-"):
        mediate(model, run, own, layers=3, **QUICK)
    other = dataclasses.replace(direction, model=dataclasses.replace(direction.model, sha256="0" * 64))
    with pytest.raises(InputError, match="planted"):
        mediate(model, run, other, layers=3, **QUICK)
