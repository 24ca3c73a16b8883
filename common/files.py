"""Atomic writes, and reasons why a file can't be read or written."""

import errno
import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from common.errors import InputError

_IN_USE = "is in use by another program: close it there first"
_FOLDER = "is a folder where a file should be: move it away"
_FORBIDDEN = "can't be read: permission denied; change its rights"
_REASONS = {
    **dict.fromkeys((errno.EAGAIN, errno.EBUSY, errno.ETXTBSY, errno.EDEADLK), _IN_USE),
    **dict.fromkeys((errno.EACCES, errno.EPERM), _FORBIDDEN),
    errno.EISDIR: _FOLDER,
}


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` to write to; on success flush it to the disk and rename it to `path`.

    A kill at any moment leaves the old file or the new one, never a part of one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.unfinished")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        if error.filename in (None, str(temporary)):
            error.filename = str(path)  # a failed write names no file, or the temporary one
            error.strerror = os.strerror(error.errno) if error.errno else error.strerror  # HDF5's is a page long
        raise
    finally:
        with suppress(OSError):  # the folder may be forbidden, which the error above says
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")  # file names may not be text


@contextmanager
def catch_read_errors(path: Path, damaged: str, errors: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """Turn errors while reading `path` in the `with` block into an `InputError` with the reason.

    A file that another program holds, that is forbidden, or that is a folder is not damaged.

    Args:
        damaged: the message about a damaged file, without its path.
        errors: exceptions of the reader, beside `OSError`, that mean a damaged file.
    """
    kinds: tuple[type[Exception], ...] = (OSError, *errors)
    try:
        yield
    except kinds as error:
        reason = damaged
        if isinstance(error, OSError) and "already open" in str(error):  # HDF5 marks the file itself
            reason = f"{_IN_USE}; if none has it open, one died with it: delete it"
        elif isinstance(error, OSError) and error.errno not in (None, 0, errno.EINVAL):
            reason = _REASONS.get(error.errno) or f"can't be read: {os.strerror(error.errno)}"
        raise InputError(f"{path} {reason}") from error


def require_not_in_use(path: Path) -> None:
    """Raise `InputError` if `path` is a folder, or another program is writing to it (HDF5 locks the file)."""
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
    """Return the free bytes of the disk that has or would have `folder`."""
    return shutil.disk_usage(_nearest_existing(folder)).free


def require_writable(folder: Path) -> None:
    """Raise `InputError` if `folder` can't be created or written to; write nothing."""
    nearest = _nearest_existing(folder)
    if not nearest.is_dir():
        raise InputError(f"{folder} can't be a folder: {nearest} is a file; choose another place")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise InputError(f"{folder} can't be written to: choose another folder or change the rights of {nearest}")


def _nearest_existing(path: Path) -> Path:
    return next(parent for parent in (path.absolute(), *path.absolute().parents) if parent.exists())
