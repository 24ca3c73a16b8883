"""Iterative solution of the imputation's equations for large images on the CPU, by Numba.

Conjugate gradients (Hestenes and Stiefel 1952) in double precision are preconditioned by a multigrid V-cycle in single
precision (Briggs, Henson and McCormick 2000, chapters 3 and 8). Each grid has every second row and column of the finer
one. Bilinear interpolation P, 0 at known pixels, carries corrections to the finer grid, and the coarse matrix is
Pᵀ A P, which again links a point to its eight neighbours. The smoother is one damped Jacobi sweep before and one after
the coarse correction. The work grows with the number of pixels: four to ten iterations suffice for any mask.

All grids lie behind one another in flat arrays, each with a margin of zeros, so that each point has its neighbours.
Blocks of points without a removed pixel are skipped, and stay 0.
"""

import numpy as np

from evaluation.banded import direct_work
from evaluation.banded import fill_in_group as fill_in_directly
from evaluation.multigrid_cycle import run_cycle, weigh_neighbours
from evaluation.multigrid_grids import BLOCK, LONGEST, Array, clear, coarsen, compiled, find_runs, link_removed

TOLERANCE = 5e-6  # of the estimated error before the last correction, relative to the range of the known pixels
ITERATIONS = 50
DIRECT = 600  # `direct_work` for each pixel, up to which the direct solution is faster


