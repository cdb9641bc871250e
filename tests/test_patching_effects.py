"""Effects of a grid: means, shares of the gap, intervals, and p-values that hold over the whole grid."""

import numpy as np
import pytest
import xarray as xr

from mechmsc.errors import InputError
from mechmsc.patching import patching_effect


def grid_of(difference: np.ndarray, gap: np.ndarray, *, name: str = "patched") -> xr.DataArray:
    """A grid [item, component, layer, position] with these effects; the destination's outcomes differ by item."""
    destination = np.arange(len(gap)) * 0.37
    data = difference if name == "attribution" else difference + destination[:, None, None, None]
    coords = {
        "source": ("item", destination + gap),
        "destination": ("item", destination),
        "token": ("position", ["a", "b"]),
    }
    return xr.DataArray(
        data, dims=("item", "component", "layer", "position"), coords=coords, name=name, attrs={"sign": "s"}
    )


@pytest.fixture
def planted():
    """30 items; layer 1, token b has effect 0.5 of the gap of 2, all others none."""
    dice = np.random.default_rng(0)
    difference = dice.normal(size=(30, 1, 3, 2)) * 0.3
    difference[:, 0, 1, 1] += 1.0
    return grid_of(difference, 2.0 + dice.normal(size=30) * 0.2)


def test_means_are_divided_never_single_items(planted):
    effect = patching_effect(planted, n_boot=200, n_perm=199)
    difference = planted - planted.destination
    gap = (planted.source - planted.destination).mean()
    np.testing.assert_allclose(effect.effect, difference.mean("item"))
    np.testing.assert_allclose(effect.normalised, difference.mean("item") / gap)
    assert float(effect.gap) == pytest.approx(float(gap)) and effect.gap_low < gap < effect.gap_high
    ratios = (difference / (planted.source - planted.destination)).mean("item")
    assert not np.allclose(effect.normalised, ratios)
    assert effect.effect.dims == ("component", "layer", "position") and effect.token.values.tolist() == ["a", "b"]
    assert effect.attrs["sign"] == "s" and effect.attrs["n_items"] == 30


def test_intervals_of_effects_and_shares_equal_those_of_the_one_bootstrap(planted):
    from mechmsc.estimate import cluster_bootstrap

    effect = patching_effect(planted, n_boot=500, n_perm=99, seed=4)
    rows = np.stack([(planted - planted.destination)[:, 0, 1, 1], planted.source - planted.destination], axis=1)
    mean = cluster_bootstrap(rows[:, 0], np.arange(30), n_boot=500, seed=4)
    cell = effect.isel(component=0, layer=1, position=1)
    assert (float(cell.low), float(cell.high)) == pytest.approx((mean.low, mean.high))
    share = cluster_bootstrap(
        rows, np.arange(30), statistic=lambda r: r[:, 0].mean() / r[:, 1].mean(), n_boot=4000, seed=5
    )
    assert (float(cell.normalised_low), float(cell.normalised_high)) == pytest.approx((share.low, share.high), abs=0.02)


@pytest.mark.parametrize("correction", ["max_statistic", "benjamini_hochberg"])
def test_the_planted_cell_survives_and_the_others_do_not(planted, correction):
    effect = patching_effect(planted, correction=correction, n_boot=100, n_perm=999)
    assert bool(effect.significant[0, 1, 1]) and float(effect.p[0, 1, 1]) <= 0.01
    assert int(effect.significant.sum()) == 1


def test_a_grid_of_noise_rarely_has_a_significant_cell():
    dice = np.random.default_rng(7)
    grids = [grid_of(dice.normal(size=(12, 1, 10, 2)), np.ones(12)) for _ in range(60)]
    hits = sum(
        bool(patching_effect(grid, n_boot=2, n_perm=199, seed=i).significant.any()) for i, grid in enumerate(grids)
    )
    assert hits <= 9  # 5 % of 60 are 3; P(more than 9) is 0.001


def test_one_item_gives_an_effect_without_interval_or_test(planted):
    effect = patching_effect(planted.isel(item=[3]), n_boot=50, n_perm=19)
    assert np.isfinite(effect.effect).all() and np.isfinite(effect.normalised).all()
    for name in ("low", "high", "normalised_low", "p"):
        assert np.isnan(effect[name]).all()
    assert not effect.significant.any() and (effect.n == 1).all()


def test_items_without_a_cell_leave_its_gap_too(planted):
    partial = planted.copy()
    partial[:10, 0, 1, 1] = np.nan
    effect = patching_effect(partial, n_boot=50, n_perm=19).isel(component=0, layer=1, position=1)
    rest = planted.isel(item=slice(10, None))
    expected = (rest - rest.destination)[:, 0, 1, 1].mean() / (rest.source - rest.destination).mean()
    assert float(effect.normalised) == pytest.approx(float(expected)) and int(effect.n) == 20


def test_several_outcomes_have_a_gap_and_a_family_each(planted):
    twice = xr.concat([planted, planted * 3], "outcome").assign_coords(outcome=["a", "b"])
    twice = twice.assign_coords(
        source=xr.concat([planted.source, planted.source * 3], "outcome"),
        destination=xr.concat([planted.destination, planted.destination * 3], "outcome"),
    )
    effect = patching_effect(twice, n_boot=50, n_perm=99)
    assert effect.effect.dims == ("outcome", "component", "layer", "position")
    np.testing.assert_allclose(effect.gap, [float(effect.gap[0]), 3 * float(effect.gap[0])])
    np.testing.assert_allclose(effect.normalised[0], effect.normalised[1])
    xr.testing.assert_equal(effect.p[0].drop_vars("outcome"), effect.p[1].drop_vars("outcome"))


def test_attributions_are_effects_already(planted):
    difference = (planted - planted.destination).rename("attribution")
    ours, exact = (patching_effect(grid, n_boot=20, n_perm=19) for grid in (difference, planted))
    np.testing.assert_allclose(ours.effect, exact.effect)
    assert ours.attrs["kind"] == "attribution"


def test_what_is_no_grid_is_refused(planted):
    with pytest.raises(InputError, match="did you mean max_statistic"):
        patching_effect(planted, correction="max_statistics")
    with pytest.raises(InputError, match="expected a grid of patch_grid with its items"):
        patching_effect(planted.drop_vars("source"))
