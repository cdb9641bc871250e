"""Pictures of items: where they are, whether they can be read, how large they are. Pillow alone, at first use."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from mechmsc.errors import InputError
from mechmsc.tasks.records import Item

if TYPE_CHECKING:
    import PIL.Image

FOLDERS = ("", "images", "MMVP Images", "val2017", "train2017", "val2014", "train2014")
FOLDERS = (*FOLDERS, *(f"coco/{name}" for name in FOLDERS))
"""Where pictures are looked for: in these folders beside the file that names them, and in the two folders above."""


def find_image(names: Sequence[str], beside: Path) -> str:
    """The path of a picture that a file names.

    Args:
        names: how it may be called, e.g. "7.jpg", "7.png", "val2017/000000000785.jpg".
        beside: the file that names it.

    Returns:
        The absolute path of the first that exists; where none does, that of the first name beside the file, which
        `check_images` then refuses.
    """
    here = beside.resolve().parent
    places = [(above, folder) for above in (here, *here.parents[:2]) for folder in FOLDERS]
    for above, folder in places:
        if not folder or _is_folder(above / folder):
            for name in names:
                if (above / folder / name).is_file():
                    return str(above / folder / name)
    return str(here / names[0])


@lru_cache(maxsize=256)
def _is_folder(path: Path) -> bool:
    return path.is_dir()


def open_image(path: str | Path) -> "PIL.Image.Image":
    """The picture as it is looked at: RGB, turned as its camera says, on white where it is transparent.

    Of an animation the first frame; 16 bits of grey become 8.

    Raises:
        InputError: there is no such file, it cannot be read as a picture to its end, or its grey has no white.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as file:
            image = _of_eight_bits(ImageOps.exif_transpose(file))
            if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
                image = image.convert("RGBA")
                image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
            return image.convert("RGB")
    except FileNotFoundError:
        raise InputError(f"no such picture: {path}") from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        reason = " ".join(str(error).split())[:120]
        raise InputError(f"{path} cannot be read as a picture ({reason})") from None


def _of_eight_bits(image: "PIL.Image.Image") -> "PIL.Image.Image":
    """Pillow cuts longer numbers off at 255 instead of scaling them."""
    import numpy
    from PIL import Image

    if image.mode.startswith("I;16"):
        return Image.fromarray((numpy.asarray(image).astype(numpy.uint32) // 257).astype(numpy.uint8))
    if image.mode in ("I", "F"):
        raise ValueError("32 bits of grey, whose white is not defined: save it with 8 or 16")
    return image


def check_images(items: Iterable[Item]) -> list[Item]:
    """The items, those with a picture with `metadata["image_size"]`, width and height in pixels.

    Raises:
        InputError: a picture that is missing or broken, or whose size is not the one that its annotations are for;
            names the item and the file.
    """
    return [item if item.image is None else _checked(item) for item in items]


def _checked(item: Item) -> Item:
    try:
        size = image_facts(item.image)[0]
    except InputError as error:
        raise InputError(f"{item.item_id}: {error}; pictures are looked for beside the file of the items") from None
    stated = item.metadata.get("image_size")
    if "box" in item.metadata or (stated is not None and tuple(stated) != size):
        _check_frame(item, size)
    return replace(item, metadata={**item.metadata, "image_size": list(size)})


def _check_frame(item: Item, size: tuple[int, int]) -> None:
    """Refuse an annotation that is not, or may not be, for the picture as it is looked at."""
    from PIL import Image

    with Image.open(item.image) as file:  # its header; EXIF: 1 as stored, 2 to 4 the same sides, 5 to 8 exchanged ones
        turn = int(file.getexif().get(0x0112, 1))
    stated = item.metadata.get("image_size")
    if stated is not None and tuple(stated) != size:
        why = "is it another picture of the same name?"
        if turn > 1:
            why = f"it is turned as its EXIF tag says (orientation {turn}): save picture and boxes in one frame"
        raise InputError(
            f"{item.item_id}: its annotation is for a picture of {stated[0]} x {stated[1]} pixels, but {item.image} "
            f"has {size[0]} x {size[1]}; {why}"
        )
    if "box" in item.metadata and turn > 1 and (turn < 5 or size[0] == size[1]):
        raise InputError(
            f"{item.item_id}: {item.image} is turned as its EXIF tag says (orientation {turn}), and whether its box "
            "was drawn before or after cannot be told; save it as it is looked at, without the tag"
        )


def image_facts(path: str | Path) -> tuple[tuple[int, int], str]:
    """((width, height) in pixels, SHA-256 of the file) of a picture that can be read; each file is read once.

    Raises:
        InputError: see `open_image`.
    """
    try:
        stamp = Path(path).stat()
    except (OSError, ValueError):
        raise InputError(f"no such picture: {path}") from None
    return _facts(str(path), stamp.st_mtime_ns, stamp.st_size)


@lru_cache(maxsize=65_536)
def _facts(path: str, changed: int, size: int) -> tuple[tuple[int, int], str]:  # noqa: ARG001 - another file is read anew
    return open_image(path).size, sha256(Path(path).read_bytes()).hexdigest()
