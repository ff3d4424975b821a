"""The file that HDF5 writes to: an error is kept here and never returned to the library."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...errors import OutputError
from ...support.atomic import Partial
from ...support.shortage import remedy
from .again import Handles
from .direct import DirectWriter


class Output:
    """The file under HDF5: every write goes through here.

    HDF5 does not survive a write that fails: it tries again when it closes, and h5py calls on with the exception
    still set, which ends in a SystemError or a crash. So HDF5 is never told: the first error is kept, from then on
    writes are taken and dropped, since the file is lost anyway, and `told` tells whoever writes.

    Chunks of whole pages go to the disk directly (`direct.py`), if the file system can do that. Whatever else is
    written is sent to the disk in the background, and the system is told to let go of it.

    Parameters
    ----------
    partial
        The file in the making.
    target
        What it will become, for messages.
    """

    STRIDE = 32 << 20

    def __init__(self, partial: Partial, target: Path) -> None:
        self.partial, self.target = partial, target
        self.error: Exception | None = None
        try:
            self.handle = partial.open(os.O_RDWR)
        except OSError as error:
            raise self.failure(error) from error
        self.direct = DirectWriter(partial, self.handle, self._failed)
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

    def again(self) -> Handles:
        """Open the file for reading what has been written so far."""
        self.direct.wait()
        return Handles(self.partial)

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
            + remedy(reason, "free some space, or choose another place")
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
