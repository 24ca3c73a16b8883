"""The images of a folder by part and class: a folder for each class, below `train` and `test` or directly.

Hidden and system files and folders are skipped.
"""

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from common.errors import InputError
from data.lists import MAX_CLASSES, is_list, read_classes, read_list
from data.pixels import extensions

TEST_EVERY = 5
TRAINING, TEST, VALIDATION = ("train", "training"), ("test", "testing"), ("val", "valid", "validation")  # in any case
SYSTEM = {
    *("__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "$recycle.bin", "recycler", "system volume information"),
    *("@eadir", "@recycle", "#recycle", "#snapshot", "lost+found", "temporary items", "network trash folder"),
    "__pycache__",
}  # files and folders of operating systems and programs, in small letters
ClassFiles = dict[str, list[Path]]
"""Class -> its images, both sorted by name."""


@dataclass(frozen=True)
class Listing:
    """The images of a folder or of a CSV list.

    Attributes:
        classes: the names of the labels 0, 1, …
        parts: the files of "train" and of "test".
        notes: on the interpretation of the layout.
    """

    path: Path
    classes: tuple[str, ...]
    parts: dict[str, ClassFiles]
    notes: tuple[str, ...]

    def files(self, part: str) -> list[Path]:
        return [file for files in self.parts[part].values() for file in files]

    def labels(self, part: str) -> npt.NDArray[np.unsignedinteger]:
        """Return (N,) uint8, or uint16 where there are over 256 classes."""
        label = {name: k for k, name in enumerate(self.classes)}
        classes = self.parts[part]
        dtype = np.uint8 if len(self.classes) <= 256 else np.uint16
        return np.repeat([label[name] for name in classes], [len(files) for files in classes.values()]).astype(dtype)


def find_images(path: Path, test_only: bool = False, classes_file: Path | None = None) -> Listing:
    """Return the images of a folder or of a CSV list.

    Args:
        test_only: all images are test images; of a folder that is divided, those of its test part.
        classes_file: see `FolderOptions`.

    Raises:
        InputError: `path` is no image folder and no list, or has a class that `classes_file` lacks.
    """
    names = None if classes_file is None else read_classes(classes_file)
    if is_list(path):
        parts, notes = _divide_list(path, test_only)
        classes = _sort_labels({*parts["train"], *parts["test"]})
    else:
        parts, notes = _find_parts(path, test_only, is_free=names is not None)
        classes = list(parts["train"] or parts["test"])
        if names is None and all(map(str.isdecimal, classes)) and classes != sorted(classes, key=int):
            notes.append(
                f"the classes are in the order of letters ({', '.join(classes[:3])}, …): --classes-file sets another"
            )
    least = 1 if names else 2
    if not least <= len(classes) <= MAX_CLASSES:
        raise InputError(f"{path} has {len(classes)} classes: {least} to {MAX_CLASSES:,} are possible")
    if names is not None:
        known = set(names)
        if missing := sorted({*parts["train"], *parts["test"]} - known):
            more = f" and {len(missing) - 1:,} more" if len(missing) > 1 else ""
            raise InputError(f"{path} has class {missing[0]}{more}, which {classes_file} lacks: add or rename it")
    return Listing(path, tuple(classes if names is None else names), parts, tuple(notes))


def _find_parts(path: Path, test_only: bool, is_free: bool) -> tuple[dict[str, ClassFiles], list[str]]:
    """Return the files of "train" and of "test", and notes on the interpretation of the layout.

    Args:
        is_free: the parts may have other classes than each other, or a single class.
    """
    folders, skipped = _folders(path), Counter[str]()
    train, test, validation = (
        [name for name in folders if name.lower() in names] for names in (TRAINING, TEST, VALIDATION)
    )
    notes, others = [], [name for name in folders if name not in {*train, *test, *validation}]
    if others or not folders:
        classes = _class_files(path, skipped, is_free)
        parts = {"train": {}, "test": classes} if test_only else split_classes(classes)
        if train and (test or validation):
            names = ", ".join([*train, *test, *validation])
            notes += [f"{names} are taken for classes, since there are other folders beside them ({others[0]})"]
        elif len(folders) > 1 < len(inner := _folders(path / folders[0])) and all(
            _folders(path / name) == inner for name in folders[1:]
        ):
            notes += [  # as in `training_set`, `dev`
                f"{', '.join(folders)} are taken for classes; if they are parts with the same classes "
                f"({', '.join(inner)}), call them {TRAINING[0]} and {TEST[0]}"
            ]
    elif test_only:
        matches = test or validation or train
        if len(matches) > 1:
            raise InputError(f"{path} has several folders of test images ({', '.join(matches)}): leave one")
        parts = {"train": {}, "test": _class_files(path / matches[0], skipped, is_free)}
        if unused := [name for name in folders if name not in matches]:
            notes += [f"{matches[0]} has the test images, {', '.join(unused)} is not used"]
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
            "train": _class_files(path / train_folder, skipped, is_free),
            "test": _class_files(path / test_folder, skipped, is_free),
        }
        if list(parts["train"]) != list(parts["test"]) and not is_free:
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


