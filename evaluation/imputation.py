"""Noisy linear imputation of removed pixels (Rong et al., ICML 2022, arXiv 2202.00449, section 5.3).

Each removed pixel is the weighted mean of its eight neighbours: 1/6 for those beside it, 1/12 for the diagonal ones,
without those outside the image. These equations form one symmetric, positive definite system for each image and
channel. On a GPU all of them are solved together by conjugate gradients (Hestenes and Stiefel 1952) in tensor
operations; on a CPU each image is solved directly if it is small (`evaluation.banded`), and by multigrid if it is large
(`evaluation.multigrid`).
"""

import math
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from attribution.ensembles import normal
from attribution.pixel_hash import image_number

BESIDE, DIAGONAL = 1 / 6, 1 / 12
NOISE = 0.01  # standard deviation, of images as the network sees them; Rong et al. add it before normalisation
NOISE_SEED = 0
TOLERANCE = 2e-6  # of the residual, relative to the right-hand side
PLANES_AT_ONCE = {"cpu": 128}  # more don't fit the processor's cache; a GPU takes all
ITERATIONS = 1000
WIDEST = 40  # pixels: the direct work grows with the fourth power of the size, that of multigrid with the second
AT_ONCE = 16  # images of one piece of work
_noises = WeakTensorKeyDictionary()
TIMED, TIMED_VALUES = 200, 2**22  # images; fewer of large ones


def neighbour_mean(planes: Tensor) -> Tensor:
    """Return Σ_j w_ij x_j over the neighbours j inside the image, for each plane of (1, B, H, W)."""
    kernel = planes.new_tensor([[DIAGONAL, BESIDE, DIAGONAL], [BESIDE, 0, BESIDE], [DIAGONAL, BESIDE, DIAGONAL]])
    count = planes.shape[1]
    return F.conv2d(planes, kernel.expand(count, 1, 3, 3), padding=1, groups=count)


def impute(images: Tensor, removed: Tensor) -> Tensor:
    """Fill the removed pixels in, without noise.

    Args:
        images: (N, C, H, W) float; their values at removed pixels have no influence.
        removed: (N, 1 | C, H, W) bool. A channel that has lost all pixels becomes 0.

    Returns:
        (N, C, H, W).
    """
    if len(images) == 0:
        return images.clone()
    solver = compiled_solver(images.shape[3] > WIDEST) if images.device.type == "cpu" else None
    if solver is None:
        return impute_by_gradients(images, removed)
    # numpy copies: PyTorch's threads would spin for a while on the cores that are needed now
    filled, (height, width) = images.detach().numpy().copy(order="C"), images.shape[2:]
    flat, gone = (
        filled.reshape(removed.shape[0] * removed.shape[1], -1, height * width),
        removed.flatten(2).flatten(0, 1),
    )
    fill_in(solver, flat, gone.numpy(), width)
    return torch.from_numpy(filled)


@cache
def compiled_solver(large: bool) -> Callable[[Any, Any, int], None] | None:
    """Return a `fill_in_group`, for large or small images; None where Numba is missing or cannot store compiled code.

    It changes images (N, K, H · W) in place: the K channels lose the pixels of the mask (N, H · W), and are 0 where all
    are removed.
    """
    try:  # here: Numba is heavy, and few commands impute
        if large:
            from evaluation.multigrid import fill_in_group
        else:
            from evaluation.banded import fill_in_group
    except (ImportError, RuntimeError):
        return None
    return fill_in_group


def fill_in(solver: Callable[[Any, Any, int], None], images: Any, removed: Any, width: int) -> None:
    """Fill the removed pixels in, with as many threads as PyTorch has."""
    threads = torch.get_num_threads()
    at_once = min(AT_ONCE, -(-len(images) // threads)) if width > WIDEST else AT_ONCE
    pieces = [slice(start, start + at_once) for start in range(0, len(images), at_once)]
    if min(len(pieces), threads) < 2:
        solver(images, removed, width)
        return
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda piece: solver(images[piece], removed[piece], width), pieces))


