"""How often each gene has each count."""

from __future__ import annotations

import numpy as np

from .compiled import compiled


@compiled
def add_counts(indptr, indices, data, rows, done, table, first, keys, n):  # type: ignore[no-untyped-def]
    """Count the values of the rows from number `done` on; every x is whole and below 2**31.

    One below the width of `table` in its column x of its gene's row; a larger one in column 0, and in `keys` (from
    `n` on) as gene and x. Stops at a row for which `keys` has no room. Returns the rows done and the keys written.
    """
    width = np.uint64(table.shape[1])
    small = np.float32(table.shape[1])
    flat = table.reshape(-1)
    for i in range(done, len(rows)):
        start, stop = indptr[rows[i]], indptr[rows[i] + 1]
        if n + (stop - start) > len(keys):
            return i, n
        for at in range(start, stop, 64):  # in blocks: few of them have a large value
            genes, values = indices[at : min(stop, at + 64)], data[at : min(stop, at + 64)]
            large = 0
            for k in range(len(values)):
                large += values[k] >= small
                x = np.uint64(np.int64(values[k]))
                flat[np.uint64(np.uint32(genes[k])) * width + (x if x < width else np.uint64(0))] += np.uint32(1)
            if large:
                for k in range(len(values)):
                    if values[k] >= small:
                        gene = np.uint64(first) + np.uint64(np.uint32(genes[k]))
                        keys[n] = (gene << np.uint64(31)) | np.uint64(np.int64(values[k]))
                        n += 1
    return len(rows), n


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
