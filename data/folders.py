"""Image folders of one's own: a folder for each class, below `train` and `test` or directly.

birds/train/owl/1.png    birds/test/owl/7.png      the usual layout, in any format that Pillow reads
birds/owl/1.png                                    without a split: every fifth image of a class is for testing

Hidden and system files and folders are skipped.
"""

import multiprocessing
import os
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from urllib.parse import quote, unquote_to_bytes

import numpy as np

from common.errors import InputError
from common.files import array_sha256
from data.catalog import DatasetInfo
from data.formats import Pixels
from data.pixels import Picture, extensions, read_picture

TARGET_PREFIX, NAME_PREFIX = "folder:", "folder-"
TEST_EVERY = 5
SMALLEST = 8  # pixels: SimpleCNN halves three times
LONGEST_NAME = 120  # letters: file names end at 255
MOST_CLASSES = 256
TRAINING, TEST, VALIDATION = ("train", "training"), ("test", "testing"), ("val", "valid", "validation")  # in any case
SYSTEM = {
    *("__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "$recycle.bin", "recycler", "system volume information"),
    *("@eadir", "@recycle", "#recycle", "#snapshot", "lost+found", "temporary items", "network trash folder"),
    "__pycache__",
}  # names that systems and programs leave behind, in small letters
Files = dict[str, list[Path]]
"""Class -> its images, both in the order of their names."""


def folder_name(asked: str, data_dir: Path) -> str:
    """The name of the data set `folder:PATH`, for files and tables, from which the path can be read.

    Args:
        asked: the path is looked for here, and then below `data_dir`.

    Raises:
        InputError: there is no such folder.
    """
    given = asked.removeprefix(TARGET_PREFIX)
    for path in (Path(given), data_dir / given):
        if given and path.is_dir():
            return _filed(path)
    raise InputError(f"--target={asked}: there is no folder {given!r}, neither here nor in {data_dir}")


def _filed(path: Path) -> str:
    near = path.absolute()
    if near.is_relative_to(Path.cwd()):
        near = near.relative_to(Path.cwd())
    name = NAME_PREFIX + quote(os.fsencode(near)).replace("/", "+")
    if len(name) > LONGEST_NAME:
        raise InputError(f"--target={TARGET_PREFIX}{path} is too long for the names of files: go nearer, or link to it")
    return name


def _folder_path(name: str) -> Path:
    return Path(os.fsdecode(unquote_to_bytes(name.removeprefix(NAME_PREFIX).replace("+", "/"))))


def is_folder(name: str) -> bool:
    return name.startswith(NAME_PREFIX)


@cache
def folder_info(name: str) -> DatasetInfo:
    """What is found in the folder: shapes, classes and sums.

    Raises:
        InputError: not an image folder, or images of several sizes.
    """
    classes, arrays = _read(_folder_path(name))
    return DatasetInfo(
        name=name,
        torchvision_name="",
        shapes={part: array.shape for part, array in arrays.items()},
        sha256={part: array_sha256(array) for part, array in arrays.items()},
        classes=tuple(name.encode(errors="backslashreplace").decode() for name in classes),  # a file's may be no text
        folder="",
        files=(),
        package="",
    )


def folder_arrays(name: str) -> dict[str, Pixels]:
    """The four arrays of the data set: images (N, H, W) or (N, H, W, 3), and labels (N,).

    Raises:
        InputError: see `folder_info`.
    """
    return _read(_folder_path(name))[1]


@cache
def _read(path: Path) -> tuple[tuple[str, ...], dict[str, Pixels]]:
    """The names of the classes, and the arrays. Print once, in the main process, what a user may not expect of them."""
    files, notes = _find(path)
    classes = tuple(files["train"])
    pictures = {
        part: [read_picture(file) for of_class in found.values() for file in of_class] for part, found in files.items()
    }
    _require_one_size(path, pictures)
    pictures, range_notes = _in_one_range(path, pictures)
    grey = all(picture.values.ndim == 2 for of_part in pictures.values() for picture in of_part)
    arrays = {}
    for part, found in files.items():
        images = [picture.values for picture in pictures[part]]
        arrays[f"{part}_images"] = np.stack(
            [image if grey or image.ndim == 3 else np.repeat(image[..., None], 3, 2) for image in images]
        )
        counts = [len(of_class) for of_class in found.values()]
        arrays[f"{part}_labels"] = np.repeat(np.arange(len(classes)), counts).astype(np.uint8)
    notes += [*range_notes, *_oddities(pictures, arrays)]
    if multiprocessing.parent_process() is None:
        for note in notes:
            print(f"data: {path}: {note}", flush=True)
    return classes, arrays


def _find(path: Path) -> tuple[dict[str, Files], list[str]]:
    """The images of "train" and of "test", and what is to be said of how they were found."""
    folders, others = _folders(path), Counter[str]()
    train, test, validation = (
        [name for name in folders if name.lower() in names] for names in (TRAINING, TEST, VALIDATION)
    )
    notes, further = [], [name for name in folders if name not in {*train, *test, *validation}]
    if further or not folders:
        found = _divided(_files(path, others))
        if train and (test or validation):
            named = ", ".join([*train, *test, *validation])
            notes += [f"{named} are taken for classes, since there are other folders beside them ({further[0]})"]
        elif _is_like_split(path, folders):
            notes += [
                f"{', '.join(folders)} are taken for classes; if they are parts with the same classes "
                f"({', '.join(_folders(path / folders[0]))}), call them {TRAINING[0]} and {TEST[0]}"
            ]
    else:
        parts = train, test or validation
        for asked, names, so_named in zip(("training", "test"), (TRAINING, TEST + VALIDATION), parts, strict=True):
            if not so_named:
                raise InputError(
                    f"{path} has {', '.join(folders)}, but no {asked} images: call their folder {names[0]}"
                )
            if len(so_named) > 1:
                raise InputError(f"{path} has several folders of {asked} images ({', '.join(so_named)}): leave one")
        (of_training,), (of_test,) = parts
        found = {"train": _files(path / of_training, others), "test": _files(path / of_test, others)}
        if list(found["train"]) != list(found["test"]):
            only = sorted(set(found["train"]) ^ set(found["test"]))
            raise InputError(f"{path}/{of_training} and {path}/{of_test} have other classes: {', '.join(only)}")
        if not test:
            notes += [f"{of_test} is taken for the test images"]
        elif validation:
            notes += [f"{of_test} has the test images, {', '.join(validation)} is not used"]
    if others:
        listed = ", ".join(f"{kind} ({count})" for kind, count in others.most_common())
        notes += [f"left out, since Pillow reads no images from them: {listed}"]
    return found, notes


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name.lower() in SYSTEM


def _folders(folder: Path) -> list[str]:
    """Names of the folders in `folder`, sorted, without hidden ones."""
    try:
        return sorted(one.name for one in folder.iterdir() if one.is_dir() and not _is_hidden(one.name))
    except OSError as error:
        raise InputError(f"{folder} can't be read: {error.strerror}") from error


def _is_like_split(folder: Path, names: list[str]) -> bool:
    """Whether all have the same two or more folders in them, as parts of other names do: `training_set`, `dev`."""
    inner = [_folders(folder / name) for name in names]
    return len(inner) > 1 and len(inner[0]) > 1 and all(one == inner[0] for one in inner)


def _files(folder: Path, others: "Counter[str]") -> Files:
    """The images of each class.

    Args:
        others: counts the files that are no images, by extension.
    """
    classes = _folders(folder)
    if not classes:
        raise InputError(f"{folder} has no folders, one for each class")
    if not 2 <= len(classes) <= MOST_CLASSES:
        nested = (
            f"; perhaps {folder / classes[0]} is meant" if len(classes) == 1 and _folders(folder / classes[0]) else ""
        )
        raise InputError(f"{folder} has {len(classes)} folders of classes: 2 to {MOST_CLASSES} are possible{nested}")
    found: Files = {}
    for name in classes:
        files = list(_walk(folder / name))
        found[name] = sorted(file for file in files if file.suffix.lower() in extensions())
        no_images = Counter(_kind(file) for file in files if file.suffix.lower() not in extensions())
        if not found[name]:
            instead = f", but {', '.join(no_images)}" if no_images else ""
            raise InputError(f"{folder} has no image of class {name} that Pillow reads{instead}")
        others.update(no_images)
    return found


def _walk(folder: Path) -> Iterator[Path]:
    """All files at any depth, without hidden ones. Links to folders are given as they are, and not followed."""

    def refuse(error: OSError) -> None:
        raise InputError(f"{error.filename} can't be read: {error.strerror}") from error

    for place, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not _is_hidden(name)]
        links = [name for name in folders if Path(place, name).is_symlink()]
        yield from (Path(place, name) for name in [*files, *links] if not _is_hidden(name))


