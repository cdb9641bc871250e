"""What an injected instruction does is recovered where it was put, paired by item, and nowhere else."""

import numpy as np
import pandas as pd
import pytest
from measured_runs import LAYERS, make_run

from mechmsc.errors import InputError

BASE, MIXED = "moral", "moral+immoral@2/4"
EFFECTS = {"choice_entropy": 0.5, "concept": -1.0, "accuracy": 0.0}
AFTER = 0.1


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(
        tmp_path_factory.mktemp("injection") / "run", n_free=0, n_choice=12, arms=[BASE, MIXED], rounds=5, samples=0
    )


@pytest.fixture
def planted(run, monkeypatch):
    """The run, measured as if the injections did `EFFECTS` at their rounds, and a little afterwards."""
    rng, rows = np.random.default_rng(3), []
    for item in run.items:
        for measure, effect in EFFECTS.items():
            level = rng.normal(0, 5)  # items differ by much more than the effect: only pairs show it
            for arm in (BASE, MIXED):
                for at in range(1, 6):
                    moved = effect * (at in (2, 4)) + AFTER * effect * (at in (3, 5))
                    value = level + (moved + rng.normal(0, 0.05) * (at > 1) if arm == MIXED else 0.0)
                    for layer in range(LAYERS) if measure == "concept" else [None]:
                        rows.append((item.item_id, arm, at, measure, value, layer))
    table = pd.DataFrame(rows, columns=["item_id", "arm", "round", "measure", "value", "layer"])
    concept = table["measure"] == "concept"
    table["source"] = np.where(concept, "stereotyping", "options")
    table["position"] = np.where(concept, "prompt_end", None)
    table["unit"] = np.where(concept, "class gaps, positive = more stereotyping", "nats")
    monkeypatch.setattr(type(run), "measures", property(lambda _: table))
    return run


def test_the_planted_effect_is_found_at_the_injected_rounds_and_by_part(planted):
    from mechmsc.causal import injection_effects

    table = injection_effects(planted, treatment=MIXED, control=BASE)
    for measure, effect in EFFECTS.items():
        mine = table[table["measure"] == measure]
        parts = mine[mine["round"].isna()].set_index("part")
        assert parts.loc["injected", "value"] == pytest.approx(effect, abs=0.06)
        assert parts.loc["after", "value"] == pytest.approx(AFTER * effect, abs=0.06)
        assert parts.loc["before", "value"] == pytest.approx(0.0, abs=1e-12)
        rounds = mine[mine["round"].notna()].set_index("round")
        assert list(rounds["part"]) == ["before", "injected", "after", "injected", "after"]
        assert (rounds.loc[[2, 4], "p_adjusted"] < 0.05).all() == (effect != 0)
        assert (parts["n"] == len(planted.items)).all()


def test_parts_are_means_of_each_item_over_their_rounds(planted):
    from mechmsc.causal import injection_effects

    table = injection_effects(planted, treatment=MIXED, control=BASE, measures=("choice_entropy",))
    flat = planted.measures[planted.measures["measure"] == "choice_entropy"]
    wide = flat.pivot(index="item_id", columns=["arm", "round"], values="value")
    expected = (wide[MIXED][[2, 4]].mean(axis=1) - wide[BASE][[2, 4]].mean(axis=1)).mean()
    part = table[table["round"].isna() & (table["part"] == "injected")]
    assert part["value"].item() == pytest.approx(expected)


def test_arms_that_always_or_never_differ_are_refused(run):
    from mechmsc.causal import injected_arms, injected_rounds, injection_effects

    assert injected_arms(run) == {"treatment": MIXED, "control": BASE}
    assert injected_rounds(run, treatment=MIXED, control=BASE) == [2, 4]
    with pytest.raises(InputError, match="no arm 'immoral'; it has moral"):
        injection_effects(run, treatment="immoral", control=BASE)
    with pytest.raises(InputError, match="differ in no round"):
        injected_rounds(run, treatment=BASE, control=BASE)


def test_a_run_that_was_not_measured_says_which_command_does(run):
    from mechmsc.causal import injection_effects

    with pytest.raises(InputError, match="mechmsc measure"):
        injection_effects(run, treatment=MIXED, control=BASE)


def test_the_figure_shades_the_injected_rounds_and_states_what_is_compared(planted):
    from mechmsc.causal import injection_effects
    from mechmsc.figures.injection import draw_injection

    table = injection_effects(planted, treatment=MIXED, control=BASE)
    figure = draw_injection(table, treatment=MIXED, control=BASE)
    axis = figure.axes[0]
    shaded = sorted(patch.get_x() for patch in axis.patches)
    assert shaded == [1.5, 3.5]
    with pytest.raises(InputError, match="no rows"):
        draw_injection(table.iloc[:0], treatment=MIXED, control=BASE)