def impute_by_gradients(images: Tensor, removed: Tensor) -> Tensor:
    """`impute` by conjugate gradients on all images together."""
    removed = removed.expand_as(images)
    at_once = PLANES_AT_ONCE.get(images.device.type, images.shape[0] * images.shape[1])
    parts = zip(
        images.masked_fill(removed, 0).flatten(0, 1).split(at_once), removed.flatten(0, 1).split(at_once), strict=True
    )
    solution = torch.cat([_solve(known, unknown) for known, unknown in parts])
    return torch.where(removed, solution.view(images.shape), images)


def _solve(known: Tensor, unknown: Tensor) -> Tensor:
    """Return the values of the unknown pixels, 0 elsewhere, by conjugate gradients on all planes together.

    The planes are innermost in memory (channels last), so that every step reads it without gaps.

    Args:
        known: (B, H, W), 0 where unknown.
        unknown: (B, H, W) bool.
    """
    count, height, width = known.shape

    def innermost(planes: Tensor) -> Tensor:
        return planes.to(known.dtype).unsqueeze(0).contiguous(memory_format=torch.channels_last)

    def dot(a: Tensor, b: Tensor) -> Tensor:
        return (a * b).permute(0, 2, 3, 1).reshape(height * width, count).sum(dim=0)

    mask = innermost(unknown)
    weight = neighbour_mean(torch.ones_like(mask)) * mask
    residual = neighbour_mean(innermost(known)) * mask
    x, direction = torch.zeros_like(residual), residual.clone()
    squared = dot(residual, residual)
    enough = TOLERANCE**2 * squared
    for _ in range(ITERATIONS):
        active = squared > enough  # the others are finished and stay: no image depends on its batch
        if not active.any():
            break
        image = (weight * direction).addcmul_(mask, neighbour_mean(direction), value=-1)
        step = torch.where(active, squared / dot(direction, image).where(active, 1), 0).view(1, -1, 1, 1)
        x.addcmul_(step, direction)
        residual.addcmul_(step, image, value=-1)
        new = torch.where(active, dot(residual, residual), squared)
        share = torch.where(active, new / squared.where(active, 1), 0).view(1, -1, 1, 1)
        torch.addcmul(residual, direction, share, out=direction)
        squared = new
    return x[0].contiguous()


def noisy_impute(images: Tensor, removed: Tensor, noise: float = NOISE, seed: int = NOISE_SEED) -> Tensor:
    """`impute`, with normal noise at the removed pixels, a function of the image's pixels and the seed."""
    return torch.where(removed, impute(images, removed) + noise * image_noise(images, seed), images)


def image_noise(images: Tensor, seed: int) -> Tensor:
    """Return normal noise for (N, C, H, W). It is stored as long as the images live and don't change."""
    version = None if images.is_inference() else images._version
    stored = _noises.get(images)
    if stored is None or version is None or stored[:2] != (version, seed):
        stored = version, seed, normal(image_number(images), images.shape[1:].numel(), seed).view_as(images)
        _noises[images] = stored
    return stored[2]


def imputation_seconds(shape: tuple[int, int, int], device: torch.device) -> float:
    """Measure the seconds of the imputation of one image (C, H, W), half of its pixels removed."""
    generator = torch.Generator().manual_seed(0)
    count = min(TIMED, max(AT_ONCE, TIMED_VALUES // math.prod(shape)))
    images, removed = (torch.rand(count, channels, *shape[1:], generator=generator) for channels in (shape[0], 1))
    noisy_impute(images[:1].to(device), (removed[:1] < 0.5).to(device))  # compiles
    started = time.perf_counter()
    noisy_impute(images.to(device), (removed < 0.5).to(device)).sum().item()  # waits for the device
    return (time.perf_counter() - started) / count
