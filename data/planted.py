"""Planted features: generated images of which only a known block of pixels depends on the class.

Each pixel is uniform noise of the same width, around either of two levels in the block (a pattern for each class) and
around the middle elsewhere. The ideal map of such an image is known, so that evaluations can be tested.
"""

import numpy as np
import numpy.typing as npt

from data.formats import Pixels

SIZE = 16
BLOCK = slice(5, 11)  # rows and columns
CLASSES = 10
IMAGES = {"train": 6000, "test": 2000}
LEVEL, AMPLITUDE, NOISE = 128, 40, 87
SEED = 0


def informative() -> npt.NDArray[np.bool_]:
    """Return (H, W), True in the block."""
    mask = np.zeros((SIZE, SIZE), bool)
    mask[BLOCK, BLOCK] = True
    return mask


def planted_arrays() -> dict[str, Pixels]:
    """Generate the arrays of the data set, always the same: images (N, H, W) and labels (N,)."""
    random, side = np.random.Generator(np.random.PCG64(SEED)), BLOCK.stop - BLOCK.start
    patterns = random.integers(0, 2, (CLASSES, side, side)) * 2 - 1
    arrays: dict[str, Pixels] = {}
    for split, count in IMAGES.items():
        labels = random.permutation(np.arange(count) % CLASSES)
        images = LEVEL + random.integers(-NOISE, NOISE + 1, (count, SIZE, SIZE))
        images[:, BLOCK, BLOCK] += AMPLITUDE * patterns[labels]
        arrays[f"{split}_images"] = images.astype(np.uint8)
        arrays[f"{split}_labels"] = labels.astype(np.uint8)
    return arrays
