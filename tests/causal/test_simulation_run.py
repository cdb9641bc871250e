"""A measured run -> its table and what is simulated from it; refusals say which command is missing."""

from dataclasses import fields

import numpy as np
import pandas as pd
import pytest
from measured_runs import LAYERS, SITES, WIDTH, make_run

QUICK = {"clusterer": "exact", "n_boot": 20, "progress": False}


@pytest.fixture(scope="module")
def simulation():
    import mechmsc.causal.simulation

    return mechmsc.causal.simulation


def direction_of(run, concept, seed=0):
    import torch

    from mechmsc.directions import Direction
    from mechmsc.model import ModelIdentity

    generator = torch.Generator().manual_seed(seed)
    vectors, midpoints = torch.randn(2, LAYERS, WIDTH, generator=generator)
    return Direction(
        concept=concept,
        vectors=vectors,
        midpoints=midpoints,
        gaps=torch.ones(LAYERS),
        layers=tuple(range(LAYERS)),
        method="mass_mean",
        component="resid_post",
        position="last",
        context="chat",
        model=ModelIdentity(**run.manifest["model"]),
    )


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    from mechmsc.measures import measure_run

    run = make_run(tmp_path_factory.mktemp("simulated") / "run", n_free=6, n_choice=6, rounds=4, sites=SITES)
    directions = {
        concept: direction_of(run, concept, seed) for seed, concept in enumerate(("toxicity", "stereotyping"))
    }
    names = "choice_entropy,semantic_entropy,first_token_entropy"
    readings = ("concept", "concept_cosine_as_released")
    return measure_run(run, direction=directions, uncertainty=names, readings=readings, **QUICK)


def value(run, row, measure, source, position=None):
    rows = run.measures
    rows = rows[(rows["measure"] == measure) & (rows["source"] == source) & (rows["item_id"] == row.item_id)]
    rows = rows[(rows["arm"] == row.arm) & (rows["round"] == row.round)]
    rows = rows if position is None else rows[rows["position"] == position]
    return rows.set_index("layer")["value"]


def test_the_table_holds_the_concept_of_a_band_the_uncertainty_and_the_length(simulation, measured):
    table = simulation.table_of_run(measured, layers=(1, 2))
    assert len(table) == 12 * (3 * 4 + 1) == len(measured.transcripts)
    kinds = {"detoxification": ("toxicity", "semantic_entropy", "exact")}
    kinds["social_bias"] = ("stereotyping", "choice_entropy", "options")
    for row in table.sample(15, random_state=0).itertuples():
        direction, measure, source = kinds[row.task]
        assert (row.concept_source, row.uncertainty_measure) == (direction, measure)
        layers = value(measured, row, "concept", direction, "prompt_end")
        assert row.concept == pytest.approx(layers[[1, 2]].mean())
        released = value(measured, row, "concept_cosine_as_released", direction, "prompt_end")
        assert row.concept_as_released == pytest.approx(released[[1, 2]].mean())
        assert row.uncertainty == pytest.approx(value(measured, row, measure, source).iloc[0])
        assert row.length == 2  # tokens of the made prompts


def test_every_choice_changes_the_table(simulation, measured):
    base = simulation.table_of_run(measured)
    for name, other in {"source": "toxicity", "layers": (0, 3), "position": "response_mean"}.items():
        changed = simulation.table_of_run(measured, **{name: other})
        assert not np.allclose(changed["concept"], base["concept"]), name
    first = simulation.table_of_run(measured, uncertainty="first_token_entropy")
    assert set(first["uncertainty_measure"]) == {"first_token_entropy"} and len(first) == len(base)
    assert set(simulation.table_of_run(measured, uncertainty="choice_entropy")["task"]) == {"social_bias"}
    assert len(simulation.table_of_run(measured, uncertainty="semantic_entropy/exact")) == len(base)


def test_a_run_is_put_to_the_predictive_test_and_the_posterior_by_task(simulation, measured):
    table = simulation.table_of_run(measured)
    found = simulation.simulate(table=table, n_boot=20, n_perm=19)
    assert set(found) == {"predictive", "posterior", "posterior_curves"}
    for task, rows in table.groupby("task"):
        alone = simulation.predictive_test(rows, concepts=["concept", "concept_as_released"], n_perm=19, n_boot=20)
        same = found["predictive"][found["predictive"]["task"] == task].drop(columns="task").reset_index(drop=True)
        pd.testing.assert_frame_equal(same, alone)
        fit = found["posterior"][found["posterior"]["task"] == task].drop(columns="task").reset_index(drop=True)
        pd.testing.assert_frame_equal(fit, simulation.posterior_fit(rows, n_boot=20))
        assert len(found["posterior_curves"][found["posterior_curves"]["task"] == task]) == 13


def test_without_a_table_the_worlds_are_simulated(simulation):
    options = {"betas": (0.0,), "gammas": (1.0,), "n_items": (10,), "datasets": 4, "confounder": "round", "seed": 2}
    found = simulation.simulate(**options, workers=1, progress=False, level=0.9, n_boot=20)
    assert set(found) == {"structural"}
    same = simulation.structural_grid(**options, workers=1, progress=False, level=0.9, n_boot=20)
    pd.testing.assert_frame_equal(found["structural"], same)


def test_what_is_missing_is_refused_with_the_command_that_adds_it(simulation, measured, tmp_path):
    from mechmsc.measures import measure_run

    run = make_run(tmp_path / "run", n_free=2, n_choice=0, rounds=2, sites=SITES)
    with pytest.raises(
        ValueError, match=r"not measured yet: `mechmsc measure .*run --direction FILE --uncertainty NAME`"
    ):
        simulation.table_of_run(run)
    run = measure_run(run, uncertainty="first_token_entropy", **QUICK)
    with pytest.raises(
        ValueError, match="no round with both a concept and semantic_entropy, it has first_token_entropy"
    ):
        simulation.table_of_run(run, uncertainty="semantic_entropy")
    with pytest.raises(ValueError, match="no concept was read by direction 'toxicty': did you mean toxicity"):
        simulation.table_of_run(measured, source="toxicty")
    with pytest.raises(ValueError, match="not read at 'prompt_ends': did you mean prompt_end"):
        simulation.table_of_run(measured, position="prompt_ends")
    with pytest.raises(ValueError, match="not measured with 'nli'"):
        simulation.table_of_run(measured, uncertainty="semantic_entropy/nli")
    with pytest.raises(ValueError, match="no layer from 9 to 12"):
        simulation.table_of_run(measured, layers=(9, 12))
    with pytest.raises(ValueError, match="with the column task, got 0 rows"):
        simulation.simulate(table=simulation.table_of_run(measured)[:0])


def test_two_clusterers_are_not_mixed(simulation, measured):
    rows = measured.measures
    semantic = rows[rows["measure"] == "semantic_entropy"]
    both = pd.concat([rows, semantic.assign(source="embedding", value=semantic["value"] + 1.0)], ignore_index=True)

    class Again(type(measured)):
        measures = both

    again = Again(**{field.name: getattr(measured, field.name) for field in fields(measured)})
    with pytest.raises(ValueError, match="measured with exact, embedding: choose one, such as semantic_entropy/exact"):
        simulation.table_of_run(again, uncertainty="semantic_entropy")
    one, other = (simulation.table_of_run(again, uncertainty=f"semantic_entropy/{s}") for s in ("exact", "embedding"))
    assert (other["uncertainty"] - one["uncertainty"]).to_numpy() == pytest.approx(np.ones(len(one)))
