"""X read back from a file in the making, past the HDF5 library: it knows only where chunks are.

What is read is held against the digest of what was written.
"""

from __future__ import annotations

import errno
import os
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ...afterwards import Reading
from ...chunk import Chunk, csr
from ...errors import OutputError
from ...stats import kernels
from ...support.atomic import Partial
from ...support.shortage import remedy
from .digests import row_checksums
from .direct import PAGE

WRONG = kernels.OUTSIDE | kernels.UNSORTED
"""What loops over rows do not bear."""


class Handles:
    """A file that is read while it is written; past the system's memory where that can be done: it is read once.

    Parameters
    ----------
    file
        The file in the making.
    """

    def __init__(self, file: Partial) -> None:
        self.path = file.path
        self.plain = file.open(os.O_RDONLY)
        self.direct: int | None = None
        try:
            self.direct = file.open(os.O_RDONLY | os.O_DIRECT)
        except (AttributeError, OSError):  # no such flag on this system, or not on this file system
            self.direct = None

    def read(self, out: npt.NDArray[Any], offset: int) -> None:
        """Fill an array from a place in the file; raise `OutputError` if that cannot be done."""
        into = out.view(np.uint8)
        before = offset % PAGE
        size = -(-(before + len(into)) // PAGE) * PAGE
        room = np.empty(size + PAGE, dtype=np.uint8)
        pages = room[-room.ctypes.data % PAGE :][:size]
        done = 0
        while done < before + len(into):
            handle = self.plain if self.direct is None or done % PAGE else self.direct
            try:
                n = os.preadv(handle, [pages[done:].data], offset - before + done)
            except OSError as error:
                if handle == self.direct and error.errno == errno.EINVAL:  # that says only: not here
                    self.direct = None
                    continue
                raise OutputError(
                    f"what was written to {self.path} cannot be read back: {error.strerror}; "
                    + remedy(error, "choose another place")
                ) from error
            if not n:
                raise OutputError(f"{self.path} has lost its end: another process has cut it; nothing was left there")
            done += n
        into[:] = pages[before : before + len(into)]

    def close(self) -> None:
        """Let go of the file."""
        for handle in {self.plain, self.direct} - {None}:
            os.close(handle)  # type: ignore[arg-type] # not None


@dataclass(frozen=True, eq=False)
class Stored:
    """Where the entries of a dataset are.

    Parameters
    ----------
    places
        Of its chunks in the file.
    rows
        Entries of a chunk.
    waiting
        Entries after those, which are not in the file yet.
    """

    places: npt.NDArray[np.int64]
    rows: int
    waiting: npt.NDArray[Any]

    def read(self, file: Handles, start: int, stop: int) -> npt.NDArray[Any]:
        """Return some entries."""
        out = np.empty(stop - start, dtype=self.waiting.dtype)
        at = start
        while at < stop:
            number, within = divmod(at, self.rows)
            n = min(self.rows - within, stop - at)
            into = out[at - start : at - start + n]
            if number < len(self.places):
                file.read(into, int(self.places[number]) + within * out.itemsize)
            else:
                into[:] = self.waiting[within : within + n]
            at += n
        return out


class Again:
    """The rows of a sparse matrix that was written, to be read once, some at a time, in any order and thread.

    Parameters
    ----------
    stored
        Where `data`, `indices` and `indptr` are.
    n_vars
        Columns.
    parts
        Rows and values of each part.
    digests
        Of the rows of each part, as they were written.
    """

    def __init__(
        self,
        file: Handles,
        stored: tuple[Stored, Stored, Stored],
        n_vars: int,
        parts: Sequence[tuple[int, int]],
        digests: Sequence[int],
    ) -> None:
        self.file, self.stored, self.n_vars = file, stored, n_vars
        self.parts = [(*part, digest) for part, digest in zip(parts, digests, strict=True)]

    def readings(self) -> Sequence[Reading]:
        """Return a call for each part."""
        calls, row, value = [], 0, 0
        for n_rows, nnz, digest in self.parts:
            calls.append(partial(self._read, slice(row, row + n_rows), slice(value, value + nnz), digest))
            row, value = row + n_rows, value + nnz
        return calls

    def _read(self, rows: slice, values: slice, digest: int) -> Callable[[], Chunk]:
        """Read some rows."""
        data, indices, indptr = self.stored
        return partial(
            self._chunk,
            data.read(self.file, values.start, values.stop),
            indices.read(self.file, values.start, values.stop),
            indptr.read(self.file, rows.start, rows.stop + 1) - values.start,
            digest,
        )

    def _chunk(self, values: npt.NDArray[Any], columns: npt.NDArray[Any], ends: npt.NDArray[Any], digest: int) -> Chunk:
        """Make a chunk of rows that were read; raise `OutputError` if they are not what was written."""
        data, indices = values.astype(np.float32, copy=False), columns.astype(np.int32, copy=False)
        if ends[0] != 0 or ends[-1] != len(values) or (np.diff(ends) < 0).any():
            raise self._damaged()
        indptr = ends.astype(np.int32, copy=False)
        X = csr(data, indices, indptr, self.n_vars)
        if kernels.inspect_csr(indptr, indices, data, self.n_vars) & WRONG:
            raise self._damaged()
        if zlib.crc32(row_checksums(X).data) != digest:
            raise self._damaged()
        return Chunk(X, pd.DataFrame(index=range(len(indptr) - 1)))

    def _damaged(self) -> OutputError:
        return OutputError(
            f"what is read back from {self.file.path} is not what was written: another program writes to it, or the "
            "disk is at fault; nothing was left there; choose another place"
        )
