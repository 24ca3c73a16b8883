"""A few hundred real images that stand in for the published data sets, in the published file formats."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from common.hashing import array_sha256
from data.catalog import CATALOG, PARTS, DatasetInfo
from data.formats import write_cifar_batch

HERE = Path(__file__).parent / "data"
CIFAR_FILES = len(CATALOG["cifar10"].files) - 1


def sample_arrays(name: str) -> dict[str, np.ndarray]:
    with np.load(HERE / f"{name}.npz") as arrays:
        return {part: arrays[part] for part in PARTS}


def idx_bytes(array: np.ndarray) -> bytes:
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return bytes([0, 0, 8, array.ndim]) + sizes + array.tobytes()


def write_sample(name: str, data_dir: Path) -> None:
    """The sample in torchvision's layout below `data_dir`."""
    arrays, entry = sample_arrays(name), CATALOG[name]
    folder = data_dir / entry.folder
    folder.mkdir(parents=True, exist_ok=True)
    if name == "mnist":
        for file, part in zip(entry.files, PARTS, strict=True):
            (folder / file).write_bytes(idx_bytes(arrays[part]))
        return
    images = [*np.split(arrays["train_images"], CIFAR_FILES), arrays["test_images"]]
    labels = [*np.split(arrays["train_labels"], CIFAR_FILES), arrays["test_labels"]]
    for file, *batch in zip(entry.files, images, labels, strict=True):
        write_cifar_batch(folder / file, *batch)


def sample_entry(name: str) -> DatasetInfo:
    """The catalog's entry with the sums and shapes of the sample in place of the published ones."""
    arrays = sample_arrays(name)
    file_sha256: tuple[tuple[str, str], ...] = ()
    if name == "cifar10":
        batches = zip(
            [*np.split(arrays["train_images"], CIFAR_FILES), arrays["test_images"]],
            [*np.split(arrays["train_labels"], CIFAR_FILES), arrays["test_labels"]],
            strict=True,
        )
        file_sha256 = tuple((array_sha256(images), array_sha256(labels)) for images, labels in batches)
    return replace(
        CATALOG[name],
        shapes={part: array.shape for part, array in arrays.items()},
        sha256={part: array_sha256(array) for part, array in arrays.items()},
        file_sha256=file_sha256,
    )
