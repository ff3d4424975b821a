"""CSR rows from coordinates, and the selection of genes."""

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
    n_rows = len(row_map)
    k, n = at, len(rows)
    while k < n:
        i = rows[k] - first
        if i >= n_rows:
            return k, seen, status
        r = row_map[i] if i >= 0 else -1
        if r < 0:
            k += 1
            continue
        start, room = cursor[r], limit[r + 1] - cursor[r]
        stop = k + _run(rows[k:], room)
        into, values = indices[start : limit[r + 1]], data[start : limit[r + 1]]
        if stop - k <= room:
            kept = _place(cols[k:stop], vals[k:stop], col_map, into, values)
        else:
            kept = _place_some(cols[k:stop], vals[k:stop], col_map, into, values)
            if kept < 0:
                return k, seen, status | OVERFLOW
        if kept and start > limit[r] and into[0] <= indices[start - 1]:
            status |= UNSORTED
        if not _increases(into[:kept]):
            status |= UNSORTED
        cursor[r] = start + kept
        seen += stop - k
        k = stop
    return n, seen, status


@compiled
def _run(rows, expected):  # type: ignore[no-untyped-def]
    """Count how many of the first are the same; to test for an expected number is fast."""
    row = rows[0]
    others = row ^ row
    first = rows[:expected]
    for k in range(len(first)):
        others |= first[k] ^ row
    n = len(first) if others == 0 else 0
    while n < len(rows) and rows[n] == row:
        n += 1
    return n


@compiled
def _place(cols, vals, col_map, indices, data):  # type: ignore[no-untyped-def]
    """Write the wanted values and their new columns; there is room for all. Return how many there are.

    Without a branch: each is written, and written over by the next one unless it is wanted.
    """
    n_cols = np.uint64(len(col_map))
    to = np.uint64(0)
    for k in range(len(cols)):
        j = np.uint64(cols[k])
        c = col_map[j] if j < n_cols else np.int32(-1)
        indices[to] = c
        data[to] = vals[k]
        to += np.uint64((c >= 0) & (vals[k] != 0))
    return np.int64(to)


@compiled
def _place_some(cols, vals, col_map, indices, data):  # type: ignore[no-untyped-def]
    """Do as `_place` where there is not room for all; return -1 if there is not for those wanted."""
    to = 0
    for k in range(len(cols)):
        c = col_map[cols[k]] if 0 <= cols[k] < len(col_map) else -1
        if c >= 0 and vals[k] != 0:
            if to == len(indices):
                return -1
            indices[to] = c
            data[to] = vals[k]
            to += 1
    return to


@compiled
def _increases(values):  # type: ignore[no-untyped-def]
    """Return whether each is larger than the one before."""
    later, earlier = values[1:], values[: max(0, len(values) - 1)]
    descents = 0
    for k in range(len(later)):
        descents += later[k] <= earlier[k]
    return descents == 0


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
    held_indices, held_data = np.empty(256, indices.dtype), np.empty(256, data.dtype)
    to = 0
    for r in range(len(cursor)):
        indptr[r] = to
        start, stop = limit[r], cursor[r]
        if start != to:
            _move(indices, start, stop, to, held_indices)
            _move(data, start, stop, to, held_data)
        to += stop - start
    indptr[len(cursor)] = to
    return to


@compiled
def _move(values, start, stop, to, held):  # type: ignore[no-untyped-def]
    """Move some values down; both places may overlap, so a few at a time are held meanwhile."""
    for at in range(start, stop, len(held)):
        block = values[at : min(stop, at + len(held))]
        below = values[to + at - start : to + at - start + len(block)]
        for k in range(len(block)):
            held[k] = block[k]
        for k in range(len(below)):
            below[k] = held[k]


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
    """Return where the first value stands that is negative, not whole or not finite, or -1."""
    bad = False
    for k in range(len(data)):
        bad |= (data[k] < 0) | (data[k] != np.floor(data[k])) | (data[k] - data[k] != 0)
    if bad:
        for k in range(len(data)):
            if not (data[k] >= 0 and data[k] == np.floor(data[k]) and data[k] < np.inf):
                return k
    return -1


@compiled
def count_kept(indptr, indices, gene_map, kept):  # type: ignore[no-untyped-def]
    """Fill `kept` (an indptr) with how many values of each row are on kept genes; return their number."""
    total = 0
    kept[0] = 0
    for r in range(len(indptr) - 1):
        row = indices[indptr[r] : indptr[r + 1]]
        for k in range(len(row)):
            total += gene_map[np.uint32(row[k])] >= 0
        kept[r + 1] = total
    return total


@compiled
def keep_rows(indptr, indices, data, gene_map, kept, genes, values):  # type: ignore[no-untyped-def]
    """Write what is on kept genes: `kept` (an indptr), new numbers, values; return how many.

    Without a branch: what is not kept is written, too, and the next is written over it. `genes` and `values` are as
    long as `indices`.
    """
    to = np.uint64(0)
    kept[0] = 0
    for r in range(len(indptr) - 1):
        for k in range(np.uint64(indptr[r]), np.uint64(indptr[r + 1])):
            c = gene_map[np.uint32(indices[k])]
            genes[to] = c
            values[to] = data[k]
            to += np.uint64(c >= 0)
        kept[r + 1] = to
    return np.int64(to)


@compiled
def keep_data(indices, data, gene_map, out):  # type: ignore[no-untyped-def]
    """Write the values on kept genes; in blocks, without a branch, as `_place`."""
    held = np.empty(64, out.dtype)
    to = 0
    for at in range(0, len(indices), 64):
        j, x = indices[at : at + 64], data[at : at + 64]
        kept = np.uint64(0)
        for k in range(len(j)):
            held[kept] = x[k]
            kept += np.uint64(gene_map[np.uint32(j[k])] >= 0)
        into = out[to : to + np.int64(kept)]
        for k in range(len(into)):
            into[k] = held[k]
        to += len(into)


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
