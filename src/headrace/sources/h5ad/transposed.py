"""A matrix stored as CSC, turned into rows through one temporary file, in flat memory.

The file is read from front to back once, and each value dealt out to the band of cells it belongs to. Bands are
collected in a temporary file without a name, so it is gone when the process is, however that ends. A
band is read back whole and put into rows: values come in the order of genes, so rows are sorted.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from ...chunk import csr
from ...errors import OutputError, SourceError
from ...stats import kernels
from ...support.scratch import Scratch
from ..ranges import CellRange, cut
from .file import Stored
from .preads import Disk, Reader, threads
from .values import Names, decoding, finished, peek, read_indices, read_values, stacked

BAND_NNZ = 1_200_000
"""Non-zeros per band of cells: as many as the largest chunk has."""

BLOCK_NNZ = 1 << 19
"""Non-zeros that are read at once."""

BUFFERS = 32 << 20
"""Bytes of all the bands' buffers."""

RECORD = 12
"""Bytes of a value in the temporary file: row, column, value."""


@dataclass(frozen=True, eq=False)
class Csc:
    """A matrix stored as CSC; see the page of this module.

    Parameters
    ----------
    folder
        Where the temporary file is made.
    """

    disk: Disk
    data: Stored
    indices: Stored
    indptr: npt.NDArray[np.int64]
    n_obs: int
    names: Names
    folder: str
    lock: threading.Lock = field(default_factory=threading.Lock)

    spooled = False

    @property
    def nnz(self) -> int:  # noqa: D102 # see Matrix
        return self.data.shape[0]

    @property
    def expected(self) -> int:  # noqa: D102
        return self.nnz

    @property
    def bytes(self) -> int:  # noqa: D102
        return self.data.bytes + 2 * self.indices.bytes

    @property
    def scratch(self) -> int:  # noqa: D102
        return RECORD * self.nnz

    @property
    def memory(self) -> int:  # noqa: D102
        dealing = 2 * RECORD * BLOCK_NNZ + BUFFERS + decoding(self.data) + decoding(self.indices)
        band = (RECORD + 8) * min(BAND_NNZ, self.nnz)
        tiles = self.data.tile_bytes + self.indices.tile_bytes
        return self.indptr.nbytes + 20 * self.n_obs + tiles + max(dealing, band)

    def peek(self) -> npt.NDArray[np.float64]:  # noqa: D102
        return peek(self.disk, self.data)

    def refs(self, target: int) -> list[CellRange]:  # noqa: D102
        return [span for band in self._bands for span in cut(self._total, target, band.start, band.stop)]

    def read(self, refs: Sequence[CellRange]) -> Iterator[sparse.csr_array]:  # noqa: D102
        held: tuple[int, Any] = (-1, None)
        starts = [band.start for band in self._bands]
        for span in refs:
            parts = []
            first = int(np.searchsorted(starts, span.start, side="right")) - 1
            for number in range(first, len(self._bands)):
                band = self._bands[number]
                if band.start >= span.stop:
                    break
                if held[0] != number:
                    held = (-1, None)
                    held = number, self._load(number)
                a, b = max(span.start, band.start) - band.start, min(span.stop, band.stop) - band.start
                parts.append(_rows(held[1], a, b))
            yield stacked(parts)

    # ----------------------------------------------------------------------------------------------- the bands
    @cached_property
    def _total(self) -> npt.NDArray[np.int64]:
        """How many values come before each cell, shape (n_obs + 1,). Reads all indices."""
        total = np.zeros(self.n_obs + 1, dtype=np.int64)
        with ThreadPoolExecutor(threads(), thread_name_prefix="headrace-decode") as pool:
            reader = Reader(self.disk, self.indices, pool)
            for start in range(0, self.nnz, BLOCK_NNZ):
                stop = min(start + BLOCK_NNZ, self.nnz)
                rows = read_indices(reader, start, stop, self.n_obs)
                if kernels.count_indices(rows, total[1:]):
                    at = start + int(np.flatnonzero((rows < 0) | (rows >= self.n_obs))[0])
                    raise SourceError(
                        f"{self.names.matrix}: gene {self.names.gene(self._column(at))!r} has a value for a cell that "
                        f"is not there (index not in 0 to {self.n_obs - 1}); the file is broken"
                    )
        return np.cumsum(total, out=total)

    @cached_property
    def _bands(self) -> list[CellRange]:
        return cut(self._total, BAND_NNZ)

    def _load(self, number: int) -> sparse.csr_array:
        """Return the cells of a band."""
        with self.lock:
            bands = self._dealt
        band = self._bands[number]
        where, values = bands.load(number)
        indptr = (self._total[band.start : band.stop + 1] - self._total[band.start]).astype(np.int32)
        indices, data = np.empty(len(values), dtype=np.int32), np.empty(len(values), dtype=np.float32)
        kernels.gather(where, values, band.start, indptr[:-1].copy(), indices, data)
        return finished(indptr, indices, (data, None), band.start, len(self.indptr) - 1, self.names)

    @cached_property
    def _dealt(self) -> Bands:
        """The temporary file, filled."""
        bands = Bands(self.folder, [int(self._total[b.stop] - self._total[b.start]) for b in self._bands])
        band_of = np.empty(self.n_obs, dtype=np.int32)
        for number, band in enumerate(self._bands):
            band_of[band.start : band.stop] = number
        column = 0
        with ThreadPoolExecutor(threads(), thread_name_prefix="headrace-decode") as pool:
            cells, numbers = Reader(self.disk, self.indices, pool), Reader(self.disk, self.data, pool)
            for start in range(0, self.nnz, BLOCK_NNZ):
                self.disk.check()
                stop = min(start + BLOCK_NNZ, self.nnz)
                rows, (data, wide) = read_indices(cells, start, stop, self.n_obs), read_values(numbers, start, stop)
                if wide is not None:
                    self.names.check_rounded(wide, partial(self._place, start, rows))
                column = bands.deal(rows, data, start, self.indptr, column, band_of)
        bands.finish()
        return bands

    def _place(self, start: int, rows: npt.NDArray[np.int32], at: int) -> tuple[int, int]:
        """Return cell and gene of a value, by its position after `start`."""
        return int(rows[at]), self._column(start + at)

    def _column(self, at: int) -> int:
        """Return the gene that a value belongs to, by the value's position."""
        return int(np.searchsorted(self.indptr, at, side="right")) - 1


