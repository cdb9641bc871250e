"""Visual grounding: where in the picture is it? The answer is a bounding box.

Objects of COCO (Lin et al. 2014, arXiv:1405.0312), and referring expressions in the record that VLM-R1 (Shen et al.
2025, arXiv:2504.07615) made of RefCOCO's.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mechmsc.tasks.boxes import Box
from mechmsc.tasks.images import find_image
from mechmsc.tasks.reading import Row, read_json
from mechmsc.tasks.records import Item, Task

FORMATS = (
    "COCO JSON (instances, keypoints or panoptic: images, annotations, categories)",
    "referring expressions JSON (a list of image, height, width, normal_caption, solution)",
)
REFERRING = ("image", "height", "width", "normal_caption", "solution")


def read(path: Path) -> Iterator[Item]:
    """Items of a COCO file or of a file of referring expressions.

    COCO: an item for each object that is the only one of its category in its picture, so that the question has one
    answer; crowds, boxes without width or height and what is no thing (sky, grass) give none. Referring expressions: an
    item for each that has a box (those of nothing in the picture have none). `metadata` has `box` (x1, y1, x2, y2 in
    pixels) and `image_size`.

    Raises:
        InputError: neither format, or a box that is none or reaches out of its picture; names the record.
    """
    expected = " or ".join(FORMATS)
    whole = read_json(path, expected=expected)
    if "records" in whole.values:
        yield from _referring(whole, expected)
        return
    whole.require(("images", "annotations", "categories"), expected=expected)
    yield from _coco(whole)


def _referring(whole: Row, expected: str) -> Iterator[Item]:
    for row in whole.rows("records"):
        row.require(REFERRING, expected=f"{expected} ({row.parent.rstrip('.')})")
        if row.values["solution"] is None:
            continue
        what, size = row.text("normal_caption").strip().rstrip("."), (row.integer("width"), row.integer("height"))
        box = _checked(row, "solution", tuple(row.numbers("solution", 4)), size)
        identity = str(row.values.get("annotation_id") or row.id)
        yield _item(row, f"{identity}-{row.id}", f"Where in the picture is this: {what}?", box, size, {"what": what})


def _coco(whole: Row) -> Iterator[Item]:
    names = {row.integer("id"): row for row in whole.rows("categories")}
    images = {row.integer("id"): row for row in whole.rows("images")}
    objects: dict[int, list[tuple[Row, str]]] = {}
    for row in _annotations(whole):
        image, category = row.integer("image_id"), row.integer("category_id")
        for key, value, known in (("image_id", image, images), ("category_id", category, names)):
            if value not in known:
                raise row.wrong(f"'{row.parent}{key}' is {value}, which the file does not describe")
        if names[category].values.get("isthing", 1):
            objects.setdefault(image, []).append((row, names[category].text("name").strip()))
    for image, found in objects.items():
        count = Counter(name for _, name in found)
        for row, name in found:
            if count[name] == 1 and not row.values.get("iscrowd") and min(row.numbers("bbox", 4)[2:]) > 0:
                yield _object(row, images[image], name)


def _annotations(whole: Row) -> Iterator[Row]:
    """One row an object; those of a panoptic file hang under their picture."""
    for row in whole.rows("annotations"):
        if "segments_info" not in row.values:
            yield row
            continue
        for part in row.rows("segments_info"):
            values = {**part.values, "image_id": row.values.get("image_id")}
            yield Row(values, part.path, part.line, part.number, part.parent)


def _object(row: Row, image: Row, name: str) -> Item:
    size = image.integer("width"), image.integer("height")
    x, y, width, height = row.numbers("bbox", 4)
    box = _checked(row, "bbox", (x, y, x + width, y + height), size)
    place = Row({**row.values, "image": image.text("file_name")}, row.path, row.line, row.number, row.parent)
    identity = f"{row.integer('image_id')}-{row.integer('id')}"
    return _item(place, identity, f"Where in the picture is the {name}?", box, size, {"what": name})


def _item(row: Row, identity: str, question: str, box: Box, size: tuple[int, int], more: Mapping[str, Any]) -> Item:
    width, height = size
    name = row.text("image").strip()
    return Item(
        item_id=f"{TASK.name}/{identity}",
        task=TASK.name,
        question=(
            f"{question}\nAnswer with its bounding box [x1, y1, x2, y2] in pixels. "
            f"The picture is {width} pixels wide and {height} pixels high."
        ),
        image=find_image(list(dict.fromkeys([name, Path(name).name])), row.path),
        metadata={"record": row.parent.rstrip("."), "box": list(box), "image_size": [width, height], **more},
    )


def _checked(row: Row, key: str, box: Box, size: tuple[int, int]) -> Box:
    """A box inside its picture; one pixel beyond is a matter of rounding, and cut off."""
    x1, y1, x2, y2 = box
    width, height = size
    if not (x1 < x2 and y1 < y2):
        raise row.wrong(f"'{row.parent}{key}' must be a box of some width and height, got {list(box)} (x1, y1, x2, y2)")
    if min(x1, y1) < -1 or x2 > width + 1 or y2 > height + 1:
        raise row.wrong(
            f"'{row.parent}{key}' is the box {list(box)} (x1, y1, x2, y2), which reaches out of its picture of "
            f"{width} x {height} pixels"
        )
    return max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height))


TASK = Task(
    name="visual_grounding",
    title="Visual grounding",
    concept=None,
    formats=FORMATS,
    read=read,
    data="visual_grounding/instances.json",
    scorer="iou",
)
