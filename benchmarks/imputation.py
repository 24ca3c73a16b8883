"""Accuracy and speed of the batched imputation, beside a sparse direct solve of each image.

`python -m benchmarks.imputation` prints a table and writes `results/benchmarks/imputation.json`.
"""

import statistics
import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from scipy.sparse import csc_matrix, lil_matrix
from scipy.sparse.linalg import spsolve
from torch import Tensor

from benchmarks.timing import goal_cell, parser_of, published, wait_for
from data import DATASETS, load_dataset
from evaluation.imputation import BESIDE, DIAGONAL, impute, impute_by_gradients
from evaluation.masking import Removal, ranks
from training.device import device_name, resolve_device

GOAL = 50.0
IMAGES = 64  # solved one by one, and compared
TOGETHER = 1000  # solved as a batch, as the evaluations do
RATIOS = (0.1, 0.5, 0.9)
REPEATS, DIRECT_REPEATS = 7, 3
Array = npt.NDArray[np.float64]
OFFSETS = [
    (down, across, DIAGONAL if down and across else BESIDE)
    for down in (-1, 0, 1)
    for across in (-1, 0, 1)
    if down or across
]


def solved_per_image(image: Array, removed: npt.NDArray[np.bool_]) -> Array:
    """One image (C, H, W) by a sparse direct solve for all its channels, the matrix filled neighbour by neighbour."""
    channels, height, width = image.shape
    places = np.flatnonzero(removed)
    number = np.full(height * width, -1)
    number[places] = np.arange(len(places))
    rows, columns = np.divmod(places, width)
    flat = image.reshape(channels, -1).T
    matrix, right = lil_matrix((len(places), len(places))), np.zeros((len(places), channels))
    diagonal = np.zeros(len(places))
    for down, across, weight in OFFSETS:
        inside = (rows + down >= 0) & (rows + down < height) & (columns + across >= 0) & (columns + across < width)
        equation = np.flatnonzero(inside)
        neighbour = (rows + down)[inside] * width + (columns + across)[inside]
        diagonal[equation] += weight
        unknown = number[neighbour] >= 0
        matrix[equation[unknown], number[neighbour[unknown]]] = -weight
        right[equation[~unknown]] += weight * flat[neighbour[~unknown]]
    matrix.setdiag(diagonal)
    filled = flat.copy()
    filled[places] = spsolve(csc_matrix(matrix), right).reshape(len(places), channels)
    return filled.T.reshape(image.shape)


def orders(images: Tensor) -> dict[str, Tensor]:
    """Ranks (N, 1, H, W): pixels scattered at random, and from the middle outwards."""
    count, _channels, height, width = images.shape
    index = torch.arange(count)
    random = torch.rand(count, 1, height, width, generator=torch.Generator().manual_seed(0))
    down, across = (torch.linspace(-1, 1, size) for size in (height, width))
    middle = -(down.view(-1, 1) ** 2 + across**2).expand(count, 1, -1, -1)
    return {"scattered": ranks(random, index), "middle": ranks(middle.contiguous(), index)}


def seconds(work: Callable[[], object], repeats: int) -> float:
    """The median over `repeats`."""
    found = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        found.append(time.perf_counter() - started)
    return statistics.median(found)


def compared(images: Tensor, removed: Tensor, repeats: int, device: torch.device) -> dict[str, float]:
    """Time per image of both, their ratio, and the largest difference."""
    plain, masks = images[:IMAGES].double().numpy(), removed[:IMAGES].numpy()

    def one_by_one() -> Array:
        return np.stack([solved_per_image(image, mask[0]) for image, mask in zip(plain, masks, strict=True)])

    there = images.to(device), removed.to(device)

    def together(way: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        found = way(*there)
        wait_for(device)
        return found

    error = float(np.abs(together(impute)[:IMAGES].cpu().numpy() - one_by_one()).max())
    direct = seconds(one_by_one, DIRECT_REPEATS) / len(plain)
    batched = seconds(lambda: together(impute), repeats) / len(images)
    by_gradients = seconds(lambda: together(impute_by_gradients), 1) / len(images)
    return {
        "direct_ms": direct * 1000,
        "batched_ms": batched * 1000,
        "gradients_ms": by_gradients * 1000,
        "ratio": direct / batched,
        "error": error,
    }


def main() -> None:
    options = parser_of(__doc__, REPEATS).parse_args()
    device = resolve_device(options.device)
    head = ["data set", "removed", "pixels", "sparse solve, ms per image", "ours, ms per image"]
    head += ["by conjugate gradients, ms", "ratio", "largest error"]
    rows, found = [], []
    for name in DATASETS:
        test = load_dataset(name, options.data_dir).test.subset(TOGETHER)
        images = torch.from_numpy(test.images).permute(0, 3, 1, 2).float() / 255
        for ratio in RATIOS:
            for kind, order in orders(images).items():
                one = compared(images, Removal("MoRF", ratio).mask(order), options.repeats, device)
                found.append({"dataset": name, "ratio": ratio, "pixels": kind, **one})
                times = [f"{one['direct_ms']:.2f}", f"{one['batched_ms']:.4f}", f"{one['gradients_ms']:.3f}"]
                ratios = [goal_cell(one["ratio"], GOAL), f"{one['error']:.1e}"]
                rows.append([name, f"{ratio:.0%}", kind, *times, *ratios])
    title = f"Imputation: {IMAGES} images one by one, {TOGETHER:,} together; the largest error of the {IMAGES}"
    published("imputation", title, head, rows, {"device": device_name(device), "rows": found}, options.output_dir)


if __name__ == "__main__":
    main()
