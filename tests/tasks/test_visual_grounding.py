"""Where is it? Objects of COCO and referring expressions, their boxes and pictures."""

import json

import pytest
from PIL import Image

from mechmsc.errors import InputError
from mechmsc.tasks import TASKS, load_items

EXPRESSION = {
    "image": "val2017/1.jpg",
    "height": 20,
    "width": 30,
    "normal_caption": "the dog",
    "solution": [1, 2, 9, 8],
}


@pytest.fixture
def coco(tmp_path):
    """A function: annotations -> a COCO file, its pictures in val2017 beside the folder of the file."""

    def make(annotations, *, size=(30, 20), **changes):
        for folder in ("annotations", "val2017"):
            (tmp_path / folder).mkdir(exist_ok=True)
        Image.new("RGB", size, "white").save(tmp_path / "val2017" / "1.jpg")
        whole = {
            "images": [{"id": 1, "file_name": "1.jpg", "width": 30, "height": 20}],
            "annotations": [{"id": i, "image_id": 1, "iscrowd": 0} | one for i, one in enumerate(annotations)],
            "categories": [{"id": 1, "name": "dog"}, {"id": 2, "name": "cat"}, {"id": 3, "name": "sky", "isthing": 0}],
        }
        path = tmp_path / "annotations" / "instances.json"
        path.write_text(json.dumps(whole | changes), encoding="utf-8")
        return path

    return make


def dog(*box, category=1, **more) -> dict:
    return {"category_id": category, "bbox": list(box), **more}


