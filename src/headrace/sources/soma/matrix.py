"""X of a SOMA experiment, streamed into CSR.

The Census stores X in one fragment, in bands of 2048 cells. An unordered read returns the cells of
one band after those of the band before, so that every value can be put straight into its row: obs
says how many each row has. Arrays that do not keep to this (several fragments, no `nnz` in obs) are
noticed by their numbers, read one chunk at a time, counted first, and sorted where they must be.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from scipy import sparse

from ...chunk import csr
from ...errors import ContradictionError
from ...stats import kernels
from ...support.prefetch import prefetch
from ..compact import Joinids, Sizes
from ..ranges import CellRange
from .bands import BAND
from .location import reading

QUERY_NNZ = 1_000_000_000
"""Non-zeros of one query to TileDB. At the end of each, TileDB gives all free memory of the process
back to the system (`malloc_trim`), and fetching it again takes longer than decoding did."""


BLOCK_NNZ = 8_000_000
"""Non-zeros that are put into rows at once. A band of 2048 cells is cut into smaller chunks afterwards; only
one that has more than this (full-length assays) is asked for in parts."""


class XReader:
    """Reads spans of cells as CSR.

    Parameters
    ----------
    array
        An open SOMA SparseNDArray, cells x genes.
    joinids
        The query's cells, increasing.
    nnz
        How many values each cell has over all genes, or None if nobody knows.
    gene_map
        The new number of every gene joinid, or -1 to drop it, shape (largest joinid + 1,).
    """

    def __init__(
        self,
        array: Any,
        joinids: Joinids,
        nnz: Sizes | None,
        gene_map: npt.NDArray[np.int32],
    ) -> None:
        self.array, self.joinids, self.nnz, self.gene_map = array, joinids, nnz, gene_map
        self.n_vars = int(gene_map.max()) + 1

    def read(self, wanted: Sequence[CellRange]) -> Iterator[sparse.csr_array]:
        """Yield the matrix of each span, in order."""
        if self.nnz is None:
            for span in wanted:
                yield self._read_one(span)
            return
        for query in self._queries(wanted):
            yield from self._read_query(query)

    def _queries(self, wanted: Sequence[CellRange]) -> Iterator[list[list[CellRange]]]:
        """Join spans into blocks that begin and end at the edges of bands, and blocks into queries."""
        assert self.nnz is not None
        query: list[list[CellRange]] = []
        size = 0
        for block in self._blocks(wanted):
            n = int(self.nnz[block[0].start : block[-1].stop].sum())
            if query and (
                query[-1][-1].stop != block[0].start or self._same_band(block[0].start) or size + n > QUERY_NNZ
            ):
                yield query
                query, size = [], 0
            query.append(block)
            size += n
        if query:
            yield query

    def _blocks(self, wanted: Sequence[CellRange]) -> Iterator[list[CellRange]]:
        """Join the spans of one band, unless the band is too large to be held at once."""
        assert self.nnz is not None
        block: list[CellRange] = []
        size = 0
        for span in wanted:
            n = int(self.nnz[span.start : span.stop].sum())
            joins = block and block[-1].stop == span.start and self._same_band(span.start)
            if block and not (joins and size + n <= BLOCK_NNZ):
                yield block
                block, size = [], 0
            block.append(span)
            size += n
        if block:
            yield block

    def _same_band(self, position: int) -> bool:
        return bool(self.joinids[position - 1] // BAND == self.joinids[position] // BAND)

    def _tables(self, joinids: npt.NDArray[np.int64]) -> Iterator[pa.Table]:
        """Yield the coordinates of the cells, and perhaps of others between them."""
        first, last = int(joinids[0]), int(joinids[-1])
        coords = slice(first, last) if last - first < 3 * len(joinids) else joinids
        with reading(f"X of cells {first} to {last}"):
            yield from self.array.read((coords,)).tables()

    def _read_query(self, query: list[list[CellRange]]) -> Iterator[sparse.csr_array]:
        """Read neighbouring blocks in one query, each closed as soon as the next begins."""
        tables = prefetch(self._columns(self.joinids[query[0][0].start : query[-1][-1].stop]))
        part, at = next(tables, None), 0
        for number, block in enumerate(query):
            rows = _Rows(self, CellRange(block[0].start, block[-1].stop))
            while part is not None:
                at = rows.add(*part, at)
                if at < len(part[0]):
                    break
                part, at = next(tables, None), 0
            if rows.missing():  # cells came out of order after all: ask for each span by itself
                for span in (span for each in query[number:] for span in each):
                    yield self._read_one(span)
                return
            X = rows.finish()
            for span in block:
                yield X if len(block) == 1 else _slice(X, span.start - block[0].start, span.stop - block[0].start)

    def _read_one(self, span: CellRange) -> sparse.csr_array:
        """Read one span, in whatever order its cells come."""
        parts = list(self._columns(self.joinids[span.start : span.stop]))
        chunk = _Rows(self, span, parts)
        for part in parts:
            at = 0
            while at < len(part[0]):  # cells beyond the span are dropped: a slice may return some between
                at = chunk.add(*part, at) + 1
        if chunk.missing():
            raise ContradictionError(
                f"X has {chunk.seen} values for cells {self.joinids[span.start]} to {self.joinids[span.stop - 1]}, "
                f"but their obs['nnz'] says {chunk.expected}: the source contradicts itself"
            )
        return chunk.finish()

    def _columns(self, joinids: npt.NDArray[np.int64]) -> Iterator[tuple[Any, Any, Any]]:
        for table in self._tables(joinids):
            if len(table):
                batch = table.combine_chunks()
                rows, cols, vals = (batch[name].chunk(0) for name in ("soma_dim_0", "soma_dim_1", "soma_data"))
                if pa.types.is_boolean(vals.type):
                    vals = vals.cast(pa.uint8())
                yield rows.to_numpy(), cols.to_numpy(), vals.to_numpy()


class _Rows:
    """One span in the making: room for every row, filled as values come."""

    def __init__(self, reader: XReader, span: CellRange, parts: Sequence[tuple[Any, Any, Any]] | None = None) -> None:
        joinids = reader.joinids[span.start : span.stop]
        self.gene_map, self.n_vars = reader.gene_map, reader.n_vars
        self.first = int(joinids[0])
        self.row_map = np.full(int(joinids[-1]) - self.first + 1, -1, dtype=np.int32)
        self.row_map[joinids - self.first] = np.arange(len(joinids), dtype=np.int32)
        self.expected: int | None = None
        if reader.nnz is not None:
            room = reader.nnz[span.start : span.stop]
            self.expected = int(room.sum())
        else:
            room = np.zeros(len(joinids), dtype=np.int64)
            for rows, _, _ in parts or ():
                kernels.count_rows(rows, self.first, self.row_map, room)
        self.limit = np.concatenate([[0], np.cumsum(room)])
        self.cursor = self.limit[:-1].copy()
        self.indices = np.empty(self.limit[-1], dtype=np.int32)
        self.data = np.empty(self.limit[-1], dtype=np.float32)
        self.seen = 0
        self.unsorted = False

    def add(self, rows: Any, cols: Any, vals: Any, at: int) -> int:
        """Put values into their rows, from position `at` to the first cell beyond the span; return where that is.

        Values of cells or genes that are not wanted are dropped.
        """
        at, seen, status = kernels.scatter(
            rows,
            cols,
            vals,
            at,
            self.first,
            self.row_map,
            self.gene_map,
            self.cursor,
            self.limit,
            self.indices,
            self.data,
        )
        self.seen += seen
        self.unsorted |= bool(status & kernels.UNSORTED)
        if status & kernels.OVERFLOW:
            raise ContradictionError(
                f"a cell among {self.first} to {self.first + len(self.row_map) - 1} has more values in X "
                "than its obs['nnz'] says: the source contradicts itself"
            )
        return int(at)

    def missing(self) -> bool:
        """Return whether cells have fewer values than obs says."""
        return self.expected is not None and self.seen != self.expected

    def finish(self) -> sparse.csr_array:
        """Close the gaps that dropped genes have left, and sort if it must be."""
        indptr = np.empty(len(self.limit), dtype=np.int32)
        nnz = kernels.close_gaps(self.limit, self.cursor, self.indices, self.data, indptr)
        if self.unsorted:
            twice = kernels.sort_rows(indptr, self.indices, self.data)
            if twice >= 0:
                joinid = self.first + int(np.flatnonzero(self.row_map == twice)[0])
                raise ContradictionError(f"cell {joinid} has a gene twice in X; the source is broken")
        return csr(self.data[:nnz], self.indices[:nnz], indptr, self.n_vars)


def _slice(X: sparse.csr_array, start: int, stop: int) -> sparse.csr_array:
    """Return some rows; values and indices are shared."""
    a, b = X.indptr[start], X.indptr[stop]
    return csr(X.data[a:b], X.indices[a:b], X.indptr[start : stop + 1] - a, X.shape[1])