def _kind(file: Path) -> str:
    if file.is_dir():
        return "links to folders"
    return file.suffix.lower() or "without extension"


def _divided(found: Files) -> dict[str, Files]:
    """Every fifth image of a class, and at least one, for testing."""
    test = {name: files[TEST_EVERY - 1 :: TEST_EVERY] or files[-1:] for name, files in found.items()}
    train = {name: [file for file in files if file not in set(test[name])] for name, files in found.items()}
    alone = [name for name, files in train.items() if not files]
    if alone:
        raise InputError(f"class {', '.join(alone)} has one image: none is left to train on")
    return {"train": train, "test": test}


def _require_one_size(path: Path, pictures: dict[str, list[Picture]]) -> None:
    size = pictures["train"][0].values.shape[:2]
    for picture in (one for of_part in pictures.values() for one in of_part):
        height, width = picture.values.shape[:2]
        if (height, width) != size:
            sizes = f"{width}×{height} pixels, others {size[1]}×{size[0]}"
            raise InputError(f"{picture.path} has {sizes}: bring all to one size")
    if min(size) < SMALLEST:
        raise InputError(f"{path} has images of {size[1]}×{size[0]} pixels: {SMALLEST} or more are needed each way")


def _in_one_range(path: Path, pictures: dict[str, list[Picture]]) -> tuple[dict[str, list[Picture]], list[str]]:
    """All as uint8: of floats and the like, the least value of the training images is black and the largest is white.

    The arrays, and so their sums, are those of scaled images: with another range it is another data set.
    """
    if not any(picture.measured for of_part in pictures.values() for picture in of_part):
        return pictures, []
    measured = [picture.values for picture in pictures["train"] if picture.measured]
    if not measured:
        raise InputError(f"{path} has floats or large integers in test images only: bring all images to one type")
    low, high = float(min(map(np.min, measured))), float(max(map(np.max, measured)))
    scaled = {part: [picture.of_range(low, high) for picture in of_part] for part, of_part in pictures.items()}
    notes = [f"floats and large integers: {low:g} is black and {high:g} is white (the training images' range)"]
    known = len(pictures["train"]) - len(measured)
    if known:
        notes += [
            f"{known:,} training images of 8 or 16 bits are not of that range: their levels differ from the others'"
        ]
    return scaled, notes


def _oddities(pictures: dict[str, list[Picture]], arrays: dict[str, Pixels]) -> Iterator[str]:
    """What is to be said of the contents of the images."""
    both = {part: list(zip(of_part, arrays[f"{part}_images"], strict=True)) for part, of_part in pictures.items()}
    every = [*both["train"], *both["test"]]
    for what, such in (
        ("transparent pixels, shown on white", [picture.path for picture, _image in every if picture.transparent]),
        (
            "several pictures, of which the first is used",
            [picture.path for picture, _image in every if picture.several],
        ),
        ("one colour in all pixels", [picture.path for picture, image in every if (image == image[0, 0]).all()]),
    ):
        if such:
            yield f"{len(such):,} of {len(every):,} images have {what}, such as {such[0]}"
    trained = {array_sha256(image): picture.path for picture, image in both["train"]}
    known = [(picture.path, array_sha256(image)) for picture, image in both["test"] if array_sha256(image) in trained]
    if known:
        total, (test, key) = len(both["test"]), known[0]
        yield f"{len(known):,} of {total:,} test images are training images too, such as {test} ({trained[key]})"
