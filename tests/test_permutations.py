"""A permuted conversation, derived from tokens alone, is the one that would have been held in that order."""

import itertools

import pytest
from conversations import SYSTEMS, chat_of
from templates import FAMILIES
from tiny_runs import CHOOSE, JUDGE, correct, load_chatty

from mechmsc import conversations
from mechmsc.chat import ChatFormat
from mechmsc.conversations import hold
from mechmsc.errors import InputError
from mechmsc.instructions import parse_arms
from mechmsc.permutations import labels_of, n_options, permuted
from mechmsc.settings import Settings
from mechmsc.tasks import Item

PREFIX = "The best answer is"
ITEM = Item(
    "social_bias/x",
    "social_bias",
    "Who was at fault?\n\n(a) is no option here; who 😀?",
    ("Ana 😀, the 1st?", "nobody", "it is not said - «é»."),
)


@pytest.fixture(scope="module")
def chatty(tmp_path_factory):
    return load_chatty(tmp_path_factory.mktemp("chatty"))


def held_by_hand(chat: ChatFormat, order, *, rounds: int, choice: int = 1):
    """Rounds of forced choices in one order, built turn by turn."""
    options = {"prefix": PREFIX, "labels": ITEM.labels}
    transcript = chat.open(ITEM.turn(order), "Be fair.", item_id=ITEM.item_id, arm="moral", **options)
    for _ in range(1, rounds):
        label = chat.label_ids(PREFIX, ITEM.labels)[list(order).index(choice)]
        transcript = chat.reply(transcript, label, stop_reason="forced")
        transcript = chat.ask(transcript, "Again: be fair.", **options)
    return transcript


@pytest.mark.parametrize("system", SYSTEMS.values(), ids=SYSTEMS)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_order_in_every_format_of_conversation_has_the_ids_and_spans_that_chat_builds(family, system):
    chat = chat_of(family, system=system)
    for rounds in (1, 3):
        canonical = held_by_hand(chat, (0, 1, 2), rounds=rounds)
        assert n_options(chat.tokenizer, canonical) == 3
        assert labels_of(chat.tokenizer, canonical) == chat.label_ids(PREFIX, ITEM.labels)
        for order in itertools.permutations(range(3)):
            expected = held_by_hand(chat, order, rounds=rounds)
            assert permuted(chat.tokenizer, canonical, order) == expected
            assert expected == canonical or order != (0, 1, 2)


@pytest.mark.parametrize("items", [CHOOSE, JUDGE], ids=["three options", "two options"])
def test_a_run_held_every_permutation_as_it_is_derived_here(chatty, monkeypatch, items):
    lines = []
    answer = conversations._answer
    monkeypatch.setattr(
        conversations, "_answer", lambda now, line, said: (lines.append(line), answer(now, line, said))[1]
    )
    chat = ChatFormat.of(chatty.tokenizer)
    arms = parse_arms(["moral", "neutral"], rounds=3)
    hold(chatty, chat, [(item, arm) for item in items for arm in arms], Settings(rounds=3))
    held = {(line.item.item_id, line.arm.name, line.order): line.transcript for line in lines}
    assert len({key[2] for key in held}) == len(items[0].options)
    for (item, arm, order), transcript in held.items():
        for round in (1, 2, 3):
            canonical = held[item, arm, tuple(range(len(order)))].up_to(round)
            assert permuted(chatty.tokenizer, canonical, order) == transcript.up_to(round)


def test_a_free_answer_in_the_history_is_refused(chatty, tmp_path):
    run = correct(chatty, CHOOSE[:1], tmp_path / "run", arms="moral", samples=0, choice_mode="free")
    first, second = (run.transcript(CHOOSE[0], arm="moral", round=round) for round in (1, 2))
    assert permuted(chatty.tokenizer, first, (1, 2, 0)) != first
    with pytest.raises(InputError, match="round 1: expected a forced choice.*permutations=1"):
        permuted(chatty.tokenizer, second, (1, 2, 0))


def test_what_has_no_options_or_no_such_order_is_refused():
    chat = chat_of("smollm2")
    plain = chat.open("Go on.", "Be kind.")
    assert n_options(chat.tokenizer, plain) == 0
    with pytest.raises(InputError, match="expected a question with options"):
        permuted(chat.tokenizer, plain, (0, 1))
    with pytest.raises(InputError, match=r"expected a permutation of 0..2, got \[0, 0, 1\]"):
        permuted(chat.tokenizer, held_by_hand(chat, (0, 1, 2), rounds=1), (0, 0, 1))
