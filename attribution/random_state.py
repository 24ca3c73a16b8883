"""The global random generators, seeded for one image and left as they were."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from attribution.pixel_hash import image_number, pixel_hash

SEED = 0


@dataclass
class Draws:
    """Whether random numbers were drawn in a `seeded_by` block; known after it."""

    any: bool = False


@contextmanager
def seeded_by(image: Tensor) -> Iterator[Draws]:
    """Seed the generators of torch, numpy and random by an image's pixels in the `with` block, and restore them.

    Args:
        image: (1, C, H, W).
    """
    seed = int(pixel_hash(image_number(image), 1, SEED))
    devices = [image.device.index or 0] if image.device.type == "cuda" else []
    of_numpy, of_python = np.random.get_state(), random.getstate()  # noqa: NPY002, the generators of others
    draws = Draws()
    with torch.random.fork_rng(devices=devices):
        try:
            torch.default_generator.manual_seed(seed)
            for device in devices:
                torch.cuda.default_generators[device].manual_seed(seed)
            np.random.seed(seed)  # noqa: NPY002
            random.seed(seed)
            before = _state(devices)
            yield draws
            draws.any = _state(devices) != before
        finally:
            np.random.set_state(of_numpy)  # noqa: NPY002
            random.setstate(of_python)


def _state(devices: list[int]) -> list[Any]:
    of_torch = [torch.get_rng_state(), *map(torch.cuda.get_rng_state, devices)]
    _name, keys, *others = np.random.get_state()  # noqa: NPY002
    return [*(state.numpy().tobytes() for state in of_torch), np.asarray(keys).tobytes(), others, random.getstate()]
