"""The position map of the batch in flight: which tokens of a site a pass holds, and where."""

import pytest
import torch
from edits import conversations, instruction
from tiny_runs import load_chatty

from mechmsc.errors import InputError
from mechmsc.positions import (
    Flight,
    Row,
    active,
    bare_calls_on,
    edits_on,
    end_ids,
    flight,
    in_flight,
    refuse_edits,
    shown,
    suspended,
)
from mechmsc.sites import Site

SITE = Site("resid_post", layer=1, span="instruction", round=2)


@pytest.fixture(scope="module")
def chatty(tmp_path_factory):
    return load_chatty(tmp_path_factory.mktemp("chatty"))


@pytest.fixture(scope="module")
def talks(chatty):
    return conversations(chatty)


def held(rows) -> Flight:
    return Flight(tuple(rows), torch.device("cpu"))


def slow(rows, site) -> list[tuple[int, int, int]]:
    """(row, column, place within the site's tokens) of every column, asked one by one."""
    found = []
    for r, row in enumerate(rows):
        for tokens in row.shown.tokens(site):
            for column in range(row.column, row.column + row.count):
                token = row.start + column - row.column
                if token in tokens:
                    found.append((r, column, tokens.index(token)))
    return found


LAYOUTS = {
    "whole, padded on the right": lambda s: [Row(one, 0, len(one.transcript)) for one in s],
    "whole, padded on the left": lambda s: [Row(o, 0, len(o.transcript), 200 - len(o.transcript)) for o in s],
    "the second half": lambda s: [Row(o, 60, len(o.transcript) - 60) for o in s],
    "one token of each": lambda s: [Row(o, instruction(o.transcript, 2)[3], 1) for o in s],
    "branches of a response": lambda s: [Row(s[0], len(s[0].transcript) + 2, 1), Row(s[0], len(s[0].transcript), 1)],
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    "site",
    [
        SITE,
        Site("z", span="instruction", at="last"),
        Site("z", span="prompt", round=1, at="mean"),
        Site("z", span="response", round=2),
        Site("z", span="response", round=2, at=range(2)),
        Site("z"),
    ],
    ids=str,
)
def test_the_tokens_of_a_site_in_flight_are_those_that_a_slow_search_of_every_column_finds(chatty, talks, layout, site):
    rows = LAYOUTS[layout](shown(chatty, talks))
    picked, expected = held(rows).picked(site), slow(rows, site)
    assert (picked is None) == (expected == [])
    if picked is not None:
        assert sorted(zip(picked.row.tolist(), picked.column.tolist(), picked.places, strict=True)) == sorted(expected)
        assert [picked.owners[g] for g in picked.groups] == [rows[r] for r in picked.row.tolist()]
        assert picked.group.tolist() == list(picked.groups)


def test_a_group_is_whole_when_all_of_its_tokens_are_in_flight(chatty, talks):
    one = shown(chatty, talks)[0]
    span = instruction(talks[0], 2)
    assert held([Row(one, 0, len(talks[0]))]).picked(SITE).whole == (True,)
    assert held([Row(one, span[0], len(span))]).picked(SITE).whole == (True,)
    assert held([Row(one, span[1], len(span))]).picked(SITE).whole == (False,)
    assert held([Row(one, len(talks[0]), 1)]).picked(Site("z", span="response", round=2)).whole == (False,)


def test_means_are_taken_over_each_group(chatty, talks):
    rows = [Row(one, 0, len(one.transcript)) for one in shown(chatty, talks)]
    picked = held(rows).picked(Site("z", span="instruction"))
    x = torch.randn(len(picked.places), 5, generator=torch.Generator().manual_seed(0))
    expected = [x[[i for i, g in enumerate(picked.groups) if g == group]].mean(0) for group in range(6)]
    assert torch.allclose(picked.means(x), torch.stack(expected), atol=1e-6)
    assert torch.allclose(picked.means(x[:, 0]), torch.stack(expected)[:, 0], atol=1e-6)


def test_the_map_and_the_edits_last_as_long_as_their_blocks(chatty, talks):
    rows = [Row(one, 0, 3) for one in shown(chatty, talks)]
    assert flight(chatty) is None and edits_on(chatty) == ()
    with in_flight(chatty, rows), active(chatty, ["a"]):
        assert flight(chatty).rows == tuple(rows)
        with active(chatty, ["b"]), in_flight(chatty, None):
            assert flight(chatty) is None
            assert edits_on(chatty) == ("a", "b")
            with suspended(chatty), suspended(chatty):
                assert edits_on(chatty) == ()
                refuse_edits(chatty, "this", "that")
            with pytest.raises(InputError, match=r"this would ignore the active edit a \(2 in all\); that"):
                refuse_edits(chatty, "this", "that")
        with pytest.raises(ValueError), active(chatty, ["c"]), in_flight(chatty, rows[:1]), suspended(chatty):
            raise ValueError
        assert edits_on(chatty) == ("a",)
        assert flight(chatty).rows == tuple(rows)
    assert flight(chatty) is None and edits_on(chatty) == ()


def test_a_bare_call_is_matched_with_its_conversations_by_their_tokens(chatty, talks):
    width = max(map(len, talks)) + 2
    seen = []
    keep = [("blocks.0.hook_resid_pre", lambda x, hook: seen.append(flight(chatty)))]  # noqa: ARG005
    pads = [[2] * (width - len(talk)) for talk in talks]
    rows = [[*pads[0], *talks[0].ids], [*talks[1].ids, *pads[1]], [*pads[2], *talks[2].ids]]
    with bare_calls_on(chatty, shown(chatty, talks)):
        chatty.run_with_hooks(torch.tensor(rows), fwd_hooks=keep)
        with pytest.raises(InputError, match="expected 1 or 2 conversations, as many as the batch, got 3"):
            chatty(torch.tensor(rows[:2]))
        with pytest.raises(InputError, match="row 1 of the batch does not hold the .* tokens of conversation"):
            chatty(torch.tensor([rows[0], rows[0], rows[2]]))
    assert [(row.column, row.count) for row in seen[0].rows] == [
        (len(pads[0]), len(talks[0])),
        (0, len(talks[1])),
        (len(pads[2]), len(talks[2])),
    ]
    chatty(torch.tensor(rows[:2]))
    assert flight(chatty) is None


def test_end_ids_are_those_of_the_chat_format_and_none_for_a_model_without_tokenizer(chatty):
    from mechmsc.chat import ChatFormat

    assert end_ids(chatty) == ChatFormat.of(chatty.tokenizer).end_ids

    class Bare:
        tokenizer = None

    assert end_ids(Bare()) == frozenset()
