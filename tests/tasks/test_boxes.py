"""Boxes in words: the usual ways of writing and units, and what is not one box."""

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mechmsc.errors import InputError
from mechmsc.tasks import Item
from mechmsc.tasks.boxes import CONVENTIONS, overlap, parse_box

SIZE = (640, 480)
BOX = (64.0, 48.0, 320.0, 240.0)
NUMBERS = {"pixels": (64, 48, 320, 240), "fractions": (0.1, 0.1, 0.5, 0.5), "thousandths": (100, 100, 500, 500)}
WRITTEN = (
    "[{}, {}, {}, {}]",
    "It is here: ({} , {} , {} , {}).",
    "[[{}, {}, {}, {}]]",
    "[{} {} {} {}]",
    "({}, {}), ({}, {})",
    "from the corner ({},{}) to the corner ({},{})",
    "top left [{}, {}] and bottom right [{}, {}]",
    "x1: {}, y1: {}, x2: {}, y2: {}",
    '{{"x1": {}, "y1": {}, "x2": {}, "y2": {}}}',
    "xmin={} ymin={} xmax={} ymax={}",
    "{}, {}, {}, {}",
    "The box is {},{},{},{}.",
    '```json\n[{{"bbox_2d": [{}, {}, {}, {}], "label": "dog 2"}}]\n```',
    "In the picture of 640 x 480 the box is [{}, {}, {}, {}], yes [{}, {}, {}, {}]",
    "<|box_start|>({},{}),({},{})<|box_end|>",
    "<box>[[{}, {}, {}, {}]]</box>",
)


@pytest.mark.parametrize(("convention", "written"), list(itertools.product(CONVENTIONS, WRITTEN)))
def test_a_box_is_read_in_every_way_of_writing_and_every_unit(convention, written):
    text = written.format(*NUMBERS[convention] * 2)
    assert parse_box(text, size=SIZE, convention=convention) == pytest.approx(BOX)
    others = {parse_box(text, size=SIZE, convention=other) for other in CONVENTIONS if other != convention}
    assert BOX not in others  # the unit is heeded


def test_without_a_unit_it_is_read_off_the_numbers():
    assert parse_box("[0.1, 0.1, 0.5, 0.5]", size=SIZE) == pytest.approx(BOX)
    assert parse_box("[64, 48, 320, 240]", size=SIZE) == BOX
    assert parse_box("<|box_start|>(100,100),(500,500)<|box_end|>", size=SIZE) == pytest.approx(BOX)
    assert parse_box("[100, 100, 500, 990]", size=SIZE) == pytest.approx((64, 48, 320, 475.2))  # no pixel is there
    assert parse_box("[100, 100, 500, 1990]", size=SIZE) == (100, 100, 500, 1990)  # neither: pixels, out of the picture
    assert parse_box("[0, 0, 1, 1]", size=SIZE) == (0, 0, 640, 480)


def test_pixels_that_overshoot_by_a_rounding_error_are_still_pixels():
    for text in ("[400, 100, 640.5, 300]", "[400, 100, 641, 300]", "[400, 100, 640, 481]"):
        box = parse_box(text, size=SIZE)
        assert box[:2] == (400, 100) and overlap(box, (400.0, 100.0, 640.0, box[3])) > 0.99
    assert parse_box("[400, 100, 700, 300]", size=SIZE) == pytest.approx((256, 48, 448, 144))  # no pixel is near


def test_signs_points_and_bare_numbers_in_marks_are_read_whole():
    assert parse_box("x1: -5, y1: 20, x2: 110, y2: 220", size=SIZE) == (-5, 20, 110, 220)
    assert parse_box("x1: .25, y1: .3, x2: .5, y2: .6", size=SIZE) == pytest.approx((160, 144, 320, 288))
    assert parse_box("<box>100 100 500 500</box>", size=SIZE) == pytest.approx(BOX)
    assert parse_box("100 100 500 500", size=SIZE) is None
    assert parse_box("64, 48, 320, 240 pixels", size=SIZE) == BOX
    assert parse_box("In the centre, in a picture of size 640 x 480, at [64, 48, 320, 240]", size=SIZE) == BOX


