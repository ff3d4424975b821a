"""From coordinates to rows, and which genes of them are kept."""

from __future__ import annotations

import numpy as np

from .compiled import compiled

UNSORTED = 1
OVERFLOW = 2


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
