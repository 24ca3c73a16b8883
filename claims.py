"""Work that several processes share: what one is doing, no other does at the same time."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from storage import plain_sum


class Claims:
    """Locks by name, in one empty file. The system frees them when their process ends, in whatever way."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: BinaryIO | None = None

    @contextmanager
    def tried(self, name: str) -> Iterator[bool]:
        """Whether `name` is this process's alone in the `with` block; False at once if another process has it."""
        if not self._lock(name, fcntl.LOCK_EX | fcntl.LOCK_NB):
            yield False
            return
        try:
            yield True
        finally:
            self._lock(name, fcntl.LOCK_UN)

    @contextmanager
    def alone(self, name: str) -> Iterator[None]:
        """`name` is this process's alone in the `with` block; waits while another process has it."""
        if not self._lock(name, fcntl.LOCK_EX | fcntl.LOCK_NB):
            print(f"waiting: another process is at {name}", flush=True)
            self._lock(name, fcntl.LOCK_EX)
        try:
            yield
        finally:
            self._lock(name, fcntl.LOCK_UN)

    def _lock(self, name: str, operation: int) -> bool:
        # One byte range per name. The file stays open: POSIX frees all of a process's locks when it closes the file.
        if self._file is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("ab")
        try:
            fcntl.lockf(self._file, operation, 1, int(plain_sum(name)[:12], 16))
        except BlockingIOError:
            return False
        return True
