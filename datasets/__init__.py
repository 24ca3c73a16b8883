"""MNIST and CIFAR-10: got, verified and held as plain arrays."""

from datasets.catalog import CATALOG
from datasets.load import DATA_DIR, Dataset, Split, dataset_sum, load_dataset

DATASETS = tuple(CATALOG)

__all__ = ["DATASETS", "DATA_DIR", "Dataset", "Split", "dataset_sum", "load_dataset"]
