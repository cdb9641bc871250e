"""The layer sweep and the heat maps show exactly the numbers of their tables, and say what they are."""

import numpy as np
import pandas as pd
import pytest

COLUMNS = ["method", "layer", "measure", "value", "low", "high", "level", "n", "part"]


@pytest.fixture
def sweep():
    import mechmsc.figures.layer_sweep

    return mechmsc.figures.layer_sweep


@pytest.fixture
def maps():
    import mechmsc.figures.direction_maps

    return mechmsc.figures.direction_maps


def made(methods=("mass_mean", "logistic"), layers=6, *, control=True):
    """A table as evaluate writes it."""
    rows = []
    for place, method in enumerate(methods):
        for layer in range(layers):
            value = 0.6 + 0.05 * layer + 0.02 * place
            rows.append((method, layer, "auroc", value, value - 0.04, value + 0.03, 0.95, 80, "held_out"))
            rows.append((method, layer, "shuffled_auroc", 0.5, 0.3 + 0.1 * place, 0.7, 0.95, 20, "held_out"))
            if control:
                rows.append((method, layer, "selectivity", value - 0.5, value - 0.6, value - 0.4, 0.95, 80, "held_out"))
        rows.append((method, pd.NA, "auroc", 0.8, 0.7, 0.9, 0.95, 80, "nested"))
    rows.append(("bag_of_words", pd.NA, "auroc", 0.66, 0.6, 0.72, 0.95, 80, "held_out"))
    rows += [("random_direction", layer, "auroc", 0.55, 0.45, 0.7, 0.95, 100, "held_out") for layer in range(layers)]
    return pd.DataFrame(rows, columns=COLUMNS).astype({"layer": "Int64"})


def line(axis, label):
    (found,) = [one for one in axis.lines if one.get_label() == label]
    return found


def caption(figure):
    return " ".join(figure.texts[-1].get_text().split())


def test_each_method_is_a_line_of_its_numbers_beside_every_baseline(sweep):
    table = made()
    figure = sweep.draw_layer_sweep(table, concept="toxicity")
    detection, selectivity = figure.axes
    for method in ("mass_mean", "logistic"):
        rows = table[(table["method"] == method) & (table["part"] == "held_out")]
        for axis, measure in ((detection, "auroc"), (selectivity, "selectivity")):
            drawn = line(axis, method)
            assert list(drawn.get_xdata()) == list(range(6))
            assert list(drawn.get_ydata()) == list(rows.loc[rows["measure"] == measure, "value"])
        assert line(detection, method).get_color() == sweep.LOOKS[method].color
    assert set(line(detection, "bag of words").get_ydata()) == {0.66}
    assert list(line(detection, "random direction").get_ydata()) == [0.55] * 6
    assert list(line(detection, "shuffled labels (mass_mean)").get_ydata()) == [0.5] * 6
    assert any(set(one.get_ydata()) == {0.5} for one in detection.lines if one.get_label().startswith("_"))
    assert "AUROC" in detection.get_ylabel() and "layer" in detection.get_xlabel()
    assert "selectivity" in selectivity.get_ylabel()


def test_bands_are_the_intervals_of_the_table(sweep):
    figure = sweep.draw_layer_sweep(made(methods=("mass_mean",)), concept="toxicity")
    reach = [band.get_paths()[0].get_extents() for band in figure.axes[0].collections]
    found = {(round(one.y0, 6), round(one.y1, 6)) for one in reach}
    assert (0.56, 0.88) in found  # the method: lowest low, highest high
    assert (0.3, 0.7) in found and (0.45, 0.7) in found  # shuffled labels, random directions


def test_the_caption_says_n_interval_nulls_and_the_chosen_layers_and_rings_mark_them(sweep):
    figure = sweep.draw_layer_sweep(
        made(), concept="toxicity", chosen={"mass_mean": 5, "logistic": 4}, caption="Model M, data D."
    )
    said = caption(figure)
    for part in (
        "95 %",
        "n = 80 groups",
        "20 fits on shuffled labels",
        "100 random directions",
        "mass_mean 5, logistic 4",
    ):
        assert part in said, part
    assert said.endswith("Model M, data D.") and "optimistic" not in caption(
        sweep.draw_layer_sweep(made(), concept="c")
    )
    rings = [one for one in figure.axes[0].lines if one.get_marker() == "o" and one.get_markersize() > 9]
    marked = {(float(one.get_xdata()[0]), round(float(one.get_ydata()[0]), 6)) for one in rings if len(one.get_xdata())}
    assert marked == {(5.0, 0.85), (4.0, 0.82)}
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels[:2] == ["mass_mean", "logistic"] and labels.count("chosen layer") == 1
    assert "Rings" not in caption(sweep.draw_layer_sweep(made(), concept="toxicity"))


