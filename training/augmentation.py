"""Random crops and flips of a whole batch at once."""

import torch
from torch import Generator, Tensor

from training.recipe import Recipe


def sample_augmentation(recipe: Recipe, images: int, generator: Generator, device: torch.device) -> tuple[Tensor, ...]:
    """Sample the shift of each of `images` images, (N, 2) int64, and if the recipe flips, its flip, (N,) bool.

    The CPU samples, so that all devices get the same numbers.
    """
    shifts = torch.randint(0, 2 * recipe.crop + 1, (2, images), generator=generator).T.contiguous()
    flips = [torch.rand(images, generator=generator) < 0.5] if recipe.flip else []
    return tuple(samples.to(device) for samples in (shifts, *flips))


def augment(images: Tensor, border: Tensor, crop: int, shifts: Tensor, flips: Tensor | None = None) -> Tensor:
    """Flip and shift `images` (n, C, H, W) by the results of `sample_augmentation`."""
    if flips is not None:
        images = torch.where(flips.view(-1, 1, 1, 1), images.flip(3), images)
    return shift(images, shifts, crop, border) if crop else images


def shift(images: Tensor, shifts: Tensor, crop: int, border: Tensor) -> Tensor:
    """Return the H×W window of each bordered image that begins at its shift.

    Args:
        images: (n, C, H, W).
        shifts: (n, 2) int64, row and column, each in 0 … 2·crop; `crop` leaves an image in place.
        border: (C,) colour of the `crop` pixels around each image.
    """
    n, channels, height, width = images.shape
    bordered = border.view(1, -1, 1, 1).expand(n, channels, height + 2 * crop, width + 2 * crop).clone()
    bordered[:, :, crop : crop + height, crop : crop + width] = images
    windows = bordered.unfold(2, height, 1).unfold(3, width, 1)
    return windows[torch.arange(n, device=images.device), :, shifts[:, 0], shifts[:, 1]]
