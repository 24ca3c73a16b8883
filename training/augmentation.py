"""Random crop and flip of a whole batch at once, with parameters drawn per image."""

import torch
from torch import Generator, Tensor

from training.recipe import Recipe


class Augmentation:
    """Draws for a whole epoch beforehand, on the CPU, so that every device sees the same draws."""

    def __init__(self, recipe: Recipe, images: int, generator: Generator, device: torch.device) -> None:
        self.crop = recipe.crop
        self.shifts = torch.randint(0, 2 * recipe.crop + 1, (2, images), generator=generator).to(device)
        flips = torch.rand(images, generator=generator) < 0.5 if recipe.flip else None
        self.flips = None if flips is None else flips.to(device)

    def __call__(self, images: Tensor, rows: slice, border: Tensor) -> Tensor:
        """Augment `images` (n, C, H, W) with the draws `rows` of the epoch."""
        if self.flips is not None:
            images = torch.where(self.flips[rows].view(-1, 1, 1, 1), images.flip(3), images)
        return shifted(images, self.shifts[:, rows], self.crop, border) if self.crop else images


def shifted(images: Tensor, shifts: Tensor, crop: int, border: Tensor) -> Tensor:
    """The H×W window of each bordered image that begins at its shift.

    Args:
        images: (n, C, H, W).
        shifts: (2, n) int64, row and column, each in 0 … 2·crop; `crop` leaves an image where it is.
        border: (C,) colour of the `crop` pixels around each image.
    """
    n, channels, height, width = images.shape
    bordered = border.view(1, -1, 1, 1).expand(n, channels, height + 2 * crop, width + 2 * crop).clone()
    bordered[:, :, crop : crop + height, crop : crop + width] = images
    windows = bordered.unfold(2, height, 1).unfold(3, width, 1)
    return windows[torch.arange(n, device=images.device), :, shifts[0], shifts[1]]
