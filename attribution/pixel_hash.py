"""Random numbers as a function of image and position, the same on every device and in every order."""

import zlib

import torch
from torch import Tensor

_MASK = 0xFFFFFFFF


def hash32(values: Tensor) -> Tensor:
    """Return a bijection of 32-bit integers that leaves no pattern ("lowbias32" of C. Wellons, public domain).

    `values` are int64, of which the lower 32 bits count; the result is int64 in 0 … 2³² − 1.
    """
    x = values & _MASK  # changed in place from here on, which is several times as fast
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        x ^= x >> shift
        x *= factor
        x &= _MASK
    x ^= x >> 16
    return x


def pixel_hash(image: Tensor, positions: int, seed: int) -> Tensor:
    """Return a random number for each position of each image, (N, positions) int64 in 0 … 2³² − 1.

    Args:
        image: (N,) int64, a number that stands for the image.
    """
    of_image = hash32(hash32(image + (seed * 0x9E3779B9 & _MASK)) ^ (seed & _MASK))
    of_position = hash32(torch.arange(positions, device=image.device) + 0x5BD1E995)
    return hash32(of_image.view(-1, 1) ^ of_position)


def image_number(inputs: Tensor) -> Tensor:
    """Return a number for each of (N, C, H, W), a function of its pixels alone: (N,) int64 below 2³²."""
    pixels = inputs.detach().float().cpu().contiguous().numpy()
    numbers = [zlib.crc32(image.tobytes()) for image in pixels]
    return torch.tensor(numbers, dtype=torch.int64, device=inputs.device)
