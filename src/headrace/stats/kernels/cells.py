"""Quality measures of each cell."""

from __future__ import annotations

import numpy as np

from .compiled import compiled


@compiled
def row_sums_of(indptr, indices, data, chosen, out):  # type: ignore[no-untyped-def]
    """Sum each row over the chosen genes in float64, from left to right."""
    for r in range(len(indptr) - 1):
        j, x = indices[indptr[r] : indptr[r + 1]], data[indptr[r] : indptr[r + 1]]
        total = 0.0
        for k in range(len(x)):
            if chosen[np.uint32(j[k])]:
                total += x[k]
        out[r] = total


@compiled
def top_sums(indptr, data, tops, out):  # type: ignore[no-untyped-def]
    """Sum each row's `tops[i]` largest values, in float64, from the largest on; `tops` increases.

    Small whole numbers are counted, not sorted: their sums are exact, so the order does not show.
    """
    lanes = np.zeros((4, 1025), np.uint32)  # next to each other the same count comes often, and would wait for itself
    seen0, seen1, seen2, seen3 = lanes[0], lanes[1], lanes[2], lanes[3]
    seen = np.zeros(1024, np.int64)
    widest = 0
    for r in range(len(indptr) - 1):
        widest = max(widest, indptr[r + 1] - indptr[r])
    rest = np.empty(widest, np.float64)
    for r in range(len(indptr) - 1):
        values = data[indptr[r] : indptr[r + 1]]
        n_rest = 0
        largest = 0
        highest = _highest(values)
        if highest >= 0:
            for k in range(len(values) // 4):
                at = np.uint64(4 * k)
                seen0[_bin(values[at])] += np.uint32(1)
                seen1[_bin(values[at + np.uint64(1)])] += np.uint32(1)
                seen2[_bin(values[at + np.uint64(2)])] += np.uint32(1)
                seen3[_bin(values[at + np.uint64(3)])] += np.uint32(1)
            for k in range(len(values) // 4 * 4, len(values)):
                seen0[_bin(values[k])] += np.uint32(1)
            largest = int(min(highest, 1023))
            for x in range(largest + 1):
                seen[x] = np.int64(seen0[x]) + np.int64(seen1[x]) + np.int64(seen2[x]) + np.int64(seen3[x])
            lanes[:, : largest + 1] = 0
            if highest >= 1024:
                for k in range(len(values)):
                    if values[k] >= 1024:
                        rest[n_rest] = values[k]
                        n_rest += 1
        else:  # fractions: all values in order
            n_rest = len(values)
            rest[:n_rest] = values
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
def _highest(values):  # type: ignore[no-untyped-def]
    """Return the highest value, or 1024 if that is less; -1 if one below 1024 is not whole or below 0."""
    highest = np.int32(0)
    others = 0
    for k in range(len(values)):
        x = values[k]
        whole = np.int32(min(max(x, np.float32(0)), np.float32(1024)))
        highest = max(highest, whole)
        others += (not (x >= 1024)) & (x != whole)
    return highest if others == 0 else np.int32(-1)


@compiled
def _bin(x):  # type: ignore[no-untyped-def]
    """Return the place of a value that `_highest` lets pass; those from 1024 on have one together."""
    return np.uint64(np.int32(min(x, np.float32(1024))))


@compiled
def mark_dominant(indptr, indices, data, sizes, fraction, marked):  # type: ignore[no-untyped-def]
    """Mark the genes that have more than a fraction of a cell's total in any cell."""
    for r in range(len(indptr) - 1):
        limit = fraction * sizes[r]
        j, x = indices[indptr[r] : indptr[r + 1]], data[indptr[r] : indptr[r + 1]]
        for k in range(len(x)):
            if x[k] > limit:
                marked[j[k]] = True