def _divide_list(path: Path, test_only: bool) -> tuple[dict[str, ClassFiles], list[str]]:
    """Return the files of "train" and of "test" of a CSV list, and notes; a column `split` names the part."""
    rows = read_list(path)
    spellings = {name: usual[0] for usual in (TRAINING, TEST, VALIDATION) for name in usual}
    by_part: dict[str, ClassFiles] = {}
    for row in rows:
        part = spellings.get(row.split.lower(), "") if row.split else ""
        if row.split and not part:
            raise InputError(f"{path} line {row.line}: unknown split {row.split!r}: write train or test")
        by_part.setdefault(part, {}).setdefault(row.label, []).append(row.path)
    by_part = {
        part: {name: sorted(classes[name]) for name in _sort_labels(classes)} for part, classes in by_part.items()
    }
    if "" in by_part:
        if len(by_part) > 1:
            line = next(row.line for row in rows if not row.split)
            raise InputError(f"{path} line {line} has no split, others have one: write train or test")
        return ({"train": {}, "test": by_part[""]} if test_only else split_classes(by_part[""])), []
    test = by_part.get(TEST[0], by_part.get(VALIDATION[0]))
    train = {} if test_only else by_part.get(TRAINING[0])
    if test is None or train is None:
        raise InputError(f"{path} has no {'test' if test is None else 'training'} images in its column split")
    if not test_only and (unknown := set(test) - set(train)):
        raise InputError(
            f"{path} has no training image of class {', '.join(sorted(unknown))}: add one, or --split=test"
        )
    unused = VALIDATION[0] in by_part and TEST[0] in by_part
    return {"train": train, "test": test}, ["the test images are those of test, val is not used"] if unused else []


def _sort_labels(labels: "set[str] | ClassFiles") -> list[str]:
    """Return labels in the order of their numbers if all are numbers, else by name."""
    is_numeric = all(label.isascii() and label.isdigit() for label in labels)
    return sorted(labels, key=lambda label: (int(label), label)) if is_numeric else sorted(labels)


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name.lower() in SYSTEM


def _folders(folder: Path) -> list[str]:
    """Return the names of the folders in `folder`, sorted, without hidden ones."""
    try:
        with os.scandir(folder) as entries:
            kinds = {  # a link may lead round in a circle
                entry.name: Path(entry.path).is_dir() if entry.is_symlink() else entry.is_dir() for entry in entries
            }
            return sorted(name for name, is_folder in kinds.items() if is_folder and not _is_hidden(name))
    except OSError as error:
        raise InputError(f"{folder} can't be read: {error.strerror}") from error


def _class_files(folder: Path, skipped: "Counter[str]", is_free: bool = False) -> ClassFiles:
    """Return the images of each class; count other files in `skipped` by extension."""
    classes, known = _folders(folder), extensions()
    if not classes:
        raise InputError(f"{folder} has no folders, one for each class")
    if not (1 if is_free else 2) <= len(classes) <= MAX_CLASSES:
        is_nested = len(classes) == 1 and _folders(folder / classes[0])
        hint = f"; perhaps {folder / classes[0]} is meant" if is_nested else ""
        raise InputError(f"{folder} must have folders of 2 to {MAX_CLASSES} classes, not of {len(classes)}{hint}")
    images: ClassFiles = {}
    for name in classes:
        files, others = [], Counter[str]()
        for file in _walk(folder / name):
            extension = file.suffix.lower()
            if extension in known:
                files.append(file)
            else:
                others["links to folders" if file.is_dir() else extension or "without extension"] += 1
        images[name] = sorted(files)
        if not files:
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


def split_classes(classes: ClassFiles) -> dict[str, ClassFiles]:
    """Take every fifth image of a class as a test image, at least one."""
    test = {name: files[TEST_EVERY - 1 :: TEST_EVERY] or files[-1:] for name, files in classes.items()}
    train = {}
    for name, files in classes.items():
        of_test = set(test[name])
        train[name] = [file for file in files if file not in of_test]
    empty = [name for name, files in train.items() if not files]
    if empty:
        raise InputError(f"class {', '.join(empty)} has one image: none is left to train on")
    return {"train": train, "test": test}
