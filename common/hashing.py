"""SHA-256 of arrays, files and plain data, as hexadecimal digits."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt


def array_sha256(array: npt.NDArray[Any]) -> str:
    """Return SHA-256 of an array's bytes in C order."""
    return hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()


def file_sha256(path: Path) -> str:
    """Return SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def rounded_sha256(array: npt.NDArray[Any], digits: int) -> str:
    """Return SHA-256 of an array's shape and of its values, rounded to `digits` decimals of their largest magnitude."""
    largest = float(np.abs(array).max(initial=0)) or 1.0
    rounded = np.round(array / largest, digits) + 0.0  # no negative zero
    return json_sha256([array.shape, f"{largest:.{digits}e}", array_sha256(rounded)])


def json_sha256(value: object) -> str:
    """Return SHA-256 of plain data (numbers, strings, lists, dictionaries), independent of the order of keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
