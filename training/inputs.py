"""Images held on the device, and what a network gets to see of them."""

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from data import Dataset, Split
from data.formats import Pixels


class Inputs(Protocol):
    """What a network is trained on: batches by index, already as the network sees them at test time."""

    border: Tensor
    """(C,) float32: what lies around an image when it is shifted by the random crop."""

    def __len__(self) -> int: ...

    def batch(self, index: Tensor) -> Tensor:
        """(n,) int64 on the device -> (n, C, H, W) float32."""
        ...


@dataclass(frozen=True)
class Normalisation:
    """x -> (x/255 − mean) / std per channel, with the training set's statistics. The mean image becomes 0.

    A channel that has one value in all training images has no spread to divide by: its std is taken as 1, so that it
    becomes 0 there, and another value in a test image stays finite and in units of 255.
    """

    mean: Tensor
    std: Tensor

    @classmethod
    def of(cls, dataset: Dataset, device: torch.device) -> "Normalisation":
        mean, std = channel_statistics(dataset.train.images)
        spread = [one or 1.0 for one in std]
        return cls(*(torch.tensor(values, dtype=torch.float32, device=device) for values in (mean, spread)))

    def __call__(self, images: Tensor) -> Tensor:
        """(n, C, H, W) uint8 -> float32; bit by bit the same on every device."""
        if images.device.type == "cpu":
            return self._of_levels(images, self.mean, self.std)
        return self.looked_up(images)

    def looked_up(self, images: Tensor) -> Tensor:
        """The same from a table made on the CPU: a GPU divides by multiplying, and rounds otherwise."""
        channel = torch.arange(len(self.mean), device=images.device).view(-1, 1, 1)
        return self._table[channel, images.long()].contiguous(memory_format=torch.channels_last)

    @cached_property
    def _table(self) -> Tensor:
        """(C, 256): what each level becomes."""
        levels = torch.arange(256, dtype=torch.uint8).view(1, 1, 1, -1).expand(1, len(self.mean), 1, -1)
        return self._of_levels(levels, self.mean.cpu(), self.std.cpu())[0, :, 0].to(self.mean.device)

    @staticmethod
    def _of_levels(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
        return (images.float() / 255 - mean.view(-1, 1, 1)) / std.view(-1, 1, 1)

    @property
    def black(self) -> Tensor:
        """(C,): what a black pixel becomes."""
        return -self.mean / self.std

    def fill(self, name: str) -> Tensor:
        """(C,): what a "black" or a "mean" pixel becomes; the training set's mean per channel is 0."""
        return self.black if name == "black" else torch.zeros_like(self.mean)


def channel_statistics(images: Pixels) -> tuple[list[float], list[float]]:
    """Exact mean and standard deviation per channel of (N, H, W, C) uint8 images, in units of 255."""
    levels = np.arange(256) / 255
    means, stds = [], []
    for channel in range(images.shape[-1]):
        share = np.bincount(images[..., channel].ravel(), minlength=256) / images[..., channel].size
        mean = float(share @ levels)
        means.append(mean)
        stds.append(float(np.sqrt(share @ (levels - mean) ** 2)))
    return means, stds


class Images:
    """The images of a split on the device as uint8, normalised batch by batch."""

    def __init__(self, split: Split, normalisation: Normalisation, device: torch.device) -> None:
        held = torch.tensor(split.images, device=device)
        self.images = held.permute(0, 3, 1, 2)  # NHWC in memory is channels_last
        self.normalisation = normalisation
        self.border = normalisation.black

    def __len__(self) -> int:
        return len(self.images)

    def batch(self, index: Tensor) -> Tensor:
        return self.normalisation(self.images[index])


def labels_of(split: Split, device: torch.device) -> Tensor:
    """(N,) int64 on the device."""
    return torch.from_numpy(split.labels).to(device)
