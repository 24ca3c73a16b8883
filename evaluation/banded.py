"""Direct solution of the imputation's equations on the CPU: a banded Cholesky factor for each image, by Numba.

The removed pixels are numbered row by row. Two neighbours are at most W + 1 numbers apart (W: the image's width), so
that the factor of n equations needs about n W²/2 multiplications and additions (Golub and Van Loan 2013, section 4.3).
One factor serves all channels of an image.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from evaluation.imputation import BESIDE, DIAGONAL

Array = npt.NDArray[Any]
# A reduction may be summed in any order, so that it runs in vector registers.
compiled = njit(nogil=True, cache=True, error_model="numpy", fastmath={"contract", "nsz", "reassoc"})


@compiled
def direct_work(removed: Array, width: int) -> int:
    """Return at least the number of multiplications that the factor of an image (H · W) needs, twice."""
    work = ahead = later = 0
    for place in range(len(removed)):
        while later < min(place + width + 2, len(removed)):
            ahead += removed[later]
            later += 1
        ahead -= removed[place]
        work += removed[place] * ahead**2
    return work


@compiled
def fill_in_group(images: Array, removed: Array, width: int) -> None:
    """Fill in one image after the other: (N, K, H · W) and (N, H · W)."""
    channels, pixels = images.shape[1:]
    height, wide = pixels // width, width + 2  # with a margin, so that each pixel has all its neighbours
    steps = ((1, BESIDE), (wide - 1, DIAGONAL), (wide, BESIDE), (wide + 1, DIAGONAL))  # to the later neighbours
    weight = np.empty(pixels)  # of all neighbours inside the image
    for place in range(pixels):
        row, column = divmod(place, width)
        rows, columns = (row > 0) + (row < height - 1), (column > 0) + (column < width - 1)
        weight[place] = BESIDE * (rows + columns) + DIAGONAL * rows * columns
    places = np.empty(pixels + 1, np.int32)  # of the removed pixels, in the image
    padded = np.empty(pixels + 1, np.int32)  # and in the image with its margin
    number = np.full((height + 2) * wide, -1, np.int32)  # of a removed pixel's equation
    known = np.zeros((channels, (height + 2) * wide))
    memory = np.empty(pixels * (wide + 1))
    right = np.empty((channels, pixels))
    reach = np.empty(pixels, np.int32)  # the last d that may differ from 0
    for n in range(len(images)):
        count = 0
        for row in range(height):
            for column in range(width):
                place, there = row * width + column, (row + 1) * wide + column + 1
                gone = removed[n, place]
                places[count], padded[count] = place, there
                number[there] = count if gone else -1
                count += gone
        if count == pixels:
            images[n] = 0
        if count in (0, pixels):
            continue
        for k in range(channels):
            for row in range(height):
                inside, there = known[k, (row + 1) * wide + 1 :], row * width
                for column in range(width):
                    inside[column] = 0.0 if removed[n, there + column] else images[n, k, there + column]
        last = widest = 0
        for i in range(count):
            last = max(last, i)
            for step, _share in steps:
                last = max(last, number[padded[i] + step])
            reach[i] = last - i
            widest = max(widest, reach[i])
        # band[i, d] is the matrix's element (i + d, i); the last one is never read
        band = memory[: count * (widest + 2)].reshape(count, widest + 2)
        band[:] = 0
        for i in range(count):
            there, equation = padded[i], band[i]
            equation[0] = weight[places[i]]
            for step, share in steps:
                other = number[there + step]
                equation[other - i if other >= 0 else widest + 1] = -share
        for k in range(channels):
            x = known[k]
            for i in range(count):
                p = padded[i]
                beside = x[p - wide] + x[p + wide] + x[p - 1] + x[p + 1]
                diagonal = x[p - wide - 1] + x[p - wide + 1] + x[p + wide - 1] + x[p + wide + 1]
                right[k, i] = BESIDE * beside + DIAGONAL * diagonal
        _factor(band, right, reach[:count])
        _substitute_back(band, right, reach[:count])
        for k in range(channels):
            for i in range(count):
                images[n, k, places[i]] = right[k, i]


@compiled
def _factor(band: Array, right: Array, reach: Array) -> None:
    """Solve A = L Lᵀ and L y = b in place, column by column; 1 / L_ii replaces L_ii.

    Args:
        band: (n, widest + 2), A below its diagonal, as in `fill_in_group`.
        right: (K, n or more), b.
        reach: (n,), the number of elements below the diagonal in each column of L.
    """
    column = np.empty(band.shape[1])  # a copy, which cannot overlap with what is changed
    for i in range(len(reach)):
        below, mine = reach[i], band[i]
        inverse = 1 / np.sqrt(mine[0])
        mine[0] = inverse
        for d in range(1, below + 1):
            mine[d] *= inverse
            column[d] = mine[d]
        for d in range(1, below + 1):
            factor = column[d]
            if factor == 0:
                continue
            other = band[i + d]
            rest = column[d:]
            for e in range(below - d + 1):
                other[e] -= factor * rest[e]
        for k in range(len(right)):
            y = right[k, i:]
            y[0] *= inverse
            factor = y[0]
            for d in range(1, below + 1):
                y[d] -= factor * column[d]


@compiled
def _substitute_back(band: Array, right: Array, reach: Array) -> None:
    """Solve Lᵀ x = y in place, for three channels at a time (the last one repeats where there are fewer)."""
    last = len(right) - 1
    for k in range(0, last + 1, 3):
        for i in range(len(reach) - 1, -1, -1):
            a, b, c = right[k, i:], right[min(k + 1, last), i:], right[min(k + 2, last), i:]
            mine = band[i]
            sum_a = sum_b = sum_c = 0.0
            for d in range(1, reach[i] + 1):
                factor = mine[d]
                sum_a += factor * a[d]
                sum_b += factor * b[d]
                sum_c += factor * c[d]
            x_a, x_b, x_c = (a[0] - sum_a) * mine[0], (b[0] - sum_b) * mine[0], (c[0] - sum_c) * mine[0]
            a[0], b[0], c[0] = x_a, x_b, x_c
