"""Sums by gene that do not depend on the order of adding.

A *fixed-point sum* is a 128-bit integer in units of 2**-60, held as two unsigned words: `high`
counts units of 8 (in two's complement), `low` counts units of 2**-60 and carries into `high` when
it passes 16. Adding integers is exact and has no order, so neither has the sum: it is the same to
the bit however cells are grouped. Whole numbers are summed without any error up to 2**65.
"""

from __future__ import annotations

import numpy as np

from .compiled import compiled

_UNIT = 2.0**60


@compiled
def add_moments(indptr, indices, data, groups, sums):  # type: ignore[no-untyped-def]
    """Add x and x**2 to the fixed-point sums of each row's group; a group below 0 is left out.

    `sums` has shape (groups, genes, 4) and dtype uint64: high and low word of x, then of x**2.
    """
    for r in range(len(indptr) - 1):
        g = groups[r]
        if g < 0:
            continue
        for k in range(indptr[r], indptr[r + 1]):
            cell = sums[g, indices[k]]
            x = np.float64(data[k])
            high = np.floor(x * 0.125)
            low = np.uint64(np.int64((x - high * 8.0) * _UNIT))
            total = cell[1] + low
            cell[0] += np.uint64(np.int64(high)) + (np.uint64(2) if total < low else np.uint64(0))
            cell[1] = total
            x = x * x
            high = np.floor(x * 0.125)
            low = np.uint64(np.int64((x - high * 8.0) * _UNIT))
            total = cell[3] + low
            cell[2] += np.uint64(np.int64(high)) + (np.uint64(2) if total < low else np.uint64(0))
            cell[3] = total


@compiled
def merge_sums(left, right):  # type: ignore[no-untyped-def]
    """Add the fixed-point sums `right` to `left`; both are flat, (n, 2)."""
    for i in range(len(left)):
        total = left[i, 1] + right[i, 1]
        left[i, 0] += right[i, 0] + (np.uint64(2) if total < right[i, 1] else np.uint64(0))
        left[i, 1] = total


@compiled
def count_genes(indices, counts):  # type: ignore[no-untyped-def]
    """Count in how many cells each gene has a value."""
    for k in range(len(indices)):
        counts[np.uint32(indices[k])] += 1


@compiled
def add_whole(indptr, indices, data, rows, sums):  # type: ignore[no-untyped-def]
    """Add x and x**2 of the rows to int64 sums, shape (genes, 2); every x is whole and below 2**31."""
    for i in range(len(rows)):
        start, stop = indptr[rows[i]], indptr[rows[i] + 1]
        genes, values = indices[start:stop], data[start:stop]
        for k in range(len(values)):
            x = np.int64(values[k])
            cell = sums[np.uint32(genes[k])]
            cell[0] += x
            cell[1] += x * x


@compiled
def add_wide(indptr, indices, data, rows, sums):  # type: ignore[no-untyped-def]
    """Do as `add_whole`, shape (genes, 3): x, then the low 32 bits and the rest of x**2."""
    for i in range(len(rows)):
        for k in range(indptr[rows[i]], indptr[rows[i] + 1]):
            x = np.int64(data[k])
            square = x * x
            cell = sums[indices[k]]
            cell[0] += x
            cell[1] += square & np.int64(0xFFFFFFFF)
            cell[2] += square >> np.int64(32)


@compiled
def add_fixed(indptr, indices, data, rows, sums):  # type: ignore[no-untyped-def]
    """Add x and x**2 of the rows to fixed-point sums, shape (genes, 4), as `add_moments`."""
    words = np.empty((4, 64), np.uint64)
    high1, low1, high2, low2 = words[0], words[1], words[2], words[3]
    for i in range(len(rows)):
        start, stop = indptr[rows[i]], indptr[rows[i] + 1]
        for at in range(start, stop, 64):  # first in vectors to fixed point, then one by one to their sums
            genes, values = indices[at : min(stop, at + 64)], data[at : min(stop, at + 64)]
            large = 0
            for k in range(len(values)):
                large += not abs(values[k]) < _LARGE
                x = np.float64(values[k])
                high1[k], low1[k] = _fixed(x)
                high2[k], low2[k] = _fixed(x * x)
            for k in range(len(genes)):
                words_of = sums[np.uint32(genes[k])]
                if large:
                    x = np.float64(values[k])
                    _add(words_of, 0, x)
                    _add(words_of, 2, x * x)
                else:
                    total1, total2 = words_of[1] + low1[k], words_of[3] + low2[k]
                    words_of[0] += high1[k] + (np.uint64(2) if total1 < low1[k] else np.uint64(0))
                    words_of[2] += high2[k] + (np.uint64(2) if total2 < low2[k] else np.uint64(0))
                    words_of[1], words_of[3] = total1, total2


_MAGIC = 1.5 * 2.0**52
_MAGIC_BITS = np.uint64(0x4338000000000000)
_LARGE = np.float32(2.0**26)
"""Below it `_fixed` takes the square."""


