"""SHA-256 of image files, computed in parallel and remembered by size and time of change."""

import hashlib
import io
import json
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from common.errors import InputError
from common.files import write_text
from common.hashing import json_sha256
from common.progress import progress_bar
from data.pixels import is_grey_mode, pillow_warnings, readable_formats, reading_error


class FileSum(NamedTuple):
    """The SHA-256 of a file, and whether its image has one channel."""

    sha256: str
    is_grey: bool


def file_sums(files: Sequence[Path], root: Path, cache: Path) -> list[FileSum]:
    """Return the sum of each file; sums of earlier calls are read from the folder `cache`.

    Args:
        root: the image folder or list, which has a file of its own in `cache`.

    Raises:
        InputError: a file can't be read, or is no image.
    """
    path = cache / f"sums-{json_sha256(os.fsdecode(root.absolute()))[:16]}.json"
    stored: dict[str, tuple[int, int, FileSum]] = {}
    with suppress(OSError, ValueError):
        stored = json.loads(path.read_text(encoding="utf-8"))
    missing: dict[str, tuple[Path, list[int]]] = {}
    for file in files:
        try:
            status = file.stat()
        except OSError as error:
            raise InputError(f"{file} can't be read: {error.strerror}") from error
        name, state = str(file), [status.st_size, status.st_mtime_ns]
        if name not in stored or list(stored[name][:2]) != state:
            missing[name] = (file, state)
    if missing:
        with workers() as pool, pillow_warnings(), progress_bar(len(missing), f"checking {root}", "files") as bar:
            sums = pool.map(_sum, [file for file, _state in missing.values()])
            for (name, (_file, (size, changed))), sum_ in zip(missing.items(), sums, strict=True):
                stored[name] = (size, changed, sum_)
                bar.update()
        with suppress(OSError):  # a folder that can't be written to costs time only
            write_text(path, json.dumps(stored))
    return [FileSum(*stored[str(file)][2]) for file in files]


@contextmanager
def workers() -> Iterator[ThreadPoolExecutor]:
    """Yield a pool with a thread for each core; work that hasn't begun is dropped after an error or Ctrl-C."""
    pool = ThreadPoolExecutor(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count())
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _sum(file: Path) -> FileSum:
    from PIL import Image

    try:
        data = file.read_bytes()
        with Image.open(io.BytesIO(data), formats=readable_formats()) as image:
            return FileSum(hashlib.sha256(data).hexdigest(), is_grey_mode(image.mode))
    except Exception as error:  # Pillow's readers raise any kind on damaged files
        raise reading_error(file, error) from error