@pytest.mark.parametrize(
    "text",
    [
        "[x, y, w, h] = [10, 20, 100, 200]",
        "x, y, width, height: [10, 20, 100, 200]",
        "The box is at (10, 20) with size (100, 200)",
        "center (10, 20), size (100, 50)",
        "[y1, x1, y2, x2] = [20, 10, 220, 110]",
        "I see 3, 4, 5, 6 people",
        "",
        "It is in the upper left corner.",
        "[1, 2, 3]",
        "1, 2, 3, 4, 5",
        "[64, 48, 320, 240] or [10, 10, 20, 20]",
        "[320, 240, 64, 48]",
        "[64, 48, 64, 240]",
        "[64, 48, nan, 240]",
        "version 1.2.3.4",
        "It costs 3, or 4, and 5 of 6",
    ],
)
def test_no_box_several_boxes_and_numbers_that_do_not_span_one_are_none(text):
    assert parse_box(text, size=SIZE) is None


@given(text=st.text(alphabet="0123456789.,[]() x1y2-", max_size=60))
def test_any_text_is_read_as_a_box_with_an_area_or_none(text):
    box = parse_box(text, size=SIZE)
    assert box is None or (box[0] < box[2] and box[1] < box[3])


def test_an_unknown_unit_is_refused():
    with pytest.raises(InputError, match="unknown convention of boxes 'percent'"):
        parse_box("[1, 2, 3, 4]", size=SIZE, convention="percent")


# made from a corner and a size, never filtered: most quadruples of integers are not a box with an area
corners_and_sizes = st.tuples(*[st.integers(0, 8)] * 2, *[st.integers(1, 6)] * 2)
boxes = corners_and_sizes.map(lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3]))


def counted(one, other) -> float:
    """The slow way: pixel by pixel."""
    inside = [{(x, y) for x in range(int(b[0]), int(b[2])) for y in range(int(b[1]), int(b[3]))} for b in (one, other)]
    return len(inside[0] & inside[1]) / len(inside[0] | inside[1])


@given(one=boxes, other=boxes)
@settings(max_examples=60)
def test_the_overlap_is_that_of_counted_pixels_and_the_same_both_ways_round(one, other):
    one, other = tuple(map(float, one)), tuple(map(float, other))
    assert overlap(one, other) == overlap(other, one) == pytest.approx(counted(one, other))
    assert overlap(one, one) == 1.0


def grounding(box=BOX) -> Item:
    metadata = {"box": list(box), "image_size": list(SIZE)}
    return Item("visual_grounding/1", "visual_grounding", "Where is the dog?", metadata=metadata)


def test_the_scorer_gives_the_overlap_nan_without_a_box_and_what_follows_counts_that_as_wrong():
    from mechmsc.scorers import get_scorer

    iou = get_scorer("iou")
    texts = ["[64, 48, 320, 240]", "[64, 48, 320, 144]", "[64, 48, 320, 143]", "I see no dog.", "[400, 300, 500, 400]"]
    scores = iou([grounding()] * 5, texts)
    assert scores[:3] == pytest.approx([1.0, 0.5, 95 / 192]) and math.isnan(scores[3]) and scores[4] == 0.0
    derived = {one.name: [one.of(score) for score in scores] for one in iou.derived}
    assert derived == {"box_accuracy": [1, 1, 0, 0, 0], "no_box": [0, 0, 0, 1, 0]}
    assert get_scorer("iou_thousandths")([grounding()], ["[100, 100, 500, 500]"]) == pytest.approx([1.0])
    thin = grounding((64.0, 48.0, 320.0, 96.0))
    assert get_scorer("iou_thousandths")([thin], ["[100, 100, 500, 200]"]) == pytest.approx([1.0])
    assert iou([thin], ["[100, 100, 500, 200]"])[0] == 0.0  # fits in the picture, so these are pixels


def test_the_scorer_refuses_items_without_a_box():
    from mechmsc.scorers import get_scorer

    with pytest.raises(InputError, match=r"t/1 needs metadata\[\"box\"\]"):
        get_scorer("iou")([Item("t/1", "t", "Where?")], ["[1, 2, 3, 4]"])
