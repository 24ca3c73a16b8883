"""File formats of the published data sets.

torchvision's reader of CIFAR-10 is not used, since it unpickles any object and so runs code in the file.
"""

import gzip
import json
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]

_IDX_UBYTE = 0x08


def read_idx(path: Path) -> Pixels:
    """Read an IDX file of unsigned bytes (LeCun's MNIST format: 0 0 8 ndim, sizes, data), gzipped or not.

    Raises:
        ValueError: the file has another header, or doesn't have the length in its header.
    """
    raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    zero, kind, dimensions = struct.unpack_from(">HBB", raw)
    if zero != 0 or kind != _IDX_UBYTE:
        raise ValueError("not an IDX file of bytes")
    shape = struct.unpack_from(f">{dimensions}I", raw, 4)
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * dimensions).reshape(shape)


class _ArrayUnpickler(pickle.Unpickler):
    """Build arrays and plain containers only, so that a file can't run code."""

    _allowed = frozenset(
        {("numpy", "ndarray"), ("numpy", "dtype"), ("_codecs", "encode")}
        | {
            (f"numpy.{core}.{module}", name)
            for core in ("core", "_core")
            for module, name in (("multiarray", "_reconstruct"), ("numeric", "_frombuffer"))
        }
    )

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._allowed:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which image data does not need")
        return super().find_class(module, name)


def read_cifar_batch(path: Path) -> tuple[Pixels, Pixels]:
    """Read images (N, 32, 32, 3) and labels (N,) of a pickled CIFAR-10 batch (rows of 1,024 R, 1,024 G, 1,024 B).

    Raises:
        ValueError, KeyError, pickle.UnpicklingError: the file is no such batch.
    """
    with path.open("rb") as file:
        batch = _ArrayUnpickler(file, encoding="latin1").load()
    rows = np.asarray(batch["data"], np.uint8)
    return rows.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), np.asarray(batch["labels"], np.uint8)


def write_cifar_batch(path: Path, images: Pixels, labels: Pixels) -> None:
    """Write a batch that `read_cifar_batch` and torchvision can read."""
    rows = np.ascontiguousarray(images.transpose(0, 3, 1, 2)).reshape(len(images), -1)
    with path.open("wb") as file:
        pickle.dump({"data": rows, "labels": labels.tolist()}, file, protocol=4)


def read_cifar_png(path: Path) -> Pixels:
    """Read images (N, 32, 32, 3) from a PNG, whose rows hold the 1,024 RGB pixels of an image each."""
    from PIL import Image

    with Image.open(path) as picture:
        if picture.width != 32 * 32:
            raise ValueError("not 1,024 pixels wide")
        return np.asarray(picture.convert("RGB")).reshape(-1, 32, 32, 3)


def read_json_labels(path: Path) -> Pixels:
    return np.asarray(json.loads(path.read_text(encoding="utf-8")), np.uint8)
