"""Random crop and flip of a whole batch at once, with parameters drawn per image."""

import torch
from torch import Generator, Tensor

from training.recipe import Recipe


def drawn(recipe: Recipe, images: int, generator: Generator, device: torch.device) -> tuple[Tensor, ...]:
    """For each of `images` images its shift, (N, 2) int64, and where the recipe flips whether it is, (N,) bool.

    Drawn on the CPU, so that every device sees the same draws.
    """
    shifts = torch.randint(0, 2 * recipe.crop + 1, (2, images), generator=generator).T.contiguous()
    flips = [torch.rand(images, generator=generator) < 0.5] if recipe.flip else []
    return tuple(draws.to(device) for draws in (shifts, *flips))


def augmented(images: Tensor, border: Tensor, crop: int, shifts: Tensor, flips: Tensor | None = None) -> Tensor:
    """`images` (n, C, H, W), flipped and shifted by what was `drawn` for them."""
    if flips is not None:
        images = torch.where(flips.view(-1, 1, 1, 1), images.flip(3), images)
    return shifted(images, shifts, crop, border) if crop else images


def shifted(images: Tensor, shifts: Tensor, crop: int, border: Tensor) -> Tensor:
    """The H×W window of each bordered image that begins at its shift.

    Args:
        images: (n, C, H, W).
        shifts: (n, 2) int64, row and column, each in 0 … 2·crop; `crop` leaves an image where it is.
        border: (C,) colour of the `crop` pixels around each image.
    """
    n, channels, height, width = images.shape
    bordered = border.view(1, -1, 1, 1).expand(n, channels, height + 2 * crop, width + 2 * crop).clone()
    bordered[:, :, crop : crop + height, crop : crop + width] = images
    windows = bordered.unfold(2, height, 1).unfold(3, width, 1)
    return windows[torch.arange(n, device=images.device), :, shifts[:, 0], shifts[:, 1]]
