"""Sums of products of pairs of genes, as whole numbers: adding them has no order.

A product is below 2**50 and is rounded to a whole number once it is made; whole numbers are added exactly. What they
are multiples of is the caller's to know: values come multiplied by powers of two.
"""

from __future__ import annotations

import numpy as np

from .compiled import compiled

_MAGIC = 1.5 * 2.0**52
_MAGIC_BITS = np.int64(0x4338000000000000)
"""A number below 2**51 that is added to the first is rounded, and stands in the last bits of the sum: what is above the
second. Processors cannot turn four float64 into integers at once, but this they can."""


@compiled
def shifted_rows(indices, data, gene_map, mean, std, least, most, zero, weight, out_indices, out_data):  # type: ignore[no-untyped-def]
    """Write the values of chosen genes, scaled and clipped, less what zero becomes; return the largest magnitude.

    `gene_map` has a gene's new number, or -1; `mean` to `weight` are by new numbers. A value is multiplied by `weight`.
    """
    to = 0
    largest = 0.0
    for k in range(len(indices)):
        j = gene_map[np.uint32(indices[k])]
        if j >= 0:
            x = min(max((np.float64(data[k]) - mean[j]) / std[j], least), most) - zero[j]
            x *= weight[j]
            out_indices[to] = j
            out_data[to] = x
            largest = max(largest, abs(x)) if x == x else np.inf
            to += 1
    return largest


@compiled
def count_shifted(X, genes, zero, out_indptr):  # type: ignore[no-untyped-def]
    """Fill `out_indptr` with how many values of each row of a dense matrix are not `zero`; return their number."""
    to = 0
    out_indptr[0] = 0
    for r in range(X.shape[0]):
        for j in range(len(genes)):
            to += X[r, genes[j]] != zero[j]
        out_indptr[r + 1] = to
    return to


@compiled
def shifted_dense_rows(X, genes, zero, weight, out_indices, out_data):  # type: ignore[no-untyped-def]
    """Do as `shifted_rows` with rows of a dense matrix; `zero` is float32."""
    to = 0
    largest = 0.0
    for r in range(X.shape[0]):
        for j in range(len(genes)):
            value = X[r, genes[j]]
            if value != zero[j]:
                x = (np.float64(value) - np.float64(zero[j])) * weight[j]
                out_indices[to] = j
                out_data[to] = x
                largest = max(largest, abs(x)) if x == x else np.inf
                to += 1
    return largest


@compiled
def add_rounded(indices, data, unit, sums):  # type: ignore[no-untyped-def]
    """Add values times `unit`, rounded, to the int64 sum of their column."""
    for k in range(len(indices)):
        sums[np.uint32(indices[k])] += np.float64(data[k] * unit + _MAGIC).view(np.int64) - _MAGIC_BITS


@compiled
def set_apart(indptr, indices, data, place, dense, out_indptr, out_indices, out_data):  # type: ignore[no-untyped-def]
    """Write the values of column j to `dense[:, place[j]]`, or to sparse rows if that is -1; return how many are there.

    `dense` comes as zeros.
    """
    to = 0
    out_indptr[0] = 0
    for r in range(len(indptr) - 1):
        row = dense[r]
        for k in range(indptr[r], indptr[r + 1]):
            j = indices[k]
            p = place[np.uint32(j)]
            if p >= 0:
                row[p] = data[k]
            else:
                out_indices[to] = j
                out_data[to] = data[k]
                to += 1
        out_indptr[r + 1] = to
    return to


@compiled
def by_column(indptr, indices, starts, rows, places):  # type: ignore[no-untyped-def]
    """List the values of each column: their rows, in order, and where they stand.

    Those of column j are from `starts[j]` to `starts[j + 1]`; `starts` comes as zeros.
    """
    n = len(starts) - 1
    for k in range(len(indices)):
        starts[np.uint32(indices[k]) + np.uint32(1)] += 1
    for j in range(n):
        starts[j + 1] += starts[j]
    cursor = starts[:n].copy()
    for r in range(len(indptr) - 1):
        for k in range(indptr[r], indptr[r + 1]):
            j = indices[k]
            to = cursor[j]
            rows[to] = r
            places[to] = k
            cursor[j] = to + 1


@compiled
def add_products(indptr, indices, data, starts, rows, places, first, last, sums):  # type: ignore[no-untyped-def]
    """Add the products of each pair of values of a row to `sums[j, l]`, l >= j, of the columns j of a range."""
    held = np.zeros(sums.shape[1], np.int64)
    for j in range(first, last):
        if starts[j] == starts[j + 1]:
            continue
        for c in range(starts[j], starts[j + 1]):
            at, end = places[c], indptr[rows[c] + 1]
            x = data[at]
            columns, values = indices[at:end], data[at:end]
            for k in range(len(values)):
                held[np.uint32(columns[k])] += np.float64(x * values[k] + _MAGIC).view(np.int64) - _MAGIC_BITS
        row = sums[j]
        for k in range(j, len(held)):
            row[k] += held[k]
            held[k] = 0


@compiled
def _add_one(x, row, sums):  # type: ignore[no-untyped-def]
    for k in range(len(sums)):
        sums[k] += np.float64(x * row[k] + _MAGIC).view(np.int64)


