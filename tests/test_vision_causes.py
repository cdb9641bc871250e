"""What causal analyses say of conversations about pictures, each against the slow way: Hugging Face's own forward."""

from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tiny_vision import Own, save_tiny_vision

from mechmsc.tasks import load_items

pytestmark = [pytest.mark.engine, pytest.mark.filterwarnings("ignore:.*items are few")]
QUICK = {"permutations": 2, "progress": False}
LAYER, GAP = 1, 3.0


@pytest.fixture(scope="module", params=["llava", "qwen2_5_vl"])
def seen(request, tmp_path_factory, model_cache):
    """A tiny model, a run of it, a random direction, and Hugging Face's own forward."""
    from mechmsc.directions import Direction
    from mechmsc.model import identity, load_model
    from mechmsc.rounds import self_correct

    folder = tmp_path_factory.mktemp(request.param)
    model = load_model(save_tiny_vision(request.param, folder / "model"), cache=model_cache)
    settings = {"arms": ["moral", "neutral"], "rounds": 2, "samples": 0, "sites": "none"}
    run = self_correct(model, load_items("visual_qa", limit=2), out=folder / "run", **settings, **QUICK)
    n, dice = model.cfg.n_layers, torch.Generator().manual_seed(3)
    direction = Direction(
        concept="random",
        vectors=torch.randn(n, model.cfg.d_model, generator=dice),
        midpoints=torch.zeros(n, model.cfg.d_model),
        gaps=torch.full((n,), GAP),
        layers=tuple(range(n)),
        method="drawn",
        component="resid_post",
        position="last",
        context="chat",
        model=identity(model),
    )
    return SimpleNamespace(model=model, run=run, direction=direction, own=Own(request.param, model))


def entropy(logits):
    return torch.special.entr(logits.double().softmax(-1)).sum().item()


def at_the_end(function):
    """A change of the residual stream at the last token."""

    def change(stream):
        out = stream.clone()
        out[0, -1] = function(out[0, -1])
        return out

    return {LAYER: change}


def test_a_crossed_world_is_hugging_faces_forward_with_the_coordinate_clamped(seen):
    from mechmsc.causal import mediate
    from mechmsc.causal.histories import pairs_of

    worlds = mediate(seen.model, seen.run, seen.direction, outcome="first_token_entropy", layers=LAYER, **QUICK)
    for round in (1, 2):
        pair = pairs_of(seen.model, seen.run, treatment="moral", control="neutral", rounds=[round])[1]
        u = seen.direction.units[LAYER]
        z = seen.own(pair.treatment)[1][LAYER + 1][-1] @ u
        clamped = seen.own(pair.control, change=at_the_end(lambda h, z=z, u=u: h + (z - h @ u) * u))[0][-1]
        at = {"item": pair.item.item_id, "round": round, "outcome": "first_token_entropy"}
        assert worlds["indirect_world"].sel(at).item() == pytest.approx(entropy(clamped), abs=1e-5)
        clean = entropy(seen.own(pair.control)[0][-1])
        assert worlds["control"].sel(at).item() == pytest.approx(clean, abs=1e-5)
        assert abs(clean - entropy(clamped)) > 1e-4


def test_choices_in_every_order_are_those_of_the_run(seen):
    from mechmsc.causal import mediate

    worlds = mediate(seen.model, seen.run, seen.direction, outcome="choice_entropy_within", layers=LAYER, **QUICK)
    rows = seen.run.transcripts.set_index(["item_id", "arm", "round"])
    for item in worlds["item"].values:
        probs = np.array([*map(np.array, rows.loc[(item, "neutral", 1), "permutation_probs"])])
        expected = float(-(probs * np.log(probs)).sum(1).mean())
        found = worlds["control"].sel(item=item, round=1, outcome="choice_entropy_within").item()
        assert found == pytest.approx(expected, abs=1e-4)


def test_every_dose_is_hugging_faces_forward_with_the_direction_added(seen):
    from mechmsc.causal import dose_response
    from mechmsc.causal.histories import conversations_of

    asked = {"outcome": "first_token_entropy", "strengths": [-1, 0, 1], "layers": LAYER, "placebos": 1, "rounds": [2]}
    doses = dose_response(seen.model, seen.run, seen.direction, **asked, **QUICK)
    for pair in conversations_of(seen.run, arm="neutral", rounds=[2]):
        u = seen.direction.units[LAYER]
        steered = [
            entropy(seen.own(pair.control, change=at_the_end(lambda h, a=a: h + a * GAP * u))[0][-1])  # noqa: B023
            for a in (-1, 0, 1)
        ]
        assert doses["response"].sel(item=pair.item.item_id).values.ravel() == pytest.approx(steered, abs=1e-5)
        assert np.ptp(steered) > 1e-3


def test_perplexity_is_that_of_the_text_behind_its_own_picture(seen):
    from mechmsc.interventions import add, applied, generation_guards, respond
    from mechmsc.sites import Site

    talks = [seen.run.transcript(item, arm="neutral", round=1) for item in seen.run.items]
    assert talks[0].image != talks[1].image
    with applied(seen.model, [add(seen.direction, strength=1.0, at=Site("resid_post", layer=LAYER, span="image"))]):
        said = respond(seen.model, talks, samples=1, max_new_tokens=4)
        guards = generation_guards(seen.model, talks, said)
    for row, found in zip(said.itertuples(), guards["perplexity"], strict=True):
        talk, response = talks[row.conversation], list(row.response_ids)
        logprobs = seen.own(talk, ids=[*talk.ids, *response])[0].log_softmax(-1)[len(talk) - 1 : -1]
        mean = logprobs.gather(1, torch.tensor(response)[:, None]).mean()
        assert found == pytest.approx(float((-mean).exp()), rel=1e-4)


def test_attribution_is_the_slope_of_hugging_faces_own_forward(seen):
    from mechmsc.attribution import attribution_patch

    source, destination = (seen.run.transcript(item, arm="neutral", round=1) for item in seen.run.items)
    span, layers = source.span("image", 1), range(1, seen.model.cfg.n_layers)
    assert destination.span("image", 1) == span
    guess = attribution_patch(
        seen.model,
        [source],
        [destination],
        sites="resid_post",
        layers=[layer - 1 for layer in layers],
        span="image",
        round=1,
        outcome=lambda logits: logits[:, -1, 65],
        check=0,
    )["resid_post"]
    (_, theirs), (_, ours) = seen.own(source), seen.own(destination)
    for layer in layers:
        for place, token in enumerate(range(span.start, span.end)):
            difference, step = theirs[layer][token] - ours[layer][token], 0.02

            def moved(stream, by, token=token, difference=difference):
                out = stream.clone()
                out[0, token] += by * difference
                return out

            up, down = (
                seen.own(destination, change={layer - 1: partial(moved, by=by)})[0][-1, 65] for by in (step, -step)
            )
            slope = float(up - down) / (2 * step)
            assert float(guess.sel(layer=layer - 1).values.ravel()[place]) == pytest.approx(slope, rel=2e-2, abs=1e-3)
    assert np.abs(guess.values).max() > 0.02
