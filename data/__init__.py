"""Images: MNIST, CIFAR-10, generated images with planted features, and image folders, as verified arrays."""

from data.catalog import CATALOG
from data.load import DATA_DIR, Dataset, Split, dataset_info, dataset_sha256, load_dataset

DATASETS = tuple(name for name, entry in CATALOG.items() if entry.files)
GENERATED = tuple(name for name in CATALOG if name not in DATASETS)

__all__ = ["DATASETS", "DATA_DIR", "GENERATED", "Dataset", "Split", "dataset_info", "dataset_sha256", "load_dataset"]
