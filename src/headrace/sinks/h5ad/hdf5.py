"""Growing datasets of an HDF5 file, written chunk by chunk past the library's own buffers.

Chunks are filtered here (shuffle, gzip, fletcher32: what every HDF5 library reads without a plugin)
and stored with one call each, so that nothing is copied twice and the order of bytes in the file
depends on the data alone.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np
import numpy.typing as npt

from ...errors import OutputError
from ...stats import kernels
from .direct import LEAST, PAGE, DirectWriter
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
        self.rows = max(1, (CHUNK_BYTES - (CHECKSUM_BYTES if storage.checksum else 0)) // max(1, entry))
        if most is not None:
            self.rows = max(1, min(self.rows, most))
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

    def finish(self) -> None:
        """Send off what is left in the buffer."""
        if self.filled:
            self.buffer[self.filled :] = 0
            self._send()

    def _begin(self) -> None:
        """Start the next chunk in a buffer of its own, at the start of a page; its end is for the checksum."""
        room = np.empty(self.size + CHECKSUM_BYTES + PAGE, dtype=np.uint8)
        start = -room.ctypes.data % PAGE
        self.bytes = room[start : start + self.size + CHECKSUM_BYTES]
        self.buffer = self.bytes[: self.size].view(self.dtype).reshape(self.rows, *self.width)

    def _send(self) -> None:
        """Have the chunk filtered and stored."""
        start, self.length = self.length, self.length + self.filled
        self.filled = 0
        job = partial(_filtered, self.bytes, self.dtype.itemsize, self.storage.compression, self.storage.checksum)
        self.storage.outbox.put(job, partial(self._store, start, self.length))

    def _store(self, start: int, stop: int, stored: Any) -> None:
        self.dataset.id.set_extent((stop, *self.width))
        with self.storage.lent(stored):
            self.dataset.id.write_direct_chunk((start, *(0 for _ in self.width)), stored)


def _filtered(buffer: npt.NDArray[np.uint8], itemsize: int, compression: Compression, checksum: bool) -> Any:
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
    made = h5py.h5d.create(group.id, name.encode(), h5py.h5t.py_create(dtype, logical=True), space, settings)
    return h5py.Dataset(made)


class Output:
    """The file under HDF5: every write goes through here.

    HDF5 does not survive a write that fails: it tries again when it closes, and h5py calls on with the exception
    still set, which ends in a SystemError or a crash. So HDF5 is never told: the first error is kept, from then on
    writes are taken and dropped, since the file is lost anyway, and `told` tells whoever writes.

    Chunks of whole pages go to the disk directly (`direct.py`), if the file system can do that. Whatever else is
    written is sent to the disk in the background, and the system is told to let go of it.

    Parameters
    ----------
    path
        An existing file.
    target
        What it will become, for messages.
    """

    STRIDE = 32 << 20

    def __init__(self, path: Path, target: Path) -> None:
        self.target = target
        self.error: Exception | None = None
        try:
            self.handle = os.open(path, os.O_RDWR)
        except OSError as error:
            raise self.failure(error) from error
        self.direct = DirectWriter(path, self.handle, self._failed)
        self.lent: npt.NDArray[np.uint8] | None = None
        self.position = 0
        self.buffered = 0
        self.drained = 0
        self.grown = threading.Event()
        self.closed = False
        self.thread = threading.Thread(target=self._drain, name="headrace-drain", daemon=True)
        if hasattr(os, "posix_fadvise"):
            self.thread.start()

    # -------------------------------------------------------------------------------------- what h5py asks for
    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to an offset."""
        if whence == os.SEEK_END:
            self.direct.wait()
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self.position, os.SEEK_END: os.fstat(self.handle).st_size}[whence]
        self.position = start + offset
        return self.position

    def tell(self) -> int:
        """Return the offset."""
        return self.position

    def read(self, size: int = -1) -> bytes:
        """Read bytes; h5py knows a file by this method."""
        self.direct.wait()
        end = os.fstat(self.handle).st_size if size < 0 else self.position + size
        data = os.pread(self.handle, max(0, end - self.position), self.position)
        self.position += len(data)
        return data

    def readinto(self, buffer: Any) -> int:
        """Read into a buffer."""
        self.direct.wait()
        n = os.preadv(self.handle, [buffer], self.position)
        self.position += n
        return n

    def write(self, data: Any) -> int:
        """Write all of `data`, or keep the error."""
        view = memoryview(data).cast("B")
        lent = self.lent
        if lent is None or _place(view) != _place(lent.data) or not self.direct.takes(lent, self.position):
            self._write(view)
        self.position += len(view)
        if self.buffered >= self.STRIDE:
            self.buffered = 0
            self.grown.set()
        return len(view)

    def _write(self, view: memoryview) -> None:
        done = 0
        while done < len(view) and self.error is None:
            try:
                written = os.pwrite(self.handle, view[done:], self.position + done)
            except OSError as error:
                self.error = error
            else:
                done += written
                self.buffered += written

    @contextmanager
    def lending(self, buffer: Any) -> Iterator[None]:
        """Let a buffer that is written within the block be written after it: nobody will change it."""
        self.lent = buffer if isinstance(buffer, np.ndarray) else None
        try:
            yield
        finally:
            self.lent = None

    def wait(self) -> None:
        """Wait until all is written that can be."""
        self.direct.wait()

    def truncate(self, size: int | None = None) -> int:
        """Set the size of the file."""
        self.direct.wait()
        size = self.position if size is None else size
        if self.error is None:
            try:
                os.ftruncate(self.handle, size)
            except OSError as error:
                self.error = error
        return size

    def flush(self) -> None:
        """Nothing is buffered here."""

    # ------------------------------------------------------------------------------------------ what goes wrong
    def _failed(self, error: Exception) -> None:
        self.error = self.error or error

    @contextmanager
    def told(self) -> Iterator[None]:
        """Raise `OutputError` if what is written within the block does not get there."""
        try:
            yield
        except Exception as error:
            if self.error is None and not isinstance(error, OSError):
                raise
            raise self.failure(error) from error
        if self.error is not None:
            raise self.failure(self.error) from self.error

    def failure(self, error: BaseException) -> OutputError:
        """Put into words why the file was not written."""
        reason = self.error or error
        return OutputError(
            f"writing {self.target} failed: {getattr(reason, 'strerror', None) or reason}; nothing was left there; "
            "free some space, or choose another place"
        )

    # ------------------------------------------------------------------------------------------------ the drain
    def close(self) -> None:
        """Stop the drain and close the file."""
        if not self.closed:
            self.closed = True
            self.grown.set()
            if self.thread.is_alive():
                self.thread.join()
            self.direct.close()
            os.close(self.handle)

    def _drain(self) -> None:
        while not self.closed:
            self.grown.wait()
            self.grown.clear()
            size = os.fstat(self.handle).st_size
            try:
                os.fdatasync(self.handle)
            except OSError as error:
                self._failed(error)  # the last flush of the file may not be told again
                return
            os.posix_fadvise(self.handle, self.drained, size - self.drained, os.POSIX_FADV_DONTNEED)
            self.drained = size


def _place(view: memoryview) -> tuple[int, int]:
    """Return where in memory bytes begin, and how many there are."""
    return int(np.frombuffer(view, dtype=np.uint8).ctypes.data), len(view)
