"""Growing datasets of an HDF5 file, written chunk by chunk past the library's own buffers.

Chunks are filtered here (shuffle, gzip, fletcher32: what every HDF5 library reads without a plugin)
and stored with one call each, so that nothing is copied twice and the order of bytes in the file
depends on the data alone.
"""

from __future__ import annotations

import os
import threading
import zlib
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np
import numpy.typing as npt

from ..stats import kernels

CHUNK_BYTES = 1 << 20
GZIP_LEVEL = 4

Compression = Literal["gzip"] | None


class Appender:
    """A dataset that grows along its first axis.

    Parameters
    ----------
    group, name, dtype
        Where it is and what it holds.
    width
        Shape of one entry: () for a vector, (n_vars,) for rows of a dense matrix.
    most
        The most entries that can come, if known: a short column then takes no large chunk.
    compression
        "gzip" (with byte shuffle), or None.
    checksum
        Whether each chunk carries a fletcher32 checksum.
    """

    def __init__(
        self,
        group: h5py.Group,
        name: str,
        dtype: npt.DTypeLike,
        *,
        width: tuple[int, ...] = (),
        most: int | None = None,
        compression: Compression = None,
        checksum: bool = True,
    ) -> None:
        self.dtype, self.width = np.dtype(dtype), width
        self.compression, self.checksum = compression, checksum
        entry = self.dtype.itemsize * int(np.prod(width, dtype=np.int64))
        self.rows = max(1, CHUNK_BYTES // max(1, entry))
        if most is not None:
            self.rows = max(1, min(self.rows, most))
        self.dataset = _create(group, name, self.dtype, (self.rows, *width), compression, checksum)
        size = self.rows * entry
        self.bytes = np.zeros(size + 4, dtype=np.uint8)
        self.buffer = self.bytes[:size].view(self.dtype).reshape(self.rows, *width)
        self.filled = 0
        self.length = 0

    def append(self, values: npt.NDArray[Any]) -> None:
        """Add entries, shape (n, *width)."""
        at = 0
        while at < len(values):
            n = min(self.rows - self.filled, len(values) - at)
            self.buffer[self.filled : self.filled + n] = values[at : at + n]
            self.filled += n
            at += n
            if self.filled == self.rows:
                self._store()

    def finish(self) -> None:
        """Write what is left in the buffer."""
        if self.filled:
            self.buffer[self.filled :] = 0
            self._store()

    def _store(self) -> None:
        start = self.length
        self.length += self.filled
        self.filled = 0
        self.dataset.resize(self.length, axis=0)
        offset = (start, *(0 for _ in self.width))
        self.dataset.id.write_direct_chunk(offset, self._filtered())

    def _filtered(self) -> Any:
        """Return the buffer as it is stored."""
        stored: npt.NDArray[np.uint8] = self.bytes[:-4]
        if self.compression == "gzip":
            shuffled = stored.reshape(-1, self.dtype.itemsize).T.copy()
            packed = zlib.compress(shuffled.data, GZIP_LEVEL)
            stored = np.frombuffer(packed + b"\0\0\0\0", dtype=np.uint8)[:-4]
            if not self.checksum:
                return packed
            return packed + int(kernels.fletcher32(stored)).to_bytes(4, "little")
        if not self.checksum:
            return stored
        self.bytes[-4:] = np.frombuffer(int(kernels.fletcher32(stored)).to_bytes(4, "little"), dtype=np.uint8)
        return self.bytes


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
        settings.set_deflate(GZIP_LEVEL)
    if checksum:
        settings.set_fletcher32()
    space = h5py.h5s.create_simple((0, *chunk[1:]), (h5py.h5s.UNLIMITED, *chunk[1:]))
    made = h5py.h5d.create(group.id, name.encode(), h5py.h5t.py_create(dtype, logical=True), space, settings)
    return h5py.Dataset(made)


class Output:
    """The file under HDF5: every write goes through here.

    HDF5 does not survive a write that fails: it tries again when it closes, and may crash. So the first
    error is kept and raised, and from then on writes are taken and dropped, since the file is lost anyway.

    What has been written is sent to the disk in the background, and the system is told that nobody
    will read it soon. A long file otherwise fills memory with its pages, and the machine has to fetch
    a new one for every page written: three times slower, and counted against a container's limit.

    Parameters
    ----------
    path
        An existing file.
    """

    STRIDE = 32 << 20

    def __init__(self, path: Path) -> None:
        self.handle = os.open(path, os.O_RDWR)
        self.position = 0
        self.error: OSError | None = None
        self.drained = 0
        self.grown = threading.Event()
        self.closed = False
        self.thread = threading.Thread(target=self._drain, name="headrace-drain", daemon=True)
        if hasattr(os, "posix_fadvise"):
            self.thread.start()

    # -------------------------------------------------------------------------------------- what h5py asks for
    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to an offset."""
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self.position, os.SEEK_END: os.fstat(self.handle).st_size}[whence]
        self.position = start + offset
        return self.position

    def tell(self) -> int:
        """Return the offset."""
        return self.position

    def read(self, size: int = -1) -> bytes:
        """Read bytes; h5py knows a file by this method."""
        end = os.fstat(self.handle).st_size if size < 0 else self.position + size
        data = os.pread(self.handle, max(0, end - self.position), self.position)
        self.position += len(data)
        return data

    def readinto(self, buffer: Any) -> int:
        """Read into a buffer."""
        n = os.preadv(self.handle, [buffer], self.position)
        self.position += n
        return n

    def write(self, data: Any) -> int:
        """Write all of `data`, or keep and raise the error."""
        view = memoryview(data).cast("B")
        done = 0
        while done < len(view) and self.error is None:
            try:
                done += os.pwrite(self.handle, view[done:], self.position + done)
            except OSError as error:
                self.error = error
                raise
        self.position += len(view)
        if self.position - self.drained >= self.STRIDE:
            self.grown.set()
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        """Set the size of the file."""
        size = self.position if size is None else size
        if self.error is None:
            os.ftruncate(self.handle, size)
        return size

    def flush(self) -> None:
        """Nothing is buffered here."""

    # ------------------------------------------------------------------------------------------------ the drain
    def close(self) -> None:
        """Stop the drain and close the file."""
        if not self.closed:
            self.closed = True
            self.grown.set()
            if self.thread.is_alive():
                self.thread.join()
            os.close(self.handle)

    def _drain(self) -> None:
        while not self.closed:
            self.grown.wait()
            self.grown.clear()
            size = os.fstat(self.handle).st_size
            if size - self.drained < self.STRIDE:
                continue
            try:
                os.fdatasync(self.handle)
            except OSError as error:
                self.error = self.error or error  # the last flush of the file may not be told again
                return
            os.posix_fadvise(self.handle, self.drained, size - self.drained, os.POSIX_FADV_DONTNEED)
            self.drained = size
