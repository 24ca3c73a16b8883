"""Image folders and CSV lists as data sets, whose names have their path and their options.

birds/train/owl/1.png    birds/test/owl/7.png      the usual layout, in any format that Pillow reads
birds/owl/1.png                                    without a split, every fifth image of a class is a test image
birds.csv                                          rows path,label or path,label,split

A folder without options is decoded at once, and its hashes are those of its pixels. With options, and for a list,
images are decoded when they are used (see `ImageFiles`), and the hashes are those of the files.
"""

import multiprocessing
import os
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from common.command import cached_for_command
from common.errors import InputError
from common.hashing import array_sha256, json_sha256
from common.imports import LONGEST_NAME
from data.catalog import DATA_DIR, DatasetInfo
from data.file_sums import FileSum, file_sums, workers
from data.folder_options import MIN_SIDE, FolderOptions, name_to_path, path_to_name
from data.image_files import CACHE_FOLDER, ImageFiles
from data.listing import Listing, find_images
from data.lists import is_list
from data.pixels import Picture, decode_picture, pillow_warnings, read_picture, remark_notes

TARGET_PREFIX, NAME_PREFIX = "folder:", "folder-"
DATA_VARIABLE = "WHITEBOX_DATA_DIR"  # tells processes that are started later where the sums of files are
Labels = npt.NDArray[np.unsignedinteger]


def folder_name(target: str, data_dir: Path, options: FolderOptions | None = None) -> str:
    """Return the name of the data set `folder:PATH` in files and tables, which has the path and the options.

    Args:
        target: `folder:PATH`, a folder or a CSV list, relative to the working folder or else to `data_dir`.

    Raises:
        InputError: there is no such folder or file, or its path is too long.
    """
    options, text = options or FolderOptions(), target.removeprefix(TARGET_PREFIX)
    path = _find(text, data_dir)
    if path is None or not (path.is_dir() or is_list(path)):
        what = "list" if is_list(Path(text)) else "folder"
        raise InputError(f"--target={target}: there is no {what} {text!r}, neither here nor in {data_dir}")
    if options.classes_file is not None:
        classes_file = _find(os.fspath(options.classes_file), data_dir)
        if classes_file is None or classes_file.is_dir():
            raise InputError(
                f"--classes-file={options.classes_file}: there is no such file, neither here nor in {data_dir}"
            )
        options = replace(options, classes_file=_shorten(classes_file))
    name = NAME_PREFIX + path_to_name(_shorten(path)) + options.suffix
    if len(name) > LONGEST_NAME:
        mend = "run from a nearer folder, or link to it"
        raise InputError(f"--target={TARGET_PREFIX}{path} is too long for the names of files: {mend}")
    if is_lazy(name):
        os.environ[DATA_VARIABLE] = str(data_dir.absolute())
    return name


def _find(text: str, data_dir: Path) -> Path | None:
    return next((path for path in (Path(text).expanduser(), data_dir / text) if text and path.exists()), None)


def _shorten(path: Path) -> Path:
    """Return a path relative to the working folder if it is below it, else absolute."""
    path = path.absolute()
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def parse_folder_name(name: str) -> tuple[Path, FolderOptions]:
    """Invert `folder_name`."""
    path, _, suffix = name.removeprefix(NAME_PREFIX).partition("@")
    return Path(name_to_path(path)), FolderOptions.parse(suffix)


def is_folder(name: str) -> bool:
    return name.startswith(NAME_PREFIX)


def is_lazy(name: str) -> bool:
    """Return whether the images of a data set are decoded when they are used: a folder with options, or a list."""
    return is_folder(name) and ("@" in name or is_list(parse_folder_name(name)[0]))