def fill_in_group(images: Array, removed: Array, width: int) -> None:
    """Fill in one image after the other, directly where that is faster: (N, K, H · W) and (N, H · W)."""
    pixels = removed.shape[1]
    direct = np.array([direct_work(gone, width) <= DIRECT * pixels for gone in removed])
    filled = images[direct]
    fill_in_directly(filled, removed[direct], width)
    images[direct] = filled
    system = None
    for n in np.flatnonzero(~direct):
        gone, image = removed[n].reshape(-1, width), images[n].reshape(-1, pixels // width, width)
        if gone.all():
            image[:] = 0
            continue
        system = system or System(*gone.shape)
        system.set_up(gone)
        for values in image:
            system.solve(values, gone)
        system.clear()


class System:
    """The equations of one image, in buffers that serve many images.

    Attributes:
        grids: height, width, first point and first row of each grid in the flat arrays, down to a single point.
        spans: of each row, from the first point with an equation to the last.
        runs, limits: start and stop of runs of blocks, and the number of runs before each grid.
        smoothing: the matrix's diagonal, and the factor of Jacobi's sweeps.
        links, exact: the matrix in single and in double precision.
        cycle: solutions before and after the coarse correction, and the right-hand side, of all grids.
    """

    def __init__(self, height: int, width: int) -> None:
        grids, point, row = [(height, width, (width + 2 + BLOCK) // BLOCK * BLOCK, 0)], 0, 0
        while height * width > 1:
            _, _, point, row = grids[-1]
            blocks = ((height + 2) * (width + 2) + BLOCK - 1) // BLOCK
            point, row = point + blocks * BLOCK, row + height
            height, width = (height + 1) // 2, (width + 1) // 2
            grids.append((height, width, point, row))
        self.grids = np.array(grids)
        height, width, start, _ = grids[0]
        points, self.stride = grids[-1][2] + start, width + 2
        fine = start + (height + 2) * self.stride + BLOCK + self.stride
        self.spans = np.zeros((grids[-1][3] + 1, 2), np.int64)
        self.runs, self.limits = np.zeros((points // BLOCK, 2), np.int64), np.zeros(len(grids) + 1, np.int64)
        self.mask, self.known = np.zeros(fine, np.float32), np.zeros(fine)
        self.smoothing, self.cycle = np.zeros((2, points), np.float32), np.zeros((3, points), np.float32)
        self.links, self.exact = np.zeros((4, points), np.float32), np.zeros((5, points))
        self.vectors = np.zeros((2, fine))
        self.solution, self.direction = self.vectors
        self.residual, self.image = np.zeros((2, fine))

    def set_up(self, gone: Array) -> None:
        """Write the equations of an image whose pixels `gone` (H, W) are removed."""
        height, width, start, _ = self.grids[0]
        grid = self.mask[start : start + (height + 2) * (width + 2)].reshape(height + 2, width + 2)
        grid[1:-1, 1:-1] = gone
        link_removed(self.grids[0], self.spans, self.mask, self.smoothing, self.exact)
        for fine, coarse in zip(self.grids[:-1], self.grids[1:], strict=True):
            coarsen(fine, coarse, self.spans, self.smoothing, self.links, self.exact)
        find_runs(self.grids, self.smoothing[1], self.runs, self.limits)

    def clear(self) -> None:
        """Make the buffers ready for the next image."""
        self.cycle[:] = 0
        for arrays in (self.smoothing, self.links, self.exact):
            clear(self.runs[: self.limits[-1]], arrays)

    def solve(self, values: Array, gone: Array) -> None:
        """Fill in the removed pixels of one channel (H, W) by conjugate gradients."""
        runs, first = self.runs[: self.limits[1]], self.grids[0, 2] + self.stride + 1
        middle, extent = _centre(values, gone, self.known[first:], self.stride)
        _weigh_known(self.known, self.mask, runs, self.stride, self.image, self.residual, self.cycle[2])
        before = 0.0
        for _ in range(ITERATIONS):
            run_cycle(
                *(self.grids, self.spans, self.runs, self.limits, self.mask, self.smoothing[0], self.smoothing[1]),
                *(self.links, self.cycle[0], self.cycle[1], self.cycle[2]),
            )
            product, largest = _product(self.residual, self.cycle[1], runs)
            if product == 0:
                break
            share = product / before if before else 0.0
            curvature = _search(
                *(self.cycle[1], share, self.smoothing[0], self.mask, runs, self.stride),
                *(self.direction, self.image),
            )
            before, step = product, product / curvature
            _advance(step, self.direction, self.image, runs, self.solution, self.residual, self.cycle[2])
            if largest <= TOLERANCE * extent:
                break
        _move(self.solution[first:], middle, values, gone, self.stride)
        clear(runs, self.vectors)


@compiled
def _centre(values: Array, gone: Array, known: Array, stride: int) -> tuple[float, float]:
    """Write the known pixels less their middle, and return the middle and the extent of their range."""
    least, most = np.full(values.shape[1], np.inf, values.dtype), np.full(values.shape[1], -np.inf, values.dtype)
    for row in range(len(values)):
        pixels, own = values[row], gone[row]
        for column in range(len(pixels)):
            least[column] = min(least[column], np.inf if own[column] else pixels[column])
            most[column] = max(most[column], -np.inf if own[column] else pixels[column])
    lowest, highest = float(least.min()), float(most.max())
    middle = (lowest + highest) / 2
    for row in range(len(values)):
        pixels, own, into = values[row], gone[row], known[row * stride :]
        for column in range(len(pixels)):
            into[column] = 0.0 if own[column] else pixels[column] - middle
    return middle, highest - lowest


@compiled
def _move(solution: Array, middle: float, values: Array, gone: Array, stride: int) -> None:
    """Write the solution to the removed pixels."""
    for row in range(len(values)):
        pixels, own, here = values[row], gone[row], solution[row * stride :]
        for column in range(len(pixels)):
            pixels[column] = here[column] + middle if own[column] else pixels[column]


@compiled
def _weigh_known(
    known: Array, mask: Array, runs: Array, stride: int, sums: Array, residual: Array, right: Array
) -> None:
    """Write the right-hand side of the equations."""
    for start, stop in runs:
        into, rounded = residual[start:], right[start:]
        weigh_neighbours(known, mask, sums, start, stop - start, stride, into)
        for j in range(stop - start):
            rounded[j] = into[j]


@compiled
def _product(residual: Array, correction: Array, runs: Array) -> tuple[float, float]:
    """Return the product of residual and correction, and the largest correction."""
    product, largest = 0.0, np.zeros(LONGEST, np.float32)
    for start, stop in runs:
        rest, z = residual[start:], correction[start:]
        for j in range(stop - start):
            product += rest[j] * z[j]
        for j in range(stop - start):
            largest[j] = max(largest[j], abs(z[j]))
    return product, largest.max()


@compiled
def _search(
    correction: Array,
    share: float,
    diagonal: Array,
    mask: Array,
    runs: Array,
    stride: int,
    direction: Array,
    image: Array,
) -> float:
    """Write the next direction and its image A · direction, and return the product of both."""
    curvature, sums = 0.0, np.zeros(2 * LONGEST)
    for start, stop in runs:
        towards, z = direction[start:], correction[start:]
        for j in range(stop - start):
            towards[j] = z[j] + share * towards[j]
    for start, stop in runs:
        into, towards, own = image[start:], direction[start:], diagonal[start:]
        weigh_neighbours(direction, mask, sums, start, stop - start, stride, into)
        for j in range(stop - start):
            into[j] = own[j] * towards[j] - into[j]
            curvature += into[j] * towards[j]
    return curvature


@compiled
def _advance(
    step: float, direction: Array, image: Array, runs: Array, solution: Array, residual: Array, right: Array
) -> None:
    """Take a step, and write the residual in both precisions."""
    for start, stop in runs:
        so_far, towards = solution[start:], direction[start:]
        for j in range(stop - start):
            so_far[j] += step * towards[j]
        rest, into, rounded = residual[start:], image[start:], right[start:]
        for j in range(stop - start):
            rest[j] -= step * into[j]
            rounded[j] = rest[j]
