"""From tiles to CSR: the rows of some cells, in order, with sorted columns."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from ...chunk import csr
from ...errors import ContradictionError, SourceError
from ...stats import kernels
from ...support.memory import n_cores
from ..compact import Joinids, Sizes
from ..ranges import CellRange
from . import place
from .blocks import MOST_TILES, Block, check_decoded, cut, joined, parts
from .buffers import Buffers
from .fragment import Fragment, Ints
from .readahead import Line, Piece, ReadAhead
from .zstd import zstd

MOST_THREADS = 4
WINDOW = 64 << 20
"""Of bytes on their way from far; 32 MiB are what 1,000 Mbit/s carry in 250 ms."""
LOCAL_WINDOW = 8 << 20
COUNTED = 1 << 18
"""Cells whose tiles are looked up at once to know their bytes."""
BLOCK_NNZ = 4_000_000
"""Values that are put into rows at once; a band of rows with more is decoded in parts."""


Totals = npt.NDArray[np.float64]
Decoded = tuple[sparse.csr_array, Totals]
"""The rows of a block, and the sum of each over all genes, if that is wanted."""


class _Room:
    """What one thread decodes in."""

    def __init__(self, chunk_bytes: int, capacity: int) -> None:
        chunk_bytes = max(64, (chunk_bytes + 7) // 8 * 8)
        self.chunk = np.empty(chunk_bytes, dtype=np.uint8)
        self.rows = np.empty(chunk_bytes // 8, dtype=np.int64)
        self.columns = np.empty(capacity, dtype=np.int32)
        self.values = np.empty(capacity, dtype=np.uint32)
        self.runs = np.empty((0, 2), dtype=np.int32)

    def runs_for(self, n: int) -> npt.NDArray[np.int32]:
        """Return room for n runs; of memory that is never written to the system gives nothing."""
        if len(self.runs) < n:
            self.runs = np.empty((n, 2), dtype=np.int32)
        return self.runs


class TileReader:
    """Reads ranges of cells as CSR.

    Parameters
    ----------
    fragments
        Of the array, by increasing rows.
    joinids
        The query's cells, increasing.
    nnz
        How many values each cell has over all genes, or None if nobody knows.
    gene_map
        The new number of every gene joinid, or -1 to drop it, shape (largest joinid + 1,).
    line
        What is known of the way to the data.
    small
        Whether to do with little memory: fewer threads that decode, fewer bytes on their way.
    add_up
        Whether to add up the values of each cell, over all genes: `totals` has them for each range that was given.
    threads, window
        How many decode, and how many bytes as stored may be on their way or wait; by default as the machine has cores,
        and as the line needs.
    """

    def __init__(
        self,
        fragments: Sequence[Fragment],
        joinids: Joinids,
        nnz: Sizes | None,
        gene_map: npt.NDArray[np.int32],
        *,
        line: Line,
        small: bool = False,
        add_up: bool = False,
        threads: int | None = None,
        window: int | None = None,
    ) -> None:
        self.fragments, self.joinids, self.nnz, self.gene_map = fragments, joinids, nnz, gene_map
        self.line = line
        self.threads = threads or (1 if small else min(n_cores(), MOST_THREADS))
        self.window = window or ((WINDOW >> 3 if small else WINDOW) if line.remote else LOCAL_WINDOW)
        self.n_vars = int(gene_map.max()) + 1
        self._same = bool((gene_map == np.arange(len(gene_map))).all())
        self.totals: dict[int, npt.NDArray[np.float64]] = {}
        """By the start of a range, until somebody takes them."""
        self._add_up = add_up
        self._local = threading.local()
        self._buffers = Buffers(0)
        self._stored_bytes: int | None = None

    def read(self, wanted: Sequence[CellRange]) -> Iterator[sparse.csr_array]:
        """Yield the matrix of each range, in order; the next ones are read and decoded meanwhile.

        Raises
        ------
        SourceError
            If a tile is damaged, or a cell has not as many values as obs says.
        """
        ahead = ReadAhead(self.line, self.window)
        self._buffers = Buffers(4 * BLOCK_NNZ)
        pool = ThreadPoolExecutor(self.threads, thread_name_prefix="headrace-decode")
        waiting: deque[tuple[Block, Future[Decoded]]] = deque()
        held: list[Decoded] = []

        def done(block: Block, decoded: Future[Decoded]) -> Iterator[sparse.csr_array]:
            held.append(decoded.result())
            if not block.more:
                X, totals = joined([X for X, _ in held]), np.concatenate([totals for _, totals in held])
                held.clear()
                yield from self._cut(block, X, totals)

        try:
            for block in ahead.stream(self._blocks(wanted)):
                waiting.append((block, pool.submit(self._decode, block)))
                del block
                if len(waiting) >= self.threads:
                    yield from done(*waiting.popleft())
            while waiting:
                yield from done(*waiting.popleft())
        finally:
            ahead.close()  # first, so that no decoder waits for what has not been asked for
            pool.shutdown(wait=True, cancel_futures=True)
            self._buffers = Buffers(0)

    def stored_bytes(self, nnz: int | None = None) -> int:
        """Return how many bytes the tiles have that hold the cells, whose values are `nnz`."""
        del nnz  # it is known exactly
        if self._stored_bytes is None:
            total, before = 0, [-1] * len(self.fragments)
            for start in range(0, len(self.joinids), COUNTED):
                for k, fragment in enumerate(self.fragments):
                    tiles = fragment.tiles(self.joinids[start : start + COUNTED])
                    new = tiles.numbers > before[k]
                    total += int((tiles.stops - tiles.starts)[:, new].sum())
                    before[k] = int(tiles.numbers[-1]) if len(tiles.numbers) else before[k]
            self._stored_bytes = total
        return self._stored_bytes

    def memory(self, band: int, nnz: int) -> int:
        """Return how many bytes reading takes, given the values of the largest band and of all cells."""
        band = min(band, BLOCK_NNZ)
        alive = self.threads + 3  # being decoded, being cut into chunks, one ahead of those
        decoded = 8 * min(alive * band, nnz) + min(nnz // 20, 40 << 20)  # and what freed memory leaves unused
        stored = self.stored_bytes()
        scattered = stored > 4 * nnz  # of tiles only some cells are wanted
        stored = min(self.window + 2 * alive * (MOST_TILES if scattered else band), stored)
        schema = self.fragments[0].schema
        rooms = self.threads * (2 * schema.chunk_bytes + 16 * schema.capacity)
        return decoded + stored + rooms + sum(fragment.metadata_bytes for fragment in self.fragments)

    def _blocks(self, wanted: Sequence[CellRange]) -> Iterator[Block]:
        """Join ranges of one band, unless the band is too large to be held at once."""
        extent = self.fragments[0].schema.extents[0]
        ranges: list[CellRange] = []
        size = 0
        for one in wanted:
            n = BLOCK_NNZ if self.nnz is None else int(self.nnz[one.start : one.stop].sum())
            joins = bool(ranges) and ranges[-1].stop == one.start
            joins = joins and self.joinids[one.start - 1] // extent == self.joinids[one.start] // extent
            if ranges and not (joins and size + n <= BLOCK_NNZ):
                yield from self._block(ranges)
                ranges, size = [], 0
            ranges.append(one)
            size += n
        if ranges:
            yield from self._block(ranges)

    def _block(self, ranges: list[CellRange]) -> Iterator[Block]:
        """Yield the block of some ranges, or several if the tiles of one range are too many to be held at once."""
        block = self._of(ranges, more=False)
        if len(ranges) > 1 or block.tile_values <= MOST_TILES:
            yield block
            return
        joinids = self.joinids[ranges[0].start : ranges[0].stop]
        cells = parts(ranges[0], joinids, self.fragments[0].schema.extents[0], block.tile_values)
        for one in cells:
            yield self._of([one], more=one is not cells[-1])

    def _of(self, ranges: list[CellRange], more: bool) -> Block:
        joinids = self.joinids[ranges[0].start : ranges[-1].stop]
        pieces = [Piece(fragment, fragment.tiles(joinids)) for fragment in self.fragments]
        return Block(ranges, [piece for piece in pieces if len(piece.tiles.numbers)], more)

    def _cut(self, block: Block, X: sparse.csr_array, totals: Totals) -> Iterator[sparse.csr_array]:
        """Yield the rows of each range of a block, and keep their totals."""
        stop = block.ranges[-1].stop
        first = stop - X.shape[0]  # of a range that was read in parts: where it begins
        ranges = block.ranges if len(block.ranges) > 1 else [CellRange(first, stop)]
        for one in ranges:
            if self._add_up:
                self.totals[one.start] = totals[one.start - first : one.stop - first]
            yield X if len(ranges) == 1 else cut(X, one.start - first, one.stop - first)

    def _room(self) -> _Room:
        room: _Room | None = getattr(self._local, "room", None)
        if room is None:
            schema = self.fragments[0].schema
            room = self._local.room = _Room(schema.chunk_bytes, schema.capacity)
        return room

    def _decode(self, block: Block) -> Decoded:
        """Put the values of a block's cells into rows; return their totals too, if they are wanted."""
        joinids = self.joinids[block.cells.start : block.cells.stop]
        counts = np.zeros(len(joinids), dtype=np.int64)
        room, how = self._room(), zstd()  # kept here: a callback lives as long as it
        call = (how.address, how.context())
        runs = room.runs_for(sum(int(piece.tiles.cells.sum()) for piece in block.pieces))
        row_map, fetched, at = place.row_map_of(joinids), [], 0
        for piece in block.pieces:
            held, addresses, sizes = piece.fetched()
            cells, shuffled = piece.tiles.cells, piece.fragment.schema.shuffled
            ends = np.empty(len(cells), dtype=np.int64)
            part = runs[at:]
            found = place.read_runs(
                *call,
                addresses,
                sizes,
                cells,
                shuffled[0],
                joinids,
                row_map,
                (room.chunk, room.rows),
                part,
                ends,
                counts,
            )
            check_decoded(found, piece, 0)
            at += int(max(0, ends.max()))
            fetched.append((piece, held, addresses, sizes, part, ends))
        self._compare(joinids, counts, block.cells)
        limit = np.concatenate([[0], np.cumsum(counts)])
        if limit[-1] >= 2**31:
            raise SourceError(
                f"cells {joinids[0]} to {joinids[-1]} have {limit[-1]:,} values; reader='tiledb' may help"
            )
        cursor, indptr = limit[:-1].copy(), limit.astype(np.int32)
        nnz = int(limit[-1])
        indices, data = self._buffers.array(nnz, np.int32), self._buffers.array(nnz, np.float32)
        totals = np.zeros(len(joinids) if self._add_up else 0)
        status = 0
        for piece, held, addresses, sizes, part, ends in fetched:
            planes = max(2, -(-int(piece.fragment.footer.columns[1]).bit_length() // 8))
            buffers = (room.chunk, room.columns, room.values)
            *found, seen = place.place_runs(
                *call, addresses, sizes, piece.tiles.cells, piece.fragment.schema.shuffled[1:], planes,
                self.gene_map, self._same, buffers, part, ends, limit, cursor, indices, data,
                totals,
            )  # fmt: skip
            check_decoded(found, piece, 1)
            status |= seen
            held.clear()
        return self._finish(joinids, limit, cursor, indptr, indices, data, status), totals

    def _compare(self, joinids: Ints, counts: Ints, cells: CellRange) -> None:
        """Compare the number of values of each cell with what obs says: damage that the format does not notice."""
        if self.nnz is not None:
            expected = self.nnz[cells.start : cells.stop]
            if (counts != expected).any():
                k = int(np.flatnonzero(counts != expected)[0])
                raise ContradictionError(
                    f"X has {counts[k]} values for cell {joinids[k]}, but its obs['nnz'] says {expected[k]}: "
                    "the source contradicts itself"
                )
        elif len(counts) and counts.max() > max(one.footer.columns[1] for one in self.fragments) + 1:
            raise ContradictionError(f"cell {joinids[int(counts.argmax())]} has more values in X than there are genes")

    def _finish(
        self, joinids: Ints, limit: Ints, cursor: Ints, indptr: Any, indices: Any, data: Any, status: int
    ) -> sparse.csr_array:
        """Close the gaps that dropped values have left, and sort if it must be."""
        nnz = len(data)
        if status & place.DROPPED:
            nnz = kernels.close_gaps(limit, cursor, indices, data, indptr)
        if status & place.UNSORTED:
            twice = kernels.sort_rows(indptr, indices, data)
            what = f"cell {joinids[twice]} has a gene twice" if twice >= 0 else "genes of a cell are not in order"
            raise ContradictionError(
                f"X is damaged: among cells {joinids[0]} to {joinids[-1]}, {what}; fetch the data again"
            )
        return csr(data[:nnz], indices[:nnz], indptr, self.n_vars)
