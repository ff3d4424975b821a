"""Quality, cell by cell."""

from __future__ import annotations

import numpy as np

from .compiled import compiled


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
