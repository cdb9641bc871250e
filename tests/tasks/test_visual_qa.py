"""Questions about pictures: three published formats, pairs, and our own pictures."""

import json
from collections import Counter

import pytest
from draw_images import PAIRS, grounding_pictures, instances, qa_pictures, questions
from PIL import Image, ImageChops

from mechmsc.errors import InputError
from mechmsc.tasks import DATA, TASKS, load_items

HEADER = "Index,Question,Options,Correct Answer\n"


@pytest.fixture
def mmvp(tmp_path):
    """A function: rows -> an MMVP folder with a picture for each index."""

    def make(rows: str, *, pictures=(1, 2), ending="jpg"):
        (tmp_path / "MMVP Images").mkdir(exist_ok=True)
        for index in pictures:
            Image.new("RGB", (30 + index, 20), "white").save(tmp_path / "MMVP Images" / f"{index}.{ending}")
        path = tmp_path / "Questions.csv"
        path.write_text(HEADER + rows, encoding="utf-8")
        return path

    return make


ROW = '{},"Is the door open, or closed?",(a) Open (b) Closed,({})\n'
TWO = ROW.format(1, "a") + ROW.format(2, "b")


def complaint(path) -> str:
    with pytest.raises(InputError) as caught:
        load_items("visual_qa", path=path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("ending", ["jpg", "png"])
def test_mmvp_is_read_with_options_answer_pair_and_the_picture_of_its_index(mmvp, ending):
    one, two = load_items("visual_qa", path=mmvp(TWO, ending=ending))
    assert one.turn() == "Is the door open, or closed?\n(a) Open\n(b) Closed" and (one.gold, two.gold) == (0, 1)
    assert one.metadata["pair"] == two.metadata["pair"] == "1"
    assert one.image.endswith(f"MMVP Images/1.{ending}") and two.image.endswith(f"2.{ending}")
    assert one.metadata["image_size"] == [31, 20] and two.metadata["image_size"] == [32, 20]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("0,Q?,(a) Open (b) Closed,(a)\n", "'Index' must be a whole number from 1, got '0'"),
        ("x,Q?,(a) Open (b) Closed,(a)\n", "got 'x'"),
        ("1,Q?,Open or closed,(a)\n", "'Options' must be two or more as in"),
        ("1,Q?,(a) Open,(a)\n", "'Options' must be two or more"),
        ("1,Q?,(a) Open (c) Closed,(a)\n", "'Options' must be two or more"),
        ("1,Q?,(a) Open (b) Closed,(c)\n", "'Correct Answer' must be one of (a) to (b), got '(c)'"),
        ("1,Q?,(a) Open (b) Closed,Open\n", "got 'Open'"),
    ],
)
def test_a_wrong_row_is_refused_in_its_line(mmvp, row, said):
    path = mmvp(row)
    assert complaint(path).startswith(f"{path}:2: ") and said in complaint(path)


