"""From the bytes of TileDB's tiles to rows: compiled loops that run without the GIL.

The layout of a tile is that of TileDB's format specification, "Tile" and "Filter pipeline": a number of chunks
(uint64), then each chunk as original size, filtered size, size of its metadata (uint32 each), metadata, data. The
metadata of a compression filter is the number of its metadata parts and data parts (uint32 each) and, for each of them,
original and compressed size (uint32 each). Byteshuffle before it leaves one metadata part: the number of its own
parts, and the size of each (uint32 each).

Every length is compared with what is there before it is used: whatever the bytes are, a loop ends, and writes only into
the arrays that it was given. What it finds wrong comes back as a negative number, an index into `DAMAGE`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from ...stats.kernels.rows import _increases as increases
from ...stats.kernels.rows import _place as place

DAMAGE = {
    -1: "it ends within a chunk",
    -2: "its chunks are larger than TileDB makes them",
    -3: "a chunk was not made by the filters of the schema",
    -4: "the sizes of a chunk contradict one another",
    -5: "zstd cannot decompress a chunk",
    -6: "it does not have as many cells as it should",
}
UNSORTED = 1
DROPPED = 2


_intrinsic: Any = intrinsic
_carray: Any = numba.carray  # type: ignore[attr-defined] # numba's own types leave it out


def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    return numba.njit(function, nogil=True, cache=True, error_model="numpy")  # type: ignore[no-any-return] # no types


@_intrinsic
def _call(typing, function, context, out, room, data, size):  # type: ignore[no-untyped-def]
    """Call a C function of five arguments of 64 bits by its address."""

    def generate(_context, builder, _signature, args):  # type: ignore[no-untyped-def]
        word = ir.IntType(64)
        pointer = builder.inttoptr(args[0], ir.FunctionType(word, [word] * 5).as_pointer())
        return builder.call(pointer, args[1:])

    return types.uint64(*[types.uint64] * 6), generate


@_intrinsic
def _pointer(typing, address):  # type: ignore[no-untyped-def]
    """Turn an address into a pointer that `carray` takes."""

    def generate(_context, builder, _signature, args):  # type: ignore[no-untyped-def]
        return builder.inttoptr(args[0], cgutils.voidptr_t)

    return types.voidptr(types.uint64), generate


@_compiled
def _uint32(s, at):  # type: ignore[no-untyped-def]
    return np.int64(s[at]) | np.int64(s[at + 1]) << 8 | np.int64(s[at + 2]) << 16 | np.int64(s[at + 3]) << 24


@_compiled
def _inflate(zstd, context, tile, at, shuffled, width, out):  # type: ignore[no-untyped-def]
    """Decompress the chunk at tile[at:]; return where the next one begins, and how many bytes are in `out`."""
    if at + 20 > tile.size:
        return at, np.int64(-1)
    size, filtered, meta = _uint32(tile, at), _uint32(tile, at + 4), _uint32(tile, at + 8)
    parts = at + 12  # the compression filter's metadata
    data, end = parts + meta, parts + meta + filtered
    if end > tile.size:
        return at, np.int64(-1)
    if size > out.size:
        return at, np.int64(-2)
    if meta != 16 + 8 * shuffled or size % width or _uint32(tile, parts) != shuffled or _uint32(tile, parts + 4) != 1:
        return at, np.int64(-3)
    first = _uint32(tile, parts + 12)
    if shuffled:
        if _uint32(tile, parts + 8) != 8 or data + first > end:
            return at, np.int64(-4)
        got = _call(zstd, context, out.ctypes.data, out.size, tile.ctypes.data + data, first)
        if got != 8 or _uint32(out, 0) != 1 or _uint32(out, 4) != size:
            return at, np.int64(-3)
        data += first
    compressed = _uint32(tile, parts + 12 + 8 * shuffled)
    if _uint32(tile, parts + 8 + 8 * shuffled) != size or data + compressed != end:
        return at, np.int64(-4)
    got = _call(zstd, context, out.ctypes.data, out.size, tile.ctypes.data + data, compressed)
    return (end, size) if got == size else (at, np.int64(-5))


@_compiled
def _chunks(tile):  # type: ignore[no-untyped-def]
    """Return how many chunks a tile says it has; a wrong number ends at the tile's end."""
    return _uint32(tile, 0) if tile.size >= 8 and _uint32(tile, 4) == 0 else np.int64(-1)


@_compiled
def _tile(addresses, sizes, field, number):  # type: ignore[no-untyped-def]
    return _carray(_pointer(addresses[field, number]), sizes[field, number], np.uint8)


