"""Files of selectivity, whole or short."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from common.files import atomic_write, require_space
from reporting.records import FORMAT, reading_result

Array = npt.NDArray[Any]

SPARE_BYTES = 2**20


def save_result(path: Path, configuration: Mapping[str, Any], arrays: Mapping[str, Array], **facts: str) -> None:
    """Write the arrays of one method, their configuration, and facts such as the device.

    Raises:
        OSError: the disk has no room for them. HDF5 itself would end the whole process.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    require_space(path.parent, sum(values.nbytes for values in arrays.values()) + SPARE_BYTES)
    with atomic_write(path) as unfinished, h5py.File(unfinished, "w") as file:
        for name, values in arrays.items():
            file.create_dataset(name, data=values, compression="lzf", chunks=True, fletcher32=True)
        file.attrs.update(configuration=json.dumps(configuration, sort_keys=True), format=FORMAT, **facts)


def shorten(path: Path, to: Path) -> None:
    """Write only the scores, in half precision, and the hits of a finished method: for publishing."""
    with reading_result(path), h5py.File(path, "r") as file:
        arrays = {"score": file["score"][:].astype(np.float16), "correct": file["correct"][:]}
        facts = dict(file.attrs)
    with atomic_write(to) as unfinished, h5py.File(unfinished, "w") as short:
        for name, values in arrays.items():
            short.create_dataset(name, data=values, compression="gzip", compression_opts=9, shuffle=True)
        short.attrs.update(facts)
