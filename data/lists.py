"""CSV lists of images, and text files of class names."""

import csv
import re
from pathlib import Path
from typing import NamedTuple

from common.errors import InputError
from data.pixels import extensions

MAX_CLASSES = 65_535
COLUMNS = ("path", "label", "split")


class Row(NamedTuple):
    """An image of a CSV list; `split` is "" where the list has none."""

    line: int
    path: Path
    label: str
    split: str


def is_list(path: Path) -> bool:
    return path.suffix.lower() == ".csv" and not path.is_dir()


def read_list(path: Path) -> list[Row]:
    """Read a CSV list with the columns path, label and perhaps split; a header with these names is optional.

    Paths are relative to the folder of the list.

    Raises:
        InputError: it can't be read, or a row has no label, an image that is missing, or one of an earlier row.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file)
            lines = [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader if any(cells)]
    except (OSError, UnicodeError, csv.Error) as error:
        raise InputError(f"{path} can't be read as a CSV list: {error}") from error
    columns = list(COLUMNS)
    if lines and COLUMNS[0] in (header := [cell.lower() for cell in lines[0][1]]):
        columns, lines = header, lines[1:]
        if COLUMNS[1] not in columns:
            raise InputError(f"{path} has no column label: its header must have path,label and perhaps split")
    if not lines:
        raise InputError(f"{path} lists no images: write rows path,label")
    rows, seen, known = [], dict[Path, int](), extensions()
    for line, cells in lines:
        values = dict(zip(columns, cells, strict=False))
        place, label = values.get("path", ""), values.get("label", "")
        if not place or not label:
            raise InputError(f"{path} line {line} has no {'label' if place else 'path'}: write path,label")
        image = path.parent / place
        if image in seen:
            raise InputError(f"{path} line {line}: {place} is in line {seen[image]} already: leave one of them")
        if image.suffix.lower() not in known:
            raise InputError(
                f"{path} line {line}: {place} is no image file; a header is path,label or path,label,split"
            )
        if not image.is_file():
            raise InputError(f"{path} line {line}: there is no file {image}; paths are relative to the list's folder")
        seen[image] = line
        rows.append(Row(line, image, label, values.get("split", "")))
    return rows


def read_classes(path: Path) -> list[str]:
    """Read class names, one on each line; of a line with tabs or commas the first column counts.

    Raises:
        InputError: it can't be read, or has an empty line, a name twice, or fewer than two.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig", errors="surrogateescape").rstrip().split("\n")
    except OSError as error:
        raise InputError(f"--classes-file={path} can't be read: {error.strerror}") from error
    names = [re.split("[\t,]", line)[0].strip() for line in lines]
    seen: dict[str, int] = {}
    for number, name in enumerate(names, 1):
        if not name:
            raise InputError(f"{path} line {number} is empty: line k names output k of the network, from 0 on")
        if name in seen:
            raise InputError(f"{path} line {number}: {name} is in line {seen[name]} already: give each class a name")
        seen[name] = number
    if not 2 <= len(names) <= MAX_CLASSES:
        raise InputError(f"{path} has {len(names)} classes, one a line: 2 to {MAX_CLASSES:,} are possible")
    return names
