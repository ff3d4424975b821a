"""The compiled loops. The only file that knows numba.

All release the interpreter lock, keep their machine code between runs, and use no fast-math:
their results do not depend on the processor or on how the stream is cut.

A *fixed-point sum* is a 128-bit integer in units of 2**-60, held as two unsigned words: `high`
counts units of 8 (in two's complement), `low` counts units of 2**-60 and carries into `high` when
it passes 16. Adding integers is exact and has no order, so neither has the sum: it is the same to
the bit however cells are grouped. Whole numbers are summed without any error up to 2**65.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numba
import numpy as np


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
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
    """Return HDF5's fletcher32 of some bytes: sums of big-endian 16-bit words modulo 65535, never 0 but for zeros."""
    words = data[: len(data) // 2 * 2].view(np.uint16)
    n = len(words)
    plain = np.uint64(0)
    weighted = np.uint64(0)
    anything = np.uint32(0)
    modulus = np.uint64(65535)
    for start in range(0, n, 128):  # so short that 32 bits hold the sums: the inner loop becomes vectors
        stop = min(n, start + 128)
        s1 = np.uint32(0)
        s2 = np.uint32(0)
        for i in range(start, stop):
            word = np.uint32(words[i])
            word = ((word & np.uint32(255)) << np.uint32(8)) | (word >> np.uint32(8))
            s1 += word
            s2 += word * np.uint32(stop - i)
        weighted += np.uint64(stop - start) * plain + np.uint64(s2)
        plain += np.uint64(s1)
        anything |= s1
        if start & 0xFFFF == 0:
            weighted %= modulus
            plain %= modulus
    if len(data) % 2:
        last = np.uint64(data[len(data) - 1]) << np.uint64(8)
        plain = plain % modulus + last
        weighted = weighted % modulus + plain
        anything |= np.uint32(last)
    plain %= modulus
    weighted %= modulus
    if anything > 0:
        plain = plain if plain > 0 else modulus
        weighted = weighted if weighted > 0 else modulus
    return np.uint32((weighted << np.uint64(16)) | plain)


@compiled
def shuffle(items, out):  # type: ignore[no-untyped-def]
    """Put the lowest bytes of all items (unsigned) before all second bytes, and so on: HDF5's shuffle filter."""
    n = len(items)
    for byte in range(items.itemsize):
        shift = items.dtype.type(8 * byte)
        for i in range(n):
            out[byte * n + i] = np.uint8(items[i] >> shift)


# ------------------------------------------------------------------------------- sums, gene by gene, of some rows
@compiled
def add_whole(indptr, indices, data, rows, sums):  # type: ignore[no-untyped-def]
    """Add x and x**2 of the rows to int64 sums, shape (genes, 2); every x is whole and below 2**31."""
    for i in range(len(rows)):
        for k in range(indptr[rows[i]], indptr[rows[i] + 1]):
            x = np.int64(data[k])
            cell = sums[indices[k]]
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
    for i in range(len(rows)):
        for k in range(indptr[rows[i]], indptr[rows[i] + 1]):
            x = np.float64(data[k])
            _add(sums[indices[k]], 0, x)
            _add(sums[indices[k]], 2, x * x)


@compiled
def _add(words, at, x):  # type: ignore[no-untyped-def]
    """Add x to the fixed-point sum at `words[at]` and `words[at + 1]`."""
    high = np.floor(x * 0.125)
    low = np.uint64(np.int64((x - high * 8.0) * _UNIT))
    total = words[at + 1] + low
    words[at] += np.uint64(np.int64(high)) + (np.uint64(2) if total < low else np.uint64(0))
    words[at + 1] = total


# ----------------------------------------------------------------------------------- how often each count comes
@compiled
def add_counts(indptr, indices, data, rows, done, table, first, keys, n):  # type: ignore[no-untyped-def]
    """Count the values of the rows from number `done` on; every x is whole and below 2**31.

    One below the width of `table` in its column x of its gene's row; a larger one in column 0, and in `keys` (from
    `n` on) as gene and x. Stops at a row for which `keys` has no room. Returns the rows done and the keys written.
    """
    width = np.uint64(table.shape[1])
    flat = table.reshape(-1)
    room = len(keys)
    at = np.uint64(n)
    for i in range(done, len(rows)):
        start, stop = indptr[rows[i]], indptr[rows[i] + 1]
        if np.int64(at) + (stop - start) > room:
            return i, np.int64(at)
        for k in range(start, stop):
            x = np.uint64(np.int64(data[k]))
            gene = np.uint64(indices[k])
            flat[gene * width + (x if x < width else np.uint64(0))] += np.uint32(1)
            keys[at] = ((first + gene) << np.uint64(31)) | x  # written over by the next one if x is small: no branch
            at += np.uint64(x >= width)
    return len(rows), np.int64(at)


@compiled
def squeeze(keys, counts):  # type: ignore[no-untyped-def]
    """Move the different ones of sorted keys to the front, in place; write how often each came; return how many."""
    n = 0
    for k in range(len(keys)):
        if n and keys[n - 1] == keys[k]:
            counts[n - 1] += np.uint32(1)
        else:
            keys[n] = keys[k]
            counts[n] = np.uint32(1)
            n += 1
    return n


@compiled
def count_either(left, right):  # type: ignore[no-untyped-def]
    """Count the keys that are in either of two, each sorted and without repeats."""
    i = j = n = 0
    while i < len(left) and j < len(right):
        a, b = left[i], right[j]
        i += a <= b
        j += b <= a
        n += 1
    return n + (len(left) - i) + (len(right) - j)


@compiled
def merge_counts(keys, counts, n, more, times, total):  # type: ignore[no-untyped-def]
    """Merge sorted keys and their counts into the first `n`, in place from the end; `total` is `count_either`."""
    i, j = n - 1, len(more) - 1
    for at in range(total - 1, -1, -1):
        if j < 0:
            return  # what is left stands where it belongs
        if i >= 0 and keys[i] >= more[j]:
            counts[at] = counts[i]
            if keys[i] == more[j]:
                counts[at] += times[j]
                j -= 1
            keys[at] = keys[i]
            i -= 1
        else:
            keys[at] = more[j]
            counts[at] = times[j]
            j -= 1


@compiled
def sum_table(table, above, sums):  # type: ignore[no-untyped-def]
    """Add 1, x and x**2 of the counts x > `above` of each gene to int64 sums, shape (genes, 4), as `sum_counts`."""
    for gene in range(len(table)):
        for x in range(max(above[gene] + 1, 1), table.shape[1]):
            times = np.int64(table[gene, x])
            sums[gene, 0] += times
            sums[gene, 1] += times * x
            sums[gene, 2] += times * x * x


@compiled
def sum_counts(keys, counts, above, sums):  # type: ignore[no-untyped-def]
    """Add 1, x, and the low 32 bits and the rest of x**2, `counts` times, of keys (gene and x) with x > `above`."""
    for k in range(len(keys)):
        gene, x = np.int64(keys[k] >> np.uint64(31)), np.int64(keys[k] & np.uint64(0x7FFFFFFF))
        if x > above[gene]:
            times, square = np.int64(counts[k]), x * x
            sums[gene, 0] += times
            sums[gene, 1] += times * x
            sums[gene, 2] += times * (square & np.int64(0xFFFFFFFF))
            sums[gene, 3] += times * (square >> np.int64(32))


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


# ------------------------------------------------------------------------------------------- quality, cell by cell
@compiled
def row_sums_of(indptr, indices, data, chosen, out):  # type: ignore[no-untyped-def]
    """Sum each row over the chosen genes in float64, from left to right."""
    for r in range(len(indptr) - 1):
        total = 0.0
        for k in range(indptr[r], indptr[r + 1]):
            if chosen[indices[k]]:
                total += data[k]
        out[r] = total


@compiled
def top_sums(indptr, data, tops, out):  # type: ignore[no-untyped-def]
    """Sum each row's `tops[i]` largest values, in float64, from the largest on; `tops` increases.

    Small whole numbers are counted, not sorted: their sums are exact, so the order does not show.
    """
    seen = np.zeros(1024, np.int64)
    widest = 0
    for r in range(len(indptr) - 1):
        widest = max(widest, indptr[r + 1] - indptr[r])
    rest = np.empty(widest, np.float64)
    for r in range(len(indptr) - 1):
        n_rest = 0
        whole = True
        largest = 0
        for k in range(indptr[r], indptr[r + 1]):
            x = data[k]
            small = np.int32(min(max(x, np.float32(0)), np.float32(1024)))
            if x == small and small < 1024:
                seen[small] += 1
                largest = max(largest, int(small))
            else:
                whole &= x >= 1024
                rest[n_rest] = x
                n_rest += 1
        if not whole:  # fractions: all values in order
            seen[: largest + 1] = 0
            largest = 0
            n_rest = indptr[r + 1] - indptr[r]
            rest[:n_rest] = data[indptr[r] : indptr[r + 1]]
        ordered = np.sort(rest[:n_rest])
        total = 0.0
        done = 0
        value = largest
        left = seen[value]
        for i in range(len(tops)):
            while done < tops[i] and done < n_rest:
                total += ordered[n_rest - 1 - done]
                done += 1
            while done < tops[i] and value > 0:
                if left == 0:
                    value -= 1
                    left = seen[value]
                    continue
                take = min(left, tops[i] - done)
                total += np.float64(take * value)
                left -= take
                done += take
            out[r, i] = total
        seen[: largest + 1] = 0


@compiled
def mark_dominant(indptr, indices, data, sizes, fraction, marked):  # type: ignore[no-untyped-def]
    """Mark the genes that have more than a fraction of a cell's total in any cell."""
    for r in range(len(indptr) - 1):
        limit = fraction * sizes[r]
        for k in range(indptr[r], indptr[r + 1]):
            if data[k] > limit:
                marked[indices[k]] = True


# ------------------------------------------------------------------------------------------- values, one by one
@compiled
def expm1(data, scale, out):  # type: ignore[no-untyped-def]
    """Write exp(x * scale) - 1, each by the same scalar function wherever it stands."""
    for k in range(len(data)):
        out[k] = math.expm1(np.float64(data[k]) * scale)


@compiled
def arcsinh(data, scale, out):  # type: ignore[no-untyped-def]
    """Write asinh(x * scale), each by the same scalar function wherever it stands."""
    for k in range(len(data)):
        out[k] = math.asinh(np.float64(data[k]) * scale)


@compiled
def scale_columns(indices, data, std, most, out):  # type: ignore[no-untyped-def]
    """Divide by the column's float64; nothing above `most`."""
    for k in range(len(data)):
        out[k] = min(most, data[k] / std[indices[k]])


@compiled
def standardize(indptr, indices, data, mean, std, most, out):  # type: ignore[no-untyped-def]
    """Fill the dense `out` with (x - mean) / std, within -most and most."""
    for r in range(len(indptr) - 1):
        k, end = indptr[r], indptr[r + 1]
        for j in range(len(mean)):
            x = 0.0
            if k < end and indices[k] == j:
                x = np.float64(data[k])
                k += 1
            out[r, j] = min(max((x - mean[j]) / std[j], -most), most)


@compiled
def residuals(indptr, indices, data, sizes, totals, total, theta, clip, out):  # type: ignore[no-untyped-def]
    """Fill the dense `out` with clipped Pearson residuals; 0 where nothing is expected."""
    for r in range(len(indptr) - 1):
        k, end = indptr[r], indptr[r + 1]
        for j in range(len(totals)):
            x = 0.0
            if k < end and indices[k] == j:
                x = np.float64(data[k])
                k += 1
            mu = sizes[r] * totals[j] / total
            z = (x - mu) / np.sqrt(mu + mu * mu / theta) if mu > 0.0 else 0.0
            out[r, j] = min(max(z, -clip), clip)


# ------------------------------------------------------------------------------------ samples against one another
@compiled
def select(values, n, k):  # type: ignore[no-untyped-def]
    """Return the k-th smallest (from 0) of the first n values, which are reordered around it (Hoare's quickselect)."""
    left, right = 0, n - 1
    while left < right:
        pivot = values[(left + right) // 2]
        i, j = left, right
        while i <= j:
            while values[i] < pivot:
                i += 1
            while values[j] > pivot:
                j -= 1
            if i <= j:
                values[i], values[j] = values[j], values[i]
                i += 1
                j -= 1
        if k <= j:
            right = j
        elif k >= i:
            left = i
        else:
            break
    return values[k]


@compiled
def middle_ranks(values, scratch, n, low, high, keep):  # type: ignore[no-untyped-def]
    """Clear `keep` where the rank (from 1, ties share their mean) is not within low and high, as R's `rank`.

    No value is sorted: the two bounds are selected, and ties with them counted.
    """
    if low > high:
        keep[:n] = False
        return
    scratch[:n] = values[:n]
    bottom = select(scratch, n, low - 1)
    top = select(scratch, n, high - 1)
    below_bottom = at_bottom = below_top = at_top = 0
    for k in range(n):
        below_bottom += values[k] < bottom
        at_bottom += values[k] == bottom
        below_top += values[k] < top
        at_top += values[k] == top
    bottom_rank, top_rank = below_bottom + (at_bottom + 1) / 2, below_top + (at_top + 1) / 2
    keep_bottom = low <= bottom_rank and (bottom_rank <= high or bottom < top)
    keep_top = top_rank <= high and (low <= top_rank or bottom < top)
    for k in range(n):
        value = values[k]
        if value < bottom or value > top or (value == bottom and not keep_bottom) or (value == top and not keep_top):
            keep[k] = False


@compiled
def middle_order(values, second, scratch, n, low, high, keep):  # type: ignore[no-untyped-def]
    """Clear `keep` where the place (from 1) in `order(values, second)`, ties as they come, is out of low to high."""
    scratch[:n] = values[:n]
    bottom = select(scratch, n, low - 1)
    top = select(scratch, n, high - 1)
    for k in range(n):
        if values[k] < bottom or values[k] > top:
            keep[k] = False
    for edge in range(1 if bottom == top else 2):
        at = bottom if edge == 0 else top
        tied = np.flatnonzero(values[:n] == at)
        first = (values[:n] < at).sum() + 1
        order = np.argsort(second[tied], kind="mergesort")
        for place in range(len(tied)):
            if not low <= first + place <= high:
                keep[tied[order[place]]] = False


@compiled
def tmm(indptr, indices, data, sizes, ref, ref_size, trims, weighted, a_cutoff, out):  # type: ignore[no-untyped-def]
    """Write each row's trimmed mean of M-values against the dense row `ref`, in edgeR's own order of operations.

    `trims` holds the fractions of M-values and of A-values to cut off at each end.
    """
    n_vars = len(ref)
    ref_rate, ref_log, ref_var = np.empty(n_vars), np.empty(n_vars), np.empty(n_vars)
    for j in range(n_vars):
        if ref[j] > 0:
            ref_rate[j] = ref[j] / ref_size
            ref_log[j] = np.log2(ref_rate[j])
            ref_var[j] = (ref_size - ref[j]) / ref_size / ref[j]
    m, a, v, scratch = np.empty(n_vars), np.empty(n_vars), np.empty(n_vars), np.empty(n_vars)
    keep = np.empty(n_vars, dtype=np.bool_)
    for r in range(len(indptr) - 1):
        size = sizes[r]
        n, largest = 0, 0.0
        for k in range(indptr[r], indptr[r + 1]):
            j, x = indices[k], np.float64(data[k])
            if ref[j] > 0 and x > 0:
                rate = x / size
                log_ratio = np.log2(rate / ref_rate[j])
                mean = (np.log2(rate) + ref_log[j]) / 2
                if np.isfinite(log_ratio) and np.isfinite(mean) and mean > a_cutoff:
                    m[n], a[n], v[n] = log_ratio, mean, (size - x) / size / x + ref_var[j]
                    largest = max(largest, abs(log_ratio))
                    n += 1
        if n == 0 or largest < 1e-6:
            out[r] = 1.0
            continue
        keep[:n] = True
        low = int(np.floor(n * trims[0])) + 1
        middle_ranks(m, scratch, n, low, n + 1 - low, keep)
        low = int(np.floor(n * trims[1])) + 1
        middle_ranks(a, scratch, n, low, n + 1 - low, keep)
        top, bottom = 0.0, 0.0
        for k in range(n):
            if keep[k]:
                w = 1.0 / v[k] if weighted else 1.0
                part = m[k] / v[k] if weighted else m[k]
                if not np.isnan(part):
                    top += part
                bottom += w
        f = top / bottom
        out[r] = 2.0 ** (0.0 if np.isnan(f) else f)


@compiled
def tmm_wsp(indptr, indices, data, sizes, ref, ref_size, trims, weighted, out):  # type: ignore[no-untyped-def]
    """Write each row's TMM with singleton pairing against the dense row `ref`, in edgeR's own order of operations."""
    eps = 1e-14
    n_vars = len(ref)
    expressed = np.flatnonzero(ref > eps)
    by_size = expressed[np.argsort(-ref[expressed], kind="mergesort")]
    seen = np.zeros(n_vars, dtype=np.int64)
    obs, paired = np.empty(n_vars), np.empty(n_vars)
    m, a, shrunk, scratch = np.empty(n_vars), np.empty(n_vars), np.empty(n_vars), np.empty(n_vars)
    place = np.zeros(n_vars)
    keep = np.empty(n_vars, dtype=np.bool_)
    for r in range(len(indptr) - 1):
        size = sizes[r]
        n, n_single = 0, 0
        for k in range(indptr[r], indptr[r + 1]):
            j, x = indices[k], np.float64(data[k])
            if x > eps:
                seen[j] = r + 1
                if ref[j] > eps:
                    obs[n], paired[n] = x, ref[j]
                    n += 1
                else:
                    scratch[n_single] = x
                    n_single += 1
        eligible = min(n_single, len(expressed) - n)
        if eligible > 0:
            single = np.sort(scratch[:n_single])[::-1]
            taken = 0
            for j in by_size:
                if taken == eligible:
                    break
                if seen[j] != r + 1:
                    obs[n], paired[n] = single[taken], ref[j]
                    n += 1
                    taken += 1
        largest = 0.0
        for k in range(n):
            p, q = obs[k] / size, paired[k] / ref_size
            m[k], a[k] = np.log2(p / q), 0.5 * np.log2(p * q)
            shrunk[k] = np.log2((obs[k] + 0.5) / (size + 0.5) / ((paired[k] + 0.5) / (ref_size + 0.5)))
            largest = max(largest, abs(m[k]))
        if n == 0 or largest < 1e-6:
            out[r] = 1.0
            continue
        keep[:n] = True
        low = int(n * trims[0]) + 1
        middle_order(m, shrunk, scratch, n, low, n + 1 - low, keep)
        low = int(n * trims[1]) + 1
        middle_order(a, place, scratch, n, low, n + 1 - low, keep)
        top, bottom = 0.0, 0.0
        for k in range(n):
            if keep[k]:
                p, q = obs[k] / size, paired[k] / ref_size
                w = (1 + 1e-6) / ((1 - p) / p / size + (1 - q) / q / ref_size + 1e-6) if weighted else 1.0
                top += w * m[k]
                bottom += w
        out[r] = 2.0 ** (top / bottom)


@compiled
def row_quantiles(indptr, data, n, p, out):  # type: ignore[no-untyped-def]
    """Write each row's p-quantile over n values, of which those not stored are 0, as R's `quantile` (type 7)."""
    index = 1 + max(n - 1, 0) * p
    low, high = int(np.floor(index)), int(np.ceil(index))
    for r in range(len(indptr) - 1):
        values = data[indptr[r] : indptr[r + 1]].astype(np.float64)
        zeros = n - len(values)
        if n <= 0:  # no gene is left
            out[r] = 0.0
            continue
        below = select(values, len(values), low - 1 - zeros) if low > zeros else 0.0
        above = select(values, len(values), high - 1 - zeros) if high > zeros else 0.0
        h = index - low
        out[r] = (1 - h) * below + h * above if h > 0 and above != below else below


@compiled
def row_medians(indptr, indices, data, centre, logged, out):  # type: ignore[no-untyped-def]
    """Write each row's median of x / centre, or of log(x) - centre, over the genes whose centre is finite and x > 0."""
    for r in range(len(indptr) - 1):
        values = np.empty(indptr[r + 1] - indptr[r])
        n = 0
        for k in range(indptr[r], indptr[r + 1]):
            c, x = centre[indices[k]], np.float64(data[k])
            if np.isfinite(c) and x > 0:
                values[n] = np.log(x) - c if logged else x / c
                n += 1
        if n == 0:
            out[r] = np.nan
        elif n % 2:
            out[r] = select(values, n, n // 2)
        else:
            out[r] = (select(values, n, n // 2 - 1) + select(values, n, n // 2)) / 2


@compiled
def add_logs(indices, data, sums, counts):  # type: ignore[no-untyped-def]
    """Add log(x) to the fixed-point sums (genes, 2) and count the values above 0."""
    for k in range(len(indices)):
        if data[k] > 0:
            j = indices[k]
            x = np.log(np.float64(data[k]))
            high = np.floor(x * 0.125)
            low = np.uint64(np.int64((x - high * 8.0) * _UNIT))
            total = sums[j, 1] + low
            sums[j, 0] += np.uint64(np.int64(high)) + (np.uint64(2) if total < low else np.uint64(0))
            sums[j, 1] = total
            counts[j] += 1


@compiled
def row_sqrt_sums(indptr, data, out):  # type: ignore[no-untyped-def]
    """Sum the square roots of each row, from left to right."""
    for r in range(len(indptr) - 1):
        total = 0.0
        for k in range(indptr[r], indptr[r + 1]):
            total += np.sqrt(np.float64(data[k]))
        out[r] = total


@compiled
def count_at_least(indptr, indices, data, factor, cutoff, counts):  # type: ignore[no-untyped-def]
    """Count for each gene the rows where x * factor[row] reaches the cutoff, which is above 0."""
    for r in range(len(indptr) - 1):
        for k in range(indptr[r], indptr[r + 1]):
            counts[indices[k]] += np.float64(data[k]) * factor[r] >= cutoff


@compiled
def log_rates(indptr, indices, data, prior, size, out):  # type: ignore[no-untyped-def]
    """Write log2((x + prior) / size * 1e6), densely; prior and size by row."""
    for r in range(len(indptr) - 1):
        out[r] = np.log2(prior[r] / size[r] * 1e6)
        for k in range(indptr[r], indptr[r + 1]):
            out[r, indices[k]] = np.log2((np.float64(data[k]) + prior[r]) / size[r] * 1e6)


# ------------------------------------------------------------------------------------------- sums of rows, by group
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


# ------------------------------------------------------------------------------------------------------- the spool
@compiled
def to_deltas(indptr, indices, out):  # type: ignore[no-untyped-def]
    """Write each row's columns as differences, the first from 0."""
    for k in range(1, len(indices)):
        out[k] = indices[k] - indices[k - 1]
    for r in range(len(indptr) - 1):
        if indptr[r] < indptr[r + 1]:
            out[indptr[r]] = indices[indptr[r]]


@compiled
def from_deltas(indptr, deltas, out):  # type: ignore[no-untyped-def]
    """Undo `to_deltas`."""
    for r in range(len(indptr) - 1):
        column = 0
        for k in range(indptr[r], indptr[r + 1]):
            column += deltas[k]
            out[k] = column


@compiled
def narrow(data, escape, out):  # type: ignore[no-untyped-def]
    """Write whole numbers, `escape` for larger ones; return how many those are, or -1 if not all are whole."""
    large = 0
    whole = True
    for k in range(len(data)):
        x = data[k]
        whole &= (x >= 0) & (x == np.floor(x))
        large += x >= escape
        out[k] = np.uint32(min(max(x, np.float32(0)), np.float32(escape)))
    return large if whole else -1


@compiled
def dense_rows(X, indptr, indices, data):  # type: ignore[no-untyped-def]
    """Write the values of a dense matrix that are not 0 as CSR; `indptr` is known."""
    for r in range(X.shape[0]):
        to = indptr[r]
        for j in range(X.shape[1]):
            x = X[r, j]
            if x != 0:
                indices[to] = j
                data[to] = x
                to += 1


# -------------------------------------------------------------------------------------------- from an HDF5 file
OUTSIDE = 4
ZEROS = 8
NOT_FINITE = 16


@compiled
def unshuffle4(raw, out):  # type: ignore[no-untyped-def]
    """Undo HDF5's byte shuffle of 4-byte numbers: first come all lowest bytes, then all second ones, ..."""
    n = len(out)
    for i in range(n):
        out[i] = (
            np.uint32(raw[i])
            | (np.uint32(raw[n + i]) << np.uint32(8))
            | (np.uint32(raw[2 * n + i]) << np.uint32(16))
            | (np.uint32(raw[3 * n + i]) << np.uint32(24))
        )


@compiled
def unshuffle(raw, size, out):  # type: ignore[no-untyped-def]
    """Undo HDF5's byte shuffle of numbers of `size` bytes, given and returned as bytes."""
    n = len(out) // size
    for i in range(n):
        for b in range(size):
            out[i * size + b] = raw[b * n + i]


@compiled
def to_float32(values, out):  # type: ignore[no-untyped-def]
    """Convert to float32; return whether a whole number was rounded. What is too large becomes infinite."""
    rounded = False
    for k in range(len(values)):
        x = values[k]
        y = np.float32(x)
        out[k] = y
        if abs(np.float64(x)) > 16777216.0 and np.float64(x) == np.floor(np.float64(x)):
            rounded |= np.float64(y) != np.float64(x)
    return rounded


@compiled
def to_int32(values, n, out):  # type: ignore[no-untyped-def]
    """Convert to int32; return whether a value is not in 0 to n - 1."""
    outside = False
    for k in range(len(values)):
        outside |= (values[k] < 0) | (values[k] >= n)
        out[k] = values[k]
    return outside


@compiled
def look_at_csr(indptr, indices, data, n_vars):  # type: ignore[no-untyped-def]
    """Return what is not as it should be: UNSORTED (or twice), OUTSIDE, ZEROS, NOT_FINITE, added up.

    Loops over all rows at once become vectors: three times faster than row by row.
    """
    n = len(indices)
    later, earlier = indices[1:], indices[: max(0, n - 1)]
    descents = 0
    for k in range(len(later)):
        descents += later[k] <= earlier[k]
    before = 0
    for r in range(1, len(indptr) - 1):  # those between two rows are as they should be
        k = indptr[r]
        if before < k < n:
            descents -= indices[k] <= indices[k - 1]
            before = k
    lowest, highest = np.int32(0), np.int32(0)
    for k in range(n):
        lowest, highest = min(lowest, indices[k]), max(highest, indices[k])
    outside = (lowest < 0) | (highest >= n_vars)
    zeros, broken = 0, 0
    for k in range(len(data)):
        zeros += data[k] == 0
        broken += data[k] - data[k] != 0
    return UNSORTED * (descents != 0) + OUTSIDE * outside + ZEROS * (zeros != 0) + NOT_FINITE * (broken != 0)


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


# ------------------------------------------------------------------------------------------- what each row holds
@compiled
def mark_rows(indptr, indices, data, bits, out):  # type: ignore[no-untyped-def]
    """Write the sum of each row (float64), and the sum of (column + 1) * bits modulo 2**64.

    `bits` is `data` seen as uint32; `out` has two uint64 per row, the first a float64's bits. The float64 sum runs in
    four lanes, by position in the row, since one would wait for itself: 0.5 ns for each value instead of 1.5.
    """
    for r in range(len(indptr) - 1):
        start, stop = indptr[r], indptr[r + 1]
        x, i, b = data[start:stop], indices[start:stop], bits[start:stop]
        s0 = s1 = s2 = s3 = 0.0
        mark = np.uint64(0)
        for k in range(len(x) // 4):
            at = np.uint64(4 * k)
            s0 += x[at]
            s1 += x[at + np.uint64(1)]
            s2 += x[at + np.uint64(2)]
            s3 += x[at + np.uint64(3)]
        for k in range(len(x) // 4 * 4, len(x)):
            s0 += x[k]
        for k in range(len(x)):
            mark += np.uint64(np.uint32(i[k]) + np.uint32(1)) * np.uint64(b[k])
        total = (s0 + s1) + (s2 + s3)
        out[r, 0] = np.float64(total if total == total else np.nan).view(np.uint64)
        out[r, 1] = mark


@compiled
def mark_dense_rows(X, bits, out):  # type: ignore[no-untyped-def]
    """Write what `mark_rows` writes, for a dense matrix, whose sums run from left to right."""
    for r in range(X.shape[0]):
        total = 0.0
        mark = np.uint64(0)
        for j in range(X.shape[1]):
            total += X[r, j]
            mark += (np.uint64(j) + _ONE) * np.uint64(bits[r, j])
        out[r, 0] = np.float64(total if total == total else np.nan).view(np.uint64)
        out[r, 1] = mark
