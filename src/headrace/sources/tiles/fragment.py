"""One fragment of an array: which tiles hold which rows, and where those are in its files."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .generic import Section, require
from .metadata import Footer, Schema, blocks
from .store import Store

Ints = npt.NDArray[np.int64]
FILES = ("d0.tdb", "d1.tdb", "a0.tdb")
"""Of rows, columns and values; named by the order of dimensions and attributes in the schema."""

MOST_BAND_CELLS = 1 << 26
"""Of a band of rows, whose tiles are looked through at once; 2,048 cells of the Census have 2 to 16 million."""


@dataclass(frozen=True, eq=False)
class Tiles:
    """Some tiles of a fragment that follow one another.

    Parameters
    ----------
    numbers
        Which ones, increasing, shape (n,).
    cells
        How many cells each has.
    starts, stops
        Where each lies in the files of rows, columns and values, shape (3, n).
    """

    numbers: Ints
    cells: Ints
    starts: Ints
    stops: Ints


class Fragment:
    """A fragment in global order: cells by bands of rows, within a band by tiles of columns, each row-major.

    Of its metadata only what is asked for is decompressed, and the first and last tile of each band kept.
    """

    def __init__(
        self,
        store: Store,
        folder: str,
        schema: Schema,
        footer: Footer,
        rtree: Section,
        leaves: int,
        offsets: tuple[Section, ...],
    ) -> None:
        self.store, self.folder, self.schema, self.footer = store, folder, schema, footer
        self._rtree, self._leaves, self._offsets = rtree, leaves, offsets
        self._lock = threading.Lock()
        self._first_band = footer.rows[0] // schema.extents[0]
        self._band_starts, self._band_stops = self._bands()

    @property
    def n_cells(self) -> int:
        """How many cells it holds."""
        return (self.footer.n_tiles - 1) * self.schema.capacity + self.footer.last_cells

    @property
    def data_bytes(self) -> int:
        """How many bytes its tiles take as stored."""
        return sum(self.footer.file_sizes)

    @property
    def metadata_bytes(self) -> int:
        """How much memory its metadata takes."""
        return 16 * len(self._band_starts) + sum(section.stored for section in (self._rtree, *self._offsets))

    def _rectangles(self, start: int, stop: int) -> Ints:
        """Return first row, last row, first column and last column of some tiles, shape (n, 4)."""
        return self._rtree.numbers(self._leaves + 32 * start, 4 * (stop - start), "<i8").reshape(-1, 4)

    def _bands(self) -> tuple[Ints, Ints]:
        """Find the first tile of each band and the one after its last; check that the tiles are in global order."""
        extent, (low, high) = self.schema.extents[0], self.footer.rows
        n_bands = high // extent - self._first_band + 1
        begun, ended = np.zeros((2, n_bands + 1), dtype=np.int64)  # tiles that begin in a band, that end before it
        before = 0
        for start, stop in blocks(self.footer.n_tiles):
            box = self._rectangles(start, stop)
            inside = (box[:, 0] >= low) & (box[:, 1] <= high) & (box[:, 0] <= box[:, 1]) & (box[:, 2] >= 0)
            require(bool((inside & (box[:, 3] <= self.footer.columns[1])).all()), "a tile lies beyond its fragment")
            first, last = (box[:, :2] // extent - self._first_band).T
            rising = first[0] >= before and (first[1:] >= last[:-1]).all()
            require(bool(rising), "its tiles are not in the order of their rows")
            before = int(last[-1])
            begun += np.bincount(first, minlength=n_bands + 1)
            ended += np.bincount(last + 1, minlength=n_bands + 1)
        starts, stops = np.cumsum(ended)[:-1], np.cumsum(begun)[:-1]
        most = int((stops - starts).max()) * self.schema.capacity
        require(most <= MOST_BAND_CELLS, f"{most:,} values lie in one band of {extent:,} rows")
        places = extent * (self.footer.columns[1] + 1) + 2 * self.schema.capacity
        require(most <= places, f"{most:,} values lie in one band of rows that has {places:,} places")
        return starts, stops

    def tiles(self, joinids: Ints) -> Tiles:
        """Return the tiles that may hold some of these rows, in order.

        Parameters
        ----------
        joinids
            Increasing, shape (n,), n > 0.
        """
        low, high = self.footer.rows
        joinids = joinids[np.searchsorted(joinids, low) : np.searchsorted(joinids, high, side="right")]
        if not len(joinids):
            return self._at(np.zeros(0, dtype=np.int64))
        bands = joinids // self.schema.extents[0] - self._first_band
        bands = bands[np.flatnonzero(np.diff(bands, prepend=-1))]
        found = []
        for start, stop in _ranges(self._band_starts[bands], self._band_stops[bands]):
            with self._lock:
                box = self._rectangles(start, stop)
            hit = np.searchsorted(joinids, box[:, 0]) < np.searchsorted(joinids, box[:, 1], side="right")
            found.append(start + np.flatnonzero(hit))
        return self._at(np.concatenate(found))

    def _at(self, numbers: Ints) -> Tiles:
        """Return where some tiles lie."""
        cells = np.full(len(numbers), self.schema.capacity)
        cells[numbers == self.footer.n_tiles - 1] = self.footer.last_cells
        starts, stops = np.zeros((3, len(numbers)), np.int64), np.zeros((3, len(numbers)), np.int64)
        for start, stop in _ranges(numbers, numbers + 1):
            here = slice(*np.searchsorted(numbers, (start, stop)))
            for file in range(3):
                starts[file, here], stops[file, here] = self._places(file, start, stop)
        return Tiles(numbers, cells, starts, stops)

    def _places(self, file: int, start: int, stop: int) -> tuple[Ints, Ints]:
        """Return where each of some tiles begins and ends in a file."""
        size = self.footer.file_sizes[file]
        more = min(stop + 1, self.footer.n_tiles)
        with self._lock:
            places = self._offsets[file].numbers(8 + 8 * start, more - start, "<u8").astype(np.int64)
        if more == stop:
            places = np.append(places, size)
        rising = places[0] >= 0 and places[-1] <= size and (np.diff(places) > 0).all()
        require(bool(rising), "the offsets of its tiles do not increase")
        return places[:-1], places[1:]


def _ranges(starts: Ints, stops: Ints) -> Sequence[tuple[int, int]]:
    """Join ranges that touch or overlap; `starts` and `stops` do not decrease."""
    if not len(starts):
        return []
    edges = np.flatnonzero(starts[1:] > stops[:-1]) + 1
    return list(
        zip(starts[np.concatenate([[0], edges])].tolist(), stops[np.append(edges - 1, -1)].tolist(), strict=True)
    )
