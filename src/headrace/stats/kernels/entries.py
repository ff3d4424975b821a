"""Statistics by group and gene as sorted entries: a key, and the words of sum, sum of squares and count.

A key is group * genes + gene. Its five words are a fixed-point sum of x (see `sums`), one of x**2, and in how many
cells x is not zero.
"""

from __future__ import annotations

import numpy as np

from .compiled import compiled

_UNIT = 2.0**60


@compiled
def _add(words, at, x):  # type: ignore[no-untyped-def]
    """Add x to the fixed-point sum at `words[at]` and `words[at + 1]`."""
    high = np.floor(x * 0.125)
    low = np.uint64(np.int64((x - high * 8.0) * _UNIT))
    total = words[at + 1] + low
    words[at] += np.uint64(np.int64(high)) + (np.uint64(2) if total < low else np.uint64(0))
    words[at + 1] = total


@compiled
def add_entry(to, words):  # type: ignore[no-untyped-def]
    """Add the five words of one entry to those of another."""
    for at in (0, 2):
        total = to[at + 1] + words[at + 1]
        to[at] += words[at] + (np.uint64(2) if total < words[at + 1] else np.uint64(0))
        to[at + 1] = total
    to[4] += words[4]


@compiled
def sum_entries(indptr, indices, data, order, starts, codes, n_vars, keys, words):  # type: ignore[no-untyped-def]
    """Sum the rows `order[starts[g]:starts[g + 1]]` as entries of group `codes[g]`; return their number.

    Codes are in order, and so are the keys that come out.
    """
    sums = np.zeros((n_vars, 5), dtype=np.uint64)
    touched = np.zeros(n_vars, dtype=np.uint8)
    columns = np.empty(n_vars, dtype=np.int32)
    one = np.uint64(1)
    to = 0
    for g in range(len(codes)):
        first = np.uint64(codes[g]) * np.uint64(n_vars)
        n = 0
        for at in range(starts[g], starts[g + 1]):
            start, stop = indptr[order[at]], indptr[order[at] + 1]
            genes, values = indices[start:stop], data[start:stop]
            for k in range(len(genes)):
                j = genes[k]
                if not touched[j]:
                    touched[j] = 1
                    columns[n] = j
                    n += 1
                x = np.float64(values[k])
                _add(sums[j], 0, x)
                _add(sums[j], 2, x * x)
                sums[j, 4] += one
        if n > n_vars // 64:  # cheaper to look at all columns than to sort those touched
            n = 0
            for j in range(n_vars):
                if touched[j]:
                    columns[n] = j
                    n += 1
        else:
            columns[:n] = np.sort(columns[:n])
        for i in range(n):
            j = columns[i]
            keys[to] = first + np.uint64(j)
            for w in range(5):
                words[to, w] = sums[j, w]
                sums[j, w] = np.uint64(0)
            touched[j] = 0
            to += 1
    return to


@compiled
def merge_entries(left, left_words, right, right_words, keys, words):  # type: ignore[no-untyped-def]
    """Merge two sorted lists of entries, those of one key into one; return how many come out."""
    i, j, to = 0, 0, 0
    while i < len(left) or j < len(right):
        if j == len(right) or (i < len(left) and left[i] <= right[j]):
            keys[to] = left[i]
            for w in range(5):
                words[to, w] = left_words[i, w]
            if j < len(right) and right[j] == left[i]:
                add_entry(words[to], right_words[j])
                j += 1
            i += 1
        else:
            keys[to] = right[j]
            for w in range(5):
                words[to, w] = right_words[j, w]
            j += 1
        to += 1
    return to


@compiled
def add_entries(genes, entries, words):  # type: ignore[no-untyped-def]
    """Add entries to the words of their genes, shape (n_vars, 5)."""
    for k in range(len(genes)):
        add_entry(words[genes[k]], entries[k])


@compiled
def subtract_words(words, from_words, out):  # type: ignore[no-untyped-def]
    """Write the words of a difference of sums, gene by gene, shape (n_vars, 5)."""
    for j in range(len(words)):
        for at in (0, 2):
            low, less = from_words[j, at + 1], words[j, at + 1]
            out[j, at + 1] = low - less
            out[j, at] = from_words[j, at] - words[j, at] - (np.uint64(2) if low < less else np.uint64(0))
        out[j, 4] = from_words[j, 4] - words[j, 4]
