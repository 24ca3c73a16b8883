"""MNIST and CIFAR-10, got, verified and held as plain arrays; and planted features, made here."""

from datasets.catalog import CATALOG
from datasets.load import DATA_DIR, Dataset, Split, dataset_sum, entry_of, load_dataset

DATASETS = tuple(name for name, entry in CATALOG.items() if entry.files)
GENERATED = tuple(name for name in CATALOG if name not in DATASETS)

__all__ = ["DATASETS", "DATA_DIR", "GENERATED", "Dataset", "Split", "dataset_sum", "entry_of", "load_dataset"]
