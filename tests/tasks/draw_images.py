"""Draws the pictures of our own visual items and writes the files beside them: python tests/tasks/draw_images.py.

Coloured shapes on a pale ground. Pictures of a pair in visual_qa differ in what the question is about and in nothing
else. In visual_grounding every object is the only one of its name in its picture.
"""

import csv
import json
import math
from collections.abc import Iterator
from pathlib import Path

from PIL import Image, ImageDraw

DATA = Path(__file__).resolve().parents[2] / "mechmsc" / "tasks" / "data"
SIZE, WIDE = (224, 224), (320, 240)
COLOURS = {
    "red": (214, 39, 40),
    "blue": (31, 87, 180),
    "green": (44, 140, 44),
    "yellow": (245, 200, 40),
    "purple": (130, 60, 170),
    "orange": (240, 130, 20),
    "black": (30, 30, 30),
    "grey": (150, 150, 150),
}
GROUND = (250, 248, 240)
Shape = tuple[str, str, int, int, int, int]
"""Colour, kind, and the box that it fills: left, top, width, height in pixels."""


def draw(shapes: list[Shape], size: tuple[int, int] = SIZE) -> Image.Image:
    """A picture with a palette, which keeps the file small."""
    image = Image.new("RGB", size, GROUND)
    pen = ImageDraw.Draw(image)
    for colour, kind, x, y, w, h in shapes:
        fill, box = COLOURS[colour], (x, y, x + w - 1, y + h - 1)
        if kind == "circle":
            pen.ellipse(box, fill=fill)
        elif kind == "ring":
            pen.ellipse(box, outline=fill, width=8)
        elif kind == "frame":
            pen.rectangle(box, outline=fill, width=8)
        elif kind in ("square", "bar", "line"):
            pen.rectangle(box, fill=fill)
        elif kind == "cross":
            pen.rectangle((x + w // 3, y, x + 2 * w // 3 - 1, y + h - 1), fill=fill)
            pen.rectangle((x, y + h // 3, x + w - 1, y + 2 * h // 3 - 1), fill=fill)
        else:
            pen.polygon(list(corners(kind, *box)), fill=fill)
    return image.quantize(16)


def corners(kind: str, x1: int, y1: int, x2: int, y2: int) -> Iterator[tuple[int, int]]:
    """The corners of a triangle, diamond or star in its box."""
    middle, centre = (x1 + x2) // 2, (y1 + y2) // 2
    if kind == "triangle":
        yield from [(middle, y1), (x2, y2), (x1, y2)]
    elif kind == "triangle down":
        yield from [(x1, y1), (x2, y1), (middle, y2)]
    elif kind == "triangle left":
        yield from [(x1, centre), (x2, y1), (x2, y2)]
    elif kind == "triangle right":
        yield from [(x2, centre), (x1, y2), (x1, y1)]
    elif kind == "diamond":
        yield from [(middle, y1), (x2, centre), (middle, y2), (x1, centre)]
    elif kind == "star":
        points = [((1.0 if i % 2 == 0 else 0.42), math.pi * (i / 5 - 0.5)) for i in range(10)]
        places = [(r * math.cos(a), r * math.sin(a)) for r, a in points]
        left, top = min(x for x, _ in places), min(y for _, y in places)
        wide, high = max(x for x, _ in places) - left, max(y for _, y in places) - top
        yield from [
            (round(x1 + (x - left) / wide * (x2 - x1)), round(y1 + (y - top) / high * (y2 - y1))) for x, y in places
        ]
    else:
        raise ValueError(kind)


def row(colour: str, kind: str, count: int, *, y: int = 90, side: int = 36) -> list[Shape]:
    """Shapes in a row."""
    step = 200 // count
    return [(colour, kind, 12 + i * step + (step - side) // 2, y, side, side) for i in range(count)]


RED_CIRCLE = ("red", "circle", 30, 80, 60, 60)
Pair = tuple[str, tuple[str, str], list[Shape], list[Shape]]
"""A question, its options, the picture of which the first is true, and that of which the second is."""
PAIRS: list[Pair] = [
    ("Is the red circle to the left or to the right of the blue square?", ("To the left", "To the right"),
     [RED_CIRCLE, ("blue", "square", 140, 80, 60, 60)],
     [("blue", "square", 30, 80, 60, 60), ("red", "circle", 140, 80, 60, 60)]),
    ("How many green circles are there?", ("Two", "Three"), row("green", "circle", 2), row("green", "circle", 3)),
    ("Does the orange triangle point up or down?", ("Up", "Down"),
     [("orange", "triangle", 62, 62, 100, 100)], [("orange", "triangle down", 62, 62, 100, 100)]),
    ("Is the yellow star inside or outside of the black ring?", ("Inside", "Outside"),
     [("black", "ring", 20, 50, 120, 120), ("yellow", "star", 55, 85, 50, 50)],
     [("black", "ring", 20, 50, 120, 120), ("yellow", "star", 160, 85, 50, 50)]),
    ("What colour is the square?", ("Purple", "Blue"),
     [("purple", "square", 62, 62, 100, 100)], [("blue", "square", 62, 62, 100, 100)]),
    ("Which is larger, the circle or the square?", ("The circle", "The square"),
     [("green", "circle", 15, 62, 100, 100), ("red", "square", 150, 92, 40, 40)],
     [("green", "circle", 45, 92, 40, 40), ("red", "square", 110, 62, 100, 100)]),
    ("Is the purple diamond above or below the line?", ("Above", "Below"),
     [("black", "line", 10, 110, 204, 6), ("purple", "diamond", 82, 30, 60, 60)],
     [("black", "line", 10, 110, 204, 6), ("purple", "diamond", 82, 136, 60, 60)]),
    ("Is there a yellow shape in the picture?", ("Yes", "No"),
     [("blue", "circle", 30, 30, 60, 60), ("red", "square", 130, 30, 60, 60), ("yellow", "cross", 80, 130, 60, 60)],
     [("blue", "circle", 30, 30, 60, 60), ("red", "square", 130, 30, 60, 60), ("green", "cross", 80, 130, 60, 60)]),
    ("Do the two circles have the same colour?", ("Yes", "No"),
     [("blue", "circle", 30, 80, 60, 60), ("blue", "circle", 134, 80, 60, 60)],
     [("blue", "circle", 30, 80, 60, 60), ("green", "circle", 134, 80, 60, 60)]),
    ("Are the two squares of the same size?", ("Yes", "No"),
     [("orange", "square", 24, 80, 64, 64), ("orange", "square", 136, 80, 64, 64)],
     [("orange", "square", 24, 80, 64, 64), ("orange", "square", 150, 94, 36, 36)]),
    ("Which way does the blue triangle point?", ("To the left", "To the right"),
     [("blue", "triangle left", 62, 62, 100, 100)], [("blue", "triangle right", 62, 62, 100, 100)]),
    ("Is the bar upright or lying down?", ("Upright", "Lying down"),
     [("green", "bar", 96, 30, 32, 164)], [("green", "bar", 30, 96, 164, 32)]),
    ("What shape is the red one?", ("A circle", "A square"),
     [("blue", "square", 30, 80, 60, 60), ("red", "circle", 134, 80, 60, 60)],
     [("blue", "circle", 30, 80, 60, 60), ("red", "square", 134, 80, 60, 60)]),
    ("Do the circle and the square touch?", ("Yes", "No"),
     [("purple", "circle", 40, 80, 70, 70), ("yellow", "square", 104, 80, 70, 70)],
     [("purple", "circle", 20, 80, 70, 70), ("yellow", "square", 134, 80, 70, 70)]),
    ("Is the black cross at the top or at the bottom of the picture?", ("At the top", "At the bottom"),
     [("black", "cross", 87, 8, 50, 50)], [("black", "cross", 87, 166, 50, 50)]),
    ("How many blue squares are there?", ("Four", "Five"),
     row("blue", "square", 4, side=30), row("blue", "square", 5, side=30)),
    ("Is the circle filled or empty?", ("Filled", "Empty"),
     [("red", "circle", 62, 62, 100, 100)], [("red", "ring", 62, 62, 100, 100)]),
    ("Which one covers the other?",
     ("The red square covers the green circle", "The green circle covers the red square"),
     [("green", "circle", 90, 70, 90, 90), ("red", "square", 40, 60, 80, 80)],
     [("red", "square", 40, 60, 80, 80), ("green", "circle", 90, 70, 90, 90)]),
    ("Are there more circles or more squares?", ("More circles", "More squares"),
     row("orange", "circle", 4, y=50, side=34) + row("purple", "square", 2, y=140, side=34),
     row("orange", "circle", 2, y=50, side=34) + row("purple", "square", 4, y=140, side=34)),
    ("What colour is the middle circle?", ("Green", "Grey"),
     [("red", "circle", 15, 85, 54, 54), ("green", "circle", 85, 85, 54, 54), ("red", "circle", 155, 85, 54, 54)],
     [("red", "circle", 15, 85, 54, 54), ("grey", "circle", 85, 85, 54, 54), ("red", "circle", 155, 85, 54, 54)]),
    ("Is the star in the left or in the right half of the picture?", ("In the left half", "In the right half"),
     [("orange", "star", 20, 77, 70, 70)], [("orange", "star", 134, 77, 70, 70)]),
    ("Which colour is at the top of the stack?", ("Yellow", "Blue"),
     [("yellow", "bar", 62, 40, 100, 46), ("red", "bar", 62, 88, 100, 46), ("blue", "bar", 62, 136, 100, 46)],
     [("blue", "bar", 62, 40, 100, 46), ("red", "bar", 62, 88, 100, 46), ("yellow", "bar", 62, 136, 100, 46)]),
    ("Is the frame complete, or is one side missing?", ("It is complete", "One side is missing"),
     [("black", "frame", 42, 42, 140, 140)],
     [("black", "bar", 42, 42, 8, 140), ("black", "bar", 42, 42, 140, 8), ("black", "bar", 42, 174, 140, 8)]),
    ("Is the purple circle between the two squares?", ("Yes", "No"),
     [("grey", "square", 14, 87, 50, 50), ("purple", "circle", 87, 87, 50, 50), ("grey", "square", 160, 87, 50, 50)],
     [("grey", "square", 14, 87, 50, 50), ("grey", "square", 87, 87, 50, 50), ("purple", "circle", 160, 87, 50, 50)]),
]  # fmt: skip

SCENES: list[list[Shape]] = [
    [("red", "circle", 20, 30, 70, 70), ("blue", "square", 180, 20, 60, 60),
     ("green", "triangle", 60, 140, 90, 80), ("yellow", "star", 220, 130, 80, 80)],
    [("blue", "circle", 200, 20, 90, 90), ("red", "square", 30, 40, 50, 50),
     ("orange", "diamond", 110, 120, 70, 100), ("black", "cross", 240, 150, 60, 60)],
    [("green", "circle", 130, 10, 60, 60), ("purple", "square", 20, 20, 90, 90),
     ("yellow", "triangle", 210, 60, 100, 90), ("red", "star", 40, 140, 80, 80)],
    [("yellow", "circle", 10, 150, 80, 80), ("green", "square", 120, 90, 80, 80),
     ("blue", "triangle", 230, 20, 70, 70), ("purple", "diamond", 30, 20, 60, 80)],
    [("purple", "circle", 230, 140, 80, 80), ("orange", "square", 20, 150, 70, 70),
     ("red", "triangle", 120, 20, 90, 80), ("grey", "ring", 130, 130, 70, 70)],
    [("orange", "circle", 20, 20, 50, 50), ("black", "square", 250, 20, 50, 50),
     ("purple", "star", 110, 70, 100, 100), ("green", "cross", 20, 170, 60, 60)],
    [("red", "ring", 40, 40, 110, 110), ("blue", "diamond", 200, 30, 60, 90),
     ("yellow", "square", 190, 160, 60, 60), ("black", "triangle", 20, 170, 70, 60)],
    [("green", "star", 10, 10, 90, 90), ("red", "cross", 220, 10, 80, 80),
     ("blue", "ring", 110, 100, 90, 90), ("orange", "triangle", 230, 150, 70, 70)],
    [("grey", "square", 130, 20, 60, 60), ("red", "diamond", 20, 60, 70, 110),
     ("green", "ring", 220, 100, 80, 80), ("blue", "star", 110, 140, 80, 80)],
    [("black", "circle", 140, 90, 60, 60), ("yellow", "diamond", 30, 20, 80, 80),
     ("purple", "triangle", 220, 20, 80, 70), ("orange", "star", 30, 140, 80, 80)],
    [("blue", "cross", 30, 30, 70, 70), ("green", "diamond", 230, 120, 70, 100),
     ("red", "bar", 130, 20, 150, 30), ("grey", "circle", 50, 150, 70, 70)],
    [("purple", "ring", 200, 110, 110, 110), ("yellow", "cross", 20, 20, 60, 60),
     ("blue", "bar", 30, 180, 140, 30), ("green", "triangle down", 120, 40, 80, 80)],
]  # fmt: skip


def questions() -> list[list[str]]:
    """Rows of Questions.csv; of every other pair the second picture comes first."""
    rows = [["Index", "Question", "Options", "Correct Answer"]]
    for number, (question, (a, b), _, _) in enumerate(PAIRS):
        for place in (0, 1):
            answer = "ab"[(place + number) % 2]
            rows.append([str(2 * number + place + 1), question, f"(a) {a} (b) {b}", f"({answer})"])
    return rows


def qa_pictures() -> dict[str, Image.Image]:
    """File name -> picture."""
    return {
        f"{2 * number + place + 1}.png": draw(PAIRS[number][2 + (place + number) % 2])
        for number in range(len(PAIRS))
        for place in (0, 1)
    }


def name_of(shape: Shape) -> str:
    return f"{shape[0]} {shape[1].split()[0]}"


def instances() -> dict:
    """What instances.json holds."""
    names = sorted({name_of(shape) for scene in SCENES for shape in scene})
    of = {name: place for place, name in enumerate(names, start=1)}
    shapes = [(image, shape) for image, scene in enumerate(SCENES, start=1) for shape in scene]
    return {
        "info": {"description": "Coloured shapes, drawn for mechmsc", "version": "1.0"},
        "images": [
            {"id": image, "file_name": f"{image}.png", "width": WIDE[0], "height": WIDE[1]}
            for image in range(1, len(SCENES) + 1)
        ],
        "annotations": [
            {
                "id": number,
                "image_id": image,
                "category_id": of[name_of(shape)],
                "bbox": list(shape[2:]),
                "area": shape[4] * shape[5],
                "iscrowd": 0,
            }
            for number, (image, shape) in enumerate(shapes, start=1)
        ],
        "categories": [{"id": place, "name": name} for name, place in of.items()],
    }


def grounding_pictures() -> dict[str, Image.Image]:
    """File name -> picture."""
    return {f"{image}.png": draw(scene, WIDE) for image, scene in enumerate(SCENES, start=1)}


def main() -> None:
    for folder, pictures in (("visual_qa", qa_pictures()), ("visual_grounding", grounding_pictures())):
        for name, picture in pictures.items():
            picture.save(DATA / folder / "images" / name, optimize=True)
    with open(DATA / "visual_qa" / "Questions.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows(questions())
    text = json.dumps(instances())
    text = text.replace("}, {", "},\n{").replace("[{", "[\n{").replace("}]", "}\n]")
    (DATA / "visual_grounding" / "instances.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
