"""X of a SOMA experiment, streamed into CSR.

The Census stores X in one fragment, in bands of 2048 cells. An unordered read returns the cells of
one band after those of the band before, so that every value can be put straight into its row: obs
says how many each row has. Arrays that do not keep to this (several fragments, no `nnz` in obs) are
noticed by their numbers, read one chunk at a time, counted first, and sorted where they must be.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
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
from .location import Location, reading
from .planned import fragment_bytes

VALUE_BYTES = 1.6
"""Of a stored value of the Census."""

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
    where, stored
        Where the array is, and how many values it holds: to know the bytes of what is read.
    add_up
        Whether to add up the values of each cell, over all genes, in `totals`.
    """

    def __init__(
        self,
        array: Any,
        joinids: Joinids,
        nnz: Sizes | None,
        gene_map: npt.NDArray[np.int32],
        where: Location | None = None,
        stored: int = 0,
        add_up: bool = False,
    ) -> None:
        self.array, self.joinids, self.nnz, self.gene_map = array, joinids, nnz, gene_map
        self.where, self.stored, self.add_up = where, stored, add_up
        self.totals: dict[int, npt.NDArray[np.float64]] = {}
        """By the start of a span, until somebody takes them."""
        self.n_vars = int(gene_map.max()) + 1

    @cached_property
    def _value_bytes(self) -> float:
        """Bytes of a stored value: those of the array's files, if they are far away, else what the Census has."""
        if self.where is None or self.where.traffic is None or not self.stored:
            return VALUE_BYTES
        return fragment_bytes(replace(self.where, uri=self.array.uri), VALUE_BYTES * self.stored) / self.stored

    def stored_bytes(self, nnz: int) -> int:
        """Return about how many bytes some values have as stored."""
        return int(nnz * self._value_bytes)

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
            for table in self.array.read((coords,)).tables():
                if self.where is not None and self.where.traffic is not None:
                    self.where.traffic.arrived(int(len(table) * self._value_bytes))
                yield table

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
                if self.add_up:
                    first = block[0].start
                    self.totals[span.start] = rows.totals[span.start - first : span.stop - first]
                yield X if len(block) == 1 else _slice(X, span.start - block[0].start, span.stop - block[0].start)

    def _read_one(self, span: CellRange) -> sparse.csr_array:
        """Read one span, in whatever order its cells come."""
        parts, room = self._parts(span)
        chunk = _Rows(self, span, room)
        for part in parts:
            at = 0
            while at < len(part[0]):  # cells beyond the span are dropped: a slice may return some between
                at = chunk.add(*part, at) + 1
        if chunk.missing():
            raise ContradictionError(
                f"X has {chunk.seen} values for cells {self.joinids[span.start]} to {self.joinids[span.stop - 1]}, "
                f"but their obs['nnz'] says {chunk.expected}: the source contradicts itself"
            )
        if self.add_up:
            self.totals[span.start] = chunk.totals
        return chunk.finish()

    def _parts(self, span: CellRange) -> tuple[list[tuple[Any, Any, Any]], npt.NDArray[np.int64]]:
        """Return the values of a span, and how much room each row needs; a row has no more than there are genes."""
        joinids = self.joinids[span.start : span.stop]
        first, row_map = _row_map(joinids)
        parts, room = [], np.zeros(len(joinids), dtype=np.int64)
        for rows, cols, vals in self._columns(joinids):
            new = np.zeros_like(room)
            kernels.count_rows(rows, first, row_map, new)
            if (room + new).max() > self.n_vars:  # of genes that are not wanted, or too many
                inside = (cols >= 0) & (cols < len(self.gene_map))
                kept = inside & (self.gene_map[np.where(inside, cols, 0)] >= 0)
                rows, cols, vals = rows[kept], cols[kept], vals[kept]
                new[:] = 0
                kernels.count_rows(rows, first, row_map, new)
            room += new
            if room.max() > 2 * self.n_vars:
                raise ContradictionError(
                    f"cell {joinids[int(room.argmax())]} has more values in X than there are genes: it is broken"
                )
            parts.append((rows, cols, vals))
        return parts, room

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

    def __init__(self, reader: XReader, span: CellRange, room: npt.NDArray[np.int64] | None = None) -> None:
        joinids = reader.joinids[span.start : span.stop]
        self.gene_map, self.n_vars = reader.gene_map, reader.n_vars
        self.first, self.row_map = _row_map(joinids)
        self.expected: int | None = None
        if reader.nnz is not None:
            room = reader.nnz[span.start : span.stop]
            self.expected = int(room.sum())
        assert room is not None
        self.limit = np.concatenate([[0], np.cumsum(room)])
        self.cursor = self.limit[:-1].copy()
        self.indices = np.empty(self.limit[-1], dtype=np.int32)
        self.data = np.empty(self.limit[-1], dtype=np.float32)
        self.totals = np.zeros(len(joinids) if reader.add_up else 0)
        self.seen = 0
        self.unsorted = False

    def add(self, rows: Any, cols: Any, vals: Any, at: int) -> int:
        """Put values into their rows, from position `at` to the first cell beyond the span; return where that is.

        Values of cells or genes that are not wanted are dropped.
        """
        begun = at
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
        if len(self.totals):
            places = self.row_map[np.clip(rows[begun:at] - self.first, 0, len(self.row_map) - 1)]
            wanted = places >= 0
            self.totals += np.bincount(places[wanted], vals[begun:at][wanted], len(self.totals))
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


def _row_map(joinids: npt.NDArray[np.int64]) -> tuple[int, npt.NDArray[np.int32]]:
    """Return the first cell, and the row of every cell from there to the last, or -1."""
    first = int(joinids[0])
    row_map = np.full(int(joinids[-1]) - first + 1, -1, dtype=np.int32)
    row_map[joinids - first] = np.arange(len(joinids), dtype=np.int32)
    return first, row_map


def _slice(X: sparse.csr_array, start: int, stop: int) -> sparse.csr_array:
    """Return some rows; values and indices are shared."""
    a, b = X.indptr[start], X.indptr[stop]
    return csr(X.data[a:b], X.indices[a:b], X.indptr[start : stop + 1] - a, X.shape[1])
