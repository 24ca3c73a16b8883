"""Image folders of one's own: a folder for each class, below `train` and `test` or directly.

birds/train/owl/1.png    birds/test/owl/7.png      the usual layout, in any format that Pillow reads
birds/owl/1.png                                    without a split: every fifth image of a class is for testing
"""

import os
from functools import cache
from pathlib import Path
from urllib.parse import quote, unquote_to_bytes

import numpy as np

from datasets.catalog import Entry
from datasets.formats import Pixels
from errors import InputError
from storage import array_sum

ASKED, FILED = "folder:", "folder-"
TEST_EVERY = 5
SMALLEST = 8  # pixels: SimpleCNN halves three times
GREY = {"1", "L"}
LONGEST_NAME = 120  # letters: file names end at 255
SPLITS = ("train", "test")
MOST_CLASSES = 256


def folder_name(asked: str, data_dir: Path) -> str:
    """The name of the data set `folder:PATH`, for files and tables, from which the path can be read.

    Args:
        asked: the path is looked for here, and then below `data_dir`.

    Raises:
        InputError: there is no such folder.
    """
    given = asked.removeprefix(ASKED)
    for path in (Path(given), data_dir / given):
        if given and path.is_dir():
            return _filed(path)
    raise InputError(f"--target={asked}: there is no folder {given!r}, neither here nor in {data_dir}")


def _filed(path: Path) -> str:
    near = path.absolute()
    if near.is_relative_to(Path.cwd()):
        near = near.relative_to(Path.cwd())
    name = FILED + quote(os.fsencode(near)).replace("/", "+")
    if len(name) > LONGEST_NAME:
        raise InputError(f"--target={ASKED}{path} is too long for the names of files: go nearer, or link to it")
    return name


def _path(name: str) -> Path:
    return Path(os.fsdecode(unquote_to_bytes(name.removeprefix(FILED).replace("+", "/"))))


def is_folder(name: str) -> bool:
    return name.startswith(FILED)


@cache
def folder_entry(name: str) -> Entry:
    """What is found in the folder: shapes, classes and sums.

    Raises:
        InputError: not an image folder, or images of several sizes.
    """
    classes, arrays = _read(_path(name))
    return Entry(
        name=name,
        torchvision_name="",
        shapes={part: array.shape for part, array in arrays.items()},
        sums={part: array_sum(array) for part, array in arrays.items()},
        classes=tuple(name.encode(errors="backslashreplace").decode() for name in classes),  # a file's may be no text
        folder="",
        files=(),
        package="",
    )


def folder_arrays(name: str) -> dict[str, Pixels]:
    """The four arrays of the data set: images (N, H, W) or (N, H, W, 3), and labels (N,).

    Raises:
        InputError: see `folder_entry`.
    """
    return _read(_path(name))[1]


@cache
def _read(path: Path) -> tuple[tuple[str, ...], dict[str, Pixels]]:
    """The names of the classes, and the arrays."""
    divided = (path / "train").is_dir() and (path / "test").is_dir()
    found = {part: _files(path / part) for part in SPLITS} if divided else _divided(_files(path))
    classes = tuple(found["train"])
    if tuple(found["test"]) != classes:
        raise InputError(f"{path}/train and {path}/test have other classes")
    images = {part: [_image(file) for of_class in files.values() for file in of_class] for part, files in found.items()}
    _require_one_size(path, found, images)
    grey = all(image.ndim == 2 for of_split in images.values() for image in of_split)
    arrays = {}
    for part, files in found.items():
        coloured = [image if grey or image.ndim == 3 else np.repeat(image[..., None], 3, 2) for image in images[part]]
        arrays[f"{part}_images"] = np.stack(coloured)
        counts = [len(of_class) for of_class in files.values()]
        arrays[f"{part}_labels"] = np.repeat(np.arange(len(classes)), counts).astype(np.uint8)
    return classes, arrays


def _files(folder: Path) -> dict[str, list[Path]]:
    """Class -> its images, both in the order of their names."""
    from torchvision.datasets.folder import find_classes, is_image_file  # here, since it costs the import of torch

    try:
        classes, _numbers = find_classes(str(folder))
    except FileNotFoundError as error:
        raise InputError(f"{folder} has no folders, one for each class") from error
    if not 2 <= len(classes) <= MOST_CLASSES:
        raise InputError(f"{folder} has {len(classes)} folders of classes: 2 to {MOST_CLASSES} are possible")
    found = {name: sorted(one for one in (folder / name).rglob("*") if is_image_file(one.name)) for name in classes}
    empty = [name for name, files in found.items() if not files]
    if empty:
        raise InputError(f"{folder} has no image of class {', '.join(empty)}")
    return found


def _divided(found: dict[str, list[Path]]) -> dict[str, dict[str, list[Path]]]:
    """Every fifth image of a class, and at least one, for testing."""
    test = {name: files[TEST_EVERY - 1 :: TEST_EVERY] or files[-1:] for name, files in found.items()}
    train = {name: [file for file in files if file not in set(test[name])] for name, files in found.items()}
    alone = [name for name, files in train.items() if not files]
    if alone:
        raise InputError(f"class {', '.join(alone)} has one image: none is left to train on")
    return {"train": train, "test": test}


def _image(path: Path) -> Pixels:
    """(H, W) of a grey image, (H, W, 3) of any other."""
    from PIL import Image

    try:
        with Image.open(path) as picture:
            return np.asarray(picture.convert("L" if picture.mode in GREY else "RGB"))
    except OSError as error:
        raise InputError(f"{path} can't be read as an image: {error}") from error


def _require_one_size(path: Path, found: dict[str, dict[str, list[Path]]], images: dict[str, list[Pixels]]) -> None:
    size = images["train"][0].shape[:2]
    for part, files in found.items():
        for file, image in zip((one for of_class in files.values() for one in of_class), images[part], strict=True):
            if image.shape[:2] != size:
                sizes = f"{image.shape[1]}×{image.shape[0]} pixels, others {size[1]}×{size[0]}"
                raise InputError(f"{file} has {sizes}: bring all to one size")
    if min(size) < SMALLEST:
        raise InputError(f"{path} has images of {size[1]}×{size[0]} pixels: {SMALLEST} or more are needed each way")
