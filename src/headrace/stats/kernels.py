"""The compiled loops. The only file that knows numba.

All release the interpreter lock, keep their machine code between runs, and use no fast-math:
their results do not depend on the processor or on how the stream is cut.

A *fixed-point sum* is a 128-bit integer in units of 2**-60, held as two unsigned words: `high`
counts units of 8 (in two's complement), `low` counts units of 2**-60 and carries into `high` when
it passes 16. Adding integers is exact and has no order, so neither has the sum: it is the same to
the bit however cells are grouped. Whole numbers are summed without any error up to 2**65.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba
import numpy as np

F = TypeVar("F", bound=Callable[..., Any])


def compiled(function: F) -> F:
    """Compile on first use, for good."""
    return numba.njit(function, nogil=True, cache=True, error_model="numpy")  # type: ignore[no-any-return] # numba has no types


UNSORTED = 1
OVERFLOW = 2

_UNIT = 2.0**60
_ONE = np.uint64(1)
_LN2 = 0.6931471805599453


# --------------------------------------------------------------------------------------- from the source to CSR
@compiled
def scatter(rows, cols, vals, at, first, row_map, col_map, cursor, limit, indices, data):  # type: ignore[no-untyped-def]
    """Put coordinates into CSR rows, in the order in which they come, from position `at` on.

    `cursor[r]` is where the next value of row r goes, `limit[r]` where the row's room ends.
    `row_map[i - first]` and `col_map[j]` give a row's and a column's new number, or -1 to drop it.
    Stops at a row beyond `row_map`. Returns where it stopped, how many values it saw of wanted rows,
    and UNSORTED if a row's columns did not come in order, OVERFLOW if a row had no room.
    """
    status = 0
    seen = 0
    n_rows, n_cols = len(row_map), len(col_map)
    k, n = at, len(rows)
    while k < n:
        row = rows[k]
        i = row - first
        if i >= n_rows:
            return k, seen, status
        r = row_map[i] if i >= 0 else -1
        if r < 0:
            k += 1
            continue
        to, end = cursor[r], limit[r + 1]
        before = indices[to - 1] if to > limit[r] else -1
        start = k
        while k < n and rows[k] == row:  # a row's values come in runs
            j = cols[k]
            c = col_map[j] if j < n_cols else -1
            v = vals[k]
            if c >= 0 and v != 0:
                if to >= end:
                    return k, seen, status | OVERFLOW
                if c <= before:
                    status |= UNSORTED
                indices[to] = c
                data[to] = v
                before = c
                to += 1
            k += 1
        seen += k - start
        cursor[r] = to
    return n, seen, status


@compiled
def count_rows(rows, first, row_map, counts):  # type: ignore[no-untyped-def]
    """Add to `counts` how many coordinates each row has."""
    for k in range(len(rows)):
        i = rows[k] - first
        r = row_map[i] if 0 <= i < len(row_map) else -1
        if r >= 0:
            counts[r] += 1


@compiled
def close_gaps(limit, cursor, indices, data, indptr):  # type: ignore[no-untyped-def]
    """Move the rows of `scatter` together, in place; fill `indptr`; return the non-zeros."""
    to = 0
    for r in range(len(cursor)):
        indptr[r] = to
        start, stop = limit[r], cursor[r]
        if start != to:
            for k in range(start, stop):
                indices[to + k - start] = indices[k]
                data[to + k - start] = data[k]
        to += stop - start
    indptr[len(cursor)] = to
    return to


@compiled
def sort_rows(indptr, indices, data):  # type: ignore[no-untyped-def]
    """Sort every row by column, in place; return the first row with a column twice, or -1."""
    for r in range(len(indptr) - 1):
        a, b = indptr[r], indptr[r + 1]
        if b - a > 1:
            order = np.argsort(indices[a:b])
            indices[a:b] = indices[a:b][order]
            data[a:b] = data[a:b][order]
            for k in range(a + 1, b):
                if indices[k] == indices[k - 1]:
                    return r
    return -1


@compiled
def first_not_count(data):  # type: ignore[no-untyped-def]
    """Return where the first value stands that is negative or not whole, or -1."""
    bad = False
    for k in range(len(data)):
        bad |= (data[k] < 0) | (data[k] != np.floor(data[k]))
    if bad:
        for k in range(len(data)):
            if not (data[k] >= 0 and data[k] == np.floor(data[k])):
                return k
    return -1


# --------------------------------------------------------------------------------------------- selecting genes
@compiled
def count_kept(indptr, indices, gene_map, kept):  # type: ignore[no-untyped-def]
    """Fill `kept` (an indptr) with how many values of each row are on kept genes; return their number."""
    total = 0
    kept[0] = 0
    for r in range(len(indptr) - 1):
        for k in range(indptr[r], indptr[r + 1]):
            total += gene_map[indices[k]] >= 0
        kept[r + 1] = total
    return total


@compiled
def keep_indices(indices, gene_map, out):  # type: ignore[no-untyped-def]
    """Write the new numbers of the kept genes."""
    to = 0
    for k in range(len(indices)):
        c = gene_map[indices[k]]
        if c >= 0:
            out[to] = c
            to += 1


@compiled
def keep_data(indices, data, gene_map, out):  # type: ignore[no-untyped-def]
    """Write the values on kept genes."""
    to = 0
    for k in range(len(indices)):
        if gene_map[indices[k]] >= 0:
            out[to] = data[k]
            to += 1


# ---------------------------------------------------------------------------------------------- values, row by row
@compiled
def row_sums(indptr, data, out):  # type: ignore[no-untyped-def]
    """Sum each row in float64, from left to right."""
    for r in range(len(indptr) - 1):
        total = 0.0
        for k in range(indptr[r], indptr[r + 1]):
            total += data[k]
        out[r] = total


@compiled
def scale_rows(indptr, data, factor, out):  # type: ignore[no-untyped-def]
    """Multiply each row by a float64."""
    for r in range(len(indptr) - 1):
        f = factor[r]
        for k in range(indptr[r], indptr[r + 1]):
            out[k] = data[k] * f


@compiled
def divide_columns(indptr, indices, data, rows, divisor, out):  # type: ignore[no-untyped-def]
    """Divide the values of the chosen rows by their column's float64; copy the others."""
    for r in range(len(indptr) - 1):
        if rows[r]:
            for k in range(indptr[r], indptr[r + 1]):
                out[k] = data[k] / divisor[indices[k]]
        else:
            for k in range(indptr[r], indptr[r + 1]):
                out[k] = data[k]


