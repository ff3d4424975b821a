"""X, or another matrix, of an .h5ad file as CSR, some cells at a time: stored as CSR, or dense."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from scipy import sparse

from ...stats.rates import from_dense
from ..ranges import MOST_CELLS, CellRange, cut
from .file import Stored
from .preads import Disk, Reader, threads
from .values import (
    PEEK,
    Names,
    decoding,
    finished,
    float32,
    peek,
    read_indices,
    read_values,
    stacked,
    working,
)

DENSE_BYTES = 8 << 20
"""Rows of a dense matrix that are read at once."""

SAMPLES = 4
"""Places at which a dense matrix is sampled, to estimate how many of its values are zeros."""


class Matrix(Protocol):
    """Cells x genes in a file, in one of three forms."""

    @property
    def nnz(self) -> int:
        """The most non-zeros that it can have."""

    @property
    def expected(self) -> int:
        """How many it has, as far as one can tell without reading all."""

    @property
    def bytes(self) -> int:
        """Bytes to be read."""

    @property
    def memory(self) -> int:
        """Bytes it holds beside the chunks while it is read."""

    @property
    def scratch(self) -> int:
        """Bytes of temporary files that reading takes."""

    @property
    def spooled(self) -> bool:
        """Whether reading it again costs more than keeping what was read."""

    def peek(self) -> npt.NDArray[np.float64]:
        """Return some of its values, zeros left out."""

    def refs(self, target: int) -> list[CellRange]:
        """Return spans of about `target` non-zeros."""

    def read(self, refs: Sequence[CellRange]) -> Iterator[sparse.csr_array]:
        """Yield the matrix of each span, in order."""


@dataclass(frozen=True, eq=False)
class Csr:
    """A matrix stored as CSR."""

    disk: Disk
    data: Stored
    indices: Stored
    indptr: npt.NDArray[np.int64]
    n_vars: int
    names: Names

    scratch = 0

    @property
    def nnz(self) -> int:  # noqa: D102 # see Matrix
        return self.data.shape[0]

    @property
    def expected(self) -> int:  # noqa: D102
        return self.nnz

    @property
    def bytes(self) -> int:  # noqa: D102
        return self.data.bytes + self.indices.bytes

    @property
    def memory(self) -> int:  # noqa: D102
        return self.indptr.nbytes + working(self.data, np.float32) + working(self.indices, np.int32)

    @property
    def spooled(self) -> bool:  # noqa: D102
        return self.data.packed or self.indices.packed

    def peek(self) -> npt.NDArray[np.float64]:  # noqa: D102
        return peek(self.disk, self.data)

    def refs(self, target: int) -> list[CellRange]:  # noqa: D102
        return cut(self.indptr, target)

    def read(self, refs: Sequence[CellRange]) -> Iterator[sparse.csr_array]:  # noqa: D102
        with ThreadPoolExecutor(threads(), thread_name_prefix="headrace-decode") as pool:
            values, columns = Reader(self.disk, self.data, pool), Reader(self.disk, self.indices, pool)
            for span in refs:
                self.disk.check()
                a, b = int(self.indptr[span.start]), int(self.indptr[span.stop])
                indptr = (self.indptr[span.start : span.stop + 1] - a).astype(np.int32)
                indices = read_indices(columns, a, b, self.n_vars)
                yield finished(indptr, indices, read_values(values, a, b), span.start, self.n_vars, self.names)


@dataclass(frozen=True, eq=False)
class Dense:
    """A matrix stored as it is, zeros and all."""

    disk: Disk
    stored: Stored
    names: Names

    spooled = True
    scratch = 0

    @property
    def nnz(self) -> int:  # noqa: D102
        return self.stored.shape[0] * self.stored.shape[1]

    @property
    def expected(self) -> int:  # noqa: D102
        return self._per_cell * self.stored.shape[0]

    @property
    def bytes(self) -> int:  # noqa: D102
        return self.stored.bytes

    @property
    def memory(self) -> int:  # noqa: D102
        return 3 * DENSE_BYTES + self.stored.band_bytes + decoding(self.stored)

    @property
    def _block(self) -> int:
        """Rows that are read at once."""
        return max(1, DENSE_BYTES // max(1, 8 * self.stored.shape[1]))

    @cached_property
    def _sample(self) -> list[npt.NDArray[Any]]:
        """Some rows, from several places."""
        n_obs, n_vars = self.stored.shape
        n = max(1, min(32, PEEK * 64 // max(1, n_vars)))
        starts = sorted({int(at) for at in np.linspace(0, max(0, n_obs - n), SAMPLES)})
        with ThreadPoolExecutor(threads()) as pool:
            return [Reader(self.disk, self.stored, pool).read(at, min(at + n, n_obs)) for at in starts]

    @cached_property
    def _per_cell(self) -> int:
        """How many values of a cell are not zero, where they are densest, and a little more."""
        return max(1, int(1.1 * max(np.count_nonzero(rows) / len(rows) for rows in self._sample)))

    def peek(self) -> npt.NDArray[np.float64]:  # noqa: D102
        values = np.concatenate([rows[rows != 0] for rows in self._sample])
        return values[:: max(1, len(values) // PEEK)].astype(np.float64)

    def refs(self, target: int) -> list[CellRange]:  # noqa: D102
        n_obs, n = self.stored.shape[0], min(max(1, target // self._per_cell), MOST_CELLS)
        return [CellRange(start, min(start + n, n_obs)) for start in range(0, n_obs, n)]

    def read(self, refs: Sequence[CellRange]) -> Iterator[sparse.csr_array]:  # noqa: D102
        with ThreadPoolExecutor(threads(), thread_name_prefix="headrace-decode") as pool:
            reader = Reader(self.disk, self.stored, pool)
            for span in refs:
                self.disk.check()
                parts = [
                    self._read(reader, start, min(start + self._block, span.stop))
                    for start in range(span.start, span.stop, self._block)
                ]
                yield stacked(parts)

    def _read(self, reader: Reader, start: int, stop: int) -> sparse.csr_array:
        rows = reader.read(start, stop)
        values, lossy = float32(rows.reshape(-1))
        X = from_dense(values.reshape(rows.shape), np.float32)
        if lossy:
            n_vars = rows.shape[1]
            self.names.check_rounded(rows.reshape(-1), lambda at: (start + at // n_vars, at % n_vars))
        return finished(X.indptr, X.indices, (X.data, None), start, rows.shape[1], self.names)
