"""The figures of the simulations show the numbers of their tables."""

import numpy as np
import pandas as pd
import pytest


@pytest.fixture(scope="module")
def figures():
    import mechmsc.figures.simulation

    return mechmsc.figures.simulation


@pytest.fixture(scope="module")
def grid():
    from mechmsc.causal.simulation import structural_grid

    options = {"betas": (-0.3, 0.0), "gammas": (1.0, 0.0), "n_items": (6, 10), "datasets": 5, "n_boot": 20}
    return structural_grid(**options, workers=1, progress=False)


@pytest.fixture(scope="module")
def of_run():
    from mechmsc.causal.simulation import simulate

    rng, rows = np.random.default_rng(0), []
    for task in ("detoxification", "social_bias"):
        for item in range(8):
            for arm in ("moral", "neutral", "moral+immoral@2", "none"):
                for t in range(1, 2 if arm == "none" else 5):
                    z = rng.normal() + (arm == "moral") * t
                    rows.append((task, f"{task}/{item}", arm, t, z, rng.normal() - z, 40 * t + rng.normal()))
    columns = ["task", "item_id", "arm", "round", "concept", "uncertainty", "length"]
    return simulate(table=pd.DataFrame(rows, columns=columns), n_boot=20, n_perm=9)


def line(axis, label):
    (found,) = [one for one in axis.lines if one.get_label() == label]
    return found


def caption_of(figure):
    return " ".join(figure.texts[-1].get_text().split())


def inside(figure):
    page = figure.bbox
    for box in [figure.texts[-1].get_window_extent(), *(axis.get_tightbbox() for axis in figure.axes)]:
        assert page.x0 <= box.x0 and box.x1 <= page.x1 + 1 and page.y0 <= box.y0 and box.y1 <= page.y1 + 1


def test_worlds_have_a_column_a_confounder_and_lines_of_the_tables_numbers(figures, grid):
    figure = figures.draw_structural(grid, caption="Seed 0.")
    axes = np.array(figure.axes).reshape(4, 2)
    assert [axis.get_title(loc="left") for axis in axes[0]] == ["no confounder", "confounder γ = 1"]
    for column, gamma in enumerate((0.0, 1.0)):
        rows = grid[(grid["gamma"] == gamma) & (grid["n_items"] == 10)].sort_values("beta")
        for axis, (quantity, drawn, _) in zip(axes[:, column], figures.ROWS, strict=True):
            for name, (label, _) in drawn.items():
                mine = rows[(rows["estimator"] == name) & (rows["quantity"] == quantity)]
                assert list(line(axis, label).get_ydata()) == list(mine["value"])
                assert line(axis, label).get_xdata() == pytest.approx([-0.3, 0.0], abs=0.06)
                bars = [tuple(s[:, 1]) for one in axis.collections for s in one.get_segments()]
                assert set(mine[["low", "high"]].itertuples(index=False, name=None)) <= set(bars)
        truth = rows[rows["quantity"] == "truth"].drop_duplicates("beta")
        assert list(line(axes[1, column], "true effect").get_ydata()) == list(truth["value"])
    said = caption_of(figure)
    assert "each point from 5 data sets of 10 items, 2 arms and 6 rounds" in said and said.endswith("Seed 0.")
    assert "a text length that varies" in said and "95 % cluster-bootstrap intervals over items" in said
    inside(figure)
    assert "5 data sets of 6 items" in caption_of(figures.draw_structural(grid, n_items=6))


def test_one_cell_is_drawn_and_what_cannot_be_is_refused(figures, grid):
    inside(figures.draw_structural(grid[(grid["beta"] == 0) & (grid["gamma"] == 0)]))
    with pytest.raises(ValueError, match="worlds of 7 items with one confounder, got 0 rows"):
        figures.draw_structural(grid, n_items=7)
    with pytest.raises(ValueError, match="with one confounder"):
        figures.draw_structural(pd.concat([grid, grid.assign(confounder="round")]))


def test_the_accuracy_of_a_run_stands_beside_its_baselines(figures, of_run):
    table = of_run["predictive"]
    figure = figures.draw_predictive(table, caption="Model m.")
    assert [axis.get_title(loc="left") for axis in figure.axes] == ["Text detoxification", "Social bias mitigation"]
    for axis, task in zip(figure.axes, ("detoxification", "social_bias"), strict=True):
        rows = table[(table["task"] == task) & (table["measure"] == "accuracy")].iloc[::-1]
        points = [one.get_xdata()[0] for one in axis.lines if one.get_marker() in ("D", "o")]
        assert points == list(rows["value"])
        labels = [text.get_text() for text in axis.get_yticklabels()]
        assert labels == [figures.PREDICTED_BY[name] for name in rows["predictor"]]
        assert [text.get_text() for text in axis.texts] == [f"p = {p:.2g}" for p in rows["p"].dropna()]
    assert "n = 8 items" in caption_of(figure) and caption_of(figure).endswith("Model m.")
    inside(figure)
    with pytest.raises(ValueError, match="no accuracy"):
        figures.draw_predictive(table[:0])


def test_the_posterior_is_drawn_through_the_measured_points(figures, of_run):
    curves, fit = of_run["posterior_curves"], of_run["posterior"]
    figure = figures.draw_posterior(curves, fit, caption="Model m.")
    for axis, task in zip(figure.axes, ("detoxification", "social_bias"), strict=True):
        rows = curves[(curves["task"] == task) & (curves["arm"] == "moral")].sort_values("round")
        assert list(line(axis, "moral").get_ydata()) == list(rows["value"])
        assert line(axis, "moral").get_linestyle() == "None"
        drawn = [list(one.get_ydata()) for one in axis.lines]
        assert list(rows["posterior"]) in drawn and list(rows["leaky"]) in drawn
        assert list(line(axis, "none").get_xdata()) == pytest.approx([1], abs=0.3)
    leak = fit[(fit["task"] == "detoxification") & (fit["quantity"] == "leak")].iloc[0]
    said = caption_of(figure)
    assert f"Text detoxification: leak {leak['value']:.2f} [{leak['low']:.2f}, {leak['high']:.2f}]" in said
    assert "n = 8 items" in said and said.endswith("Model m.")
    inside(figure)
    with pytest.raises(ValueError, match="no curve"):
        figures.draw_posterior(curves[:0], fit)
