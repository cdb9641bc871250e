"""Conversations of different length: which tokens correspond, by hand; and the grid against the reference."""

import numpy as np
import pytest
import torch
from references.patching import patched_logits

import mechmsc as mm
from mechmsc.errors import InputError
from mechmsc.patching import patch_grid
from mechmsc.patching.alignment import pair_transcripts
from mechmsc.transcripts import Span, Transcript


def conversation(parts: list[tuple[str, int, list[int]]], item: str = "t/0", arm: str = "moral") -> Transcript:
    """From (span, round, ids), in order."""
    ids, spans = [], []
    for name, round, tokens in parts:
        spans.append(Span(name, round, len(ids), len(ids) + len(tokens)))
        ids += tokens
    return Transcript(item, arm, tuple(ids), tuple(spans))


SOURCE = conversation(
    [("template", 1, [9]), ("question", 1, [10, 11, 12]), ("instruction", 1, [20, 21, 22, 23]), ("template", 1, [40])]
    + [("response", 1, [50, 2]), ("instruction", 2, [24, 25]), ("template", 2, [40])]
)
DESTINATION = conversation(
    [("template", 1, [9]), ("question", 1, [10, 11, 12]), ("instruction", 1, [30, 21, 23]), ("template", 1, [40])]
    + [("response", 1, [51, 52, 2]), ("instruction", 2, [31, 25, 24]), ("template", 2, [40, 41])],
    arm="neutral",
)


def paired(align, span="instruction", round=1, **options):
    return pair_transcripts([SOURCE], [DESTINATION], span=span, round=round, align=align, **options)


@pytest.mark.parametrize(
    ("align", "round", "source", "destination"),
    [
        ("last", 1, [(7,)], [(6,)]),
        ("mean", 1, [(4, 5, 6, 7)], [(4, 5, 6)]),
        ("shared", 1, [(5,), (7,)], [(5,), (6,)]),  # 21 and 23
        ("last", 2, [(12,)], [(13,)]),
        ("shared", 2, [(11,)], [(13,)]),  # 24 or 25, not both: they stand in another order; the first in the source
        ("last", (1, 2), [(7,)], [(13,)]),
        ("last", None, [(12,)], [(13,)]),
    ],
)
def test_tokens_that_correspond_by_hand(align, round, source, destination):
    found = paired(align, round=round)
    assert found.source == [source] and found.destination == [destination]
    assert found.mean == (align == "mean")


def test_end_of_turn_and_first_tokens_belong_to_no_span():
    assert paired("mean", span="response", end_ids={2}).destination == [[(8, 9)]]
    assert paired("last", span="response", end_ids={2}).source == [[(9,)]]
    whole = pair_transcripts([SOURCE], [DESTINATION], span=None, round=None, align="mean")
    assert whole.source == [[tuple(range(1, len(SOURCE)))]]


def test_one_token_of_a_span_is_named_by_its_place():
    same = pair_transcripts([SOURCE], [SOURCE], span="instruction", round=1, align=None, at=1)
    assert same.destination == [[(5,)]]


def test_unequal_conversations_are_refused_without_an_alignment_and_missing_spans_always():
    with pytest.raises(InputError, match=r"spans \(14 and 16 tokens\), and no alignment is stated; give"):
        paired(None)
    equal_length = conversation([("question", 1, list(range(3, 17)))])
    with pytest.raises(InputError, match="no alignment is stated"):
        pair_transcripts([SOURCE], [equal_length], span=None, round=None, align=None)
    with pytest.raises(InputError, match="'t/0', arm 'moral', has no span 'prefix' in round 1; it has 2 rounds"):
        paired("last", span="prefix")
    with pytest.raises(InputError, match="has no span 'instruction' in round 3"):
        paired("last", round=3)
    with pytest.raises(InputError, match="unknown alignment 'first'"):
        paired("first")
    with pytest.raises(InputError, match="share no token"):
        paired("shared", span="response", end_ids={2})
    with pytest.raises(InputError, match="as many sources as destinations, got 1 and 2"):
        pair_transcripts([SOURCE], [SOURCE, SOURCE], span=None, round=None, align=None)


def two_logits(logits):
    return logits[:, -1, 7] - logits[:, -1, 9]


@pytest.fixture(scope="module")
def model(load_tiny):
    return load_tiny("gemma3")


