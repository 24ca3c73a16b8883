"""Global random generators: seeded by an image, and watched for draws."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from attribution.pixel_hash import image_number, pixel_hash
from common.random_state import seeded

SEED = 0


@dataclass
class Draws:
    """`any` tells after a `with` block whether it drew random numbers."""

    any: bool = False


@contextmanager
def seeded_by(image: Tensor) -> Iterator[Draws]:
    """Seed the generators of torch, numpy and random by the pixels of `image` (1, …), and restore them afterwards."""
    with seeded(int(pixel_hash(image_number(image), 1, SEED))), watch_draws(image.device) as draws:
        yield draws


@contextmanager
def watch_draws(device: torch.device) -> Iterator[Draws]:
    """Notice whether the `with` block draws from a global generator that a network on `device` may use."""
    draws, before = Draws(), _states(device)
    yield draws
    draws.any = _states(device) != before


def _states(device: torch.device) -> list[Any]:
    """Return the generators' states, as values that can be compared."""
    _, numpy_keys, *numpy_rest = np.random.get_state()  # noqa: NPY002 (users' code draws from it)
    states = [torch.get_rng_state()] + ([torch.cuda.get_rng_state(device)] if device.type == "cuda" else [])
    arrays = [*(state.numpy() for state in states), np.asarray(numpy_keys)]
    return [*(array.tobytes() for array in arrays), numpy_rest, random.getstate()]
