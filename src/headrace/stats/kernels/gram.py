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
def by_column(indptr, indices, starts, ends, places):  # type: ignore[no-untyped-def]
    """List the values of each column: where they stand, and where their rows end.

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
            ends[to] = indptr[r + 1]
            places[to] = k
            cursor[j] = to + 1


@compiled
def add_products(starts, ends, places, indices, data, first, last, sums):  # type: ignore[no-untyped-def]
    """Add the products of each pair of values of a row to `sums[j, l]`, l >= j, of the columns j of a range."""
    held = np.zeros(sums.shape[1], np.int64)
    for j in range(first, last):
        for c in range(starts[j], starts[j + 1]):
            at, end = places[c], ends[c]
            x = data[at]
            columns, values = indices[at:end], data[at:end]
            for k in range(len(values)):
                held[np.uint32(columns[k])] += np.float64(x * values[k] + _MAGIC).view(np.int64) - _MAGIC_BITS
        row = sums[j]
        for k in range(j, len(held)):
            row[k] += held[k]
            held[k] = 0


@compiled
def add_dense_products(X, first, last, sums):  # type: ignore[no-untyped-def]
    """Do as `add_products` with a dense matrix of few rows; the same sums."""
    held = np.zeros(sums.shape[1], np.int64)
    for j in range(first, last):
        into = held[j:]
        for r in range(X.shape[0]):
            x, values = X[r, j], X[r, j:]
            for k in range(len(values)):
                into[k] += np.float64(x * values[k] + _MAGIC).view(np.int64)
        row = sums[j]
        for k in range(j, len(held)):
            row[k] += held[k] - _MAGIC_BITS * X.shape[0]
            held[k] = 0


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