class Bands:
    """Values by band of cells, in a file that has no name.

    Parameters
    ----------
    folder
        Where it is.
    nnz
        How many values each band has.
    """

    def __init__(self, folder: str, nnz: Sequence[int]) -> None:
        self.folder, self.nnz = folder, nnz
        self.starts = np.concatenate([[0], np.cumsum(nnz)]).astype(np.int64)
        need, free = RECORD * int(self.starts[-1]), shutil.disk_usage(folder).free
        if free < need:
            raise OutputError(
                f"turning CSC into rows needs about {need / 1e6:,.0f} MB in {folder}, where {free / 1e6:,.0f} MB are "
                "free; choose another folder with scratch="
            )
        room = max(64, BUFFERS // RECORD // max(1, len(nnz)))
        self.fill = np.zeros(len(nnz), dtype=np.int64)
        self.written = np.zeros(len(nnz), dtype=np.int64)
        self.where = np.empty((len(nnz), room, 2), dtype=np.int32)
        self.values = np.empty((len(nnz), room), dtype=np.float32)
        self.file = Scratch(folder, "scratch=")

    def deal(
        self,
        rows: npt.NDArray[np.int32],
        data: npt.NDArray[np.float32],
        position: int,
        indptr: npt.NDArray[np.int64],
        column: int,
        band_of: npt.NDArray[np.int32],
    ) -> int:
        """Take in values from a position of the matrix on; return the column of the last."""
        at = 0
        while at < len(rows):
            at, column, full = kernels.deal(
                rows, data, at, position, indptr, column, band_of, self.fill, self.where, self.values
            )
            if full >= 0:
                self._flush(int(full))
        return int(column)

    def finish(self) -> None:
        """Write what is left in buffers, and let go of them."""
        for band in range(len(self.nnz)):
            self._flush(band)
        assert self.written.tolist() == list(self.nnz)
        del self.where, self.values

    def load(self, band: int) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
        """Return row and column, shape (n, 2), and values of a band."""
        n = self.nnz[band]
        where, values = np.empty((n, 2), dtype=np.int32), np.empty(n, dtype=np.float32)
        start = RECORD * int(self.starts[band])
        self.file.read(where, start)
        self.file.read(values, start + 8 * n)
        return where, values

    def _flush(self, band: int) -> None:
        n, done, start = int(self.fill[band]), int(self.written[band]), RECORD * int(self.starts[band])
        self.file.write(self.where[band, :n], start + 8 * done)
        self.file.write(self.values[band, :n], start + 8 * self.nnz[band] + 4 * done)
        self.written[band] += n
        self.fill[band] = 0


def _rows(X: sparse.csr_array, start: int, stop: int) -> sparse.csr_array:
    """Return some rows; values and indices are shared."""
    if (start, stop) == (0, X.shape[0]):
        return X
    a, b = X.indptr[start], X.indptr[stop]
    return csr(X.data[a:b], X.indices[a:b], X.indptr[start : stop + 1] - a, X.shape[1])
