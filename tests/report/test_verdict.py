"""The verdict says what the intervals say and no more: shown, small, absent, contrary, undecided, missing."""

import pandas as pd
import pytest
from made_evidence import NAN, NOTHING, SURE, UNSURE, contrast, dosed, effect, mediated, whole

LINKS = ("performance", "concept", "fall", "fall_beyond", "uncertainty", "mediation", "dose")


def judged(contrasts, *, tasks=("t",), **tables):
    from mechmsc.report import verdict

    missing = {(task, link): f"mechmsc {link} RUN" for task in tasks for link in LINKS}
    found = verdict(contrasts, tables.get("mediated"), tables.get("dosed"), tasks=list(tasks), missing=missing)
    return {(one.task, one.link): one for one in found}


def of(link, rows):
    return judged(rows)["t", link]


def carried(table):
    return judged(contrast("uncertainty", -0.2, -0.3, -0.1), mediated=table)["t", "mediation"]


def steered(table):
    return judged(contrast("uncertainty", -0.2, -0.3, -0.1), dosed=table)["t", "dose"]


CONTRASTS = {
    "higher": (contrast("concept", 0.2, 0.1, 0.3), "shown", 1, "higher, 0.20 [0.10, 0.30]"),
    "lower": (contrast("concept", -0.2, -0.3, -0.1), "shown", -1, "lower, \u22120.20 ["),
    "sure and small": (contrast("concept", 0.02, 0.01, 0.03), "small", 1, "less than the margin of 0.05"),
    "null": (contrast("concept", 0.0, -0.02, 0.02, p=0.9), "absent", 0, "no difference that matters was found"),
    "wide": (
        contrast("concept", 0.1, -0.1, 0.3, p=0.3),
        "undecided",
        0,
        "effects up to 0.30 are not excluded",
    ),
    "interval without p": (contrast("concept", 0.2, 0.1, 0.3, p=0.06), "undecided", 0, "not decided"),
    "p without interval": (contrast("concept", 0.2, -0.01, 0.3, p=0.01), "undecided", 0, "not decided"),
    "few": (contrast("concept", 0.2, 0.1, 0.3, n=5), "undecided", 0, "5 items are too few"),
    "rounding": (contrast("concept", 3e-7, 2e-7, 4e-7), "absent", 0, "no difference that matters"),
    "nothing known": (contrast("concept", NAN, NAN, NAN, p=NAN, n=0), "undecided", 0, "0 items are too few"),
}


@pytest.mark.parametrize("rows, state, sign, said", CONTRASTS.values(), ids=CONTRASTS)
def test_a_difference_is_told_as_its_interval_and_its_p_allow(rows, state, sign, said):
    found = of("concept", rows)
    assert (found.state, found.sign) == (state, sign) and said in found.sentence
    assert "60 items" in found.sentence or state == "undecided"


def test_a_difference_in_single_rounds_is_told_with_them_and_the_mean_stays_undecided():
    rounds = [(0.3, 0.1, 0.5, 0.004), (0.0, -0.2, 0.2, 0.9)]
    found = of("concept", contrast("concept", 0.15, -0.01, 0.3, p=0.08, rounds=rounds))
    assert found.state == "shown" and found.sign == 1
    assert "round 1 0.30 [0.10, 0.50] (p = 0.004)" in found.sentence and "not decided" in found.sentence
    rounds = [(0.3, 0.1, 0.5, 0.004), (-0.3, -0.5, -0.1, 0.004)]
    mixed = of("concept", contrast("concept", 0.0, -0.1, 0.1, p=0.9, rounds=rounds))
    assert mixed.state == "shown" and mixed.sign == 0 and "different signs" in mixed.sentence


def test_absence_needs_every_round_within_the_margin():
    tight, wide = (0.0, -0.01, 0.01, 0.9), (0.0, -0.2, 0.2, 0.9)
    assert of("concept", contrast("concept", 0.0, -0.01, 0.01, p=0.9, rounds=[tight, tight])).state == "absent"
    found = of("concept", contrast("concept", 0.0, -0.01, 0.01, p=0.9, rounds=[tight, wide]))
    assert found.state == "undecided" and "effects up to 0.20 are not excluded" in found.sentence