def test_letters_of_options_may_be_capitals(mmvp):
    (item,) = load_items("visual_qa", path=mmvp("1,Is it open?,(A) Open (B) Closed,(A)\n"))
    assert item.options == ("Open", "Closed") and item.gold == 0


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_sixteen_bits_of_grey_become_eight_and_grey_without_a_white_is_refused(tmp_path, ending):
    import numpy as np

    from mechmsc.tasks.images import open_image

    ramp = np.linspace(0, 65535, 200 * 10).reshape(10, 200)
    path = tmp_path / f"ramp.{ending}"
    Image.fromarray(ramp.astype(np.uint16)).save(path)
    seen = np.asarray(open_image(path))[:, :, 0]
    np.testing.assert_array_equal(seen, ramp.astype(np.uint16) // 257)
    Image.fromarray((ramp / 65535).astype(np.float32)).save(tmp_path / "float.tif")
    with pytest.raises(InputError, match="32 bits of grey, whose white is not defined"):
        open_image(tmp_path / "float.tif")


def test_a_missing_or_broken_picture_is_refused_with_file_and_item_before_anything_runs(mmvp, tmp_path):
    path = mmvp(TWO, pictures=(1,))
    message = complaint(path)
    assert message.startswith("visual_qa/2: no such picture: ") and f"{tmp_path}/2.jpg" in message
    (tmp_path / "2.jpg").write_bytes(b"not a picture")
    assert complaint(path).startswith(f"visual_qa/2: {tmp_path}/2.jpg cannot be read as a picture")
    whole = (tmp_path / "MMVP Images" / "1.jpg").read_bytes()
    (tmp_path / "2.jpg").write_bytes(whole[: len(whole) * 2 // 3])  # the header is there, the end is not
    assert "cannot be read as a picture" in complaint(path)
    (tmp_path / "2.jpg").write_bytes(whole)
    assert len(load_items("visual_qa", path=path)) == 2


def test_pope_and_vsr_are_read_whole(shared_data):
    vqa = shared_data / "vqa"
    pope = list(TASKS["visual_qa"].read(vqa / "pope" / "coco_pope_random.json"))
    assert len(pope) == len({item.item_id for item in pope}) == 600
    assert Counter(item.options[item.gold] for item in pope) == {"Yes": 300, "No": 300}
    assert pope[0].question == "Is there a snowboard in the image?" and "000000310196.jpg" in pope[0].image
    vsr = list(TASKS["visual_qa"].read(vqa / "vsr" / "zeroshot" / "dev.jsonl"))
    assert len(vsr) == 340 and {item.gold for item in vsr} == {0, 1}
    assert vsr[0].gold == 0 and vsr[0].question.endswith("The dog is on the surfboard.")  # label 1: it is true
    assert all("pair" not in item.metadata for item in pope + vsr)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"label": "maybe"}, "'label' must be yes or no, got 'maybe'"),
        ({"question_id": "1"}, "'question_id' must be a whole number"),
        ({"text": None}, "'text' must be text"),
    ],
)
def test_a_wrong_record_is_refused_in_its_line(tmp_path, change, said):
    good = {"question_id": 1, "image": "a.jpg", "text": "Is there a dog?", "label": "yes"}
    path = tmp_path / "pope.json"
    path.write_text("\n".join([json.dumps(good), json.dumps(good | {"question_id": 2} | change)]), encoding="utf-8")
    message = complaint(path)
    assert message.startswith(f"{path}:2: ") and said in message


def test_a_vsr_label_other_than_true_or_false_is_refused(tmp_path):
    path = tmp_path / "vsr.jsonl"
    path.write_text(json.dumps({"image": "a.jpg", "caption": "It is.", "label": 2, "relation": "on"}), encoding="utf-8")
    assert "'label' must be 1 (the caption is true) or 0, got 2" in complaint(path)


def test_our_pairs_ask_one_question_of_two_pictures_and_the_answers_differ():
    items = load_items("visual_qa")
    pairs = [items[i : i + 2] for i in range(0, len(items), 2)]
    assert len(pairs) == len(PAIRS) == 24
    for one, two in pairs:
        assert one.turn() == two.turn() and one.metadata["pair"] == two.metadata["pair"]
        assert {one.gold, two.gold} == {0, 1} and one.image != two.image
    assert {one.gold for one, _ in pairs} == {0, 1}


def test_our_pictures_and_files_are_those_that_the_script_draws():
    for folder, pictures in (("visual_qa", qa_pictures()), ("visual_grounding", grounding_pictures())):
        stored = sorted(path.name for path in (DATA / folder / "images").iterdir())
        assert stored == sorted(pictures)
        for name, picture in pictures.items():
            with Image.open(DATA / folder / "images" / name) as file:
                difference = ImageChops.difference(file.convert("RGB"), picture.convert("RGB")).convert("L")
            assert sum(difference.histogram()[8:]) < 0.01 * picture.width * picture.height, name  # edges may round
    lines = (DATA / "visual_qa" / "Questions.csv").read_text(encoding="utf-8").splitlines()
    assert len(lines) == len(questions()) and lines[1].split(",")[0] == "1"
    stored = json.loads((DATA / "visual_grounding" / "instances.json").read_text(encoding="utf-8"))
    assert stored == instances()