@compiled
def _add_four(x0, x1, x2, x3, row0, row1, row2, row3, sums):  # type: ignore[no-untyped-def]
    for k in range(len(sums)):
        two = np.float64(x0 * row0[k] + _MAGIC).view(np.int64) + np.float64(x1 * row1[k] + _MAGIC).view(np.int64)
        more = np.float64(x2 * row2[k] + _MAGIC).view(np.int64) + np.float64(x3 * row3[k] + _MAGIC).view(np.int64)
        sums[k] += two + more


@compiled
def add_mixed_products(dense, columns, data, starts, rows, places, first, last, sums):  # type: ignore[no-untyped-def]
    """Add the products of each value of the sparse columns j of a range and its row of `dense` to `sums[j, l]`.

    Column k of `dense` is `l = columns[k]`, above j or below; what is beyond `columns` is padding. Rows are taken by
    blocks that stay in the processor's cache.
    """
    held = np.zeros((last - first, dense.shape[1]), np.int64)
    cursor = starts[first:last].copy()
    for block in range(0, dense.shape[0], 256):
        end = block + 256
        for j in range(first, last):
            into, c, stop = held[j - first], cursor[j - first], starts[j + 1]
            while c + 4 <= stop and rows[c + 3] < end:
                x0, x1, x2, x3 = data[places[c]], data[places[c + 1]], data[places[c + 2]], data[places[c + 3]]
                row0, row1, row2, row3 = dense[rows[c]], dense[rows[c + 1]], dense[rows[c + 2]], dense[rows[c + 3]]
                _add_four(x0, x1, x2, x3, row0, row1, row2, row3, into)
                c += 4
            while c < stop and rows[c] < end:
                _add_one(data[places[c]], dense[rows[c]], into)
                c += 1
            cursor[j - first] = c
    for j in range(first, last):
        row, n = sums[j], starts[j + 1] - starts[j]
        if n:
            for k in range(len(columns)):
                row[columns[k]] += held[j - first, k] - _MAGIC_BITS * n


@compiled
def add_dense_products(dense, columns, first, last, sums):  # type: ignore[no-untyped-def]
    """Add the products of each pair of columns of `dense` to `sums[j, l]`, l >= j, for a range of its columns.

    `columns` are those of `sums`; what is beyond them is padding, of a width that is a multiple of 32: loops of another
    length end one by one.
    """
    n = dense.shape[0]
    held = np.zeros((last - first, dense.shape[1]), np.int64)
    for block in range(0, n, 16):
        end = min(n, block + 16)
        for p in range(first, last):
            start = p & ~31
            into = held[p - first, start:]
            r = block
            while r + 4 <= end:
                row0, row1, row2, row3 = (
                    dense[r, start:],
                    dense[r + 1, start:],
                    dense[r + 2, start:],
                    dense[r + 3, start:],
                )
                x0, x1, x2, x3 = dense[r, p], dense[r + 1, p], dense[r + 2, p], dense[r + 3, p]
                _add_four(x0, x1, x2, x3, row0, row1, row2, row3, into)
                r += 4
            while r < end:
                _add_one(dense[r, p], dense[r, start:], into)
                r += 1
    for p in range(first, last):
        row = sums[columns[p]]
        for k in range(p, len(columns)):
            row[columns[k]] += held[p - first, k] - _MAGIC_BITS * n


@compiled
def fold(sums):  # type: ignore[no-untyped-def]
    """Add what is below the diagonal to what is above it."""
    n = len(sums)
    for block in range(0, n, 32):
        for j in range(n):
            for k in range(max(block, j + 1), min(n, block + 32)):
                sums[j, k] += sums[k, j]
                sums[k, j] = 0


@compiled
def project(indptr, indices, data, loadings, offset, out):  # type: ignore[no-untyped-def]
    """Fill `out` with the rows times `loadings`, (genes, components), less `offset`; in float64, value by value."""
    sums = np.empty(len(offset))
    for r in range(len(indptr) - 1):
        for c in range(len(sums)):
            sums[c] = -offset[c]
        for k in range(indptr[r], indptr[r + 1]):
            x, row = data[k], loadings[np.uint32(indices[k])]
            for c in range(len(sums)):
                sums[c] += x * row[c]
        for c in range(len(sums)):
            out[r, c] = sums[c]


@compiled
def raise_largest(indices, data, largest):  # type: ignore[no-untyped-def]
    """Raise `largest`, by column, to the magnitudes of values; NaN is the largest of all."""
    for k in range(len(indices)):
        j = np.uint32(indices[k])
        largest[j] = max(largest[j], abs(data[k])) if data[k] == data[k] else np.inf


@compiled
def covariances(sums, totals, n, divisor, weight, out):  # type: ignore[no-untyped-def]
    """Fill the symmetric `out` with (sum of products - product of sums / n) / divisor; n = infinity does not centre."""
    for j in range(len(totals)):
        for k in range(j, len(totals)):
            value = (np.float64(sums[j, k]) / weight[j] / weight[k] - totals[j] * totals[k] / n) / divisor
            out[j, k] = value
            out[k, j] = value
