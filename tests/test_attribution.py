"""Attribution patching: exact where the outcome is linear in the activation, and an honest guess elsewhere."""

import warnings

import numpy as np
import pytest
import torch
from engines import HAS_HOOKED
from scipy.stats import spearmanr
from test_patching import VOCABULARY, N, pairs, two_logits
from test_patching_alignment import DESTINATION, SOURCE

import mechmsc as mm
from mechmsc.attribution import attribution_patch
from mechmsc.errors import InputError
from mechmsc.patching import patch_grid, patching_effect

ALL = ("resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out", "z", "q", "k", "v", "pattern")


@pytest.fixture(scope="module")
def linear_model():
    """One block of attention alone, without norms: logits are linear in z, v, pattern, attn_out and resid_post."""
    if not HAS_HOOKED:
        pytest.skip("the linear model is a HookedTransformer, which TransformerLens 4 has not")
    from transformer_lens import HookedTransformer, HookedTransformerConfig

    cfg = HookedTransformerConfig(
        n_layers=1,
        d_model=16,
        n_ctx=32,
        d_head=4,
        n_heads=4,
        n_key_value_heads=2,
        d_vocab=VOCABULARY,
        attn_only=True,
        normalization_type=None,
        positional_embedding_type="rotary",
        rotary_dim=4,
        seed=3,
        device="cpu",
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        model = HookedTransformer(cfg)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
        if parameter.ndim > 1:
            parameter.normal_(std=0.5, generator=torch.Generator().manual_seed(parameter.numel()))
    return model.eval()


@pytest.fixture(scope="module")
def model(load_tiny):
    return load_tiny("llama")


LINEAR = ["z", "v", "pattern", "attn_out", "resid_post"]


@pytest.mark.parametrize("component", LINEAR)
def test_attribution_equals_exact_patching_where_the_outcome_is_linear(linear_model, component):
    source, destination = pairs(2)
    exact = patch_grid(linear_model, source, destination, sites=component, outcome=two_logits)
    guess = attribution_patch(linear_model, source, destination, sites=component, outcome=two_logits)[component]
    effect = (exact - exact.destination).isel(component=0)
    assert guess.dims == effect.dims and float(abs(effect).max()) > 0.05
    np.testing.assert_allclose(guess, effect, atol=1e-5)
    np.testing.assert_allclose(guess.destination, exact.destination, atol=1e-5)
    assert guess.attrs["rank_correlation"] > 0.999


def test_where_it_is_not_linear_the_guess_differs_and_more_steps_come_nearer_for_a_whole_embedding(linear_model):
    source, destination = pairs(2)
    source[:, -1] = 5  # the query that is read
    where = {"sites": ["resid_pre", "q"], "outcome": two_logits, "check": 0}
    guess = attribution_patch(linear_model, source, destination, **where)
    exact = patch_grid(linear_model, source, destination, sites="q", outcome=two_logits)
    assert float(abs(guess["q"] - (exact - exact.destination)[:, 0]).max()) > 1e-3
    gap = guess["q"].source - guess["q"].destination
    errors = []
    for steps in (None, 1, 64):  # over all embeddings the path integral is the gap (completeness)
        total = attribution_patch(linear_model, source, destination, steps=steps, **where)["resid_pre"]
        errors.append(float(abs(total.sum("position")[:, 0] - gap).max()))
    assert errors[2] < 0.02 * errors[0] and errors[2] < errors[1]


@pytest.mark.parametrize("component", ALL)
def test_attributions_are_differences_times_gradients_by_finite_differences(model, component):
    source, destination = pairs(1, 6)
    guess = attribution_patch(model, source, destination, sites=component, outcome=two_logits, check=0)[component]
    from references.patching import activation, hook_name

    ids = destination[0].tolist()
    theirs, ours = (activation(model, row.tolist(), component, 1) for row in (source[0], destination[0]))
    epsilon = 2e-2
    for p, head in ((1, 2), (3, 0), (5, 3)):
        values = []
        for sign in (1, -1):

            def nudge(value, hook, sign=sign, p=p, head=head):  # noqa: ARG001 - a hook's
                value = value.clone()
                own = head if component not in ("k", "v") else head // 2
                at = (own, p) if component == "pattern" else (p, own) if component in "zqkv" else (p,)
                value[0][at] += sign * epsilon * (theirs - ours)[at]
                return value

            with torch.no_grad():
                logits = model.run_with_hooks(torch.tensor([ids]), fwd_hooks=[(hook_name(component, 1), nudge)])
            values.append(float(two_logits(logits)[0]))
        cell = guess.isel(item=0).sel(layer=1, position=p)
        cell = cell.sel(head=head) if "head" in cell.dims else cell
        slope = (values[0] - values[1]) / (2 * epsilon)
        assert float(cell) == pytest.approx(slope, abs=2e-3 + 0.02 * abs(slope))


def test_the_result_says_how_well_it_ranks_exact_patches_and_the_draw_is_seeded(model):
    source, destination = pairs(2)
    ask = {"sites": ["resid_pre", "z"], "outcome": two_logits}
    found = attribution_patch(model, source, destination, check=30, **ask)
    assert found.attrs["rank_correlation_n"] == 60 and 0.2 < found.attrs["rank_correlation"] <= 1
    every = attribution_patch(model, source, destination, check=10**6, **ask)
    for component in ask["sites"]:
        exact = patch_grid(model, source, destination, sites=component, outcome=two_logits)
        effect = (exact - exact.destination).isel(component=0).values.ravel()
        guess = every[component].values.ravel()
        moved = guess != 0
        assert every[component].attrs["rank_correlation"] == pytest.approx(
            spearmanr(guess[moved], effect[moved]).statistic, abs=0.02
        )
    again = attribution_patch(model, source, destination, check=30, **ask)
    assert again.attrs["rank_correlation"] == found.attrs["rank_correlation"]
    assert np.isnan(attribution_patch(model, source, destination, check=0, **ask).attrs["rank_correlation"])


def test_items_in_one_pass_or_several_and_in_any_order_give_the_same(model):
    source, destination = pairs(12)
    ask = {"sites": ["resid_mid", "k"], "check": 0, "steps": 2}
    scale = torch.arange(1.0, 13.0)

    def by_item(logits):  # reads items by their place, as an outcome may
        return two_logits(logits) * scale

    one = attribution_patch(model, source, destination, outcome=by_item, **ask)
    several = attribution_patch(model, source, destination, outcome=by_item, max_memory_gib=0.0007, **ask)
    for component in ask["sites"]:
        np.testing.assert_allclose(one[component], several[component], atol=2e-5)


def test_outcomes_may_read_other_sites_all_positions_and_the_unpatched_run(model):
    source, destination = pairs(2)
    u = torch.linspace(-1, 1, model.cfg.d_model)

    def along(logits, activations, baseline):
        return activations["resid_post", 1].sum(1) @ u + (logits - baseline)[:, 2].sum(-1)

    outcome = mm.outcome(along, positions="all", sites=[("resid_post", 1)], baseline=True)
    guess = attribution_patch(model, source, destination, sites="resid_post", outcome=outcome, layers=[1], check=0)
    from mechmsc.model.partial import remember

    memory, theirs = (remember(model, ids.tolist(), keep=[]) for ids in (destination, source))
    moved = (theirs.resid_pre(2) - memory.resid_pre(2)) @ u
    np.testing.assert_allclose(guess["resid_post"][:, 0, 3:], moved[:, 3:], atol=1e-4)  # token 2's logits see 0, 1, 2
    assert abs(guess["resid_post"][:, 0, :3] - moved[:, :3].numpy()).max() > 1e-3


def test_conversations_of_different_length_are_aligned_as_for_exact_patches(model):
    where = {"outcome": two_logits, "span": "instruction", "round": 1}
    for align in ("last", "mean", "shared"):
        guess = attribution_patch(
            model, SOURCE, DESTINATION, sites=["resid_pre", "v"], align=align, steps=4, check=0, **where
        )
        exact = patch_grid(model, SOURCE, DESTINATION, sites="v", align=align, **where)
        assert guess["v"].sizes == exact.isel(component=0).sizes
        assert float(abs(guess["resid_pre"]).max()) > 1e-3
    same = attribution_patch(model, SOURCE, SOURCE, sites=["resid_pre", "v"], outcome=two_logits)
    assert all((same[name] == 0).all() for name in same) and same.attrs["rank_correlation_n"] == 0


def test_a_variable_is_a_grid_of_effects(model):
    source, destination = pairs(3)
    effect = patching_effect(
        attribution_patch(model, source, destination, sites="z", outcome=two_logits, check=0)["z"], n_boot=50, n_perm=19
    )
    assert effect.effect.dims == ("layer", "head", "position") and effect.sizes["position"] == N


def test_what_has_no_gradient_or_is_more_than_one_outcome_is_refused(model):
    source, destination = pairs(1)
    with pytest.raises(InputError, match="expected a differentiable function"):
        attribution_patch(model, source, destination, outcome=lambda logits: logits[:, -1].argmax(-1).float())
    with pytest.raises(InputError, match="expected one outcome"):
        attribution_patch(model, source, destination, outcome={"a": two_logits, "b": two_logits})
    with pytest.raises(InputError, match="steps of at least 1"):
        attribution_patch(model, source, destination, outcome=two_logits, steps=0)
    with pytest.raises(InputError, match="one number an item"):
        attribution_patch(model, source, destination, outcome=lambda logits: logits[:, -1])
    assert not any(point.fwd_hooks for point in model.hook_dict.values())
