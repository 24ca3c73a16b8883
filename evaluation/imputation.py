"""Noisy linear imputation of removed pixels (Rong et al., ICML 2022, arXiv 2202.00449, section 5.3).

Each removed pixel is the weighted mean of its eight neighbours: 1/6 for those beside it, 1/12 for the diagonal ones,
less what lies outside the image. These equations form one symmetric, positive definite system for each image and
channel; all of them are solved together by conjugate gradients (Hestenes and Stiefel 1952) in tensor operations.
"""

import time

import torch
import torch.nn.functional as F
from torch import Tensor

from attribution.ensembles import normal
from attribution.pixel_hash import image_number

BESIDE, DIAGONAL = 1 / 6, 1 / 12
NOISE = 0.01  # standard deviation, in units of the images
NOISE_SEED = 0
TOLERANCE = 1e-6  # of the residual, relative to the right-hand side
ITERATIONS = 1000
TIMED = 200  # images


def neighbour_mean(values: Tensor) -> Tensor:
    """Σ_j w_ij x_j over the neighbours j inside the image: (N, C, H, W) -> the same shape."""
    kernel = values.new_tensor([[DIAGONAL, BESIDE, DIAGONAL], [BESIDE, 0, BESIDE], [DIAGONAL, BESIDE, DIAGONAL]])
    n, channels, height, width = values.shape
    planes = values.reshape(n * channels, 1, height, width)
    return F.conv2d(planes, kernel.view(1, 1, 3, 3), padding=1).view_as(values)


def impute(images: Tensor, removed: Tensor) -> Tensor:
    """The images with their removed pixels filled in, without noise.

    Args:
        images: (N, C, H, W) float; what they hold at removed pixels has no influence.
        removed: (N, 1 | C, H, W) bool; some pixel of each channel must be left.

    Returns:
        (N, C, H, W).
    """
    removed = removed.expand_as(images)
    known = images.masked_fill(removed, 0)
    weight = neighbour_mean(torch.ones_like(images))

    def product(x: Tensor) -> Tensor:
        return (weight * x - neighbour_mean(x)).masked_fill(~removed, 0)

    def dot(a: Tensor, b: Tensor) -> Tensor:
        return (a * b).sum(dim=(2, 3), keepdim=True)

    right = neighbour_mean(known).masked_fill(~removed, 0)
    x = torch.zeros_like(images)
    residual, direction = right.clone(), right.clone()
    squared = dot(residual, residual)
    enough = TOLERANCE**2 * squared
    for _ in range(ITERATIONS):
        active = squared > enough  # the others are finished, and stay as they are: no image depends on its batch
        if not active.any():
            break
        image = product(direction)
        step = torch.where(active, squared / dot(direction, image).where(active, 1), 0)
        x += step * direction
        residual -= step * image
        new = torch.where(active, dot(residual, residual), squared)
        direction = torch.where(active, residual + new / squared.where(active, 1) * direction, direction)
        squared = new
    return torch.where(removed, x, images)


def noisy_impute(images: Tensor, removed: Tensor, noise: float = NOISE, seed: int = NOISE_SEED) -> Tensor:
    """`impute`, and normal noise at the removed pixels, which is a function of the image's pixels and the seed."""
    noises = normal(image_number(images), images[0].numel(), seed).view_as(images)
    return torch.where(removed, impute(images, removed) + noise * noises, images)


def imputation_seconds(shape: tuple[int, int, int], device: torch.device) -> float:
    """How long the imputation of one image (C, H, W) takes here, half of its pixels removed: measured."""
    generator = torch.Generator().manual_seed(0)
    images, removed = (torch.rand(TIMED, channels, *shape[1:], generator=generator) for channels in (shape[0], 1))
    started = time.perf_counter()
    noisy_impute(images.to(device), (removed < 0.5).to(device)).sum().item()  # waits for the device
    return (time.perf_counter() - started) / TIMED
