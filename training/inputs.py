"""Images held on the device, and their normalisation."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from common.errors import InputError
from data import Dataset, Split
from data.formats import Pixels

STATISTICS_BATCH = 512  # images
LARGEST_COPY = {"cpu": 1 << 28, "cuda": 1 << 30}  # bytes of a mapped array that is copied to the device
BATCH = 250  # images at once, of small ones; larger batches are hardly faster on a processor
VALUES_AT_ONCE = 2**22  # of larger ones, so that memory stays bounded


def batch_size(shape: Sequence[int]) -> int:
    """Return the number of images (C, H, W) that are explained or classified at once."""
    return min(BATCH, max(1, VALUES_AT_ONCE // math.prod(shape)))


class Inputs(Protocol):
    """Inputs of a network in batches, normalised and not augmented.

    Attributes:
        border: (C,) float32, the value around an image that a random crop shifts.
    """

    border: Tensor

    def __len__(self) -> int: ...

    def batch(self, index: Tensor) -> Tensor:
        """(n,) int64 on the device -> (n, C, H, W) float32."""


@dataclass(frozen=True)
class Normalisation:
    """x -> (x/255 − mean) / std per channel, with the training set's statistics.

    A channel that is constant in all training images has std 1.

    Attributes:
        mean_pixel: (C,), the mean pixel as the network sees it; None for zeros, the training set's own.
    """

    mean: Tensor
    std: Tensor
    mean_pixel: Tensor | None = None

    @classmethod
    def of_network(
        cls, mean: Sequence[float], std: Sequence[float], images: Pixels, device: torch.device
    ) -> "Normalisation":
        """Return the normalisation of somebody's network; the mean pixel is that of `images` (N, H, W, C) uint8."""
        known_mean, known_std, pixel = (
            torch.tensor(values, dtype=torch.float32, device=device)
            for values in (mean, std, channel_statistics(images)[0])
        )
        return cls(known_mean, known_std, (pixel - known_mean) / known_std)

    @classmethod
    def from_dataset(cls, dataset: Dataset, device: torch.device) -> "Normalisation":
        mean, std = channel_statistics(dataset.train.images)
        positive = [value or 1.0 for value in std]
        return cls(*(torch.tensor(values, dtype=torch.float32, device=device) for values in (mean, positive)))

    def __call__(self, images: Tensor) -> Tensor:
        """(n, C, H, W) uint8 -> float32, bit-identical on every device."""
        if images.device.type == "cpu":
            return self._normalise(images, self.mean, self.std)
        return self.look_up(images)

    def look_up(self, images: Tensor) -> Tensor:
        """Normalise by a table made on the CPU, since a GPU's division rounds differently."""
        channel = torch.arange(len(self.mean), device=images.device).view(-1, 1, 1)
        return self._table[channel, images.long()].contiguous(memory_format=torch.channels_last)

    @cached_property
    def _table(self) -> Tensor:
        """(C, 256): the normalised value of each level."""
        levels = torch.arange(256, dtype=torch.uint8).view(1, 1, 1, -1).expand(1, len(self.mean), 1, -1)
        return self._normalise(levels, self.mean.cpu(), self.std.cpu())[0, :, 0].to(self.mean.device)

    @staticmethod
    def _normalise(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
        return (images.float() / 255 - mean.view(-1, 1, 1)) / std.view(-1, 1, 1)

    @property
    def black(self) -> Tensor:
        """(C,): the normalised value of a black pixel."""
        return -self.mean / self.std

    @property
    def pixels(self) -> dict[str, Tensor]:
        """The "black" and the "mean" pixel (C,), as the network sees them."""
        return {name: self.fill(name) for name in ("black", "mean")}

    def fill(self, name: str) -> Tensor:
        """Return the normalised value (C,) of a "black" or a "mean" pixel."""
        if name == "black":
            return self.black
        return torch.zeros_like(self.mean) if self.mean_pixel is None else self.mean_pixel


def channel_statistics(images: Pixels) -> tuple[list[float], list[float]]:
    """Return the exact mean and standard deviation per channel of (N, H, W, C) uint8 images, in units of 255."""
    if not len(images):
        raise InputError("there are no training images, whose mean and deviation are needed: leave out --split=test")
    levels = np.arange(256) / 255
    frequencies = np.zeros((images.shape[-1], 256), np.int64)
    for start in range(0, len(images), STATISTICS_BATCH):
        for channel, counts in enumerate(frequencies):
            counts += np.bincount(images[start : start + STATISTICS_BATCH, ..., channel].ravel(), minlength=256)
    means, stds = [], []
    for shares in frequencies / frequencies[0].sum():
        means.append(float(shares @ levels))
        stds.append(float(np.sqrt(shares @ (levels - means[-1]) ** 2)))
    return means, stds


class Images:
    """The images of a split, normalised batch by batch.

    They are uint8 on the device; large ones that are mapped from a file stay there, and only batches are copied.
    """

    def __init__(self, split: Split, normalisation: Normalisation, device: torch.device) -> None:
        limit = LARGEST_COPY.get(device.type, LARGEST_COPY["cpu"])
        self.is_mapped = isinstance(split.images, np.memmap) and split.images.nbytes > limit
        self.rows, self.device = split.images, device
        if not self.is_mapped:
            self.images = torch.tensor(split.images, device=device).permute(0, 3, 1, 2)  # NHWC is channels_last
        self.normalisation = normalisation
        self.border = normalisation.black

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, index: Tensor) -> Tensor:
        if not self.is_mapped:
            return self.normalisation(self.images[index])
        rows = torch.from_numpy(np.ascontiguousarray(self.rows[index.cpu().numpy()]))
        return self.normalisation(rows.to(self.device).permute(0, 3, 1, 2))


class TensorInputs:
    """Inputs (N, C, H, W) that are already as the network sees them."""

    def __init__(self, images: Tensor, border: Tensor) -> None:
        self.images, self.border = images, border

    def __len__(self) -> int:
        return len(self.images)

    def batch(self, index: Tensor) -> Tensor:
        return self.images[index]


def load_labels(split: Split, device: torch.device) -> Tensor:
    """Return the labels (N,) int64 on the device."""
    return torch.from_numpy(split.labels).to(device)
