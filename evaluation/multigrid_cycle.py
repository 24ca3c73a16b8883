"""The V-cycle of multigrid (`evaluation.multigrid`), in single precision, by Numba."""

import numpy as np

from evaluation.multigrid_grids import EAST, LONGEST, SOUTH, SOUTH_EAST, SOUTH_WEST, Array, compiled, span


@compiled
def weigh_neighbours(x: Array, mask: Array, sums: Array, start: int, length: int, stride: int, out: Array) -> None:
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
def run_cycle(
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
                weigh_neighbours(x, mask, sums, start, stop - start, stride, around)
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
                start, length = span(grids[0], spans, row)
                into, gone = x[start:], mask[start:]
                for j in range(length):
                    into[j] *= gone[j]
        for start, stop in runs[limits[level] : limits[level + 1]]:
            if level:
                _weigh_linked(x, links, start, stop - start, stride, around)
            else:
                weigh_neighbours(x, mask, sums, start, stop - start, stride, around)
            into, own, here = y[start:], diagonal[start:], x[start:]
            factor, right = inverse[start:], b[start:]
            for j in range(stop - start):
                into[j] = here[j] + factor[j] * (right[j] - own[j] * here[j] + around[j])


@compiled
def _restrict(fine: Array, coarse: Array, spans: Array, y: Array, b: Array, sums: Array) -> None:
    """Write the coarse right-hand side, Pᵀ y."""
    height, width, stride, half = fine[0], fine[1], fine[1] + 2, np.float32(0.5)
    for row in range(coarse[0]):
        start, length = span(coarse, spans, row)
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
        start, length = span(fine, spans, row)
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