def test_answers_that_never_differ_show_no_absence_while_items_are_few():
    def accuracy(n):
        rows = contrast("performance", 0.0, 0.0, 0.0, p=1.0, n=n, margin=0.02, better="higher")
        return of("performance", rows.assign(unit="fraction correct"))

    assert accuracy(8).state == "undecided" and "a share of up to 0.32 that may" in accuracy(8).sentence
    assert accuracy(400).state == "absent"


def test_what_an_interval_leaves_open_is_told_by_its_width_against_the_margin():
    said = of("concept", contrast("concept", 0.1, -0.1, 0.3, p=0.3)).sentence
    assert "4.0 times as wide as the margin of \u00b10.05 and effects up to 0.30" in said
    part = contrast("performance", 0.0, -0.1, 0.1, p=0.9, margin=0.02).assign(unit="fraction correct")
    assert "5.0 times as wide as the margin of \u00b10.02 and effects up to 0.10" in of("performance", part).sentence


def test_so_few_items_that_no_test_can_succeed_decide_nothing():
    few, enough = (of("concept", contrast("concept", 0.2, 0.1, 0.3, n=n)) for n in (5, 6))
    assert few.state == "undecided" and enough.state == "shown"
    assert "5 items are too few" in few.sentence and "6 are the fewest with which a test at 5 % can" in few.sentence


def test_each_link_says_what_is_compared():
    subjects = {
        "concept": "toxicity at prompt end, layers 7-21 (nats), moral minus neutral: ",
        "fall": "choice entropy (nats) of arm moral, later rounds minus the first: ",
        "fall_beyond": "choice entropy (nats), change since round 1 under moral minus that under neutral: ",
        "uncertainty": "choice entropy (nats), moral minus neutral: ",
    }
    for link, subject in subjects.items():
        assert of(link, contrast(link, -0.2, -0.3, -0.1)).sentence.startswith(subject)


def test_p_is_corrected_for_the_number_of_tasks():
    one = contrast("concept", 0.2, 0.1, 0.3, p=0.03)
    assert of("concept", one).state == "shown"
    both = pd.concat([one, contrast("concept", 0.2, 0.1, 0.3, p=0.03, task="u")])
    found = judged(both, tasks=("t", "u"))
    assert {found[task, "concept"].state for task in "tu"} == {"undecided"}
    assert "p = 0.06 corrected for 2 tasks" in found["t", "concept"].sentence


@pytest.mark.parametrize("better, sign, word", [("higher", 1, "better"), ("lower", -1, "worse")])
def test_performance_is_told_in_its_own_direction(better, sign, word):
    found = of("performance", contrast("performance", 0.2, 0.1, 0.3, better=better))
    assert found.better == sign and f"here moral is {word}" in found.sentence


def test_uncertainty_that_rises_over_rounds_is_contrary_to_the_link():
    assert of("fall", contrast("fall", -0.2, -0.3, -0.1)).state == "shown"
    assert of("fall", contrast("fall", 0.2, 0.1, 0.3)).state == "contrary"


def test_what_is_missing_is_named_with_its_command():
    found = judged(contrast("concept", 0.2, 0.1, 0.3))
    for link in set(LINKS) - {"concept"}:
        assert found["t", link].state == "missing" and f"mechmsc {link} RUN" in found["t", link].sentence
    assert found["t", "chain"].state == "missing"


MEDIATIONS = {
    "planted": (mediated(), "shown", -1, "proportion mediated 100 % [80, 120]"),
    "null": (mediated(NOTHING), "absent", 0, "no effect beyond placebo was found"),
    "undecided": (mediated(UNSURE), "undecided", 0, "no effect beyond placebo was found"),
    "as placebos": (
        mediated(effect(-0.2, -0.3, -0.1, p_placebo=0.4, excess=(0.0, -0.04, 0.04))),
        "absent",
        0,
        "less than 0.05 above what placebos do",
    ),
    "placebos are noisy": (
        mediated(effect(-0.2, -0.3, -0.1, p_placebo=0.4, excess=(0.0, -0.2, 0.2))),
        "undecided",
        0,
        "no effect beyond placebo was found",
    ),
    "excess not sure": (
        mediated(effect(-0.2, -0.3, -0.1, excess=(0.1, -0.01, 0.2))),
        "undecided",
        0,
        "no effect beyond placebo was found",
    ),
    "no placebos": (mediated(effect(-0.2, -0.3, -0.1, placebos=0)), "undecided", 0, "no placebos were computed"),
    "few placebos": (
        mediated(effect(-0.2, -0.3, -0.1, placebos=9, p_placebo=0.1)),
        "undecided",
        0,
        "9 placebos cannot reach p \u2264 0.05: take 19 or more",
    ),
    "small": (mediated(effect(-0.02, -0.03, -0.011, excess=(0.015, 0.01, 0.02))), "small", -1, "smaller than"),
    "no total effect": (mediated(total=NOTHING), "absent", -1, "there is no total effect to carry part of"),
    "total not decided": (mediated(total=UNSURE), "undecided", -1, "not decided whether there is a total effect"),
    "against": (mediated(total=effect(0.2, 0.1, 0.3)), "contrary", -1, "works against"),
    "few items": (mediated(effect(-0.2, -0.3, -0.1, n=4)), "undecided", 0, "4 items are too few"),
    "whole activation": (mediated(mediator="activation"), "undecided", -1, "not decided about the concept"),
}


