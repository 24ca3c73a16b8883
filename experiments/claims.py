"""Work that several processes share: what one is doing, no other does at the same time."""

import fcntl
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TypeVar

from common.files import json_sha256

Task = TypeVar("Task")

WAIT_SECONDS = 0.5


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

    def shared(self, tasks: Iterable[Task], name: Callable[[Task], str]) -> Iterator[Task]:
        """Those of `tasks` that no other process is at, each claimed while the caller is at it.

        The others come as soon as they are free: the caller must look whether they are done by then.
        """
        todo = list(tasks)
        while todo:
            for place, task in enumerate(todo):
                with self.tried(name(task)) as mine:
                    if mine:
                        yield task
                        del todo[place]
                        break
            else:
                time.sleep(WAIT_SECONDS)

    @contextmanager
    def alone(self, name: str) -> Iterator[None]:
        """`name` is this process's alone in the `with` block; waits while another process has it."""
        deadline = time.monotonic() + WAIT_SECONDS
        while not (mine := self._lock(name, fcntl.LOCK_EX | fcntl.LOCK_NB)) and time.monotonic() < deadline:
            time.sleep(WAIT_SECONDS / 20)
        if not mine:
            print(f"waiting: another process is at {name}", flush=True)
            self._lock(name, fcntl.LOCK_EX)
        try:
            yield
        finally:
            self._lock(name, fcntl.LOCK_UN)

    def __getstate__(self) -> dict[str, object]:
        """For another process, which has its own locks."""
        return {"path": self.path, "_file": None}

    def _lock(self, name: str, operation: int) -> bool:
        # One byte range per name. The file stays open: POSIX frees all of a process's locks when it closes the file.
        if self._file is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("ab")
        try:
            fcntl.lockf(self._file, operation, 1, int(json_sha256(name)[:12], 16))
        except BlockingIOError:
            return False
        return True
