"""Growing datasets of an HDF5 file, written chunk by chunk past the library's own buffers.

Chunks are filtered here (shuffle, gzip, fletcher32: what every HDF5 library reads without a plugin)
and stored with one call each, so that nothing is copied twice and the order of bytes in the file
depends on the data alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import h5py
import numpy as np
import numpy.typing as npt

from ...stats import kernels
from .again import Stored
from .direct import LEAST, PAGE
from .reorder import ReorderBuffer

CHUNK_BYTES = 1 << 20
"""Of a stored chunk, checksum included."""

ALIGNED = {"alignment_threshold": LEAST, "alignment_interval": PAGE}
"""For h5py.File: large blocks begin where a page does."""

CHECKSUM_BYTES = 4

GZIP_LEVEL = 1
"""Of ISA-L, whose output any gzip reader reads: seven to ten times faster than zlib's level 4, and 10 % larger."""

Compression = Literal["gzip"] | None


@dataclass(frozen=True, eq=False)
class Storage:
    """How numbers are stored.

    Parameters
    ----------
    compression
        "gzip" (with byte shuffle), or None.
    checksum
        Whether each chunk carries a fletcher32 checksum.
    outbox
        Where chunks are made ready.
    lent
        Told which buffer is being stored: nobody will change it any more.
    """

    compression: Compression
    checksum: bool
    outbox: ReorderBuffer
    lent: Callable[[Any], AbstractContextManager[None]] = nullcontext


class Appender:
    """A dataset that grows along its first axis.

    Parameters
    ----------
    group, name, dtype
        Where it is and what it holds.
    width
        Shape of one entry: () for a vector, (n_vars,) for rows of a dense matrix.
    storage
        How its chunks are stored.
    most
        The most entries that can come, if known: a short column then takes no large chunk.
    """

    def __init__(
        self,
        group: h5py.Group,
        name: str,
        dtype: npt.DTypeLike,
        storage: Storage,
        *,
        width: tuple[int, ...] = (),
        most: int | None = None,
    ) -> None:
        self.dtype, self.width, self.storage = np.dtype(dtype), width, storage
        entry = self.dtype.itemsize * int(np.prod(width, dtype=np.int64))
        self.rows = chunk_rows(entry, storage.checksum, most)
        self.size = self.rows * entry
        self.dataset = _create(group, name, self.dtype, (self.rows, *width), storage.compression, storage.checksum)
        self.filled = 0
        self.length = 0
        self._begin()

    def append(self, values: npt.NDArray[Any]) -> None:
        """Add entries, shape (n, *width)."""
        at = 0
        while at < len(values):
            n = min(self.rows - self.filled, len(values) - at)
            self.buffer[self.filled : self.filled + n] = values[at : at + n]
            self.filled += n
            at += n
            if self.filled == self.rows:
                self._send()
                self._begin()

    def append_filtered(self, head: npt.NDArray[Any], chunks: Sequence[Any], tail: npt.NDArray[Any]) -> None:
        """Add entries of which whole chunks are filtered already: what fills the chunk at hand, these, and the rest."""
        self.append(head)
        for stored in chunks:
            assert not self.filled, "it was cut for another place in the file"
            start, self.length = self.length, self.length + self.rows
            self.storage.outbox.put(partial(_same, stored), partial(self._store, start, self.length))
        self.append(tail)

    def stored(self) -> Stored:
        """Say where its entries are, once the outbox is flushed. Nothing is to be appended while they are read."""
        rest = (0,) * len(self.width)
        find = self.dataset.id.get_chunk_info_by_coord
        places = [find((start, *rest)).byte_offset for start in range(0, self.length, self.rows)]
        return Stored(np.array(places, dtype=np.int64), self.rows, self.buffer[: self.filled])

    def finish(self) -> None:
        """Send off what is left in the buffer."""
        if self.filled:
            self.buffer[self.filled :] = 0
            self._send()

    def _begin(self) -> None:
        """Start the next chunk in a buffer of its own."""
        self.bytes = chunk_buffer(self.size)
        self.buffer = self.bytes[: self.size].view(self.dtype).reshape(self.rows, *self.width)

    def _send(self) -> None:
        """Have the chunk filtered and stored."""
        start, self.length = self.length, self.length + self.filled
        self.filled = 0
        job = partial(filtered, self.bytes, self.dtype.itemsize, self.storage.compression, self.storage.checksum)
        self.storage.outbox.put(job, partial(self._store, start, self.length))

    def _store(self, start: int, stop: int, stored: Any) -> None:
        self.dataset.id.set_extent((stop, *self.width))
        with self.storage.lent(stored):
            self.dataset.id.write_direct_chunk((start, *(0 for _ in self.width)), stored)


def chunk_rows(entry: int, checksum: bool, most: int | None) -> int:
    """Return how many entries a stored chunk has: of so many bytes each, and at most so many in all."""
    rows = max(1, (CHUNK_BYTES - (CHECKSUM_BYTES if checksum else 0)) // max(1, entry))
    return rows if most is None else max(1, min(rows, most))


def chunk_buffer(size: int) -> npt.NDArray[np.uint8]:
    """Return room for a chunk of so many bytes, at the start of a page; its end is for the checksum."""
    room = np.empty(size + CHECKSUM_BYTES + PAGE, dtype=np.uint8)
    start = -room.ctypes.data % PAGE
    return room[start : start + size + CHECKSUM_BYTES]


def filtered(buffer: npt.NDArray[np.uint8], itemsize: int, compression: Compression, checksum: bool) -> Any:
    """Return a chunk as it is stored; the buffer has room for a checksum at its end."""
    plain = buffer[:-CHECKSUM_BYTES]
    if compression == "gzip":
        from isal import isal_zlib

        shuffled = np.empty_like(plain)
        kernels.shuffle(plain.view(f"u{itemsize}"), shuffled)
        packed = isal_zlib.compress(shuffled.data, GZIP_LEVEL)
        if not checksum:
            return packed
        return packed + int(kernels.fletcher32(np.frombuffer(packed, dtype=np.uint8))).to_bytes(4, "little")
    if not checksum:
        return plain
    buffer[-CHECKSUM_BYTES:] = np.frombuffer(int(kernels.fletcher32(plain)).to_bytes(4, "little"), dtype=np.uint8)
    return buffer


def _same(stored: Any) -> Any:
    return stored


def _create(
    group: h5py.Group, name: str, dtype: np.dtype[Any], chunk: tuple[int, ...], compression: Compression, checksum: bool
) -> h5py.Dataset:
    """Create an empty dataset without limit along its first axis."""
    settings = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    settings.set_obj_track_times(False)  # the same data, the same bytes
    settings.set_chunk(chunk)
    settings.set_alloc_time(h5py.h5d.ALLOC_TIME_INCR)
    settings.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    if compression == "gzip":
        settings.set_shuffle()
        settings.set_deflate(GZIP_LEVEL)  # says only that it is deflate: readers need no level
    if checksum:
        settings.set_fletcher32()
    space = h5py.h5s.create_simple((0, *chunk[1:]), (h5py.h5s.UNLIMITED, *chunk[1:]))
    *parents, name = name.split("/")
    if parents:  # "a/b" is within "a", as anndata has it
        group = group.require_group("/".join(parents))
    made = h5py.h5d.create(group.id, name.encode(), h5py.h5t.py_create(dtype, logical=True), space, settings)
    return h5py.Dataset(made)
