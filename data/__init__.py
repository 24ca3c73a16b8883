"""MNIST and CIFAR-10, got, verified and held as plain arrays; and planted features, made here."""

from data.catalog import CATALOG
from data.load import DATA_DIR, Dataset, Split, dataset_info, dataset_sum, load_dataset

DATASETS = tuple(name for name, entry in CATALOG.items() if entry.files)
GENERATED = tuple(name for name in CATALOG if name not in DATASETS)

__all__ = ["DATASETS", "DATA_DIR", "GENERATED", "Dataset", "Split", "dataset_info", "dataset_sum", "load_dataset"]
