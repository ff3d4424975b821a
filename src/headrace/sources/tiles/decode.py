"""From the bytes of TileDB's tiles to numbers: compiled loops that run without the GIL.

The layout of a tile is that of TileDB's format specification, "Tile" and "Filter pipeline": a number of chunks
(uint64), then each chunk as original size, filtered size, size of its metadata (uint32 each), metadata, data. The
metadata of a compression filter is the number of its metadata parts and data parts (uint32 each) and, for each of them,
original and compressed size (uint32 each). Byteshuffle before it leaves one metadata part: the number of its own
parts, and the size of each (uint32 each).

Every length is compared with what is there before it is used: whatever the bytes are, a loop ends, and writes only into
the arrays that it was given. What it finds wrong comes back as a negative number, an index into `DAMAGE`.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from ...stats.kernels.compiled import compiled

DAMAGE = {
    -1: "it ends within a chunk",
    -2: "its chunks are larger than TileDB makes them",
    -3: "a chunk was not made by the filters of the schema",
    -4: "the sizes of a chunk contradict one another",
    -5: "zstd cannot decompress a chunk",
    -6: "it does not have as many cells as it should",
}


_intrinsic: Any = intrinsic
_carray: Any = numba.carray  # type: ignore[attr-defined] # numba's own types leave it out


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


@compiled
def _uint32(s, at):  # type: ignore[no-untyped-def]
    return np.int64(s[at]) | np.int64(s[at + 1]) << 8 | np.int64(s[at + 2]) << 16 | np.int64(s[at + 3]) << 24


@compiled
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


@compiled
def n_chunks(tile):  # type: ignore[no-untyped-def]
    """Return how many chunks a tile says it has; a wrong number ends at the tile's end."""
    return _uint32(tile, 0) if tile.size >= 8 and _uint32(tile, 4) == 0 else np.int64(-1)


@compiled
def tile_at(addresses, sizes, field, number):  # type: ignore[no-untyped-def]
    """Return the bytes of a tile in memory; `field` is 0 for rows, 1 for columns, 2 for values."""
    return _carray(_pointer(addresses[field, number]), sizes[field, number], np.uint8)


@compiled
def row_numbers(zstd, context, tile, at, shuffled, chunk, rows):  # type: ignore[no-untyped-def]
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


@compiled
def columns(zstd, context, tile, shuffled, planes, chunk, out):  # type: ignore[no-untyped-def]
    """Decode the column coordinates of a tile; of each only the low `planes` bytes can be other than 0."""
    at, k = 8, 0
    for _ in range(n_chunks(tile)):
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


@compiled
def values_of(zstd, context, tile, shuffled, chunk, out):  # type: ignore[no-untyped-def]
    """Decode the values of a tile, 4 bytes each, as they are."""
    at, k = 8, 0
    for _ in range(n_chunks(tile)):
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
