"""Files of maps in HDF5, with their provenance."""

import math
import shutil
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from attribution import MAP_DTYPES
from common.errors import InputError
from common.files import atomic_write, catch_read_errors, require_not_in_use, require_space
from common.hashing import json_sha256
from training.inputs import batch_size

FORMAT = 2  # 1: IG by one Gauss–Legendre rule
PART_ROWS, PART_VALUES = 2000, 2**24  # the most images of a part, and values of their maps
SPARE_BYTES = 2**20
SPLITS = ("train", "test")
REMEDY = "delete it, and the same command makes it anew"  # --overwrite would do all else of the command again, too

Array = npt.NDArray[Any]
Provenance = dict[str, str]  # everything that decides on the values of maps, as the attributes of their file
Rows = dict[str, Array]  # maps of some images, see `MapReader.rows`


def map_bytes(images: int, values: int, dtype: str) -> int:
    """Return the largest size of a file of maps, each of `values` values, label, prediction, index, scale and gap."""
    return images * (values * np.dtype(dtype).itemsize + 4 * 8) + SPARE_BYTES


def rows_of_part(shape: Sequence[int]) -> int:
    """Return the number of images or maps (C, H, W) that are in memory together: whole batches of large ones."""
    at_once = batch_size(shape)
    return max(min(at_once, PART_ROWS), min(PART_ROWS, PART_VALUES // math.prod(shape) // at_once * at_once))


class MapWriter:
    """Collects maps part by part and makes one file of them at the end, since HDF5 does not survive a kill.

    Each part is a file until then, so that a kill costs one part: a new writer with the same provenance and images
    finds the others.
    """

    def __init__(
        self, path: Path, provenance: Provenance, index: dict[str, Array], shape: Sequence[int] = (1, 1, 1)
    ) -> None:
        """
        Args:
            index: positions of the images in each split.
            shape: (C, H, W) of an image, which decides on the size of the parts.
        """
        self.path, self.provenance, self.index, self.part_rows = path, provenance, index, rows_of_part(shape)
        identity = provenance | {split: rows.tolist() for split, rows in index.items()}
        self.parts = path.with_name(f".{path.name}.parts") / json_sha256([identity, self.part_rows])[:16]

    def forget(self) -> None:
        """Remove the parts of earlier writers."""
        shutil.rmtree(self.parts.parent, ignore_errors=True)

    def missing(self) -> Iterator[tuple[str, slice]]:
        """Yield the parts to compute: split, and rows of its index."""
        for split, part in self._all_parts():
            if not self._part(split, part).exists():
                yield split, part

    def write(self, split: str, part: slice, rows: Rows) -> None:
        with atomic_write(self._part(split, part)) as unfinished, unfinished.open("wb") as file:
            np.savez(file, allow_pickle=False, **rows)

    def finish(self) -> None:
        """Make the file of all parts, and remove the parts.

        Raises:
            InputError: an existing file is in use, or a part is damaged.
        """
        require_not_in_use(self.path)
        # HDF5 ends the whole process when the disk is full. lzf seldom makes noise larger.
        require_space(self.path.parent, sum(part.stat().st_size for part in self.parts.iterdir()) + SPARE_BYTES)
        with atomic_write(self.path) as unfinished, h5py.File(unfinished, "w") as file:
            file.attrs.update(self.provenance)
            file.attrs["format"] = FORMAT
            for split, index in self.index.items():
                if len(index) == 0:  # which has no part
                    file.create_dataset(f"{split}/index", data=index)
            for split, part in self._all_parts():
                path = self._part(split, part)
                with catch_read_errors(path, f"is damaged: {REMEDY}", (Exception,)), np.load(path) as arrays:
                    rows = dict(arrays)
                self._append(file.require_group(split), rows, part, len(self.index[split]))
            file.attrs["complete"] = True
        shutil.rmtree(self.parts.parent)

    def _append(self, group: h5py.Group, rows: Rows, part: slice, total: int) -> None:
        if self.provenance["dtype"] != MAP_DTYPES[0]:
            rows |= scale_maps(rows["attribution"], self.provenance["dtype"])
        for name, values in rows.items():
            if name not in group:
                chunk = (max(1, min(total, 2**20 // max(1, values[0].nbytes))), *values.shape[1:])
                shape = (total, *values.shape[1:])
                group.create_dataset(name, shape, values.dtype, chunks=chunk, compression="lzf", fletcher32=True)
            group[name][part] = values

    def _all_parts(self) -> Iterator[tuple[str, slice]]:
        for split, index in self.index.items():
            for start in range(0, len(index), self.part_rows):
                yield split, slice(start, min(start + self.part_rows, len(index)))

    def _part(self, split: str, part: slice) -> Path:
        return self.parts / f"{split}_{part.start:07d}.npz"


def scale_maps(attribution: Array, dtype: str) -> dict[str, Array]:
    """Return each map divided by its largest absolute value, and that value: half precision would lose small maps."""
    scale = np.abs(attribution).reshape(len(attribution), -1).max(axis=1).astype(np.float32)
    divisor = np.where(scale > 0, scale, 1).reshape(-1, *[1] * (attribution.ndim - 1))
    return {"attribution": (attribution / divisor).astype(dtype), "scale": scale}


def read_attributes(path: Path) -> dict[str, Any]:
    """Return the attributes of a file of maps; none if it can't be read at all."""
    try:
        with h5py.File(path, "r") as file:
            return dict(file.attrs)
    except OSError:
        return {}


class MapReader:
    """Reads the maps of one provenance."""

    def __init__(self, path: Path, provenance: Provenance) -> None:
        """Open `path` and compare its provenance.

        Raises:
            InputError: in use, unreadable, unfinished, of another format or provenance.
        """
        self.path = path
        require_not_in_use(path)
        with self._reading(), h5py.File(path, "r") as file:
            self.attributes = attributes = dict(file.attrs)
            if not attributes.get("complete"):
                raise InputError(f"{path} is not complete: {REMEDY}")
            if attributes.get("format") != FORMAT:
                raise InputError(f"{path} has format {attributes.get('format')}, not {FORMAT}: {REMEDY}")
            for name, value in provenance.items():
                if attributes.get(name) != value:
                    raise InputError(
                        f"{path} holds maps of {name} {attributes.get(name)!r}, not {value!r}: "
                        "--overwrite makes them anew"
                    )
            self.index = {split: file[split]["index"][:] for split in SPLITS}

    def has_all(self, index: dict[str, Array]) -> bool:
        """Return whether the file has the maps of all these images."""
        return all(np.isin(rows, self.index[split]).all() for split, rows in index.items())

    def rows(self, split: str, index: Array) -> Iterator[Rows]:
        """Yield the maps of the images `index` (ascending), part by part.

        Yields:
            attribution: (N, C|1, H, W) float32.
            label, prediction: (N,) int64; the maps explain one of them, see `Provenance`.
            index: (N,) int64, positions in the published split.
            gap: (N,) float32, the relative completeness gap of methods that have one (IG).

        Raises:
            InputError: a part is damaged, the file lacks one of the images, or another command has replaced it.
        """
        positions = np.searchsorted(self.index[split], index)
        if not np.array_equal(self.index[split].take(positions, mode="clip"), index):
            raise self._replaced()
        with self._open() as file:
            at_once = rows_of_part(file[split]["attribution"].shape[1:]) if len(positions) else 1
            for start in range(0, len(positions), at_once):
                part = positions[start : start + at_once]
                block = slice(part[0], part[-1] + 1)
                is_whole = len(part) == part[-1] + 1 - part[0]
                with self._reading():
                    rows = {
                        name: values[block] if is_whole else values[block][part - part[0]]
                        for name, values in file[split].items()
                    }
                if (scale := rows.pop("scale", None)) is not None:
                    rows["attribution"] = rows["attribution"].astype(np.float32) * scale[:, None, None, None]
                yield rows

    def gaps(self) -> Array | None:
        """Return the relative completeness gaps of all images; None if the method has none.

        Raises:
            InputError: the file is damaged.
        """
        with self._open() as file:
            splits = [split for split in SPLITS if len(file[split]["index"])]
            if any("gap" not in file[split] for split in splits):
                return None
            return np.concatenate([file[split]["gap"][:] for split in splits])

    @contextmanager
    def _open(self) -> Iterator[h5py.File]:
        """Open the file, which must be the one that this reader has seen first."""
        with self._reading():
            file = h5py.File(self.path, "r")
        with file:
            with self._reading():
                index = {split: file[split]["index"][:] for split in SPLITS}
            is_same = dict(file.attrs) == self.attributes
            if not (is_same and all(np.array_equal(index[split], self.index[split]) for split in SPLITS)):
                raise self._replaced()
            yield file

    def _replaced(self) -> InputError:
        return InputError(f"another command has replaced {self.path} meanwhile: give the same command again")

    def _reading(self) -> AbstractContextManager[None]:
        return catch_read_errors(self.path, f"is damaged or no HDF5 file: {REMEDY}", (KeyError,))