@_compiled
def _row_numbers(zstd, context, tile, at, shuffled, chunk, rows):  # type: ignore[no-untyped-def]
    """Decode one chunk of row coordinates; return the next chunk, and how many there are."""
    at, size = _inflate(zstd, context, tile, at, shuffled, 8, chunk)
    if size < 0:
        return at, size
    n = size >> 3
    if shuffled:
        for k in range(n):
            row = np.int64(0)
            for plane in range(8):
                row |= np.int64(chunk[plane * n + k]) << 8 * plane
            rows[k] = row
    return at, n


@_compiled
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


@_compiled
def _find(row, joinids, row_map):  # type: ignore[no-untyped-def]
    """Return the position of a row among the joinids, or -1. `row_map` has the answers, or is empty."""
    if row < joinids[0] or row > joinids[-1]:
        return -1
    if row_map.size:
        return np.int64(row_map[row - joinids[0]])
    k = np.searchsorted(joinids, row)
    return np.int64(k) if joinids[k] == row else -1


@_compiled
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
        tile = _tile(addresses, sizes, 0, t)
        at, seen, wanted, first = 8, 0, False, r
        previous = np.int64(-1)
        for _ in range(_chunks(tile)):
            at, n = _row_numbers(zstd, context, tile, at, shuffled, chunk, rows)
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


@_compiled
def _columns(zstd, context, tile, shuffled, planes, chunk, out):  # type: ignore[no-untyped-def]
    """Decode the column coordinates of a tile; of each only the low `planes` bytes can be other than 0."""
    at, k = 8, 0
    for _ in range(_chunks(tile)):
        at, size = _inflate(zstd, context, tile, at, shuffled, 8, chunk)
        if size < 0:
            return size
        n = size >> 3
        if k + n > out.size:
            return -6
        into = out[k : k + n]
        if not shuffled:
            whole = chunk[:size].view(np.int64)
            for i in range(n):
                into[i] = whole[i]
        elif planes <= 2:
            a, b = chunk[:n], chunk[n : 2 * n]
            for i in range(n):
                into[i] = np.int32(a[i]) | np.int32(b[i]) << 8
        elif planes == 3:
            a, b, c = chunk[:n], chunk[n : 2 * n], chunk[2 * n : 3 * n]
            for i in range(n):
                into[i] = np.int32(a[i]) | np.int32(b[i]) << 8 | np.int32(c[i]) << 16
        else:
            a, b, c, d = chunk[:n], chunk[n : 2 * n], chunk[2 * n : 3 * n], chunk[3 * n : 4 * n]
            for i in range(n):
                into[i] = np.int32(a[i]) | np.int32(b[i]) << 8 | np.int32(c[i]) << 16 | np.int32(d[i]) << 24
        k += n
    return k


@_compiled
def _values(zstd, context, tile, shuffled, chunk, out):  # type: ignore[no-untyped-def]
    """Decode the values of a tile, 4 bytes each, as they are."""
    at, k = 8, 0
    for _ in range(_chunks(tile)):
        at, size = _inflate(zstd, context, tile, at, shuffled, 4, chunk)
        if size < 0:
            return size
        n = size >> 2
        if k + n > out.size:
            return -6
        into = out[k : k + n]
        if not shuffled:
            whole = chunk[:size].view(np.uint32)
            for i in range(n):
                into[i] = whole[i]
        else:
            a, b, c, d = chunk[:n], chunk[n : 2 * n], chunk[2 * n : 3 * n], chunk[3 * n : 4 * n]
            for i in range(n):
                into[i] = np.uint32(a[i]) | np.uint32(b[i]) << 8 | np.uint32(c[i]) << 16 | np.uint32(d[i]) << 24
        k += n
    return k


@_compiled
def _all_kept(cols, values, n_cols):  # type: ignore[no-untyped-def]
    """Return whether no value is 0 and no column beyond those known."""
    lost = 0
    for i in range(len(cols)):
        lost += (np.int64(cols[i]) >= n_cols) | (cols[i] < 0) | (values[i] == 0)
    return lost == 0


@_compiled
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
        n = _columns(zstd, context, _tile(addresses, sizes, 1, t), shuffled[0], planes, chunk, cols)
        if n >= 0:
            m = _values(zstd, context, _tile(addresses, sizes, 2, t), shuffled[1], chunk, bits)
            n = min(m, 0) if n == m and m == cells[t] else min(m, n, -6)
        if n < 0:
            return n, t, status
        whole = same and _all_kept(cols[: cells[t]], values[: cells[t]], gene_map.size)
        k = 0
        for r in range(first, ends[t]):
            row, length = runs[r, 0], np.int64(runs[r, 1])
            if row >= 0:
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


@_compiled
def _put(cols, values, gene_map, whole, indices, data):  # type: ignore[no-untyped-def]
    """Write the wanted values of a run; return how many there are."""
    if not whole:
        return place(cols, values, gene_map, indices, data)
    for i in range(len(cols)):
        indices[i] = cols[i]
    for i in range(len(values)):
        data[i] = values[i]
    return np.int64(len(cols))
