"""Checks of a CSR matrix from a file, and its transposition."""

from __future__ import annotations

import numpy as np

from .compiled import compiled
from .rows import UNSORTED

BLOCK = 4096
OUTSIDE = 4
ZEROS = 8
NOT_FINITE = 16


@compiled
def inspect_csr(indptr, indices, data, n_vars):  # type: ignore[no-untyped-def]
    """Return what is not as it should be: UNSORTED (or twice), OUTSIDE, ZEROS, NOT_FINITE, added up.

    Loops over all rows at once become vectors, three times faster than row by row; in blocks, so that what a loop
    reads is still in the processor's cache for the next one.
    """
    n = len(indices)
    descents, zeros, broken = 0, 0, 0
    outside = False
    for start in range(0, n, BLOCK):
        stop = min(n, start + BLOCK)
        j, x = indices[start:stop], data[start:stop]
        later, earlier = indices[start + 1 : stop + 1], indices[start : min(stop, n - 1)]
        down = np.int32(0)
        for k in range(len(later)):
            down += np.int32(later[k] <= earlier[k])
        descents += int(down)
        lowest, highest = np.int32(0), np.int32(0)
        for k in range(len(j)):
            lowest, highest = min(lowest, j[k]), max(highest, j[k])
        outside |= (lowest < 0) | (highest >= n_vars)
        none, odd = np.int32(0), np.int32(0)
        for k in range(len(x)):
            none += np.int32(x[k] == 0)
            odd += np.int32(x[k] - x[k] != 0)
        zeros += int(none)
        broken += int(odd)
    before = 0
    for r in range(1, len(indptr) - 1):  # those between two rows are as they should be
        k = indptr[r]
        if before < k < n:
            descents -= indices[k] <= indices[k - 1]
            before = k
    return UNSORTED * (descents != 0) + OUTSIDE * outside + ZEROS * (zeros != 0) + NOT_FINITE * (broken != 0)


@compiled
def first_not_finite(data):  # type: ignore[no-untyped-def]
    """Return where the first value stands that is NaN or infinite, or -1."""
    broken = 0
    for k in range(len(data)):
        broken += data[k] - data[k] != 0
    if broken:
        for k in range(len(data)):
            if data[k] - data[k] != 0:
                return k
    return -1


@compiled
def count_indices(indices, counts):  # type: ignore[no-untyped-def]
    """Add to `counts` how often each index comes; return whether one was not in range."""
    n = len(counts)
    outside = False
    for k in range(len(indices)):
        i = indices[k]
        if 0 <= i < n:
            counts[i] += 1
        else:
            outside = True
    return outside


@compiled
def deal(rows, data, at, position, indptr, column, band_of, fill, where, values):  # type: ignore[no-untyped-def]
    """Deal the values of CSC columns out to the buffers of bands of rows, from `at` on, until one is full.

    `position` is where `rows` and `data` begin in the whole matrix, `column` a column that begins there or
    before. Returns where it stopped, the column there, and the band that is full, or -1.
    """
    room = values.shape[1]
    for k in range(at, len(rows)):
        while indptr[column + 1] <= position + k:
            column += 1
        band = band_of[rows[k]]
        to = fill[band]
        if to == room:
            return k, column, band
        where[band, to, 0] = rows[k]
        where[band, to, 1] = column
        values[band, to] = data[k]
        fill[band] = to + 1
    return len(rows), column, -1


@compiled
def gather(where, values, first, cursor, indices, data):  # type: ignore[no-untyped-def]
    """Put what `deal` has dealt to a band into rows, in the order in which it came."""
    for k in range(len(values)):
        r = where[k, 0] - first
        to = cursor[r]
        indices[to] = where[k, 1]
        data[to] = values[k]
        cursor[r] = to + 1
