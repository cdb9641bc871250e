"""Reading a direction: what the four quantities are, on whatever holds the activations, and what is refused."""

import numpy as np
import pytest
import torch
import xarray
from devices import refuse_mixed_devices
from planted_statements import planted

from mechmsc.directions import Direction, direction_from, scoring
from mechmsc.errors import InputError
from mechmsc.model import ModelIdentity

MODEL = ModelIdentity("tiny", None, "0" * 64)
ITEMS, ARMS, ROUNDS, LAYERS, D = 5, 2, 3, 4, 6


@pytest.fixture
def direction() -> Direction:
    activations, labels, _ = planted(n=60, layers=LAYERS, d_model=D)
    return direction_from(activations, labels, concept="toxicity", model=MODEL)


@pytest.fixture
def captured() -> xarray.DataArray:
    values = np.random.default_rng(0).normal(size=(ITEMS, ARMS, ROUNDS, LAYERS, D)).astype(np.float32)
    values[3, 1, 2] = np.nan
    return xarray.DataArray(
        values,
        dims=("item", "arm", "round", "layer", "d_model"),
        coords={
            "item": [f"task/{i}" for i in range(ITEMS)],
            "arm": ["moral", "neutral"],
            "round": [1, 2, 3],
            "layer": list(range(LAYERS)),
        },
        name="resid_post.prompt_end",
    )


def expected(direction, h, layer, quantity):
    """One activation, in float64, by the formulas of science section 3."""
    h, d, m = (np.asarray(x, np.float64) for x in (h, direction.vectors[layer], direction.midpoints[layer]))
    u, gap = d / np.linalg.norm(d), float(direction.gaps[layer])
    return {
        "projection": (h - m) @ u,
        "score": (h - m) @ u / gap,
        "cosine": (h - m) @ d / np.linalg.norm(h - m) / np.linalg.norm(d),
        "cosine_as_released": h @ d / np.linalg.norm(h) / np.linalg.norm(d),
    }[quantity]


@pytest.mark.parametrize("quantity", ["score", "projection", "cosine", "cosine_as_released"])
def test_every_quantity_equals_its_formula_on_labelled_arrays_tensors_and_numpy(direction, captured, quantity):
    read = getattr(direction, quantity)
    labelled, tensor, array = read(captured), read(torch.tensor(captured.values)), read(captured.values)
    assert labelled.dims == ("item", "arm", "round", "layer")
    assert (type(tensor), type(array)) == (torch.Tensor, np.ndarray)
    np.testing.assert_array_equal(labelled.values, array)
    np.testing.assert_array_equal(labelled.values, tensor.numpy())
    assert np.isnan(labelled.values[3, 1, 2]).all() and np.isnan(labelled.values).sum() == LAYERS
    for place in np.ndindex(2, ARMS, ROUNDS, LAYERS):
        assert labelled.values[place] == pytest.approx(
            expected(direction, captured.values[place], place[-1], quantity), rel=1e-4, abs=1e-5
        )


@pytest.mark.parametrize("method", ["mass_mean", "logistic", "lda", "caa", "pair_svd"])
def test_class_means_score_half_a_gap_up_and_down_whatever_the_method(method):
    activations, labels, _ = planted(n=60, layers=LAYERS, d_model=D)
    pairs = [f"{i // 2}" for i in range(60)]
    direction = direction_from(activations, labels, concept="toxicity", model=MODEL, method=method, pairs=pairs)
    scores = direction.score(activations)
    for label in (0, 1):
        torch.testing.assert_close(
            scores[labels == label].mean(0), torch.full((LAYERS,), label - 0.5), atol=1e-4, rtol=0
        )


def test_layers_are_aligned_by_their_labels_not_their_order(direction, captured):
    turned = captured.isel(layer=[3, 1])
    xarray.testing.assert_equal(direction.score(turned), direction.score(captured).isel(layer=[3, 1]))
    assert not np.allclose(direction.score(turned)[0], direction.score(captured)[0, :, :, :2])


def test_one_layer_without_a_dimension_and_any_order_of_dimensions_are_read(direction, captured):
    scores = direction.score(captured)
    xarray.testing.assert_allclose(direction.score(captured.sel(layer=2, round=3)), scores.sel(layer=2, round=3))
    turned = captured.transpose("layer", "d_model", "round", "item", "arm")
    xarray.testing.assert_allclose(direction.score(turned), scores.transpose("layer", "round", "item", "arm"))
    assert float(direction.score(captured[0, 0, 0, 1])) == pytest.approx(float(scores[0, 0, 0, 1]))


