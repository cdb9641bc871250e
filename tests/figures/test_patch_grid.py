"""Maps of patching effects: the numbers in the picture, the tokens at its axis, and what it says under it."""

import matplotlib
import numpy as np
import pytest
import xarray as xr

import mechmsc as mm
from mechmsc.errors import InputError
from mechmsc.figures.patching import patching_table
from mechmsc.figures.saving import save_figure
from mechmsc.patching import patching_effect

SPANS = (("instruction", 2, 6), ("template", 2, 2), ("prefix", 2, 4))


def grid_of(n_items=8, layers=5, tokens=12, *, components=("resid_pre",), heads=0, spans=SPANS, texts=None):
    dice = np.random.default_rng(1)
    across = heads or tokens
    data = dice.normal(size=(n_items, len(components), layers, across)) * 0.01
    data[:, :, 2, 1] += 0.3
    coords = {
        "component": list(components),
        "layer": range(layers),
        "source": ("item", np.full(n_items, 0.5)),
        "destination": ("item", np.zeros(n_items)),
    }
    if not heads:
        coords["token"] = ("position", texts or [f" w{i}" for i in range(tokens)])
        coords["position"] = range(20, 20 + tokens)
        if spans:
            coords["span"] = ("position", [name for name, _, n in spans for _ in range(n)])
            coords["round"] = ("position", [round for _, round, n in spans for _ in range(n)])
    attrs = {
        "outcome": "choice_entropy",
        "direction": "noise",
        "direction_means": "source: corrupted run",
        "aligned": "shared",
    }
    dims = ("item", "component", "layer", "head" if heads else "position")
    return xr.DataArray(data, dims=dims, coords=coords, attrs=attrs, name="patched")


def effect_of(**options):
    return patching_effect(grid_of(**options), n_boot=200, n_perm=999)


def meshes(figure):
    return [c for axis in figure.axes for c in axis.collections if isinstance(c, matplotlib.collections.QuadMesh)]


def said(figure) -> str:
    return " ".join(text.get_text() for text in figure.texts).replace("\n", " ")


def test_colours_are_the_effects_around_zero_and_dots_are_what_survives():
    effect = effect_of(components=("resid_pre", "mlp_out"))
    figure = mm.figures.patch_grid(effect)
    maps = meshes(figure)[:2]
    for mesh, part in zip(maps, effect.effect, strict=True):
        np.testing.assert_allclose(mesh.get_array().reshape(5, 12), part)
        low, high = mesh.get_clim()
        assert low == -high and high == pytest.approx(float(abs(effect.effect).max()))
    kind = matplotlib.collections.PathCollection
    dots = [c for axis in figure.axes[:2] for c in axis.collections if isinstance(c, kind)]
    places = [tuple(xy) for c in dots for xy in c.get_offsets()]
    assert places == [(1.0, 2.0), (1.0, 2.0)] and int(effect.significant.sum()) == 2
    assert [axis.get_ylabel() for axis in figure.axes[:2]] == ["resid_pre\nlayer", "mlp_out\nlayer"]
    assert figure.axes[2].get_ylabel() == "effect on choice_entropy (nats)"


def test_tokens_and_spans_are_named_and_bounded():
    figure = mm.figures.patch_grid(effect_of(texts=[" so", "\n", "averyverylongtoken", "$", *"abcdefgh"]))
    axis = figure.axes[0]
    assert [label.get_text() for label in axis.get_xticklabels()][:4] == ["·so", "↵", "averyverylong…", r"\$"]
    assert [note.get_text() for note in axis.texts] == ["instruction 2", "template 2", "prefix 2"]
    assert [line.get_xdata()[0] for line in axis.lines] == [5.5, 7.5]


