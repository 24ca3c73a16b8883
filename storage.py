"""Files that are whole or absent, and the sums that identify their contents."""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from errors import InputError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a path beside `path` to write to; on success it is flushed to the disk and renamed to `path`.

    A kill at any moment leaves either the old file or the new one, never a half: the unfinished file has
    another name, which nobody reads.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.unfinished")
    try:
        yield unfinished
        with unfinished.open("rb") as file:
            os.fsync(file.fileno())
        unfinished.replace(path)
    except OSError as error:
        error.filename = error.filename or str(path)  # a failed write does not say where
        raise
    finally:
        unfinished.unlink(missing_ok=True)


def require_space(folder: Path, size: int) -> None:
    """Raise the `OSError` of a full disk if `folder` has no room for `size` bytes more."""
    if free_bytes(folder) < size:
        raise OSError(errno.ENOSPC, f"{os.strerror(errno.ENOSPC)} ({size / 1e6:,.1f} MB are needed)", str(folder))


def free_bytes(folder: Path) -> int:
    """What still fits on the disk on which `folder` is, or would be."""
    nearest = folder.absolute()
    while not nearest.exists():
        nearest = nearest.parent
    return shutil.disk_usage(nearest).free


def write_text(path: Path, text: str) -> None:
    with replacing(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


def array_sum(array: npt.NDArray[Any]) -> str:
    """SHA-256 of an array's bytes in C order, as hexadecimal digits."""
    return hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()


def rounded_sum(array: npt.NDArray[Any], digits: int) -> str:
    """SHA-256 of an array's shape and of its values, rounded to `digits` decimals of the largest absolute one."""
    largest = float(np.abs(array).max(initial=0)) or 1.0
    rounded = np.round(array / largest, digits) + 0.0  # no negative zero
    return plain_sum([array.shape, f"{largest:.{digits}e}", array_sum(rounded)])


def plain_sum(value: object) -> str:
    """SHA-256 of plain data (numbers, strings, lists, dictionaries), whatever the order of the keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def require_writable(folder: Path) -> None:
    """Raise `InputError` if `folder` could not be created or written to. Writes nothing."""
    nearest = folder.absolute()
    while not nearest.exists() and nearest != nearest.parent:
        nearest = nearest.parent
    if not nearest.is_dir():
        raise InputError(f"{folder} can't be a folder: {nearest} is a file; choose another place")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise InputError(f"{folder} can't be written to: choose another folder or change the rights of {nearest}")