def complaint(path) -> str:
    with pytest.raises(InputError) as caught:
        load_items("visual_grounding", path=path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_an_object_becomes_a_question_with_its_corners_and_its_picture(coco):
    (item,) = load_items("visual_grounding", path=coco([dog(3, 4, 10, 5.5)]))
    assert item.question.startswith("Where in the picture is the dog?\n") and "30 pixels wide and 20" in item.question
    assert item.metadata["box"] == [3, 4, 13, 9.5] and item.metadata["image_size"] == [30, 20]
    assert item.image.endswith("val2017/1.jpg") and item.options == ()


def test_only_what_is_the_one_of_its_name_is_asked_for(coco):
    two = [dog(1, 1, 5, 5), dog(10, 1, 5, 5)]
    cat, crowd, sky = dog(1, 8, 5, 5, category=2), dog(0, 0, 9, 9, category=2, iscrowd=1), dog(0, 0, 9, 9, category=3)
    assert [item.metadata["what"] for item in load_items("visual_grounding", path=coco([*two, cat, sky]))] == ["cat"]
    assert "holds no items" in complaint(coco([*two, crowd, sky]))
    assert "holds no items" in complaint(coco([cat, crowd]))  # the crowd holds other cats
    assert "holds no items" in complaint(coco([dog(3, 4, 0, 5)]))  # published files have such


def test_a_turned_picture_is_refused_where_the_frame_of_its_box_cannot_be_told(coco):
    def turned(orientation, size):
        path = coco([dog(1, 2, 9, 8)], images=[{"id": 1, "file_name": "1.jpg", "width": 30, "height": 20}])
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.new("RGB", size, "white").save(path.parents[1] / "val2017" / "1.jpg", exif=exif)
        return path

    assert "EXIF tag says (orientation 3), and whether its box was drawn before or after" in complaint(
        turned(3, (30, 20))
    )
    assert "(orientation 6): save picture and boxes in one frame" in complaint(turned(6, (30, 20)))
    (item,) = load_items("visual_grounding", path=turned(6, (20, 30)))  # the box is for the picture as it is looked at
    assert item.metadata["image_size"] == [30, 20]
    assert load_items("visual_grounding", path=turned(1, (30, 20)))


@pytest.mark.parametrize(
    ("annotation", "said"),
    [
        (dog(3, 4, 40, 5), "which reaches out of its picture of 30 x 20 pixels"),
        (dog(-9, 4, 10, 5), "'annotations[0].bbox' is the box [-9.0, 4.0, 1.0, 9.0]"),
        (dog(3, 4, 5), "'annotations[0].bbox' must be 4 numbers, got [3, 4, 5]"),
        (dog(3, 4, 5, "6"), "must be 4 numbers"),
        (dog(1, 1, 2, 2, category=9), "'annotations[0].category_id' is 9, which the file does not describe"),
        (dog(1, 1, 2, 2, image_id=7), "'annotations[0].image_id' is 7"),
    ],
)
def test_a_wrong_object_is_refused_with_its_place_in_the_file(coco, annotation, said):
    path = coco([annotation])
    assert complaint(path).startswith(f"{path}: ") and said in complaint(path)


def test_a_box_one_pixel_beyond_the_edge_is_cut(coco):
    (item,) = load_items("visual_grounding", path=coco([dog(20, 10, 10.6, 10)]))
    assert item.metadata["box"] == [20, 10, 30, 20]


def test_a_picture_of_another_size_than_its_annotation_is_refused(coco):
    message = complaint(coco([dog(3, 4, 10, 5)], size=(300, 200)))
    assert message.startswith("visual_grounding/1-0: its annotation is for a picture of 30 x 20 pixels, but ")
    assert "has 300 x 200" in message


def test_files_that_are_no_annotations_are_refused(tmp_path):
    path = tmp_path / "x.json"
    for text, said in (("{", ":1:2: not JSON"), ("3", "got 3"), ('{"images": []}', "missing annotations, categories")):
        path.write_text(text, encoding="utf-8")
        assert complaint(path).startswith(str(path)) and said in complaint(path)
    path.write_text(json.dumps([EXPRESSION, 7]), encoding="utf-8")
    assert "'records[1]' must be an object, got 7" in complaint(path)


def test_expressions_without_a_box_are_left_out_and_a_repeated_id_names_both_records(coco, tmp_path):
    coco([dog(3, 4, 10, 5)])
    path = tmp_path / "annotations" / "referring.json"
    path.write_text(json.dumps([EXPRESSION, EXPRESSION | {"solution": None}]), encoding="utf-8")
    (item,) = load_items("visual_grounding", path=path)
    assert item.metadata["box"] == [1, 2, 9, 8] and "Where in the picture is this: the dog?" in item.question
    whole = coco([dog(1, 1, 2, 2, id=5), dog(1, 1, 2, 2, id=5, category=2)])
    assert "item id 'visual_grounding/1-5' occurs already in annotations[0]" in complaint(whole)


def test_published_coco_files_are_read_with_their_pictures(shared_data):
    coco = shared_data / "grounding" / "coco" / "annotations"
    panoptic = load_items("visual_grounding", path=coco / "panoptic_val2017.json")
    assert len(panoptic) == 24 and len({item.image for item in panoptic}) > 5
    assert not {"sky-other-merged", "grass-merged"} & {item.metadata["what"] for item in panoptic}
    (person,) = load_items("visual_grounding", path=coco / "person_keypoints_785.json")
    assert person.metadata["box"] == pytest.approx([280.79, 44.73, 499.49, 391.41])


def test_published_expressions_are_read_and_those_with_a_picture_load(shared_data):
    path = shared_data / "grounding" / "referring" / "refcocos_test.json"
    items = list(TASKS["visual_grounding"].read(path))
    records = json.loads(path.read_text(encoding="utf-8"))
    assert len(items) == sum(record["solution"] is not None for record in records) == 125
    here = [item for item in items if "/coco/val2017/" in item.image]
    assert len(here) == 4
    by_place = {int(item.metadata["record"][8:-1]): item for item in items}
    for place, item in by_place.items():  # the published thousandths are another way to the same box
        size = item.metadata["image_size"] * 2
        scaled = [
            number * side / 1000 for number, side in zip(records[place]["normalized_solution"], size, strict=True)
        ]
        assert item.metadata["box"] == pytest.approx(scaled, abs=1.5), item.item_id
