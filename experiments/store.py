"""Folders of outputs, and the lock of whatever is made in them."""

from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from common.errors import InputError
from common.files import require_writable
from common.hashing import json_sha256


@dataclass(frozen=True)
class Folders:
    """The folders of a command."""

    data: Path
    checkpoints: Path
    maps: Path
    results: Path

    @property
    def tensorboard(self) -> Path:
        return self.results / "tensorboard"

    @classmethod
    def below(cls, output: Path, data: Path) -> "Folders":
        return cls(data, output / "checkpoints", output / "saliency_maps", output / "results")

    def require_usable(self) -> None:
        """Raise `InputError` if a folder can't be written to, or the data folder is a file."""
        for folder in (self.checkpoints, self.maps, self.results):
            require_writable(folder)
        if self.data.exists() and not self.data.is_dir():
            raise InputError(f"--data-dir={self.data} is a file, not a folder")

    def lock(self, name: str) -> FileLock:
        """Return the lock of `name`, which the system frees when its process ends, in whatever way.

        Each name has its own file, so that making one thing for another never waits for itself.
        """
        folder = self.results / ".locks"
        folder.mkdir(parents=True, exist_ok=True)
        return FileLock(folder / json_sha256(name)[:16])
