"""From tiles to rows: which cells of a tile are wanted, and where each value goes. Compiled, as `decode`."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ...stats.kernels.compiled import compiled
from ...stats.kernels.rows import _increases as increases
from ...stats.kernels.rows import _place as place
from .decode import columns, n_chunks, row_numbers, tile_at, values_of

UNSORTED = 1
DROPPED = 2


def row_map_of(joinids: npt.NDArray[np.int64]) -> npt.NDArray[np.int32]:
    """Return the position of each number from the first joinid to the last, or nothing where that would be long."""
    n = int(joinids[-1] - joinids[0]) + 1
    if n > 4 * len(joinids) + (1 << 16):
        return np.empty(0, dtype=np.int32)
    row_map = np.full(n, -1, dtype=np.int32)
    row_map[joinids - joinids[0]] = np.arange(len(joinids), dtype=np.int32)
    return row_map


@compiled
def _run(rows, k):  # type: ignore[no-untyped-def]
    """Return the end of the run of one number that begins at k."""
    n, row, end = rows.size, rows[k], k + 1
    while end + 8 <= n:
        w = rows[end : end + 8]
        if (
            (w[0] ^ row)
            | (w[1] ^ row)
            | (w[2] ^ row)
            | (w[3] ^ row)
            | (w[4] ^ row)
            | (w[5] ^ row)
            | (w[6] ^ row)
            | (w[7] ^ row)
        ):
            break
        end += 8
    while end < n and rows[end] == row:
        end += 1
    return end


@compiled
def _find(row, joinids, row_map):  # type: ignore[no-untyped-def]
    """Return the position of a row among the joinids, or -1. `row_map` has the answers, or is empty."""
    if row < joinids[0] or row > joinids[-1]:
        return -1
    if row_map.size:
        return np.int64(row_map[row - joinids[0]])
    low, high = np.int64(0), np.int64(joinids.size - 1)
    while low < high:  # np.searchsorted takes two seconds to compile
        middle = (low + high) >> 1
        if joinids[middle] < row:
            low = middle + 1
        else:
            high = middle
    return low if joinids[low] == row else -1


@compiled
def read_runs(  # type: ignore[no-untyped-def]
    zstd, context, addresses, sizes, cells, shuffled, joinids, row_map, room, runs, ends, counts
):
    """Decode the row coordinates of some tiles to runs of one row.

    Parameters
    ----------
    zstd, context
        Addresses of the function and of this thread's context.
    addresses, sizes
        Of each tile in memory, shape (3, n_tiles): rows, columns, values.
    cells
        How many cells each tile has.
    shuffled
        Whether the rows went through byteshuffle.
    joinids, row_map
        The wanted rows, increasing; for each number from the first to the last its position among them or -1, or
        nothing at all where that would be long.
    room
        For one chunk: bytes, and int64 numbers.
    runs
        For each run the position of its row or -1, and its length; shape (cells of all tiles, 2).
    ends
        For each tile the end of its runs; -1 - end if it has no wanted row.
    counts
        To which the cells of each wanted row are added.

    Returns
    -------
    (0, 0), or what is wrong (an index into `DAMAGE`) and with which tile.
    """
    chunk, rows = room
    plain = chunk.view(np.int64)
    r = 0
    for t in range(cells.size):
        tile = tile_at(addresses, sizes, 0, t)
        at, seen, wanted, first = 8, 0, False, r
        previous = np.int64(-1)
        for _ in range(n_chunks(tile)):
            at, n = row_numbers(zstd, context, tile, at, shuffled, chunk, rows)
            if n < 0:
                return n, t
            if seen + n > cells[t]:
                return -6, t
            numbers = rows[:n] if shuffled else plain[:n]
            k = 0
            while k < n:
                end = _run(numbers, k)
                if k == 0 and r > first and numbers[0] == previous:
                    r -= 1  # the run of the chunk before goes on
                    runs[r, 1] += end - k
                else:
                    runs[r, 0] = _find(numbers[k], joinids, row_map)
                    runs[r, 1] = end - k
                if runs[r, 0] >= 0:
                    counts[runs[r, 0]] += end - k
                    wanted = True
                previous = numbers[k]
                r += 1
                k = end
            seen += n
        if seen != cells[t]:
            return -6, t
        if wanted:
            ends[t] = r
        else:
            ends[t], r = -1 - first, first
    return 0, 0


@compiled
def _all_kept(cols, values, n_cols):  # type: ignore[no-untyped-def]
    """Return whether no value is 0 and no column beyond those known."""
    lost = 0
    for i in range(len(cols)):
        lost += (np.int64(cols[i]) >= n_cols) | (cols[i] < 0) | (values[i] == 0)
    return lost == 0


@compiled
def place_runs(  # type: ignore[no-untyped-def]
    zstd,
    context,
    addresses,
    sizes,
    cells,
    shuffled,
    planes,
    gene_map,
    same,
    room,
    runs,
    ends,
    limit,
    cursor,
    indices,
    data,
    totals,
):
    """Decode columns and values of some tiles, and put each run into its row.

    Parameters as in `read_runs`, and:

    shuffled
        Whether columns, and values, went through byteshuffle.
    planes
        How many low bytes of a column number can be other than 0.
    gene_map, same
        The new number of each column, or -1 to drop it; whether that is each one's own number.
    room
        For one chunk (bytes), the columns of a tile (int32) and its values (uint32).
    limit, cursor
        Where each row begins, and where its next value goes.
    indices, data
        To be filled, `data` as float32. They have room for all cells of the wanted rows.
    totals
        To which the values of each row are added, those left out too; or empty.

    Returns
    -------
    0 or what is wrong; with which tile; UNSORTED if the columns of some row did not increase, DROPPED if values were
    left out (columns that are not wanted, zeros).
    """
    chunk, cols, bits = room
    values = bits.view(np.float32)
    status: Any = 0
    first: Any = 0
    for t in range(cells.size):
        if ends[t] < 0:
            continue
        n = columns(zstd, context, tile_at(addresses, sizes, 1, t), shuffled[0], planes, chunk, cols)
        if n >= 0:
            m = values_of(zstd, context, tile_at(addresses, sizes, 2, t), shuffled[1], chunk, bits)
            n = min(m, 0) if n == m and m == cells[t] else min(m, n, -6)
        if n < 0:
            return n, t, status
        whole = same and _all_kept(cols[: cells[t]], values[: cells[t]], gene_map.size)
        k: Any = 0
        for r in range(first, ends[t]):
            row, length = runs[r, 0], np.int64(runs[r, 1])
            if row >= 0:
                if totals.size:
                    totals[row] += _sum(values[k : k + length])
                start = cursor[row]
                indices_here, data_here = indices[start : start + length], data[start : start + length]
                kept = _put(cols[k : k + length], values[k : k + length], gene_map, whole, indices_here, data_here)
                if kept < length:
                    status |= DROPPED
                if kept and start > limit[row] and indices_here[0] <= indices[start - 1]:
                    status |= UNSORTED
                if not increases(indices_here[:kept]):
                    status |= UNSORTED
                cursor[row] = start + kept
            k += length
        first = ends[t]
    return 0, 0, status


@compiled
def _sum(values):  # type: ignore[no-untyped-def]
    total = 0.0
    for i in range(len(values)):
        total += values[i]
    return total


@compiled
def _put(cols, values, gene_map, whole, indices, data):  # type: ignore[no-untyped-def]
    """Write the wanted values of a run; return how many there are."""
    if not whole:
        return place(cols, values, gene_map, indices, data)
    for i in range(len(cols)):
        indices[i] = cols[i]
    for i in range(len(values)):
        data[i] = values[i]
    return np.int64(len(cols))
