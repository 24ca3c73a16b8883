"""Files of selectivity: scores, predictions, pixels and some images and maps of one method, in HDF5."""

import json
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from common.errors import InputError
from common.files import atomic_write, catch_read_errors, require_space

Array = npt.NDArray[Any]

FORMAT = 1
SPARE_BYTES = 2**20


def save_result(path: Path, configuration: Mapping[str, Any], arrays: Mapping[str, Array], **facts: str) -> None:
    """Write arrays of one method, what decided on them, and facts such as the device.

    Raises:
        OSError: the disk has no room for them: HDF5 would take the whole process down.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    require_space(path.parent, sum(values.nbytes for values in arrays.values()) + SPARE_BYTES)
    with atomic_write(path) as unfinished, h5py.File(unfinished, "w") as file:
        for name, values in arrays.items():
            file.create_dataset(name, data=values, compression="lzf", chunks=True, fletcher32=True)
        file.attrs.update(configuration=json.dumps(configuration, sort_keys=True), format=FORMAT, **facts)


def shorten(path: Path, to: Path) -> None:
    """Of a finished method scores, in half precision, and hits alone, as `read_result` reads them: for publishing."""
    with reading_result(path), h5py.File(path, "r") as file:
        arrays = {"score": file["score"][:].astype(np.float16), "correct": file["correct"][:]}
        facts = dict(file.attrs)
    with atomic_write(to) as unfinished, h5py.File(unfinished, "w") as short:
        for name, values in arrays.items():
            short.create_dataset(name, data=values, compression="gzip", compression_opts=9, shuffle=True)
        short.attrs.update(facts)


def kept_selectivity(results: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
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
