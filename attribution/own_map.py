"""The trial of a method that was not written here: the map of an image is its own."""

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from common.errors import InputError

TOLERANCE = 0.05  # relative: far above rounding, far below what other images do to a map
CONTRASTS = (1.0, 4.0, 0.25)  # of the images of noise on which a method is tried


def require_own_map(
    explain: Callable[[Tensor, Tensor], tuple[Tensor, bool]], image: Tensor, target: Tensor, classes: int, place: str
) -> bool:
    """Explain images of noise, alone and together, and return whether the method is random.

    Args:
        explain: images and targets -> maps, with generators seeded by the first image, and whether it drew from them.
        image: (1, C, H, W), whose shape and type the noise has.
        place: names the method.

    Raises:
        InputError: an image has another map beside another image (for a random method: beside a third instead of a
            second one, with the same random numbers), or in another call.
    """
    first, second, third = (noise_like(image, seed, contrast) for seed, contrast in enumerate(CONTRASTS))
    other = (target + 1) % classes

    def pair(one: Tensor, two: Tensor) -> Tensor:
        return explain(torch.cat([one, two]), torch.cat([target, other]))[0]

    with quiet():
        (alone, is_random), together = explain(first, target), pair(first, second)
        if is_random:
            pairs = [(together[:1], pair(first, third)[:1])]
        else:
            pairs = [(together[:1], alone), (together[1:], explain(second, other)[0])]
        is_independent = all(is_close(*each) for each in pairs)
        if (is_random or not is_independent) and not is_close(alone, explain(first, target)[0]):
            raise InputError(
                f"{place} gives an image another map in each call: let it draw random numbers from the global "
                "generators of torch, numpy or random, which are seeded here for each image"
            )
    if not is_independent:
        raise InputError(
            f"{place} gives an image another map when other images are explained beside it: a method must "
            "explain each image by itself; a function make(model) of your own can call it image by image"
        )
    return is_random


@contextmanager
def quiet() -> Iterator[None]:
    """Silence `warnings` and warnings of `logging` in the `with` block."""
    before = logging.root.manager.disable
    logging.disable(max(before, logging.WARNING))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def noise_like(image: Tensor, seed: int, contrast: float) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (contrast * torch.randn(image.shape, generator=generator)).to(image.device, image.dtype)


def is_close(maps: Tensor, others: Tensor) -> bool:
    """Return whether maps are equal up to rounding."""
    if maps.shape != others.shape:
        return False
    first, second = maps.double(), others.double()
    return bool((first - second).norm() <= TOLERANCE * max(first.norm(), second.norm()))
