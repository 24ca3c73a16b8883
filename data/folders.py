"""Image folders: a folder for each class, below `train` and `test` or directly.

birds/train/owl/1.png    birds/test/owl/7.png      the usual layout, in any format that Pillow reads
birds/owl/1.png                                    without a split, every fifth image of a class is a test image

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
from common.hashing import array_sha256
from common.imports import LONGEST_NAME
from data.catalog import DatasetInfo
from data.formats import Pixels
from data.pixels import Picture, extensions, read_picture

TARGET_PREFIX, NAME_PREFIX = "folder:", "folder-"
TEST_EVERY = 5
MIN_SIDE = 8  # pixels: SimpleCNN halves three times
MAX_CLASSES = 256
TRAINING, TEST, VALIDATION = ("train", "training"), ("test", "testing"), ("val", "valid", "validation")  # in any case
SYSTEM = {
    *("__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "$recycle.bin", "recycler", "system volume information"),
    *("@eadir", "@recycle", "#recycle", "#snapshot", "lost+found", "temporary items", "network trash folder"),
    "__pycache__",
}  # files and folders of operating systems and programs, in small letters
ClassFiles = dict[str, list[Path]]
"""Class -> its images, both sorted by name."""


def folder_name(target: str, data_dir: Path) -> str:
    """Return the name of the data set `folder:PATH` in files and tables, which encodes the path.

    Args:
        target: `folder:PATH`, relative to the working folder or else to `data_dir`.

    Raises:
        InputError: there is no such folder, or its path is too long.
    """
    text = target.removeprefix(TARGET_PREFIX)
    path = next((path for path in (Path(text), data_dir / text) if text and path.is_dir()), None)
    if path is None:
        raise InputError(f"--target={target}: there is no folder {text!r}, neither here nor in {data_dir}")
    short = path.absolute()
    if short.is_relative_to(Path.cwd()):
        short = short.relative_to(Path.cwd())
    name = NAME_PREFIX + quote(os.fsencode(short)).replace("/", "+")
    if len(name) > LONGEST_NAME:
        mend = "run from a nearer folder, or link to it"
        raise InputError(f"--target={TARGET_PREFIX}{path} is too long for the names of files: {mend}")
    return name


def is_folder(name: str) -> bool:
    return name.startswith(NAME_PREFIX)


@cache
def folder_info(name: str) -> DatasetInfo:
    """Return shapes, classes and hashes of the images in a folder.

    Raises:
        InputError: it is no image folder, or has images of several sizes.
    """
    classes, arrays = _read(name)
    return DatasetInfo(
        name=name,
        shapes={part: array.shape for part, array in arrays.items()},
        sha256={part: array_sha256(array) for part, array in arrays.items()},
        classes=tuple(name.encode(errors="backslashreplace").decode() for name in classes),  # may not be text
    )


def folder_arrays(name: str) -> dict[str, Pixels]:
    """Return the four arrays of the data set: images (N, H, W) or (N, H, W, 3), and labels (N,).

    Raises:
        InputError: see `folder_info`.
    """
    return _read(name)[1]


@cache
def _read(name: str) -> tuple[tuple[str, ...], dict[str, Pixels]]:
    """Return the names of the classes and the arrays; print notes on unexpected contents, in the main process only."""
    path = Path(os.fsdecode(unquote_to_bytes(name.removeprefix(NAME_PREFIX).replace("+", "/"))))
    parts, notes = _find_parts(path)
    pictures = {
        part: [read_picture(file) for files in classes.values() for file in files] for part, classes in parts.items()
    }
    _require_one_size(path, pictures)
    pictures, range_notes = _scale_to_uint8(path, pictures)
    is_grey = all(picture.values.ndim == 2 for images in pictures.values() for picture in images)
    arrays = {}
    for part, classes in parts.items():
        images = [picture.values for picture in pictures[part]]
        arrays[f"{part}_images"] = np.stack(
            [image if is_grey or image.ndim == 3 else np.repeat(image[..., None], 3, 2) for image in images]
        )
        counts = [len(files) for files in classes.values()]
        arrays[f"{part}_labels"] = np.repeat(np.arange(len(classes)), counts).astype(np.uint8)
    if multiprocessing.parent_process() is None:
        for note in (*notes, *range_notes, *_content_notes(pictures, arrays)):
            print(f"data: {path}: {note}", flush=True)
    return tuple(parts["train"]), arrays


def _find_parts(path: Path) -> tuple[dict[str, ClassFiles], list[str]]:
    """Return the files of "train" and of "test", and notes on the interpretation of the layout."""
    folders, skipped = _folders(path), Counter[str]()
    train, test, validation = (
        [name for name in folders if name.lower() in names] for names in (TRAINING, TEST, VALIDATION)
    )
    notes, others = [], [name for name in folders if name not in {*train, *test, *validation}]
    if others or not folders:
        parts = _split_classes(_class_files(path, skipped))
        inner = [_folders(path / name) for name in folders]
        if train and (test or validation):
            names = ", ".join([*train, *test, *validation])
            notes += [f"{names} are taken for classes, since there are other folders beside them ({others[0]})"]
        elif len(inner) > 1 and len(inner[0]) > 1 and all(names == inner[0] for names in inner):
            notes += [  # as in `training_set`, `dev`
                f"{', '.join(folders)} are taken for classes; if they are parts with the same classes "
                f"({', '.join(inner[0])}), call them {TRAINING[0]} and {TEST[0]}"
            ]
    else:
        for title, usual, matches in (("training", TRAINING, train), ("test", TEST, test or validation)):
            if not matches:
                raise InputError(
                    f"{path} has {', '.join(folders)}, but no {title} images: call their folder {usual[0]}"
                )
            if len(matches) > 1:
                raise InputError(f"{path} has several folders of {title} images ({', '.join(matches)}): leave one")
        (train_folder,), (test_folder,) = train, test or validation
        parts = {
            "train": _class_files(path / train_folder, skipped),
            "test": _class_files(path / test_folder, skipped),
        }
        if list(parts["train"]) != list(parts["test"]):
            different = ", ".join(sorted(set(parts["train"]) ^ set(parts["test"])))
            raise InputError(f"{path}/{train_folder} and {path}/{test_folder} have other classes: {different}")
        if not test:
            notes += [f"{test_folder} is taken for the test images"]
        elif validation:
            notes += [f"{test_folder} has the test images, {', '.join(validation)} is not used"]
    if skipped:
        counts = ", ".join(f"{kind} ({count})" for kind, count in skipped.most_common())
        notes += [f"left out, since Pillow reads no images from them: {counts}"]
    return parts, notes


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name.lower() in SYSTEM


def _folders(folder: Path) -> list[str]:
    """Return the names of the folders in `folder`, sorted, without hidden ones."""
    try:
        return sorted(path.name for path in folder.iterdir() if path.is_dir() and not _is_hidden(path.name))
    except OSError as error:
        raise InputError(f"{folder} can't be read: {error.strerror}") from error


def _class_files(folder: Path, skipped: "Counter[str]") -> ClassFiles:
    """Return the images of each class; count other files in `skipped` by extension."""
    classes = _folders(folder)
    if not classes:
        raise InputError(f"{folder} has no folders, one for each class")
    if not 2 <= len(classes) <= MAX_CLASSES:
        is_nested = len(classes) == 1 and _folders(folder / classes[0])
        hint = f"; perhaps {folder / classes[0]} is meant" if is_nested else ""
        raise InputError(f"{folder} has {len(classes)} folders of classes: 2 to {MAX_CLASSES} are possible{hint}")
    images: ClassFiles = {}
    for name in classes:
        files = list(_walk(folder / name))
        images[name] = sorted(file for file in files if file.suffix.lower() in extensions())
        others = Counter(
            "links to folders" if file.is_dir() else file.suffix.lower() or "without extension"
            for file in files
            if file.suffix.lower() not in extensions()
        )
        if not images[name]:
            instead = f", but {', '.join(others)}" if others else ""
            raise InputError(f"{folder} has no image of class {name} that Pillow reads{instead}")
        skipped.update(others)
    return images


def _walk(folder: Path) -> Iterator[Path]:
    """Yield all files at any depth without hidden ones, and links to folders without following them."""

    def refuse(error: OSError) -> None:
        raise InputError(f"{error.filename} can't be read: {error.strerror}") from error

    for place, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not _is_hidden(name)]
        links = [name for name in folders if Path(place, name).is_symlink()]
        yield from (Path(place, name) for name in [*files, *links] if not _is_hidden(name))


def _split_classes(classes: ClassFiles) -> dict[str, ClassFiles]:
    """Take every fifth image of a class as a test image, at least one."""
    test = {name: files[TEST_EVERY - 1 :: TEST_EVERY] or files[-1:] for name, files in classes.items()}
    train = {name: [file for file in files if file not in set(test[name])] for name, files in classes.items()}
    empty = [name for name, files in train.items() if not files]
    if empty:
        raise InputError(f"class {', '.join(empty)} has one image: none is left to train on")
    return {"train": train, "test": test}


def _require_one_size(path: Path, pictures: dict[str, list[Picture]]) -> None:
    size = pictures["train"][0].values.shape[:2]
    for picture in (*pictures["train"], *pictures["test"]):
        height, width = picture.values.shape[:2]
        if (height, width) != size:
            sizes = f"{width}×{height} pixels, others {size[1]}×{size[0]}"
            raise InputError(f"{picture.path} has {sizes}: bring all to one size")
    if min(size) < MIN_SIDE:
        raise InputError(f"{path} has images of {size[1]}×{size[0]} pixels: {MIN_SIDE} or more are needed each way")


def _scale_to_uint8(path: Path, pictures: dict[str, list[Picture]]) -> tuple[dict[str, list[Picture]], list[str]]:
    """Scale floats and large integers so that the range of the training images goes from black to white.

    Hashes are of the scaled images, so that another range makes another data set.
    """
    if not any(picture.needs_range for images in pictures.values() for picture in images):
        return pictures, []
    raw = [picture.values for picture in pictures["train"] if picture.needs_range]
    if not raw:
        raise InputError(f"{path} has floats or large integers in test images only: bring all images to one type")
    low, high = float(min(map(np.min, raw))), float(max(map(np.max, raw)))
    scaled = {part: [picture.scale(low, high) for picture in images] for part, images in pictures.items()}
    notes = [f"floats and large integers: {low:g} is black and {high:g} is white (the training images' range)"]
    if others := len(pictures["train"]) - len(raw):
        notes += [f"{others:,} training images of 8 or 16 bits are not of that range: their levels differ"]
    return scaled, notes


def _content_notes(pictures: dict[str, list[Picture]], arrays: dict[str, Pixels]) -> Iterator[str]:
    """Yield notes on unusual contents, and on test images that are training images too."""
    train, test = (list(zip(pictures[part], arrays[f"{part}_images"], strict=True)) for part in ("train", "test"))
    both = [*train, *test]
    for description, paths in (
        ("transparent pixels, shown on white", [picture.path for picture, _ in both if picture.is_transparent]),
        ("several pictures, of which the first is used", [picture.path for picture, _ in both if picture.has_more]),
        ("one colour in all pixels", [picture.path for picture, image in both if (image == image[0, 0]).all()]),
    ):
        if paths:
            yield f"{len(paths):,} of {len(both):,} images have {description}, such as {paths[0]}"
    train_paths = {array_sha256(image): picture.path for picture, image in train}
    hashes = [(picture.path, array_sha256(image)) for picture, image in test]
    duplicates = [(path, train_paths[sha256]) for path, sha256 in hashes if sha256 in train_paths]
    if duplicates:
        path, original = duplicates[0]
        yield f"{len(duplicates):,} of {len(test):,} test images are training images too, such as {path} ({original})"
