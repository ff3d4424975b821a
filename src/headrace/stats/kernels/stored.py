"""Bytes as they are stored: checksums, the byte shuffle, narrow numbers."""

from __future__ import annotations

import numpy as np

from .compiled import compiled


@compiled
def fletcher32(data):  # type: ignore[no-untyped-def]
    """Return HDF5's fletcher32 of some bytes: sums of big-endian 16-bit words modulo 65535, never 0 but for zeros."""
    words = data[: len(data) // 2 * 2].view(np.uint16)
    n = len(words)
    plain = np.uint64(0)
    weighted = np.uint64(0)
    anything = np.uint32(0)
    modulus = np.uint64(65535)
    for start in range(0, n, 128):  # so short that 32 bits hold the sums: the inner loop becomes vectors
        stop = min(n, start + 128)
        s1 = np.uint32(0)
        s2 = np.uint32(0)
        for i in range(start, stop):
            word = np.uint32(words[i])
            word = ((word & np.uint32(255)) << np.uint32(8)) | (word >> np.uint32(8))
            s1 += word
            s2 += word * np.uint32(stop - i)
        weighted += np.uint64(stop - start) * plain + np.uint64(s2)
        plain += np.uint64(s1)
        anything |= s1
        if start & 0xFFFF == 0:
            weighted %= modulus
            plain %= modulus
    if len(data) % 2:
        last = np.uint64(data[len(data) - 1]) << np.uint64(8)
        plain = plain % modulus + last
        weighted = weighted % modulus + plain
        anything |= np.uint32(last)
    plain %= modulus
    weighted %= modulus
    if anything > 0:
        plain = plain if plain > 0 else modulus
        weighted = weighted if weighted > 0 else modulus
    return np.uint32((weighted << np.uint64(16)) | plain)


@compiled
def shuffle(items, out):  # type: ignore[no-untyped-def]
    """Put the lowest bytes of all items (unsigned) before all second bytes, and so on: HDF5's shuffle filter."""
    n = len(items)
    for byte in range(items.itemsize):
        shift = items.dtype.type(8 * byte)
        for i in range(n):
            out[byte * n + i] = np.uint8(items[i] >> shift)


@compiled
def to_deltas(indptr, indices, out):  # type: ignore[no-untyped-def]
    """Write each row's columns as differences, the first from 0."""
    step, later, earlier = out[1:], indices[1:], indices[: max(0, len(indices) - 1)]
    for k in range(len(later)):
        step[k] = later[k] - earlier[k]
    for r in range(len(indptr) - 1):
        if indptr[r] < indptr[r + 1]:
            out[indptr[r]] = indices[indptr[r]]


@compiled
def from_deltas(indptr, deltas, out):  # type: ignore[no-untyped-def]
    """Undo `to_deltas`."""
    for r in range(len(indptr) - 1):
        step, j = deltas[indptr[r] : indptr[r + 1]], out[indptr[r] : indptr[r + 1]]
        column = np.int32(0)
        for k in range(len(step)):
            column += np.int32(step[k])
            j[k] = column


@compiled
def narrow(data, escape, out):  # type: ignore[no-untyped-def]
    """Write whole numbers, `escape` for larger ones; return how many those are, or -1 if not all are whole."""
    large = 0
    whole = True
    for k in range(len(data)):
        x = data[k]
        whole &= (x >= 0) & (x == np.floor(x))
        large += x >= escape
        out[k] = np.uint32(min(max(x, np.float32(0)), np.float32(escape)))
    return large if whole else -1


@compiled
def unshuffle4(raw, out):  # type: ignore[no-untyped-def]
    """Undo HDF5's byte shuffle of 4-byte numbers: first come all lowest bytes, then all second ones, ..."""
    n = len(out)
    for i in range(n):
        out[i] = (
            np.uint32(raw[i])
            | (np.uint32(raw[n + i]) << np.uint32(8))
            | (np.uint32(raw[2 * n + i]) << np.uint32(16))
            | (np.uint32(raw[3 * n + i]) << np.uint32(24))
        )


@compiled
def unshuffle(raw, size, out):  # type: ignore[no-untyped-def]
    """Undo HDF5's byte shuffle of numbers of `size` bytes, given and returned as bytes."""
    n = len(out) // size
    for i in range(n):
        for b in range(size):
            out[i * size + b] = raw[b * n + i]


@compiled
def to_float32(values, out):  # type: ignore[no-untyped-def]
    """Convert to float32; return whether a whole number was rounded. What is too large becomes infinite."""
    rounded = False
    for k in range(len(values)):
        x = values[k]
        y = np.float32(x)
        out[k] = y
        if abs(np.float64(x)) > 16777216.0 and np.float64(x) == np.floor(np.float64(x)):
            rounded |= np.float64(y) != np.float64(x)
    return rounded


@compiled
def to_int32(values, n, out):  # type: ignore[no-untyped-def]
    """Convert to int32; return whether a value is not in 0 to n - 1."""
    outside = False
    for k in range(len(values)):
        outside |= (values[k] < 0) | (values[k] >= n)
        out[k] = values[k]
    return outside