@cached_for_command
def folder_info(name: str) -> DatasetInfo:
    """Return shapes, classes and hashes of the images in a folder.

    Raises:
        InputError: it is no image folder, or has images of several sizes.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    sha256: dict[str, str] = {}
    if is_lazy(name):
        listing, options, parts = _listing(name), parse_folder_name(name)[1], folder_files(name)
        for part, (files, labels) in parts.items():
            rows = [(listing.classes[k], file.name) for k, file in zip(labels, files.files, strict=True)]
            contents = [(*row, sha) for row, sha in zip(rows, files.sums.tolist(), strict=True)]
            plain = [options.plain, files.shape, listing.classes, contents]
            height, width, channels = files.shape_of_image
            shapes[f"{part}_images"] = (len(files), height, width, *([] if channels == 1 else [channels]))
            sha256[f"{part}_images"] = json_sha256(plain)
            shapes[f"{part}_labels"], sha256[f"{part}_labels"] = labels.shape, array_sha256(labels)
    else:
        for part, array in folder_arrays(name).items():
            shapes[part], sha256[part] = array.shape, array_sha256(array)
    classes = tuple(
        name.encode(errors="backslashreplace").decode() for name in _listing(name).classes
    )  # may not be text
    return DatasetInfo(name=name, shapes=shapes, sha256=sha256, classes=classes)


@cached_for_command
def _listing(name: str) -> Listing:
    path, options = parse_folder_name(name)
    classes_file = None if options.classes_file is None else Path(options.classes_file)
    return find_images(path, options.split == "test", classes_file)


@cached_for_command
def folder_files(name: str) -> dict[str, tuple[ImageFiles, Labels]]:
    """Return the files and the labels of "train" and of "test"; print notes, in the main process only.

    Raises:
        InputError: see `folder_info`.
    """
    (path, options), listing = parse_folder_name(name), _listing(name)
    files = {part: listing.files(part) for part in listing.parts}
    cache_folder = Path(os.environ.get(DATA_VARIABLE, DATA_DIR)) / CACHE_FOLDER
    sums = file_sums([*files["train"], *files["test"]], path, cache_folder)
    channels = 1 if all(sum_.is_grey for sum_ in sums) and not options.rgb else 3
    size = options.size or read_picture((files["train"] or files["test"])[0]).values.shape[:2]
    if min(size) < MIN_SIDE:
        raise InputError(f"{path} has images of {size[1]}×{size[0]} pixels: give --image-size={MIN_SIDE} or more")
    shape = (*size, channels)
    by_part = {"train": sums[: len(files["train"])], "test": sums[len(files["train"]) :]}
    parts = {
        part: (_image_files(files[part], by_part[part], shape, options, cache_folder), listing.labels(part))
        for part in files
    }
    train = dict(zip([sum_.sha256 for sum_ in by_part["train"]], files["train"], strict=True))
    duplicates = [
        (file, train[s.sha256]) for file, s in zip(files["test"], by_part["test"], strict=True) if s.sha256 in train
    ]
    _print_notes(path, [*listing.notes, *_duplicate_notes(duplicates, len(files["test"]))])
    return parts


def _image_files(
    files: list[Path], sums: list[FileSum], shape: tuple[int, int, int], options: FolderOptions, cache_folder: Path
) -> ImageFiles:
    paths = np.empty(len(files), object)
    paths[:] = files
    return ImageFiles(paths, np.array([sum_.sha256 for sum_ in sums], "U64"), shape, options, cache_folder)


@cached_for_command
def folder_arrays(name: str) -> dict[str, npt.NDArray[np.unsignedinteger]]:
    """Return the four arrays of a folder without options: images (N, H, W) or (N, H, W, 3), and labels (N,).

    Notes on unexpected contents are printed, in the main process only.

    Raises:
        InputError: see `folder_info`.
    """
    path, listing = parse_folder_name(name)[0], _listing(name)
    with workers() as pool, pillow_warnings():
        pictures = {part: list(pool.map(decode_picture, listing.files(part))) for part in listing.parts}
    _require_one_size(path, pictures)
    pictures, range_notes = _scale_to_uint8(path, pictures)
    is_grey = all(picture.values.ndim == 2 for images in pictures.values() for picture in images)
    arrays: dict[str, npt.NDArray[np.unsignedinteger]] = {}
    for part in listing.parts:
        images = [picture.values for picture in pictures[part]]
        arrays[f"{part}_images"] = np.stack(
            [image if is_grey or image.ndim == 3 else np.repeat(image[..., None], 3, 2) for image in images]
        )
        arrays[f"{part}_labels"] = listing.labels(part)
    _print_notes(path, [*listing.notes, *range_notes, *_content_notes(pictures, arrays)])
    return arrays


def _print_notes(path: Path, notes: list[str]) -> None:
    if multiprocessing.parent_process() is None:
        for note in notes:
            print(f"data: {path}: {note}", flush=True)


def _require_one_size(path: Path, pictures: dict[str, list[Picture]]) -> None:
    size = pictures["train"][0].values.shape[:2]
    for picture in (*pictures["train"], *pictures["test"]):
        height, width = picture.values.shape[:2]
        if (height, width) != size:
            sizes = f"{width}×{height} pixels, others {size[1]}×{size[0]}"
            raise InputError(f"{picture.path} has {sizes}: bring all to one size, or give --image-size")
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


def _content_notes(
    pictures: dict[str, list[Picture]], arrays: dict[str, npt.NDArray[np.unsignedinteger]]
) -> Iterator[str]:
    """Yield notes on unusual contents, and on test images that are training images too."""
    train, test = (list(zip(pictures[part], arrays[f"{part}_images"], strict=True)) for part in ("train", "test"))
    paths: defaultdict[str, list[Path]] = defaultdict(list)
    for picture, image in (*train, *test):
        for remark in (*picture.remarks, *(["one colour in all pixels"] if (image == image[0, 0]).all() else [])):
            paths[remark].append(picture.path)
    yield from remark_notes(paths, len(train) + len(test))
    train_paths = {array_sha256(image): picture.path for picture, image in train}
    hashes = [(picture.path, array_sha256(image)) for picture, image in test]
    duplicates = [(path, train_paths[sha256]) for path, sha256 in hashes if sha256 in train_paths]
    yield from _duplicate_notes(duplicates, len(test))


def _duplicate_notes(duplicates: list[tuple[Path, Path]], total: int) -> Iterator[str]:
    if duplicates:
        path, original = duplicates[0]
        yield f"{len(duplicates):,} of {total:,} test images are training images too, such as {path} ({original})"
