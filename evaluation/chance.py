"""Chance: the accuracy of a predictor that always answers the most frequent class."""

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import numpy as np
import numpy.typing as npt

from common.command import cached_for_command
from common.errors import InputError
from data import dataset_info, dataset_sha256, load_dataset
from data.catalog import CIFAR10, MNIST, PLANTED, DatasetInfo
from data.folders import is_folder
from data.load import missing_files

MOST_FREQUENT = {  # sum of the test labels -> test images of the most frequent class
    MNIST.sha256["test_labels"]: 1135,
    CIFAR10.sha256["test_labels"]: 1000,
    PLANTED.sha256["test_labels"]: 200,
}


def chance_of(labels: npt.ArrayLike) -> float:
    """Return the share of the most frequent class among `labels` (N,); 0 where there is none."""
    counts = np.unique(np.asarray(labels), return_counts=True)[1]
    return float(counts.max() / counts.sum()) if len(counts) else 0.0


def chance_level(
    recorded: Iterable[float | None], dataset: str, expected_sha256: str, limit_test: int | None, data_dir: Path
) -> float | None:
    """Return chance on the test images of some records.

    Older records lack it: then it is counted in the labels, or is that of the whole published test set if the data are
    missing. None for an image folder that is missing, or has other images now.

    Args:
        recorded: the values in the records.
        expected_sha256: the sum of the data set in the records.
    """
    for level in recorded:
        if level is not None:
            return level
    info = known_dataset_info(dataset, expected_sha256)
    if info is None:
        return None
    total = info.shapes["test_labels"][0]
    most = MOST_FREQUENT.get(info.sha256["test_labels"])
    is_counted = most is None or (limit_test is not None and limit_test < total)
    if is_counted and not missing_files(info, data_dir) and (counted := _counted(dataset, limit_test, data_dir)):
        return counted
    return most / total if most else None


@cached_for_command
def _counted(dataset: str, limit_test: int | None, data_dir: Path) -> float | None:
    with suppress(InputError):
        return chance_of(load_dataset(dataset, data_dir).test.subset(limit_test).labels)
    return None


def known_dataset_info(dataset: str, expected_sha256: str | None = None) -> DatasetInfo | None:
    """Return the information on a data set; None for an image folder that is missing.

    Args:
        expected_sha256: an image folder with another sum is another data set.
    """
    with suppress(InputError, OSError):
        if expected_sha256 is None or not is_folder(dataset) or dataset_sha256(dataset) == expected_sha256:
            return dataset_info(dataset)
    return None
