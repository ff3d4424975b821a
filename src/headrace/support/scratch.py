"""Temporary files without a name: they are gone when the process ends, however that is.

A copy by pickling holds what was in the file, to be read only.
"""

from __future__ import annotations

import mmap
import os
import pickle
import weakref
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import OutputError, SourceError
from .shortage import remedy


class Scratch:
    """A temporary file.

    Parameters
    ----------
    folder
        Where it is; if that folder is not there, the nearest one above it that is.
    option
        What chooses another folder, for messages.

    Raises
    ------
    OutputError
        If it cannot be made, or later cannot be written.
    """

    def __init__(self, folder: str | os.PathLike[str], option: str) -> None:
        self.folder, self.option = Path(folder), option
        self.held: memoryview | None = None
        while True:
            try:
                with TemporaryFile(dir=self.folder, buffering=0) as file:
                    self.fd = os.dup(file.fileno())
                break
            except FileNotFoundError as error:
                if self.folder.parent == self.folder:
                    raise self._failure(error) from error
                self.folder = self.folder.parent
            except OSError as error:
                raise self._failure(error) from error
        weakref.finalize(self, os.close, self.fd)

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Have what is in the file pickled: beside the pickle, where that is asked for, as it may be large."""
        whole = self.whole()
        return _held, (str(self.folder), self.option, pickle.PickleBuffer(whole) if protocol >= 5 else bytes(whole))

    def whole(self) -> memoryview:
        """Return all that is in the file."""
        if self.held is not None:
            return self.held
        size = os.fstat(self.fd).st_size
        return memoryview(mmap.mmap(self.fd, size, access=mmap.ACCESS_READ) if size else b"")

    def write(self, values: npt.NDArray[Any] | bytes, offset: int) -> None:
        """Write at a place."""
        assert self.held is None, "a copy is only read"
        try:
            view = _bytes(values)
            while len(view):
                n = os.pwrite(self.fd, view[: 1 << 30], offset)
                view, offset = view[n:], offset + n
        except OSError as error:
            raise self._failure(error) from error

    def read(self, out: npt.NDArray[Any], offset: int) -> None:
        """Fill a contiguous array from a place.

        Raises
        ------
        SourceError
            If it cannot be read back.
        """
        view = _bytes(out)
        if self.held is not None:
            some = self.held[offset : offset + len(view)]
            if len(some) < len(view):
                raise SourceError(f"the copy of a temporary file of {self.folder} has lost its end")
            view[:] = some
            return
        while len(view):
            try:
                n = os.preadv(self.fd, [view[: 1 << 30]], offset)
            except OSError as error:
                raise SourceError(f"the temporary file in {self.folder} cannot be read: {error.strerror}") from error
            if n <= 0:
                raise SourceError(f"the temporary file in {self.folder} has lost its end")
            view, offset = view[n:], offset + n

    def _failure(self, error: OSError) -> OutputError:
        return OutputError(
            f"cannot write a temporary file in {self.folder}: {error.strerror}; "
            + remedy(error, f"free some space or choose another folder with {self.option}")
        )


def _held(folder: str, option: str, whole: Any) -> Scratch:
    """Return a copy of a temporary file."""
    copy = object.__new__(Scratch)
    copy.folder, copy.option, copy.fd, copy.held = Path(folder), option, -1, memoryview(whole).cast("B")
    return copy


def _bytes(values: npt.NDArray[Any] | bytes) -> memoryview:
    array = np.frombuffer(values, np.uint8) if isinstance(values, bytes) else np.ascontiguousarray(values)
    return memoryview(array.reshape(-1).view(np.uint8).data)