@pytest.mark.parametrize("tokens", [2, 61, 400])
def test_few_and_many_tokens_stay_readable(tokens, tmp_path):
    spans = (
        tuple(("instruction" if i % 2 else "response", i + 1, tokens // 4) for i in range(4)) if tokens > 2 else None
    )
    tokens = 4 * (tokens // 4) if spans else tokens
    effect = effect_of(tokens=tokens, spans=spans)
    figure = mm.figures.patch_grid(effect)
    width, height = figure.get_size_inches()
    assert 4.5 < width <= 11 and 2 < height < 8
    axis = figure.axes[0]
    labels = [label.get_text() for label in axis.get_xticklabels() if label.get_text()]
    assert len(labels) == tokens if tokens <= 60 else not labels and len(axis.texts) == 4
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    renderer = FigureCanvasAgg(figure).get_renderer()
    boxes = [text.get_window_extent(renderer) for text in axis.texts if not text.get_rotation()]
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[i + 1 :])
    inside = [figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1 for box in boxes]
    assert all(inside)
    paths = save_figure(figure, patching_table(effect), tmp_path, "map")
    assert paths[0].stat().st_size > 10_000


def test_heads_stand_beside_layers():
    effect = effect_of(heads=9, components=("z",))
    axis = mm.figures.patch_grid(effect, value="normalised").axes[0]
    assert axis.get_xlabel() == "head" and len(axis.get_xticklabels()) == 9
    np.testing.assert_allclose(meshes(axis.figure)[0].get_array().reshape(5, 9), effect.normalised[0])


def test_the_caption_says_n_interval_sign_alignment_and_correction():
    effect = effect_of()
    text = said(mm.figures.patch_grid(effect, caption="A tiny model."))
    assert "Mean effect over n = 8 items" in text and text.endswith("A tiny model.")
    assert "outcome after the patch minus outcome of the destination run." in text
    assert "Direction noise: source: corrupted run." in text and "Tokens aligned by shared." in text
    assert "Source minus destination: 0.5 [0.5, 0.5] nats." in text
    assert "95 % bootstrap intervals over items" in text
    assert "Dots (1 of 60 cells): no false dot with probability 95 % (max-statistic" in text
    alone = said(mm.figures.patch_grid(patching_effect(grid_of(n_items=1), n_boot=10, n_perm=9)))
    assert "n = 1 item of" in alone and "One item: no interval and no test." in alone and "Dots" not in alone


def test_a_raw_grid_is_drawn_as_mean_differences_without_marks():
    grid = grid_of()
    figure = mm.figures.patch_grid(grid, unit="bits")
    np.testing.assert_allclose(meshes(figure)[0].get_array().reshape(5, 12), grid.mean("item")[0])
    assert len(figure.axes[0].collections) == 1 and figure.axes[1].get_ylabel() == "effect on choice_entropy (bits)"


def test_one_of_several_outcomes_is_chosen_by_name():
    grid = grid_of()
    both = xr.concat([grid, grid * 2], "outcome").assign_coords(outcome=["kl", "mine"])
    nothing = xr.zeros_like(both.isel(component=0, layer=0, position=0, drop=True))
    both = both.assign_coords(source=xr.concat([grid.source] * 2, "outcome"), destination=nothing)
    effect = patching_effect(both, n_boot=10, n_perm=9)
    figure = mm.figures.patch_grid(effect, outcome="mine")
    assert figure.axes[1].get_ylabel() == "effect on mine"
    np.testing.assert_allclose(meshes(figure)[0].get_array().reshape(5, 12), effect.effect.sel(outcome="mine")[0])
    with pytest.raises(InputError, match="expected one of kl, mine"):
        mm.figures.patch_grid(effect)


def test_the_table_has_a_row_a_cell_with_its_token_and_interval():
    effect = effect_of()
    table = patching_table(effect)
    assert len(table) == 60 and {"layer", "token", "span", "effect", "low", "high", "p", "n"} <= set(table)
    row = table[(table.layer == 2) & (table.position == 21)].iloc[0]
    assert row.effect == pytest.approx(float(effect.effect[0, 2, 1])) and bool(row.significant)


def test_what_is_no_map_is_refused_and_an_empty_one_is_drawn():
    with pytest.raises(InputError, match="choose one with effect.sel"):
        mm.figures.patch_grid(effect_of().expand_dims(head=2))
    with pytest.raises(InputError, match="unknown value 'p'"):
        mm.figures.patch_grid(effect_of(), value="p")
    with pytest.raises(InputError, match="with its items"):
        mm.figures.patch_grid(grid_of().mean("item"))
    with pytest.raises(InputError, match="expected effects of patching_effect"):
        mm.figures.patch_grid(xr.Dataset({"a": 1}))
    nothing = grid_of() * 0
    assert meshes(mm.figures.patch_grid(nothing))[0].get_clim() == (-1.0, 1.0)


def test_drawing_leaves_matplotlib_as_it_was():
    before = dict(matplotlib.rcParams)
    mm.figures.patch_grid(effect_of())
    assert dict(matplotlib.rcParams) == before
