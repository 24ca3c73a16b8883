"""Files of finished measurements."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy.typing as npt

from common.files import atomic_write, require_space, write_text
from common.hashing import json_sha256
from experiments.checkpoints import has_code_changed
from reporting.records import FORMAT, naming_damage, read_record

OF_CODE = ("code", "model_code")
SPARE_BYTES = 2**20

StoredRecords = Iterable[tuple[Any, ...]]  # path, configuration, and more


def write_record(path: Path, configuration: Mapping[str, Any], result: Mapping[str, Any]) -> None:
    """Write a finished measurement as JSON: its configuration and its result."""
    content = {"format": FORMAT, "configuration": configuration, "result": result}
    write_text(path, json.dumps(content, indent=1, sort_keys=True, allow_nan=False) + "\n")


def find_result(path: Path, configuration: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the result in the record at `path`; None if there is none.

    Raises:
        InputError: the file is damaged, or of another configuration.
    """
    if not path.exists():
        return None
    with naming_damage(path):
        stored, result = read_record(path)
        if json_sha256(stored) != json_sha256(configuration):
            raise ValueError("another configuration")
        return result


def write_arrays(
    path: Path, configuration: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]], **facts: str
) -> None:
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


def report_other_code(stored: StoredRecords, missing: Iterable[Mapping[str, Any]]) -> None:
    """Say if results of `missing` configurations are stored that the user's own code made before an edit.

    Raises:
        InputError: a file is damaged.
    """
    by_rest = {_without_code(config): config for config in missing if any(name in config for name in OF_CODE)}
    for _path, configuration, *_result in stored if by_rest else ():
        if (config := by_rest.get(_without_code(configuration))) is not None:
            has_code_changed(configuration, config)


def _without_code(configuration: Mapping[str, Any]) -> str:
    """Return the configuration without the code, and without the weights that came of it."""
    return json.dumps({k: v for k, v in configuration.items() if k not in (*OF_CODE, "checkpoint_sum")}, sort_keys=True)
