"""HDF5's filters undone, several pieces at a time if need be: the library does one thing at a time in a process.

What comes of a piece must have the length that a piece has. HDF5 does not ask: it takes what is missing from whatever
is in memory there, or crashes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from isal import isal_zlib

from ...errors import SourceError
from ...stats import kernels

GZIP, SHUFFLE, FLETCHER32, LZF = 1, 2, 3, 32000
PACKING = {GZIP, LZF}
"""Those that make a piece smaller."""

KNOWN = {SHUFFLE, FLETCHER32, *PACKING}
"""Those that are undone here; others are HDF5's."""


def undone(
    raw: npt.NDArray[np.uint8], mask: int, filters: Sequence[int], expected: int, width: int, where: object
) -> npt.NDArray[np.uint8]:
    """Return what a piece was before its filters, or raise `SourceError` if it cannot be that.

    Parameters
    ----------
    raw
        As stored.
    mask
        Bits of those of the filters that were left out.
    filters
        In the order in which they were applied.
    expected
        Bytes that a piece has.
    width
        Bytes of a number.
    where
        What it is a piece of, in messages.
    """
    most = expected + 4 * len(filters)  # with checksums
    for at in reversed(range(len(filters))):
        if mask >> at & 1:
            continue  # it did not help when this piece was written
        if filters[at] == FLETCHER32:
            if len(raw) < 4:
                raise SourceError(f"a piece of {where} has no room for its checksum: the file is damaged")
            raw, written = raw[:-4], raw[-4:].view("<u4")[0]
            if kernels.fletcher32(raw) != written:
                raise SourceError(f"a checksum of {where} is wrong: the file is damaged; copy it again")
        elif filters[at] == SHUFFLE:
            raw = unshuffle(raw, width)
        else:
            try:
                raw = (
                    np.frombuffer(inflate(raw.data, most), dtype=np.uint8) if filters[at] == GZIP else unlzf(raw, most)
                )
            except ValueError as error:
                raise SourceError(f"{where} cannot be decompressed ({error}): the file is damaged") from error
    if len(raw) != expected:
        raise SourceError(f"a piece of {where} has {len(raw):,} bytes, not {expected:,}: the file is damaged")
    return raw


def inflate(raw: Any, most: int) -> bytes:
    """Return bytes unpacked, or raise `ValueError` if there are more than that: how many there will be is not said."""
    unpack = isal_zlib.decompressobj()
    try:
        out: bytes = unpack.decompress(raw, max_length=most + 1)
    except isal_zlib.error as error:  # type: ignore[misc] # a class, whatever its stubs say
        raise ValueError(str(error)) from error
    if len(out) > most:
        raise ValueError(f"more than {most:,} bytes come of it")
    if not unpack.eof:
        raise ValueError("it is cut off")
    return out


def unlzf(raw: npt.NDArray[np.uint8], most: int) -> npt.NDArray[np.uint8]:
    """Return bytes that lzf packed, or raise `ValueError` if there are more than that, or it is no lzf."""
    out = np.empty(most, dtype=np.uint8)
    n = int(kernels.unlzf(raw, out))
    if n < 0:
        raise ValueError(f"it is cut off, is no lzf, or more than {most:,} bytes come of it")
    return out[:n]


def unshuffle(raw: npt.NDArray[np.uint8], size: int) -> npt.NDArray[np.uint8]:
    """Undo HDF5's shuffle of bytes."""
    if size == 1:
        return raw
    out = np.empty_like(raw)
    if size == 4 and len(raw) % 4 == 0:
        kernels.unshuffle4(raw, out.view(np.uint32))
    else:
        kernels.unshuffle(raw, size, out)
        whole = len(raw) // size * size
        out[whole:] = raw[whole:]
    return out