def test_without_a_control_task_there_is_one_panel_and_new_methods_have_a_look(sweep):
    figure = sweep.draw_layer_sweep(made(methods=("mine", "yours"), control=False), concept="toxicity")
    (axis,) = figure.axes
    assert line(axis, "mine").get_color() != line(axis, "yours").get_color()
    assert "Control task" not in caption(figure)


def test_what_cannot_be_drawn_is_refused(sweep, maps):
    with pytest.raises(ValueError, match="no AUROC of a method"):
        sweep.draw_layer_sweep(made().iloc[:0], concept="toxicity")
    with pytest.raises(ValueError, match="layer 9 was chosen for 'mass_mean', but the table has layers 0 to 5"):
        sweep.draw_layer_sweep(made(), concept="toxicity", chosen={"mass_mean": 9})
    with pytest.raises(ValueError, match="no AUROC of 'mass_mean' at layer None"):
        maps.draw_transfer(transfers(), concept="toxicity", layers={})
    with pytest.raises(ValueError, match="no cosines at layer 4"):
        maps.draw_method_cosines(
            pd.DataFrame({"layer": [1], "method": "a", "other_method": "a", "cosine": 1.0}), layer=4
        )
    with pytest.raises(ValueError, match="no rows"):
        maps.draw_layer_cosines(pd.DataFrame(columns=["method", "layer", "other_layer", "cosine"]))


def test_drawing_leaves_matplotlib_as_it_was_and_saves_its_numbers(sweep, tmp_path):
    import matplotlib

    from mechmsc.figures.saving import save_figure

    before = dict(matplotlib.rcParams)
    table = made()
    png, csv = save_figure(sweep.draw_layer_sweep(table, concept="toxicity"), table, tmp_path, "toxicity_layer_sweep")
    assert dict(matplotlib.rcParams) == before
    assert png.stat().st_size > 10_000
    pd.testing.assert_frame_equal(pd.read_csv(csv, dtype={"layer": "Int64"}), table, check_dtype=False)


def transfers():
    cells = (("wiki", "wiki", 0.9, 50), ("wiki", "hate", 0.6, 20), ("hate", "wiki", 0.7, 50), ("hate", "hate", 0.8, 20))
    rows = [("mass_mean", 3, a, b, "auroc", v, v - 0.1, v + 0.1, 0.95, n, "transfer") for a, b, v, n in cells]
    names = ["method", "layer", "train", "test", "measure", "value", "low", "high", "level", "n", "part"]
    return pd.DataFrame(rows, columns=names)


def test_a_transfer_map_has_train_in_rows_test_in_columns_and_its_numbers_in_the_cells(maps):
    figure = maps.draw_transfer(transfers(), concept="toxicity", layers={"mass_mean": 3}, caption="Model M.")
    axis = figure.axes[0]
    (image,) = axis.images
    assert np.array_equal(image.get_array(), [[0.9, 0.6], [0.7, 0.8]])
    cells = {one.get_position(): one.get_text() for one in axis.texts}
    assert cells[(1, 0)].startswith("0.60") and cells[(0, 1)].startswith("0.70")
    assert axis.get_xlabel() == "tested on" and axis.get_ylabel() == "fitted on"
    assert "n = 20\u201350 groups" in caption(figure) and caption(figure).endswith("Model M.")


def test_maps_of_cosines_show_the_numbers_in_order(maps):
    names = ["mass_mean", "lda", "ccs"]
    values = np.array([[1.0, 0.5, -0.2], [0.5, 1.0, 0.1], [-0.2, 0.1, 1.0]])
    rows = [(a, b, 2, values[i, j]) for i, a in enumerate(names) for j, b in enumerate(names)]
    table = pd.DataFrame(rows, columns=["method", "other_method", "layer", "cosine"])
    axis = maps.draw_method_cosines(table, layer=2).axes[0]
    assert np.array_equal(axis.images[0].get_array(), values)
    assert [tick.get_text() for tick in axis.get_yticklabels()] == names
    rows = [("lda", a, b, values[i, j]) for i, a in enumerate((4, 8, 10)) for j, b in enumerate((4, 8, 10))]
    layers = pd.DataFrame(rows, columns=["method", "layer", "other_layer", "cosine"])
    axis = maps.draw_layer_cosines(layers).axes[0]
    assert np.array_equal(axis.images[0].get_array(), values)
    assert [tick.get_text() for tick in axis.get_xticklabels()] == ["4", "8", "10"]
