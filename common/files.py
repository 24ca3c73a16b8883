"""Files that are whole or absent, and the sums that identify their contents."""

import errno
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from common.errors import InputError


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
        if error.filename in (None, str(unfinished)):
            error.filename = str(path)  # a failed write does not say where, or by a name that nobody knows
            error.strerror = os.strerror(error.errno) if error.errno else error.strerror  # HDF5's is a page long
        raise
    finally:
        with suppress(OSError):  # of a folder that nobody may look into; the error itself says so
            unfinished.unlink(missing_ok=True)


@contextmanager
def reading(path: Path, damaged: str, signs: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """In the `with` block, what keeps `path` from being read becomes an `InputError` with the right reason.

    A file that another program holds, that nobody may read, or that is a folder is not damaged.

    Args:
        damaged: what is said of a damaged file, without its path.
        signs: what a damaged file makes its reader raise, beside `OSError`.
    """
    kinds: tuple[type[Exception], ...] = (OSError, *signs)
    try:
        yield
    except kinds as error:
        raise InputError(f"{path} {_reason(error) or damaged}") from error


_IN_USE = "is in use by another program: close it there first"
_FOLDER = "is a folder where a file should be: move it away"
_FORBIDDEN = "can't be read: permission denied; change its rights"
_REASONS = {
    **dict.fromkeys((errno.EAGAIN, errno.EBUSY, errno.ETXTBSY, errno.EDEADLK), _IN_USE),
    **dict.fromkeys((errno.EACCES, errno.EPERM), _FORBIDDEN),
    errno.EISDIR: _FOLDER,
}


def _reason(error: Exception) -> str:
    """Say what keeps a file from being read; nothing if it is damaged, which the system knows nothing of."""
    if isinstance(error, OSError) and "already open" in str(error):  # HDF5's own mark in the file, not a lock
        return f"{_IN_USE}; if none has it open, one died with it: delete it"
    if not isinstance(error, OSError) or error.errno in (None, 0, errno.EINVAL):
        return ""
    return _REASONS.get(error.errno) or f"can't be read: {os.strerror(error.errno)}"


def require_not_in_use(path: Path) -> None:
    """Raise `InputError` if `path` is a folder, or another program is writing to it: HDF5 locks what it writes."""
    if path.is_dir():
        raise InputError(f"{path} {_FOLDER}")
    with suppress(FileNotFoundError, PermissionError), path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(f"{path} {_IN_USE}") from error
        except OSError:
            return  # a disk without locks


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
        unfinished.write_text(text, encoding="utf-8", errors="backslashreplace")  # names of files may be no text


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