@pytest.mark.parametrize("align", ["last", "mean", "shared"])
@pytest.mark.parametrize("component", ["resid_post", "mlp_out", "z", "q", "k", "v"])
def test_grids_between_conversations_of_different_length_equal_the_reference(model, component, align):
    sources, destinations = [SOURCE, DESTINATION], [DESTINATION, SOURCE]
    grid = patch_grid(
        model, sources, destinations, sites=component, outcome=two_logits, span="instruction", round=1, align=align
    )
    assert grid.sizes["position"] == (2 if align == "shared" else 1) and grid.attrs["aligned"] == align
    pairing = pair_transcripts(sources, destinations, span="instruction", round=1, align=align)
    own = {"q": 3, "z": 3, "k": 1, "v": 1}.get(component)
    for item, layer in ((0, 0), (1, 1), (0, 2)):
        for slot, (read, write) in enumerate(zip(pairing.source[item], pairing.destination[item], strict=True)):
            logits = patched_logits(
                model,
                sources[item].ids,
                destinations[item].ids,
                component,
                layer,
                read=read,
                write=write,
                head=own,
                mean=align == "mean",
            )
            cell = grid.isel(item=item, component=0, layer=layer, position=slot)
            cell = cell if own is None else cell.sel(head=3)
            assert float(cell) == pytest.approx(float(two_logits(logits[None])[0]), abs=2e-5)


def test_a_mean_shift_gives_the_span_the_mean_of_the_source_and_leaves_its_variation(model):
    from mechmsc.model.partial import remember
    from mechmsc.patching.entries import Edits, new_values
    from mechmsc.patching.places import Place

    pairing = paired("mean")
    memory, source = (remember(model, [one.ids], keep=[]) for one in (DESTINATION, SOURCE))
    edits = Edits.of([(0, Place("resid_pre", 1, None, 0))], pairing, torch.device("cpu"))
    new = new_values(edits, "resid_pre", 1, memory, source, mean=True)
    own, theirs = memory.resid_pre(1)[0, 4:7], source.resid_pre(1)[0, 4:8]
    torch.testing.assert_close(new.mean(0), theirs.mean(0))
    torch.testing.assert_close(new - new.mean(0), own - own.mean(0))


def test_items_of_unequal_length_are_swept_together_and_those_without_a_slot_are_nan(model):
    longer = conversation([("question", 1, [10, 11]), ("instruction", 1, [21, 30, 23, 24, 26]), ("template", 1, [40])])
    parts = [("question", 1, [10, 11]), ("instruction", 1, [21, 31, 23, 24]), ("template", 1, [40])]
    other = conversation(parts, "t/1")
    middle = conversation([("question", 1, [10, 11, 12, 13]), *parts[1:]], "t/2")
    where = {"outcome": two_logits, "span": "instruction", "round": 1, "align": "shared"}
    pairs = [(SOURCE, DESTINATION), (longer, other), (middle, middle), (longer, middle)]  # in no order of length
    both = patch_grid(model, *map(list, zip(*pairs, strict=True)), **where)
    assert both.sizes["position"] == 4 and both["item"].values.tolist() == ["t/0#0", "t/1#1", "t/2#2", "t/2#3"]
    assert np.isnan(both[0, ..., 2:]).all() and np.isfinite(both[2]).all()
    for i, (source, destination) in enumerate(pairs):
        alone = patch_grid(model, source, destination, **where)
        np.testing.assert_allclose(both[i, ..., : alone.sizes["position"]], alone[0], atol=2e-5)
        np.testing.assert_allclose(both.source[i], alone.source[0], atol=2e-5)
        np.testing.assert_allclose(both.destination[i], alone.destination[0], atol=2e-5)
    assert both.destination_token.values[:2].tolist() == [[5, 6, -1, -1], [2, 4, 5, -1]]


def test_positions_carry_token_text_span_and_round(model):
    changed = conversation([(span.name, span.round, [i + 60 for i in span.indices]) for span in SOURCE.spans])
    grid = patch_grid(model, changed, SOURCE, outcome=two_logits, layers=[1])
    assert grid.position.values.tolist() == list(range(len(SOURCE)))
    assert grid.token.values.tolist() == [model.tokenizer.decode([token]) for token in SOURCE.ids]
    assert grid["span"].values.tolist()[3:6] == ["question", "instruction", "instruction"]
    assert grid["round"].values.tolist() == [1] * 11 + [2] * 3
    by_site = patch_grid(
        model, changed, SOURCE, sites=mm.Site("resid_pre", layer=1, span="instruction", round=2), outcome=two_logits
    )
    np.testing.assert_allclose(by_site, grid.sel(position=[11, 12]), atol=1e-5)
    with pytest.raises(InputError, match="span is said by the sites already"):
        patch_grid(
            model, changed, SOURCE, sites=mm.Site("z", span="prompt", round=2), span="prompt", outcome=two_logits
        )
    with pytest.raises(InputError, match="pattern: rows correspond only between conversations of equal length"):
        patch_grid(model, SOURCE, DESTINATION, sites="pattern", outcome=two_logits, align="last", span="prompt")
    with pytest.raises(InputError, match="both as token ids or both as transcripts"):
        patch_grid(model, SOURCE, [SOURCE.ids], outcome=two_logits)
