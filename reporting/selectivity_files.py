"""Files of selectivity: scores, predictions, pixels and some images and maps of one method, in HDF5."""

import json
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import h5py
import numpy.typing as npt

from common.errors import InputError
from common.files import catch_read_errors

Array = npt.NDArray[Any]

FORMAT = 1


def load_selectivity(results: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Path and configuration of each method that is finished."""
    for path in sorted((results / "selectivity").glob("*.h5")):
        with reading_result(path), h5py.File(path, "r") as file:
            yield path, json.loads(file.attrs["configuration"])


def read_result(path: Path) -> dict[str, Array]:
    """Scores and hits of a finished method.

    Raises:
        InputError: the file is damaged or in use.
    """
    with reading_result(path), h5py.File(path, "r") as file:
        if file.attrs["format"] != FORMAT:
            raise InputError(f"{path} has another format: delete it, and it is made anew")
        return {name: file[name][:] for name in ("score", "correct")}


def reading_result(path: Path) -> AbstractContextManager[None]:
    """What keeps a method's file from being read in the `with` block becomes an `InputError`."""
    return catch_read_errors(path, "is damaged: delete it, and it is made anew", (KeyError, ValueError))
