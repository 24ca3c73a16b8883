"""The grids of multigrid (`evaluation.multigrid`): where their points lie, and their matrices, by Numba.

All grids lie behind one another in flat arrays, each with a margin of zeros, so that each point has its neighbours.
A grid is an array of its height, its width, its first point and its first row.
"""

import numpy as np

from evaluation.banded import Array, compiled

BESIDE, DIAGONAL = 2, 1  # twelve times the weights of `evaluation.imputation`: single precision holds them exactly
DAMPING = 0.9  # of Jacobi's sweeps
BLOCK, LONGEST = 32, 1024  # points
EAST, SOUTH_WEST, SOUTH, SOUTH_EAST, SELF = range(5)  # a point's links to its later neighbours, and its diagonal


@compiled
def clear(runs: Array, arrays: Array) -> None:
    for array in arrays:
        for start, stop in runs:
            array[start:stop] = 0


@compiled
def find_runs(grids: Array, inverse: Array, runs: Array, limits: Array) -> None:
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
def span(grid: Array, spans: Array, row: int) -> tuple[int, int]:
    """Return where the points of a row with an equation begin in the flat arrays, and their number."""
    first, last = spans[grid[3] + row]
    return grid[2] + (row + 1) * (grid[1] + 2) + 1 + first, last - first


@compiled
def link_removed(grid: Array, spans: Array, mask: Array, smoothing: Array, exact: Array) -> None:
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
        start, length = span(grid, spans, row)
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
def coarsen(fine: Array, grid: Array, spans: Array, smoothing: Array, links: Array, exact: Array) -> None:
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
        start, length = span(grid, spans, row)
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
