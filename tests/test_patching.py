"""Grids of exact patches, against one plain hooked pass a cell and against TransformerLens' own functions."""

import functools
import itertools
import random
from functools import partial

import numpy as np
import pytest
import torch
import xarray as xr
from devices import refuse_mixed_devices
from references.patching import activation, patched_logits, unpatched_logits
from tiny_models import CONFIGS, VOCABULARY

import mechmsc as mm
from mechmsc.errors import InputError, MechmscError
from mechmsc.model import partial as partial_pass
from mechmsc.patching import grid as grid_module
from mechmsc.patching import patch_grid, sweep

WITHOUT_HEADS = ["resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out"]
WITH_HEADS = ["z", "q", "k", "v", "pattern"]
N = 14


def two_logits(logits):
    return logits[:, -1, 7] - logits[:, -1, 9]


def pairs(n_items: int, n: int = N, seed: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    """Source and destination; the last tokens of both are the same, the others differ."""
    dice = torch.Generator().manual_seed(seed)
    source, destination = (torch.randint(3, VOCABULARY, (n_items, n), generator=dice) for _ in range(2))
    source[:, -3:] = destination[:, -3:]
    return source, destination


@pytest.fixture(scope="module")
def model_of(load_tiny):
    return functools.cache(load_tiny)


def own_head(model, component: str, head: int | None) -> int | None:
    shared = model.cfg.n_heads // (model.cfg.n_key_value_heads or model.cfg.n_heads)
    return head // shared if component in ("k", "v") else head


def sampled(grid, n: int, seed: int = 0):
    """(item number, coordinates of a cell, its value) of some cells of every component."""
    dims = [dim for dim in grid.dims if dim not in ("item", "component")]
    for component in grid.component.values:
        cells = list(itertools.product(*(grid[dim].values.tolist() for dim in dims)))
        for cell in random.Random(seed).sample(cells, n):
            where = dict(zip(dims, cell, strict=True))
            for item in range(grid.sizes["item"]):
                yield item, str(component), where, float(grid.isel(item=item).sel(component=component, **where))


@pytest.mark.parametrize("components", [WITHOUT_HEADS, WITH_HEADS], ids=["without heads", "with heads"])
@pytest.mark.parametrize("architecture", CONFIGS)
def test_every_cell_equals_a_full_pass_with_a_plain_hook(model_of, architecture, components):
    model, (source, destination) = model_of(architecture), pairs(2)
    grid = patch_grid(model, source, destination, sites=components, outcome=two_logits)
    scale = float(grid.max() - grid.min())
    assert grid.sizes["position"] == N and grid.sizes["layer"] == 3 and scale > 0.1
    for item, component, where, value in sampled(grid, 4):
        logits = patched_logits(
            model,
            source[item].tolist(),
            destination[item].tolist(),
            component,
            where["layer"],
            read=[where["position"]],
            write=[where["position"]],
            head=own_head(model, component, where.get("head")),
        )
        assert abs(value - float(two_logits(logits[None])[0])) < 1e-4 * scale, (component, where)
    for name, ids in (("source", source), ("destination", destination)):
        expected = [float(two_logits(unpatched_logits(model, row.tolist())[None])[0]) for row in ids]
        np.testing.assert_allclose(grid[name], expected, atol=1e-4 * scale)


TRANSFORMER_LENS = {
    "resid_pre": "get_act_patch_resid_pre",
    "resid_mid": "get_act_patch_resid_mid",
    "attn_out": "get_act_patch_attn_out",
    "mlp_out": "get_act_patch_mlp_out",
    "z": "get_act_patch_attn_head_out_by_pos",
    "q": "get_act_patch_attn_head_q_by_pos",
    "k": "get_act_patch_attn_head_k_by_pos",
    "v": "get_act_patch_attn_head_v_by_pos",
    "pattern": "get_act_patch_attn_head_pattern_by_pos",
}
ALL_POSITIONS = {
    "z": "get_act_patch_attn_head_out_all_pos",
    "q": "get_act_patch_attn_head_q_all_pos",
    "k": "get_act_patch_attn_head_k_all_pos",
    "v": "get_act_patch_attn_head_v_all_pos",
    "pattern": "get_act_patch_attn_head_pattern_all_pos",
}


def by_transformer_lens(model, function: str, source, destination):
    """Their grid, axes layer, (head,) position, with one entry a query head."""
    from transformer_lens import patching

    with torch.no_grad():
        _, cache = model.run_with_cache(source)
        grid = getattr(patching, function)(model, destination, cache, lambda logits: two_logits(logits)[0])
    if "head" not in function:
        return grid
    grid = grid if "all_pos" in function or "pattern" in function else grid.transpose(1, 2)  # by layer, pos, head
    return grid.repeat_interleave(model.cfg.n_heads // grid.shape[1], dim=1)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("component", TRANSFORMER_LENS)
def test_grids_equal_those_of_transformer_lens_on_the_same_prompt_and_metric(model_of, component):
    model, (source, destination) = model_of("llama"), pairs(1, 7)
    ours = patch_grid(model, source, destination, sites=component, outcome=two_logits)[0, 0]
    theirs = by_transformer_lens(model, TRANSFORMER_LENS[component], source, destination)
    np.testing.assert_allclose(ours, theirs, atol=2e-5)
    if component in ALL_POSITIONS:
        ours = patch_grid(model, source, destination, sites=component, outcome=two_logits, together=True)[0, 0]
        theirs = by_transformer_lens(model, ALL_POSITIONS[component], source, destination)
        np.testing.assert_allclose(ours, theirs, atol=2e-5)


@pytest.mark.parametrize("components", [WITHOUT_HEADS, WITH_HEADS], ids=["without heads", "with heads"])
def test_patching_a_run_into_itself_changes_nothing_even_where_the_shortcut_is_off(model_of, components, monkeypatch):
    model, (_, ids) = model_of("gemma2"), pairs(2)
    exact = patch_grid(model, ids, ids, sites=components, outcome=two_logits)
    assert (exact == exact.destination).all() and (exact.source == exact.destination).all()
    monkeypatch.setattr(grid_module, "unchanged", lambda edits, *_: [False] * edits.n_cells)
    recomputed = patch_grid(model, ids, ids, sites=components, outcome=two_logits)
    np.testing.assert_allclose(recomputed, exact, atol=2e-5)


def test_the_whole_residual_stream_or_its_last_token_at_the_end_reproduces_the_source(model_of):
    model, (source, destination) = model_of("qwen3"), pairs(3)
    source[:, -1] = 5
    everywhere = patch_grid(
        model, source, destination, sites=["resid_pre", "resid_post"], outcome=two_logits, together=True
    )
    assert "position" not in everywhere.dims
    assert abs(everywhere - everywhere.source).max() < 2e-5
    last = patch_grid(model, source, destination, sites="resid_post", outcome=two_logits, layers=[2])
    np.testing.assert_allclose(last.sel(position=N - 1)[:, 0, 0], last.source, atol=2e-5)
    assert (abs(last.source - last.destination) > 0.01).all()
    assert (last.sel(position=range(N - 1)) == last.destination).all()  # nothing reads these any more


@pytest.mark.parametrize("components", [WITHOUT_HEADS, WITH_HEADS], ids=["without heads", "with heads"])
def test_neither_memory_nor_size_of_batches_nor_order_of_items_changes_a_number(model_of, components, monkeypatch):
    model, (source, destination) = model_of("gemma3"), pairs(3)
    sweep_all = partial(patch_grid, model, sites=components, outcome=two_logits, positions=[1, 4, 11, 13])
    one = sweep_all(source, destination)
    tight = sweep_all(source, destination, max_memory_gib=0.0016)
    monkeypatch.setattr(sweep, "TOKENS", 20)
    small = sweep_all(source, destination)
    mixed = sweep_all(source[[2, 0, 1]], destination[[2, 0, 1]])
    for other in (tight, small, mixed[[1, 2, 0]]):
        np.testing.assert_allclose(other, one, atol=2e-5)


def test_a_small_memory_splits_items_and_cells(model_of, monkeypatch):
    model, (source, destination) = model_of("llama"), pairs(20)
    seen = {"items": [], "cells": []}
    remember, pass_ = grid_module.remember, sweep.Sweep.pass_
    monkeypatch.setattr(
        grid_module, "remember", lambda m, ids, **k: seen["items"].append(len(ids)) or remember(m, ids, **k)
    )
    monkeypatch.setattr(sweep.Sweep, "pass_", lambda s, cells: seen["cells"].append(len(cells)) or pass_(s, cells))
    counts = {}
    for gib in (1.0, 0.00075):
        seen["items"], seen["cells"] = [], []
        patch_grid(model, source, destination, outcome=two_logits, max_memory_gib=gib, positions=[3, 7, 8])
        counts[gib] = (max(seen["items"]), max(seen["cells"]))
    assert counts[1.0][0] == 20 and counts[0.00075][0] < 20
    assert counts[0.00075][1] < counts[1.0][1]


def test_running_out_of_memory_halves_the_batch_and_gives_the_same_numbers(model_of, monkeypatch):
    model, (source, destination) = model_of("llama"), pairs(1)
    expected = patch_grid(model, source, destination, outcome=two_logits)
    run_block, sizes = sweep.run_block, []

    def short_of_memory(model, layer, residual, rows, memory, **options):
        if len(rows.item) > 3:
            raise torch.OutOfMemoryError("no room")
        sizes.append(len(rows.item))
        return run_block(model, layer, residual, rows, memory, **options)

    monkeypatch.setattr(sweep, "run_block", short_of_memory)
    np.testing.assert_allclose(patch_grid(model, source, destination, outcome=two_logits), expected, atol=2e-5)
    assert max(sizes) > 1

    def no_memory(*_, **__):
        raise torch.OutOfMemoryError("no room")

    monkeypatch.setattr(sweep, "run_block", no_memory)
    with pytest.raises(MechmscError, match="out of memory with one patched run in flight"):
        patch_grid(model, source, destination, outcome=two_logits)


def test_outcomes_without_labels_have_names(model_of):
    model, (source, destination) = model_of("llama"), pairs(1)
    grid = patch_grid(model, source, destination, layers=[1], outcome={"kl": "kl", "entropy": "first_token_entropy"})
    p = unpatched_logits(model, destination[0].tolist())[-1].softmax(-1)
    assert float(grid.destination[0, 1]) == pytest.approx(float(-(p * p.log()).sum()), abs=1e-4)
    assert float(abs(grid.destination[0, 0])) < 1e-6 and float(grid.sel(outcome="kl").max()) > 1e-3
    assert patch_grid(model, source, destination, layers=[1], outcome="kl").attrs["outcome"] == "kl"


def keeping(kept, key, value, hook):  # noqa: ARG001 - a hook's
    kept[key] = value.clone()


def test_several_outcomes_share_one_sweep_and_may_read_all_positions_later_sites_and_the_unpatched_run(model_of):
    model, (source, destination) = model_of("mistral"), pairs(2)
    u = torch.linspace(-1, 1, model.cfg.d_model)

    def mean_logit(logits):
        return logits[:, :, 7].mean(1)

    def kl(logits, baseline):
        return torch.nn.functional.kl_div(
            logits.log_softmax(-1), baseline.log_softmax(-1), log_target=True, reduction="none"
        ).sum((1, 2))

    def along(logits, activations):
        assert logits.shape[1] == activations["resid_post", 1].shape[1]
        return activations["resid_post", 1][:, -1] @ u + activations["resid_pre", 0][:, 0] @ u

    sites = [("resid_post", 1), ("resid_pre", 0)]
    outcomes = {
        "last": two_logits,
        "kl": mm.outcome(kl, baseline=True),
        "along": mm.outcome(along, sites=sites),
        "all": mm.outcome(mean_logit, positions="all"),
        "along_all": mm.outcome(along, sites=sites, positions="all"),
    }
    for names in (["last", "kl", "along"], list(outcomes)):
        chosen = {name: outcomes[name] for name in names}
        grid = patch_grid(model, source, destination, sites=["resid_pre", "mlp_out"], outcome=chosen)
        assert grid.dims == ("item", "outcome", "component", "layer", "position")
        assert grid.outcome.values.tolist() == names
        assert (grid.sel(outcome="kl").destination == 0).all() and (grid.sel(outcome="kl").source > 0).all()
        for item, component, where, _ in sampled(grid.isel(outcome=0, drop=True), 6):
            kept = {}
            keep = [(f"blocks.{layer}.hook_{name}", partial(keeping, kept, (name, layer))) for name, layer in sites]
            with model.hooks(fwd_hooks=keep):
                p = where["position"]
                ids = [source[item].tolist(), destination[item].tolist()]
                logits = patched_logits(model, *ids, component, where["layer"], read=[p], write=[p])[None]
            values = {
                "last": two_logits(logits),
                "kl": kl(logits[:, -1:], unpatched_logits(model, ids[1])[None, -1:]),
                "along": kept["resid_post", 1][:, -1] @ u + kept["resid_pre", 0][:, -1] @ u,
                "all": mean_logit(logits),
                "along_all": kept["resid_post", 1][:, -1] @ u + kept["resid_pre", 0][:, 0] @ u,
            }
            for name in names:
                value = float(grid.isel(item=item).sel(component=component, outcome=name, **where))
                assert value == pytest.approx(float(values[name][0]), abs=1e-4), (name, component, where)


def test_a_key_value_head_is_that_of_the_query_heads_that_share_it(model_of):
    model, (source, destination) = model_of("llama"), pairs(1)
    grid = patch_grid(model, source, destination, sites=["v", "z"], outcome=two_logits)
    assert grid["kv_head"].values.tolist() == [0, 0, 1, 1]
    v, z = grid.sel(component="v"), grid.sel(component="z")
    assert (v.isel(head=0) == v.isel(head=1)).all() and (v.isel(head=1) != v.isel(head=2)).any()
    assert (z.isel(head=0) != z.isel(head=1)).any()
    one = patch_grid(model, source, destination, sites=mm.Site("v", head=1), outcome=two_logits)
    xr.testing.assert_equal(one, grid.sel(component=["v"], head=[2, 3]))


def test_the_forward_pass_of_a_sweep_runs_on_meta_without_mixing_devices(load_tiny):
    from mechmsc.patching.alignment import pair_ids
    from mechmsc.patching.places import Place

    source, destination = pairs(2)
    for architecture, components in itertools.product(("llama", "gemma3"), (WITHOUT_HEADS, WITH_HEADS)):
        model = load_tiny(architecture, device="meta")
        pairing = pair_ids(source, destination)
        with refuse_mixed_devices():
            places = [Place(c, layer, 1 if c in WITH_HEADS else None, 4) for c in components for layer in (0, 2)]
            job = grid_module.Job(model, pairing, places, {}, 2**30)
            runs = grid_module.remembered(job, [0, 1])
            ends = grid_module.ends_of(job, runs[0]).copies(len(places))
            grid_module._sweep(job, range(len(places)), [0, 1], runs, ends)
            logits = grid_module.logits_of(model, ends.final)
        assert logits.shape == (len(places), 2, 1, VOCABULARY) and logits.device.type == "meta"


def test_progress_counts_every_cell_once(tiny_llama, capsys):
    source, destination = pairs(2)
    grid = patch_grid(
        tiny_llama, source, destination, sites=["resid_pre", "attn_out"], outcome=two_logits, progress=True
    )
    said, n = capsys.readouterr().err.splitlines()[-1], grid.size
    assert said.startswith(f"patches {n}/{n},")


def refused(match: str, model, *arguments, **options):
    with pytest.raises(InputError, match=match) as caught:
        patch_grid(model, *arguments, **({"outcome": two_logits} | options))
    assert "\n" not in str(caught.value)


def test_what_cannot_be_swept_is_refused_in_one_line(model_of):
    model, (source, destination) = model_of("llama"), pairs(2)

    def refuse(match, *arguments, **options):
        refused(match, model, *(arguments or (source, destination)), **options)

    refuse("one shape, got .2, 14. and .2, 13.; .*transcripts and an alignment", source, destination[:, 1:])
    refuse("layer 3 is out of range: expected whole numbers from 0 to 2", layers=[0, 3])
    refuse("position -1 is out of range", positions=[-1])
    refuse("head 4 is out of range", sites=mm.Site("z", head=4))
    refuse("head 2 is out of range", sites=mm.Site("k", head=2))
    refuse("'resid_pre' has no heads", sites=mm.Site("resid_pre", head=0))
    refuse("did you mean resid_pre", sites="resid_pr")
    refuse("do not share the axis head", sites=["resid_pre", "z"])
    refuse("expected one number an item, shape .2,.; got shape .2, 1.", outcome=lambda logits: logits[:, :, 3])
    refuse("expected one number an item, .*got float", outcome=lambda _: 3.0)
    refuse("unknown outcome 'entropy': did you mean choice_entropy", outcome="entropy")
    refuse("'choice_entropy' needs labels", outcome="choice_entropy")
    refuse("expected a function of logits or a dict of named functions, got 3", outcome={"a": two_logits, "b": 3})
    refuse("did you mean denoise", direction="denoised")
    refuse("expected a number above 0", max_memory_gib=0)
    refuse("allow more", max_memory_gib=1e-6)
    refuse("span, round and align are for transcripts", span="instruction")
    refuse("expected token ids from 0 to 271", source + VOCABULARY, destination)
    with model.hooks(fwd_hooks=[("blocks.1.hook_resid_pre", lambda x, hook: x)]):  # noqa: ARG005 - a hook's
        refuse("without hooks, found one at blocks.1.hook_resid_pre")
    with pytest.raises(InputError, match="expected a site"):
        mm.outcome(two_logits, sites=[("mlp_out", 1)])
    assert not any(point.fwd_hooks for point in model.hook_dict.values())


def test_attributes_say_what_was_patched_into_what(model_of):
    model, (source, destination) = model_of("llama"), pairs(1)
    sweep_as = partial(patch_grid, model, source, destination, outcome=two_logits, layers=[1])
    grids = {name: sweep_as(direction=name) for name in ("denoise", "noise")}
    assert grids["denoise"].attrs["direction_means"].startswith("source: clean run")
    assert grids["noise"].attrs["direction_means"].startswith("source: corrupted run")
    assert "patched - destination" in grids["noise"].attrs["sign"]
    assert grids["noise"].attrs["outcome"] == "two_logits"
    assert grids["noise"].sizes["layer"] == 1 and grids["noise"].layer.item() == 1
    texts = [model.tokenizer.decode([token]) for token in destination[0].tolist()]
    assert grids["noise"].token.values.tolist() == texts


def test_the_activations_of_reference_and_memory_are_the_same(model_of):
    model, (source, _) = model_of("gemma3"), pairs(1)
    memory = partial_pass.remember(model, source.tolist(), keep=["z", "rot_k"])
    torch.testing.assert_close(memory.kept["z"][1][0], activation(model, source[0].tolist(), "z", 1))
    assert memory.kept["rot_k"][0].shape == (1, N, 2, 12)
