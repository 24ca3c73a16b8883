"""Preprocessing that the caller gives: images and a black pixel as the network sees them."""

from collections.abc import Callable

import torch
from torch import Tensor

from attribution.random_state import watch_draws
from common.errors import InputError

Preprocessing = Callable[[Tensor], Tensor]


def images_seen(preprocessing: Preprocessing, images: Tensor) -> Tensor:
    """Return `images` (N, …) as the network sees them; the caller's own stay as they are.

    Raises:
        InputError: the preprocessing draws random numbers.
    """
    with watch_draws(images.device) as draws:
        seen = preprocessing(images.clone())
    if draws.any:
        raise InputError(
            "the preprocessing draws random numbers, as augmentations do: give the one with which the network is tested"
        )
    return seen


def black_seen(preprocessing: Preprocessing, images: Tensor) -> Tensor:
    """Return a black pixel (C,) as the network sees it, for images (N, C, H, W) in 0 … 1.

    Where the pixels of a black image differ, as behind the subtraction of a mean image, it is the image (C, H, W).
    """
    black = images_seen(preprocessing, images.new_zeros(1, *images.shape[1:]))[0]
    pixel = black[:, 0, 0]
    return pixel if torch.equal(black, pixel.view(-1, 1, 1).expand_as(black)) else black
