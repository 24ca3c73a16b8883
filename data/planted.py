"""Planted features: images in which a known block of pixels carries the class, and nothing else does.

Every pixel is uniform noise of one width. In the block it lies around one of two levels, by a pattern of its class;
elsewhere around the middle. What a map should say of such an image is known, so that an evaluation can be tested.
"""

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]

SIZE = 16
BLOCK = slice(5, 11)  # rows and columns
CLASSES = 10
IMAGES = {"train": 6000, "test": 2000}
LEVEL, AMPLITUDE, NOISE = 128, 40, 87
SEED = 0


def informative() -> npt.NDArray[np.bool_]:
    """(H, W): True where the class is."""
    where = np.zeros((SIZE, SIZE), bool)
    where[BLOCK, BLOCK] = True
    return where


def planted_arrays() -> dict[str, Pixels]:
    """The four arrays of the data set: images (N, H, W) and labels (N,), always the same."""
    random = np.random.Generator(np.random.PCG64(SEED))
    side = BLOCK.stop - BLOCK.start
    patterns = random.integers(0, 2, (CLASSES, side, side)) * 2 - 1
    arrays: dict[str, Pixels] = {}
    for split, count in IMAGES.items():
        labels = random.permutation(np.arange(count) % CLASSES)
        images = LEVEL + random.integers(-NOISE, NOISE + 1, (count, SIZE, SIZE))
        images[:, BLOCK, BLOCK] += AMPLITUDE * patterns[labels]
        arrays[f"{split}_images"] = images.astype(np.uint8)
        arrays[f"{split}_labels"] = labels.astype(np.uint8)
    return arrays
