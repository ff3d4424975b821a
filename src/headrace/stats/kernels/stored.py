"""Bytes as they are stored: checksums, the byte shuffle, narrow numbers."""

from __future__ import annotations

import numpy as np

from .compiled import compiled


@compiled
def fletcher32(data):  # type: ignore[no-untyped-def]
    """Return HDF5's fletcher32 of some bytes: sums of big-endian 16-bit words modulo 65535, never 0 but for zeros.

    Swapping the bytes of a word is multiplying it by 256 (2^16 is 1), so the sums are swapped, and not the words. These
    are summed by columns, 64 rows of 512 at a time, within 32 bits: the inner loop becomes vectors.
    """
    words = data[: len(data) // 2 * 2].view(np.uint16)
    n, columns, modulus = len(words), 512, np.uint64(65535)
    plain, weighted, anything = np.uint64(0), np.uint64(0), np.uint64(0)
    sums, sums_of_sums = np.empty(columns, dtype=np.uint32), np.empty(columns, dtype=np.uint32)
    at = 0
    while n - at >= columns:
        rows = min(64, (n - at) // columns)
        sums[:] = 0
        sums_of_sums[:] = 0
        for row in range(rows):
            of_row = words[at + row * columns : at + (row + 1) * columns]
            for i in range(columns):
                so_far = sums[i] + np.uint32(of_row[i])
                sums[i] = so_far
                sums_of_sums[i] += so_far
        s1, s2 = np.uint64(0), np.uint64(0)
        for i in range(columns):
            s1 += np.uint64(sums[i])
            s2 += np.uint64(columns) * np.uint64(sums_of_sums[i]) - np.uint64(i) * np.uint64(sums[i])
        weighted = (weighted + np.uint64(rows * columns) * plain + s2) % modulus
        plain = (plain + s1) % modulus
        anything |= s1
        at += rows * columns
    for i in range(at, n):
        plain += np.uint64(words[i])
        weighted += plain
        anything |= np.uint64(words[i])
    if len(data) % 2:
        plain += np.uint64(data[len(data) - 1])
        weighted += plain
        anything |= np.uint64(data[len(data) - 1])
    plain = plain * np.uint64(256) % modulus
    weighted = weighted % modulus * np.uint64(256) % modulus
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
def shorten(steps, out, far):  # type: ignore[no-untyped-def]
    """Write differences in a byte each, 255 for larger ones, and those to `far`; return how many, -1 for too many."""
    n = 0
    for at in range(0, len(steps), 64):  # in blocks: few of them have a large one
        step, into = steps[at : at + 64], out[at : at + 64]
        large = False
        for k in range(len(step)):
            large |= step[k] >= 255
            into[k] = min(step[k], np.uint32(255))
        if large:
            if n + len(step) > len(far):
                return -1
            for k in range(len(step)):
                if step[k] >= 255:
                    far[n] = step[k]
                    n += 1
    return n


@compiled
def from_short(indptr, short, far, out):  # type: ignore[no-untyped-def]
    """Undo `shorten` and `to_deltas`; return whether `far` has as many as there are."""
    n = 0
    for r in range(len(indptr) - 1):
        step, j = short[indptr[r] : indptr[r + 1]], out[indptr[r] : indptr[r + 1]]
        column = np.int32(0)
        for k in range(len(step)):
            if step[k] == 255:
                if n == len(far):
                    return False
                column += np.int32(far[n])
                n += 1
            else:
                column += np.int32(step[k])
            j[k] = column
    return n == len(far)


@compiled
def narrow(data, escape, out, large):  # type: ignore[no-untyped-def]
    """Write whole numbers, `escape` for larger ones, and those to `large`.

    Returns how many are large; -1 if not all are whole, -2 if too many are large.
    """
    n = 0
    for at in range(0, len(data), 64):
        values, into = data[at : at + 64], out[at : at + 64]
        whole, some = True, False
        for k in range(len(values)):
            x = values[k]
            whole &= (x >= 0) & (x == np.floor(x))
            some |= x >= escape
            into[k] = np.uint32(min(max(x, np.float32(0)), np.float32(escape)))
        if not whole:
            return -1
        if some:
            if n + len(values) > len(large):
                return -2
            for k in range(len(values)):
                if values[k] >= escape:
                    large[n] = values[k]
                    n += 1
    return n


@compiled
def widen(values, escape, large, out):  # type: ignore[no-untyped-def]
    """Undo `narrow`; return whether `large` has as many as there are."""
    n = 0
    for at in range(0, len(values), 64):
        x, into = values[at : at + 64], out[at : at + 64]
        some = False
        for k in range(len(x)):
            some |= x[k] == escape
            into[k] = np.float32(x[k])
        if some:
            for k in range(len(x)):
                if x[k] == escape:
                    if n == len(large):
                        return False
                    into[k] = large[n]
                    n += 1
    return n == len(large)


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
def unlzf(raw, out):  # type: ignore[no-untyped-def]
    """Unpack what lzf packed; return how many bytes came of it, or -1 if it is no lzf or there is no room for it.

    A byte below 32: one more bytes follow, as they are. Else: 3 bits of a length (7: more is in the next byte), 13 bits
    of how far back in what was unpacked so many bytes are to be taken from, one by one.
    """
    n, at, done = len(raw), 0, 0
    while at < n:
        first = int(raw[at])
        at += 1
        if first < 32:
            length = first + 1
            if at + length > n or done + length > len(out):
                return -1
            for k in range(length):
                out[done + k] = raw[at + k]
            at += length
        else:
            length, back = (first >> 5) + 2, (first & 31) << 8
            if length == 9:
                if at >= n:
                    return -1
                length += int(raw[at])
                at += 1
            if at >= n:
                return -1
            back += int(raw[at]) + 1
            at += 1
            if back > done or done + length > len(out):
                return -1
            for k in range(length):
                out[done + k] = out[done + k - back]
        done += length
    return done


@compiled
def follow(raw, rest):  # type: ignore[no-untyped-def]
    """Do what `support.heaps.follow` does."""
    at, n = 0, min(len(raw), rest)
    while at + 16 <= n:
        if raw[at + 15]:
            return -1
        size = 0
        for k in range(7):
            size += int(raw[at + 8 + k]) << (8 * k)
        if raw[at] or raw[at + 1]:
            size = 16 + (size + 7) // 8 * 8
        if size <= 0 or size > rest - at:
            return -1
        at += size
    return at


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