@compiled
def log1p(data, scale, out):  # type: ignore[no-untyped-def]
    """Write log(1 + x) * scale, in float64 to 1e-13 relative; NaN for x <= -1.

    1 + x = m * 2**e with m around 1; log(m) = 2 atanh((m - 1) / (m + 1)) as a series; what
    rounding 1 + x has lost is put back. The same on every processor, unlike the libraries' own.
    """
    for k in range(len(data)):
        x = np.float64(data[k])
        u = 1.0 + x
        lost = (x - (u - 1.0)) / u
        bits = np.float64(u).view(np.uint64)
        # sqrt(1/2) <= m < sqrt(2): shift the exponent's boundary, then cut it out
        shifted = bits - np.uint64(0x3FE6A09E667F3BCD)
        e = np.int64(shifted) >> np.int64(52)
        m = np.uint64(bits - (np.uint64(e) << np.uint64(52))).view(np.float64)
        s = (m - 1.0) / (m + 1.0)
        z = s * s
        series = 1.0 / 11 + z * (1.0 / 13 + z * (1.0 / 15 + z * (1.0 / 17)))
        series = 1.0 + z * (1.0 / 3 + z * (1.0 / 5 + z * (1.0 / 7 + z * (1.0 / 9 + z * series))))
        value = (e * _LN2 + (2.0 * s * series + lost)) * scale
        out[k] = value if u > 0.0 else np.nan


# ----------------------------------------------------------------------------------------------- sums, gene by gene
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
def add_capped_moments(indptr, indices, data, groups, cap, sums):  # type: ignore[no-untyped-def]
    """Add min(x, cap) and its square, as `add_moments`; `cap` has shape (groups, genes)."""
    for r in range(len(indptr) - 1):
        g = groups[r]
        if g < 0:
            continue
        for k in range(indptr[r], indptr[r + 1]):
            cell = sums[g, indices[k]]
            x = min(np.float64(data[k]), cap[g, indices[k]])
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
        counts[indices[k]] += 1


# ------------------------------------------------------------------------------------------------------ checksums
@compiled
def fletcher32(data):  # type: ignore[no-untyped-def]
    """Return HDF5's fletcher32 of some bytes: sums of big-endian 16-bit words modulo 65535."""
    n = len(data) // 2
    plain = np.uint64(0)
    weighted = np.uint64(0)
    for start in range(0, n, 1 << 16):  # sums of 2**16 words times their places fit 64 bits
        stop = min(n, start + (1 << 16))
        s1 = np.uint64(0)
        s2 = np.uint64(0)
        for i in range(start, stop):
            word = (np.uint64(data[2 * i]) << np.uint64(8)) | np.uint64(data[2 * i + 1])
            s1 += word
            s2 += np.uint64(stop - i) * word
        weighted = (weighted + np.uint64(stop - start) * (plain % np.uint64(65535)) + s2) % np.uint64(65535)
        plain = (plain + s1) % np.uint64(65535)
        if plain == 0 and s1 > 0:
            plain = np.uint64(65535)
        if weighted == 0 and (s2 > 0 or plain > 0):
            weighted = np.uint64(65535)
    if len(data) % 2:
        plain = (plain + (np.uint64(data[len(data) - 1]) << np.uint64(8))) % np.uint64(65535)
        weighted = (weighted + plain) % np.uint64(65535)
        if plain == 0:
            plain = np.uint64(65535)
        if weighted == 0:
            weighted = np.uint64(65535)
    return np.uint32((weighted << np.uint64(16)) | plain)
