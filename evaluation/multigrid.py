"""Iterative solution of the imputation's equations for large images on the CPU, by Numba.

Conjugate gradients (Hestenes and Stiefel 1952) in double precision are preconditioned by a multigrid V-cycle in single
precision (Briggs, Henson and McCormick 2000, chapters 3 and 8). Each grid has every second row and column of the finer
one. Bilinear interpolation P, 0 at known pixels, carries corrections to the finer grid, and the coarse matrix is
Pᵀ A P, which again links a point to its eight neighbours. The smoother is one damped Jacobi sweep before and one after
the coarse correction. The work grows with the number of pixels: four to ten iterations suffice for any mask.

All grids lie behind one another in flat arrays, each with a margin of zeros, so that each point has its neighbours.
Blocks of points without a removed pixel are skipped, and stay 0.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from evaluation.banded import direct_work
from evaluation.banded import fill_in_group as fill_in_directly

BESIDE, DIAGONAL = 2, 1  # twelve times the weights of `evaluation.imputation`: single precision holds them exactly
DAMPING = 0.9  # of Jacobi's sweeps
TOLERANCE = 5e-6  # of the estimated error before the last correction, relative to the range of the known pixels
ITERATIONS = 50
DIRECT = 600  # `direct_work` for each pixel, up to which the direct solution is faster
BLOCK, LONGEST = 32, 1024  # points
EAST, SOUTH_WEST, SOUTH, SOUTH_EAST, SELF = range(5)  # a point's links to its later neighbours, and its diagonal
Array = npt.NDArray[Any]
# A reduction may be summed in any order, so that it runs in vector registers.
unordered = njit(nogil=True, cache=True, error_model="numpy", fastmath=True)
compiled = njit(nogil=True, cache=True, error_model="numpy", fastmath={"contract", "nsz", "reassoc"})


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

    def _inside(self, points: Array) -> Array:
        """Return the image (H, W) within a flat array of the finest grid."""
        height, width, start, _ = self.grids[0]
        return points[start : start + (height + 2) * (width + 2)].reshape(height + 2, width + 2)[1:-1, 1:-1]

    def set_up(self, gone: Array) -> None:
        """Write the equations of an image whose pixels `gone` (H, W) are removed."""
        self._inside(self.mask)[:] = gone
        _link_removed(self.grids[0], self.spans, self.mask, self.smoothing, self.exact)
        for fine, coarse in zip(self.grids[:-1], self.grids[1:], strict=True):
            _coarsen(fine, coarse, self.spans, self.smoothing, self.links, self.exact)
        _find_runs(self.grids, self.smoothing[1], self.runs, self.limits)

    def clear(self) -> None:
        """Make the buffers ready for the next image."""
        self.cycle[:] = 0
        for arrays in (self.smoothing, self.links, self.exact):
            _clear(self.runs[: self.limits[-1]], arrays)

    def solve(self, values: Array, gone: Array) -> None:
        """Fill in the removed pixels of one channel (H, W) by conjugate gradients."""
        runs, first = self.runs[: self.limits[1]], self.grids[0, 2] + self.stride + 1
        middle, extent = _centre(values, gone, self.known[first:], self.stride)
        _weigh_known(self.known, self.mask, runs, self.stride, self.image, self.residual, self.cycle[2])
        before = 0.0
        for _ in range(ITERATIONS):
            _cycle(
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
        _clear(runs, self.vectors)


@compiled
def _clear(runs: Array, arrays: Array) -> None:
    for array in arrays:
        for start, stop in runs:
            array[start:stop] = 0


@unordered
def _centre(values: Array, gone: Array, known: Array, stride: int) -> tuple[float, float]:
    """Write the known pixels less their middle, and return the middle and the extent of their range."""
    least, most = np.inf, -np.inf
    for row in range(len(values)):
        pixels, own = values[row], gone[row]
        for column in range(len(pixels)):
            least = min(least, np.inf if own[column] else pixels[column])
            most = max(most, -np.inf if own[column] else pixels[column])
    middle = (least + most) / 2
    for row in range(len(values)):
        pixels, own, into = values[row], gone[row], known[row * stride :]
        for column in range(len(pixels)):
            into[column] = 0.0 if own[column] else pixels[column] - middle
    return middle, most - least


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
        _weigh_neighbours(known, mask, sums, start, stop - start, stride, into)
        for j in range(stop - start):
            rounded[j] = into[j]


@unordered
def _product(residual: Array, correction: Array, runs: Array) -> tuple[float, float]:
    """Return the product of residual and correction, and the largest correction."""
    product, largest = 0.0, np.float32(0)
    for start, stop in runs:
        rest, z = residual[start:], correction[start:]
        for j in range(stop - start):
            product += rest[j] * z[j]
        for j in range(stop - start):
            largest = max(largest, abs(z[j]))
    return product, largest


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
        _weigh_neighbours(direction, mask, sums, start, stop - start, stride, into)
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


@compiled
def _find_runs(grids: Array, inverse: Array, runs: Array, limits: Array) -> None:
    """Write start and stop of all runs of blocks with an equation, and the number of runs before each grid."""
    count = limits[0] = 0
    for level in range(len(grids)):
        height, width, start = grids[level, :3]
        fresh = True
        for block in range(start, start + (height + 2) * (width + 2), BLOCK):
            busy = False
            for factor in inverse[block : block + BLOCK]:
                busy |= factor != 0
            if busy and not fresh and block == runs[count - 1, 1] and block - runs[count - 1, 0] < LONGEST:
                runs[count - 1, 1] += BLOCK
            elif busy:
                runs[count] = block, block + BLOCK
                count, fresh = count + 1, False
        limits[level + 1] = count


@compiled
def _span(grid: Array, spans: Array, row: int) -> tuple[int, int]:
    """Return where the points of a row with an equation begin in the flat arrays, and their number."""
    first, last = spans[grid[3] + row]
    return grid[2] + (row + 1) * (grid[1] + 2) + 1 + first, last - first


@compiled
def _weigh_neighbours(x: Array, mask: Array, sums: Array, start: int, length: int, stride: int, out: Array) -> None:
    """Write Σ_j w_ij x_j over the neighbours j of each removed pixel i of a run, 0 for the other pixels."""
    above, beside, below = x[start - stride - 1 :], x[start - 1 :], x[start + stride - 1 :]
    gone, four = mask[start:], x.dtype.type(4)
    for j in range(length + 2):
        sums[j] = above[j] + below[j] + beside[j] + beside[j]
    for j in range(length):
        out[j] = gone[j] * (sums[j] + sums[j + 1] + sums[j + 1] + sums[j + 2] - four * beside[j + 1])


@compiled
def _weigh_linked(x: Array, links: Array, start: int, length: int, stride: int, out: Array) -> None:
    """Write −Σ_j a_ij x_j over the neighbours j of each point i of a run of a coarse grid."""
    beside, east = x[start - 1 :], links[EAST, start - 1 :]
    for j in range(length):
        out[j] = east[j] * beside[j] + east[j + 1] * beside[j + 2]
    after, before = x[start + stride - 1 :], x[start - stride - 1 :]
    west, middle, east = links[SOUTH_WEST, start:], links[SOUTH, start:], links[SOUTH_EAST, start:]
    for j in range(length):
        out[j] += west[j] * after[j] + middle[j] * after[j + 1] + east[j] * after[j + 2]
    base = start - stride - 1  # the links belong to the earlier point
    west, middle, east = links[SOUTH_EAST, base:], links[SOUTH, base:], links[SOUTH_WEST, base:]
    for j in range(length):
        out[j] += west[j] * before[j] + middle[j + 1] * before[j + 1] + east[j + 2] * before[j + 2]


@compiled
def _link_removed(grid: Array, spans: Array, mask: Array, smoothing: Array, exact: Array) -> None:
    """Write the spans and the matrix of the finest grid."""
    height, width = grid[:2]
    stride = width + 2
    for row in range(height):
        gone = mask[grid[2] + (row + 1) * stride + 1 :]
        first, last = 0, width
        while first < width and gone[first] == 0:
            first += 1
        while last > first and gone[last - 1] == 0:
            last -= 1
        spans[row] = first & ~1, min((last + 1) & ~1, width)
        start, length = _span(grid, spans, row)
        gone, below = mask[start:], mask[start + stride - 1 :]
        rows, column = (row > 0) + (row < height - 1), spans[row, 0]
        diagonal, inverse = smoothing[0, start:], smoothing[1, start:]
        self, east, south = exact[SELF, start:], exact[EAST, start:], exact[SOUTH, start:]
        south_west, south_east = exact[SOUTH_WEST, start:], exact[SOUTH_EAST, start:]
        for j in range(length):
            columns = (column + j > 0) + (column + j < width - 1)
            weight = BESIDE * (rows + columns) + DIAGONAL * rows * columns
            self[j] = gone[j] * weight
            diagonal[j] = self[j]
            inverse[j] = gone[j] * DAMPING / weight
        for j in range(length):
            east[j] = -BESIDE * gone[j] * gone[j + 1]
            south[j] = -BESIDE * gone[j] * below[j + 1]
        for j in range(length):
            south_west[j] = -DIAGONAL * gone[j] * below[j]
            south_east[j] = -DIAGONAL * gone[j] * below[j + 2]


@compiled
def _coarsen(fine: Array, grid: Array, spans: Array, smoothing: Array, links: Array, exact: Array) -> None:
    """Write the spans of a grid and its matrix, Pᵀ A P: first of the columns, then of the rows."""
    height, width = fine[:2]
    stride, rows = width + 2, grid[0]
    half = np.zeros((5, stride + 1))  # every second row of A
    for row in range(rows):
        first, last = grid[1], 0
        for other in range(max(2 * row - 1, 0), min(2 * row + 2, height)):
            begin, end = spans[fine[3] + other]
            if begin < end:
                first, last = min(first, begin // 2), max(last, end // 2 + 1)
        spans[grid[3] + row] = first & ~1, min((last + 1) & ~1, grid[1])
        start, length = _span(grid, spans, row)
        if length <= 0:
            spans[grid[3] + row] = 0, 0
            continue
        first = spans[grid[3] + row, 0]
        upper = fine[2] + 2 * row * stride + 2 * first  # the margin or the point before
        middle, lower = upper + stride, upper + 2 * stride
        edge = 2 * row + 1 == height - 1
        p, inner = (1.0, 0.0) if edge else (0.5, 0.5)
        u_self, m_self, v_self = exact[SELF, upper:], exact[SELF, middle:], exact[SELF, lower:]
        u_east, m_east, v_east = exact[EAST, upper:], exact[EAST, middle:], exact[EAST, lower - 1 :]
        u_south, m_south, v_south = exact[SOUTH, upper:], exact[SOUTH, middle:], exact[SOUTH, lower:]
        u_left, m_left, v_left = exact[SOUTH_WEST, upper:], exact[SOUTH_WEST, middle:], exact[SOUTH_WEST, lower:]
        u_right, m_right, v_right = exact[SOUTH_EAST, upper:], exact[SOUTH_EAST, middle:], exact[SOUTH_EAST, lower:]
        self, east, south_west, south, south_east = (
            half[SELF],
            half[EAST],
            half[SOUTH_WEST],
            half[SOUTH],
            half[SOUTH_EAST],
        )
        for j in range(2 * length + 1):
            self[j] = 0.25 * u_self[j] + m_self[j] + p * p * v_self[j] + u_south[j] + 2 * p * m_south[j]
        for j in range(2 * length + 1):
            east[j] = 0.25 * u_east[j] + m_east[j] + p * p * v_east[j + 1]
        for j in range(2 * length + 1):
            east[j] += 0.5 * (u_right[j] + u_left[j + 1]) + p * (m_right[j] + m_left[j + 1])
        for j in range(2 * length + 1):
            south[j] = inner * (0.5 * v_self[j] + m_south[j] + v_south[j])
        for j in range(2 * length + 1):
            south_east[j] = inner * (0.5 * v_east[j + 1] + m_right[j] + v_right[j])
            south_west[j] = inner * (0.5 * v_east[j] + m_left[j] + v_left[j])
        for j in range(length):
            i = 2 * j  # the point before, in `half`
            edge = 2 * (first + j) + 1 == width - 1
            p, inner = (1.0, 0.0) if edge else (0.5, 0.5)
            exact[SELF, start + j] = 0.25 * self[i] + self[i + 1] + p * p * self[i + 2] + east[i] + 2 * p * east[i + 1]
            exact[EAST, start + j] = inner * (0.5 * self[i + 2] + east[i + 1] + east[i + 2])
            exact[SOUTH, start + j] = 0.25 * south[i] + south[i + 1] + p * p * south[i + 2]
            exact[SOUTH, start + j] += 0.5 * (south_east[i] + south_west[i + 1]) + p * (
                south_east[i + 1] + south_west[i + 2]
            )
            exact[SOUTH_EAST, start + j] = inner * (0.5 * south[i + 2] + south_east[i + 1] + south_east[i + 2])
            exact[SOUTH_WEST, start + j] = 0.5 * (0.5 * south[i] + south_west[i] + south_west[i + 1])
        above = start - grid[1] - 2
        for j in range(length):
            total = exact[SELF, start + j] + abs(exact[EAST, start + j]) + abs(exact[EAST, start + j - 1])
            total += (
                abs(exact[SOUTH_WEST, start + j]) + abs(exact[SOUTH, start + j]) + abs(exact[SOUTH_EAST, start + j])
            )
            total += abs(exact[SOUTH_WEST, above + j + 1]) + abs(exact[SOUTH, above + j])
            total += abs(exact[SOUTH_EAST, above + j - 1])
            smoothing[0, start + j] = exact[SELF, start + j]
            # no eigenvalue of the matrix divided by this is above 2, so that the sweeps converge
            smoothing[1, start + j] = (
                DAMPING / max(exact[SELF, start + j], total / 2) if exact[SELF, start + j] > 0 else 0
            )
            for link in range(4):
                links[link, start + j] = -exact[link, start + j]


@compiled
def _cycle(
    grids: Array,
    spans: Array,
    runs: Array,
    limits: Array,
    mask: Array,
    diagonal: Array,
    inverse: Array,
    links: Array,
    x: Array,
    y: Array,
    b: Array,
) -> None:
    """Write an approximate solution y of A y = b, by one V-cycle."""
    around, sums = np.zeros(LONGEST + 2, np.float32), np.zeros(max(LONGEST, grids[0, 1]) + 2, np.float32)
    bottom = len(grids) - 1
    for level in range(bottom):
        stride = grids[level, 1] + 2
        for start, stop in runs[limits[level] : limits[level + 1]]:
            into, factor, right = x[start:], inverse[start:], b[start:]
            for j in range(stop - start):
                into[j] = factor[j] * right[j]
        for start, stop in runs[limits[level] : limits[level + 1]]:
            if level:
                _weigh_linked(x, links, start, stop - start, stride, around)
            else:
                _weigh_neighbours(x, mask, sums, start, stop - start, stride, around)
            into, own, here, right = y[start:], diagonal[start:], x[start:], b[start:]
            for j in range(stop - start):
                into[j] = right[j] - own[j] * here[j] + around[j]
        _restrict(grids[level], grids[level + 1], spans, y, b, sums)
    point = grids[bottom, 2] + 4
    y[point] = b[point] / diagonal[point]
    for level in range(bottom - 1, -1, -1):
        _prolong(grids[level], grids[level + 1], spans, y, x, sums)
        stride = grids[level, 1] + 2
        if level == 0:
            for row in range(grids[0, 0]):
                start, length = _span(grids[0], spans, row)
                into, gone = x[start:], mask[start:]
                for j in range(length):
                    into[j] *= gone[j]
        for start, stop in runs[limits[level] : limits[level + 1]]:
            if level:
                _weigh_linked(x, links, start, stop - start, stride, around)
            else:
                _weigh_neighbours(x, mask, sums, start, stop - start, stride, around)
            into, own, here = y[start:], diagonal[start:], x[start:]
            factor, right = inverse[start:], b[start:]
            for j in range(stop - start):
                into[j] = here[j] + factor[j] * (right[j] - own[j] * here[j] + around[j])


@compiled
def _restrict(fine: Array, coarse: Array, spans: Array, y: Array, b: Array, sums: Array) -> None:
    """Write the coarse right-hand side, Pᵀ y."""
    height, width, stride, half = fine[0], fine[1], fine[1] + 2, np.float32(0.5)
    for row in range(coarse[0]):
        start, length = _span(coarse, spans, row)
        if length <= 0:
            continue
        first = spans[coarse[3] + row, 0]
        middle = fine[2] + (2 * row + 1) * stride + 2 * first
        above, beside, below = y[middle - stride :], y[middle:], y[middle + stride :]
        p = np.float32(1 if 2 * row + 1 == height - 1 else 0.5)
        for j in range(2 * length + 1):
            sums[j] = half * above[j] + beside[j] + p * below[j]
        right = b[start:]
        for j in range(length):
            right[j] = half * (sums[2 * j] + sums[2 * j + 2]) + sums[2 * j + 1]
        if 2 * (first + length) == width:
            right[length - 1] += half * sums[2 * length]


@compiled
def _prolong(fine: Array, coarse: Array, spans: Array, y: Array, x: Array, sums: Array) -> None:
    """Add the interpolated coarse solution, P y, to x."""
    height, width, half = fine[0], fine[1], np.float32(0.5)
    for row in range(height):
        start, length = _span(fine, spans, row)
        if length <= 0:
            continue
        first, pairs = spans[fine[3] + row, 0], length // 2
        place = coarse[2] + (row // 2 + 1) * (coarse[1] + 2) + 1 + first // 2
        upper, lower = y[place:], y[place + (coarse[1] + 2 if row % 2 and row < height - 1 else 0) :]
        for j in range(pairs + 1):
            sums[j] = half * (upper[j] + lower[j])
        if first + 2 * pairs == width:
            sums[pairs] = sums[pairs - 1]
        into = x[start:]
        for j in range(pairs):
            into[2 * j] += sums[j]
            into[2 * j + 1] += half * (sums[j] + sums[j + 1])
        if length % 2:
            into[length - 1] += sums[pairs]