@pytest.mark.parametrize("table, state, sign, said", MEDIATIONS.values(), ids=MEDIATIONS)
def test_a_mediation_is_told_as_its_intervals_and_placebos_allow(table, state, sign, said):
    found = carried(table)
    assert (found.state, found.sign) == (state, sign) and said in found.sentence
    assert found.source == "effects/mediation.nc"


def test_a_proportion_is_told_only_where_there_is_one():
    assert "proportion" not in carried(mediated(proportion=(NAN, NAN, NAN))).sentence


def test_of_several_bands_p_is_corrected_and_absence_needs_all():
    weak = mediated(effect(-0.2, -0.3, -0.1, p_placebo=0.03))
    assert carried(weak).state == "shown"
    other = mediated(NOTHING, layer="1")
    assert carried(pd.concat([weak, other])).state == "undecided"
    assert carried(pd.concat([mediated(NOTHING), other])).state == "absent"
    found = carried(pd.concat([other, mediated()]))
    assert found.state == "shown" and "layers 7-21 (one of 2 bands)" in found.sentence


def test_a_dose_response_is_decided_by_its_odd_part_and_the_even_part_stands_beside_it():
    assert (steered(dosed()).state, steered(dosed()).sign) == ("shown", -1)
    assert steered(dosed(NOTHING)).state == "absent" and "beyond placebo was found" in steered(dosed(NOTHING)).sentence
    assert steered(dosed(UNSURE)).state == "undecided"
    found = steered(dosed(NOTHING, SURE, guard="perplexity 3, 4, 90"))
    assert found.state == "absent" and "as they would in a model that breaks" in found.sentence
    assert "perplexity 3, 4, 90" in found.sentence


def test_an_outcome_other_than_the_uncertainty_is_taken_only_where_that_one_is_lacking():
    table = mediated()
    other = mediated(NOTHING).assign(outcome="log_odds")
    assert carried(pd.concat([other, table])).state == "shown"
    assert carried(other).sentence.startswith("log odds") and carried(other).state == "absent"


def test_the_chain_is_claimed_only_where_every_link_holds():
    held = judged(**whole())["t", "chain"]
    assert held.state == "shown" and "Every link holds in these data" in held.sentence
    assert "performance is not tested by any of these interventions" in held.sentence
    for link in ("performance", "concept", "uncertainty", "fall"):
        tables = whole()
        rows = tables["contrasts"]
        tables["contrasts"] = rows[rows["link"] != link]
        if link == "uncertainty":  # the fall still tells which measure it is
            assert tables["contrasts"]["measure"].eq("choice_entropy").any()
        found = judged(**tables)["t", "chain"]
        assert found.state == "missing" and "not shown" in found.sentence, link
        assert "not evidence of absence" in found.sentence, link
        wide = contrast(link, 0.1, -0.2, 0.4, p=0.4, better="higher")
        tables["contrasts"] = pd.concat([tables["contrasts"], wide])
        found = judged(**tables)["t", "chain"]
        assert found.state == "undecided" and "not evidence of absence" in found.sentence, link
    for name, table in (("mediated", mediated(NOTHING)), ("dosed", dosed(NOTHING))):
        found = judged(**{**whole(), name: table})["t", "chain"]
        assert found.state == "absent" and "The chain as a whole is not shown" in found.sentence
        assert "no effect that matters" in found.sentence and "evidence of absence" not in found.sentence


