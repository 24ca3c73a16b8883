"""Tasks: pure functions of configurations and arrays, which an engine carries out in any process."""

import tempfile
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from mmap import mmap
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import numpy.typing as npt
import torch

from common.errors import InputError
from data import Dataset, Split
from data.catalog import DatasetInfo
from training.inputs import Normalisation

PARTS_OF_SPLIT = ("images", "labels", "index")
FIELDS_OF_NORMALISATION = ("mean", "std", "mean_pixel")
Arrays = dict[str, npt.NDArray[Any]]
OnImages = Callable[[int], object]


class SharedArrays:
    """Arrays that many tasks need; other processes map them from files that the engine writes once.

    Attributes:
        key: tells these arrays from all others, in all processes, for caches.
    """

    def __init__(self, arrays: Arrays, key: str | None = None) -> None:
        """`key`: of a copy, that of the original; None for new arrays."""
        self.key = key or uuid4().hex
        self._arrays: Arrays | None = arrays
        self._folder: Path | None = None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SharedArrays) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)

    def arrays(self) -> Arrays:
        """Return the arrays by name; in other processes they are mapped copy-on-write."""
        if self._arrays is None:
            assert self._folder is not None
            self._arrays = {path.stem: np.load(path, mmap_mode="c") for path in sorted(self._folder.glob("*.npy"))}
        return self._arrays

    def write(self, folder: Path) -> None:
        """Write the arrays into a new folder in `folder`, once; again if that of an earlier engine is gone."""
        if self._folder is None or not self._folder.exists():
            self._folder = Path(tempfile.mkdtemp(dir=folder))
            for name, array in self.arrays().items():
                path = self._folder / f"{name}.npy"
                if isinstance(array, np.memmap) and isinstance(array.base, mmap) and array.filename is not None:
                    path.symlink_to(array.filename)  # decoded images, a whole file on the disk
                else:
                    np.save(path, array, allow_pickle=False)

    def __getstate__(self) -> dict[str, Any]:
        return {"key": self.key, "_arrays": None if self._folder else self._arrays, "_folder": self._folder}


@dataclass(frozen=True)
class Task:
    """One measurement: a pure function with its arguments.

    Attributes:
        name: for the progress bar.
        function: takes the arguments and `on_images=`, which it calls with numbers of images that are done.
        images: their sum.
        shared: the arrays among its arguments.
        dataset: what the function looks up about a data set, which a process elsewhere may not have.
    """

    name: str
    function: Callable[..., Any] = field(repr=False)
    arguments: tuple[Any, ...] = field(repr=False)
    images: int
    shared: tuple[SharedArrays, ...] = field(default=(), repr=False)
    dataset: DatasetInfo | None = field(default=None, repr=False)

    def run(self, on_images: OnImages) -> Any:
        return self.function(*self.arguments, on_images=on_images)


@dataclass(frozen=True)
class Failure:
    """The reason why a task has no result.

    Attributes:
        is_of_input: it can't do with its input, and would end in the same way again.
    """

    task: str
    reason: str
    is_of_input: bool = False

    def __str__(self) -> str:
        return f"{self.task}: {self.reason}"

    @classmethod
    def of(cls, task: Task, error: BaseException) -> "Failure":
        """Return the last line of the traceback, and the place of a fault that is not an input's."""
        text = " ".join(str(error).split())
        if isinstance(error, InputError):
            return cls(task.name, text, is_of_input=True)
        frames = traceback.extract_tb(error.__traceback__)
        place = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
        return cls(task.name, f"{type(error).__name__}: {text}{place}")


def arrays_of(dataset: Dataset, normalisation: Normalisation) -> Arrays:
    """Return images, labels and index of both splits, and the fields of the normalisation, by name."""
    splits = {"train": dataset.train, "test": dataset.test}
    fields = {f"{split}_{name}": getattr(rows, name) for split, rows in splits.items() for name in PARTS_OF_SPLIT}
    tensors = {name: getattr(normalisation, name) for name in FIELDS_OF_NORMALISATION}
    return fields | {name: tensor.cpu().numpy() for name, tensor in tensors.items() if tensor is not None}


def split_of(arrays: Arrays, split: str) -> Split:
    """Return the split "train" or "test" of the arrays of `arrays_of`."""
    return Split(*(arrays[f"{split}_{name}"] for name in PARTS_OF_SPLIT))


def normalisation_of(arrays: Arrays, device: torch.device) -> Normalisation:
    """Return the normalisation of the arrays of `arrays_of`."""
    names = filter(arrays.__contains__, FIELDS_OF_NORMALISATION)
    return Normalisation(**{name: torch.from_numpy(arrays[name]).to(device) for name in names})