@pytest.mark.parametrize("most", [1, 100, 500, 10**9])
def test_blocks_of_any_size_give_the_same_and_cover_everything(direction, captured, monkeypatch, most):
    whole = direction.score(captured)
    monkeypatch.setattr(scoring, "BLOCK_BYTES", most)
    xarray.testing.assert_identical(direction.score(captured), whole)


def test_arrays_on_disk_are_read_block_by_block_and_never_whole(direction, captured, tmp_path, monkeypatch):
    from xarray.backends.zarr import ZarrArrayWrapper

    captured.drop_vars(["item", "arm"]).to_dataset().to_zarr(tmp_path / "a.zarr", consolidated=False)
    opened = xarray.open_zarr(tmp_path / "a.zarr", chunks=None, consolidated=False)["resid_post.prompt_end"]
    loaded, plain = [], ZarrArrayWrapper.__getitem__

    def counted(self, key):
        values = plain(self, key)
        loaded.append(np.size(values))
        return values

    monkeypatch.setattr(ZarrArrayWrapper, "__getitem__", counted)
    each = ARMS * ROUNDS * LAYERS * D
    monkeypatch.setattr(scoring, "BLOCK_BYTES", 2 * each * 4)
    scores = direction.score(opened)
    assert loaded == [2 * each, 2 * each, each]
    assert not opened.variable._in_memory
    np.testing.assert_array_equal(scores.values, direction.score(captured).values)


def test_a_gap_that_is_nothing_beside_the_activations_gives_nan():
    activations, labels, _ = planted(n=40, layers=2, d_model=D)
    activations[:, 0] -= activations[:, 0].mean(0)
    activations[1::2, 0] = activations[::2, 0]  # layer 0: both classes have nearly the same activations
    activations[1::2, 0, 2] += 5e-7
    direction = direction_from(activations, labels, concept="toxicity", model=MODEL)
    assert torch.isnan(direction.gaps).tolist() == [True, False]
    assert torch.isnan(direction.score(activations)).all(0).tolist() == [True, False]


def test_a_direction_against_the_class_difference_has_a_negative_gap_and_the_same_scores():
    activations, labels, _ = planted(n=60)
    against = direction_from(
        activations,
        labels,
        concept="c",
        model=MODEL,
        method="caa",
        fitted_on=-activations,
        pairs=[f"{i // 2}" for i in range(60)],
    )
    along = direction_from(activations, labels, concept="c", model=MODEL)
    assert (against.gaps < 0).all() and (along.gaps > 0).all()
    torch.testing.assert_close(against.score(activations), along.score(activations), rtol=1e-3, atol=1e-4)


def test_another_component_is_refused(direction, captured):
    with pytest.raises(InputError, match="fitted at resid_post, these activations are attn_out.prompt_end; give"):
        direction.score(captured.rename("attn_out.prompt_end"))
    direction.score(captured.rename("my states"))


def test_another_width_is_refused(direction, captured):
    with pytest.raises(InputError, match=r"of tiny \(d_model=6\); resid_post.prompt_end have d_model=5; fit it"):
        direction.score(captured.isel(d_model=slice(5)))
    with pytest.raises(InputError, match=r"these activations have d_model=5"):
        direction.cosine(torch.zeros(2, LAYERS, 5))
    with pytest.raises(InputError, match="expected activations with dimension d_model, got dimensions item, arm"):
        direction.score(captured.isel(d_model=0))


def test_layers_that_the_direction_has_not_are_refused(direction, captured):
    more = captured.assign_coords(layer=[1, 2, 3, 4])
    with pytest.raises(InputError, match=r"layers 0 to 3, but these activations have layer 4 \(1 layers too many\)"):
        direction.score(more)
    with pytest.raises(InputError, match="has 4 layers, these activations 3 and no coordinate layer"):
        direction.score(captured.drop_vars("layer").isel(layer=slice(3)))
    with pytest.raises(InputError, match=r"expected activations \[..., 4 layers, 6\], got \[2, 3, 6\]"):
        direction.score(torch.zeros(2, 3, D))


def test_another_model_is_refused_by_its_weights(direction):
    direction.check_model(MODEL)
    direction.check_model({"name": "tiny", "revision": None, "sha256": "0" * 64})
    with pytest.raises(
        InputError, match=r"fitted on tiny \(sha256 000000000000\), not on other \(sha256 111111111111\)"
    ):
        direction.check_model({"name": "other", "revision": None, "sha256": "1" * 64})


def test_a_tensor_is_read_on_its_own_device(direction):
    with refuse_mixed_devices():
        scores = direction.to("meta").score(torch.zeros(2, LAYERS, D, device="meta"))
    assert (scores.device.type, scores.shape) == ("meta", (2, LAYERS))