def test_the_part_that_was_intervened_on_is_told_where_it_holds_alone():
    tables = whole()
    rows = tables["contrasts"]
    tables["contrasts"] = rows[~rows["link"].isin(["performance", "fall"])]
    found = judged(**tables)["t", "chain"]
    assert found.state == "missing" and "concept to uncertainty holds" in found.sentence
    assert "lowers it" in found.sentence and "The chain as a whole is not shown" in found.sentence


def test_links_that_are_shown_and_do_not_fit_together_make_no_chain():
    tables = whole() | {"dosed": dosed(effect(0.2, 0.1, 0.3))}  # concept up, more concept more uncertainty, yet less
    found = judged(**tables)["t", "chain"]
    assert found.state == "contrary" and "does not fit together" in found.sentence and "holds" not in found.sentence
    up = effect(0.2, 0.1, 0.3)
    tables = whole() | {"mediated": mediated(up, up), "dosed": dosed(up)}
    assert "different signs" in judged(**tables)["t", "chain"].sentence


@pytest.mark.parametrize("raised, worse", [(True, True), (True, False), (False, True)])
def test_a_chain_that_runs_the_other_way_is_not_told_as_the_claim(raised, worse):
    tables, sign = whole(), 1 if raised else -1
    moved = effect(sign * 0.2, *sorted((sign * 0.1, sign * 0.3)))
    rows = tables["contrasts"]
    other = [contrast("uncertainty", moved["value"], moved["low"], moved["high"])]
    if worse:
        other.append(contrast("performance", -0.1, -0.2, -0.05, margin=0.02, better="higher"))
    rows = pd.concat([rows[~rows["link"].isin([one["link"].iloc[0] for one in other])], *other])
    found = judged(rows, mediated=mediated(moved, moved), dosed=dosed(moved))["t", "chain"]
    assert found.state == "contrary" and "not as the claim has it" in found.sentence
    ways = "raises" if raised else "lowers", "worse" if worse else "better"
    assert "{} uncertainty, and performance is {}".format(*ways) in found.sentence


def test_every_link_has_a_name_in_the_chain_and_constants_are_those_of_the_analyses():
    from mechmsc.causal.mediation_effects import RESOLUTION
    from mechmsc.causal.outcomes import GUARDS
    from mechmsc.report import carried, chain, judging

    assert set(chain.NAMES) == set(chain.WHOLE) == set(judging.LINKS) - {"fall_beyond"}
    assert set(LINKS) == set(judging.LINKS)
    assert judging.RESOLUTION == RESOLUTION and carried.GUARDS == GUARDS


def test_every_state_is_told_for_a_link_and_for_the_chain():
    from mechmsc.report import Finding
    from mechmsc.report.judging import OF_CHAIN, STATES, told

    assert set(STATES) == set(OF_CHAIN)
    assert told(Finding("t", "dose", "absent", 0, "")) == "no effect that matters"
    assert told(Finding("t", "chain", "absent", 0, "")) == "does not hold in these data"


def test_numbers_are_rounded_to_what_their_interval_bears():
    from mechmsc.report.words import interval, listed, number, probability

    assert interval(0.123456, 0.05, 0.21) == "0.123 [0.050, 0.210]"
    assert interval(-12.34, -40.0, 15.0) == "\u221212 [\u221240, 15]"
    assert interval(0.5, NAN, NAN) == "0.50 (no interval)" and interval(NAN, NAN, NAN) == "no number"
    assert number(-0.0004, 0.3) == "0.00" and number(1234.6) == "1235"
    assert probability(0.0001) == "p < 0.001" and probability(0.0324) == "p = 0.032" and probability(NAN) == "no p"
    assert listed(["a", "b", "c"]) == "a, b and c"


def test_each_task_is_read_by_the_first_analysis_of_its_own_between_the_arms_of_the_verdict():
    from mechmsc.report.reading import first_of_each_task

    injected = mediated(task="b").assign(treatment="moral+immoral@2", control="moral", name="injection")
    both = pd.concat([mediated(task=task).assign(name="second") for task in ("a", "b")], ignore_index=True)
    tables = [injected, mediated(task="a").assign(name="first"), both]
    found = first_of_each_task(tables, "moral", "neutral")
    assert found.groupby("task")["name"].unique().map(list).to_dict() == {"a": ["first"], "b": ["second"]}
    assert first_of_each_task([injected], "moral", "neutral") is None
    doses = [dosed(task="a").assign(name="first"), dosed(task="a").assign(name="second")]
    assert set(first_of_each_task(doses, "moral", None)["name"]) == {"first"}
