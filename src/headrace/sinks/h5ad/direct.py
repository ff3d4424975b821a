"""Direct writes (O_DIRECT) of whole pages, in a thread of their own.

Nothing is copied, and a long file does not fill memory with pages that nobody will read soon, for each of which the
machine would have to fetch a new one. A disk takes as long for a chunk as a processor for making it: neither waits.
"""

from __future__ import annotations

import errno
import os
import queue
import threading
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from ...support.atomic import Partial

PAGE = 4096
"""What the disk is written in, at least; chunks begin and, where they can, end at multiples of it."""

LEAST = 1 << 16
"""Fewer bytes are not worth it."""

WAITING = 4
"""Buffers on their way to the disk."""


class DirectWriter:
    """Writes buffers that nobody changes any more.

    Parameters
    ----------
    partial
        The file in the making.
    otherwise
        A handle of it to write to where the file system says only then that it cannot be done directly.
    failed
        Told of the first error; what comes after it is dropped.
    """

    def __init__(self, partial: Partial, otherwise: int, failed: Callable[[Exception], None]) -> None:
        self.handle = open_direct(partial)
        self.otherwise, self.failed = otherwise, failed
        self.refused = self.lost = False
        self.waiting: queue.Queue[tuple[npt.NDArray[np.uint8], int] | None] = queue.Queue(WAITING)
        self.thread = threading.Thread(target=self._work, name="headrace-disk", daemon=True)
        if self.handle is not None:
            self.thread.start()

    def takes(self, data: npt.NDArray[np.uint8], offset: int) -> bool:
        """Write an array of bytes at an offset, later; or return False if they are not whole pages."""
        if self.handle is None or self.refused or len(data) < LEAST or (len(data) | offset | data.ctypes.data) % PAGE:
            return False
        self.waiting.put((data, offset))
        return True

    def wait(self) -> None:
        """Wait until all is written, or an error was told."""
        self.waiting.join()

    def close(self) -> None:
        """Write what waits and let go of the file."""
        if self.handle is not None:
            self.waiting.put(None)
            self.thread.join()
            os.close(self.handle)
            self.handle = None

    def _work(self) -> None:
        while (item := self.waiting.get()) is not None:
            if not self.lost:
                try:
                    self._write(*item)
                except Exception as error:  # whatever it is: who waits must not wait for ever
                    self.lost = True
                    self.failed(error)
            del item
            self.waiting.task_done()

    def _write(self, data: npt.NDArray[np.uint8], offset: int) -> None:
        done = 0
        while done < len(data):
            handle = self.otherwise if self.refused or self.handle is None else self.handle
            try:
                done += os.pwrite(handle, data[done:].data, offset + done)
            except OSError as error:
                if self.refused or error.errno != errno.EINVAL:  # that says only: not here
                    raise
                self.refused = True


def open_direct(partial: Partial) -> int | None:
    """Open a file for writing past the system's memory, or return None where that cannot be done."""
    try:
        return partial.open(os.O_WRONLY | os.O_DIRECT)
    except (AttributeError, OSError):  # no such flag on this system, or not on this file system
        return None