@compiled
def _fixed(x):  # type: ignore[no-untyped-def]
    """Return both words of a fixed-point number below 2**52, by what processors can do with four at a time.

    They cannot turn float64 into integers, but a whole number added to 1.5 * 2**52 stands in the last bits of the sum.
    """
    high = np.floor(x * 0.125)
    rest = (x - high * 8.0) * 2.0**30
    middle = np.floor(rest)
    low = np.floor((rest - middle) * 2.0**30)
    high_bits = np.float64(high + _MAGIC).view(np.uint64) - _MAGIC_BITS
    middle_bits = np.float64(middle + _MAGIC).view(np.uint64) - _MAGIC_BITS
    low_bits = np.float64(low + _MAGIC).view(np.uint64) - _MAGIC_BITS
    return high_bits, (middle_bits << np.uint64(30)) + low_bits


@compiled
def _add(words, at, x):  # type: ignore[no-untyped-def]
    """Add x to the fixed-point sum at `words[at]` and `words[at + 1]`."""
    high = np.floor(x * 0.125)
    low = np.uint64(np.int64((x - high * 8.0) * _UNIT))
    total = words[at + 1] + low
    words[at] += np.uint64(np.int64(high)) + (np.uint64(2) if total < low else np.uint64(0))
    words[at + 1] = total


@compiled
def add_residuals(indptr, indices, data, rows, sizes, share, theta, clip, seen, sums):  # type: ignore[no-untyped-def]
    """Add clipped Pearson residuals and their squares to fixed-point sums, shape (genes, 4).

    Every gene with a positive share takes part, in every cell, unless `seen` (genes,) is False.
    """
    for i in range(len(rows)):
        r = rows[i]
        k, end = indptr[r], indptr[r + 1]
        for j in range(len(share)):
            x = 0.0
            if k < end and indices[k] == j:
                x = np.float64(data[k])
                k += 1
            if share[j] > 0.0 and seen[j]:
                mu = share[j] * sizes[r]
                if mu > 0.0:
                    z = min(max((x - mu) / np.sqrt(mu + mu * mu / theta), -clip), clip)
                    _add(sums[j], 0, z)
                    _add(sums[j], 2, z * z)


@compiled
def fixed_words(data, words):  # type: ignore[no-untyped-def]
    """Write each value as a fixed-point number, (n, 2)."""
    for k in range(len(data)):
        x = np.float64(data[k])
        high = np.floor(x * 0.125)
        words[k, 0] = np.uint64(np.int64(high))
        words[k, 1] = np.uint64(np.int64((x - high * 8.0) * _UNIT))


@compiled
def sum_groups(indptr, indices, words, order, starts, n_vars, out_indptr, out_indices, out_words):  # type: ignore[no-untyped-def]
    """Sum the rows `order[starts[g]:starts[g + 1]]` of each group g, sparsely; return how many values that gave.

    `words` (nnz, 1) holds integers, (nnz, 2) fixed-point numbers. Columns come out in order.
    """
    width = words.shape[1]
    sums = np.zeros((n_vars, width), dtype=np.uint64)
    touched = np.zeros((n_vars // 8 + 1) * 8, dtype=np.uint8)
    eights = touched.view(np.uint64)
    columns = np.empty(n_vars, dtype=np.int32)
    to = 0
    out_indptr[0] = 0
    for g in range(len(starts) - 1):
        if starts[g + 1] - starts[g] == 1:  # one row is its own sum
            r = order[starts[g]]
            for k in range(indptr[r], indptr[r + 1]):
                out_indices[to] = indices[k]
                for w in range(width):
                    out_words[to, w] = words[k, w]
                to += 1
            out_indptr[g + 1] = to
            continue
        n = 0
        for at in range(starts[g], starts[g + 1]):
            r = order[at]
            for k in range(indptr[r], indptr[r + 1]):
                j = indices[k]
                if not touched[j]:
                    touched[j] = 1
                    columns[n] = j
                    n += 1
                if width == 1:
                    sums[j, 0] += words[k, 0]
                else:
                    low = words[k, 1]
                    total = sums[j, 1] + low
                    sums[j, 0] += words[k, 0] + (np.uint64(2) if total < low else np.uint64(0))
                    sums[j, 1] = total
        if n > n_vars // 64:  # cheaper to look at all columns than to sort those touched
            n = 0
            for at in range(len(eights)):
                if eights[at] != 0:
                    for j in range(8 * at, 8 * at + 8):
                        if touched[j]:
                            columns[n] = j
                            n += 1
        else:
            columns[:n] = np.sort(columns[:n])
        for i in range(n):
            j = columns[i]
            out_indices[to] = j
            for w in range(width):
                out_words[to, w] = sums[j, w]
                sums[j, w] = np.uint64(0)
            touched[j] = 0
            to += 1
        out_indptr[g + 1] = to
    return to
