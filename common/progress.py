"""A progress bar with the time left; plain lines where there is no terminal."""

import sys
from typing import Any

from tqdm import tqdm

SECONDS_BETWEEN_LINES = 20.0


class _Lines(tqdm):
    """tqdm's count and estimate, as a line every few seconds."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs |= {"mininterval": SECONDS_BETWEEN_LINES, "maxinterval": SECONDS_BETWEEN_LINES, "ncols": 100}
        self._printed = ""
        super().__init__(*args, **kwargs)

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        line = str(self) if msg is None else msg
        if self.n and line != self._printed:
            self._printed = line
            print(line, file=sys.stderr, flush=True)

    def close(self) -> None:
        self.disable = True


def progress_bar(total: int, description: str | None, unit: str) -> "tqdm[Any]":
    """Return a bar over `total` units on stderr; use it as a context manager and call `update(n)`.

    Args:
        description: None shows nothing.
    """
    is_silent = description is None or sys.stderr is None  # under pythonw, or closed
    options = {"leave": False, "dynamic_ncols": True, "file": sys.stderr, "disable": is_silent}
    kind = tqdm if not is_silent and sys.stderr.isatty() else _Lines
    return kind(total=total, desc=description, unit=f" {unit}", **options)
