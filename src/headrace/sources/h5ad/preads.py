"""Datasets read without the HDF5 library: by their offsets in the file, in several threads.

HDF5 does one thing at a time in a process, decompression included. Here only rare types and filters are left to it.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from ...errors import SourceError
from ...support.memory import n_cores
from .file import Stored, open_file, reading
from .filters import undone

TASK_BYTES = 1 << 20
"""Small tiles are decoded so many bytes at a time."""

MOST_THREADS = 8


class Disk:
    """A file, open for reading; closed when it is no longer used.

    Parameters
    ----------
    path
        The file.
    stamp
        Its size and time of change when it was first looked at: later it must still have them.
    """

    def __init__(self, path: str, stamp: tuple[int, int]) -> None:
        self.path, self.stamp = path, stamp
        self.hdf5: h5py.File = open_file(path)
        self.fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._close = weakref.finalize(self, os.close, self.fd)
        try:
            self.check()
        except SourceError:  # the exception would keep it open
            self.close()
            raise

    def close(self) -> None:
        """Close it now."""
        self.hdf5.close()
        self._close()

    def check(self) -> None:
        """Raise `SourceError` if the file is not the one it was."""
        if stamp(os.fstat(self.fd)) != self.stamp:
            raise SourceError(f"{self.path} has changed since it was opened; open it again")

    def fill(self, out: npt.NDArray[Any], offset: int, name: str) -> None:
        """Read bytes from a place in the file into a contiguous array."""
        view = memoryview(out.reshape(-1).view(np.uint8).data)
        while len(view):
            n = os.preadv(self.fd, [view[: 1 << 30]], offset)
            if n <= 0:
                raise SourceError(f"{self.path} ends within {name}: it is cut off; copy it again")
            view, offset = view[n:], offset + n


def stamp(status: os.stat_result) -> tuple[int, int]:
    """Return what changes when a file is written."""
    return status.st_size, status.st_mtime_ns


class Reader:
    """Reads rows of a dataset, in order; keeps the tiles that it has read only in part.

    For one thread at a time: every reading has a reader of its own.

    Parameters
    ----------
    disk
        The file.
    stored
        The dataset.
    pool
        Threads to decode in.
    """

    def __init__(self, disk: Disk, stored: Stored, pool: ThreadPoolExecutor) -> None:
        self.disk, self.stored, self.pool = disk, stored, pool
        self.kept: dict[int, npt.NDArray[Any]] = {}
        self.where = f"{stored.name} of {disk.path}"
        self.dataset = disk.hdf5[stored.name] if stored.by_library else None

    def read(self, start: int, stop: int, out: npt.NDArray[Any] | None = None) -> npt.NDArray[Any]:
        """Return rows `start` to `stop`, with the numbers' dtype in the file, in `out` if that is given."""
        stored = self.stored
        if out is None:
            out = np.empty((stop - start, *stored.shape[1:]), dtype=stored.dtype)
        if not out.size:
            return out
        if stored.offset is not None:
            row = out[0].nbytes
            self.disk.fill(out, stored.offset + start * row, stored.name)
        elif stored.tile is None:
            assert self.dataset is not None
            with reading(self.where):
                got = self.dataset[start:stop]
            out[:] = got
        else:
            self._read_tiles(start, stop, out)
        return out

    def _read_tiles(self, start: int, stop: int, out: npt.NDArray[Any]) -> None:
        """Decode the tiles that have these rows, and keep those that have rows beyond."""
        tile, grid = self.stored.tile, self.stored.grid
        assert tile is not None
        across = int(np.prod(grid[1:], dtype=np.int64))
        wanted = range(start // tile[0] * across, ((stop - 1) // tile[0] + 1) * across)
        size = int(np.prod(tile, dtype=np.int64)) * self.stored.dtype.itemsize
        step = max(1, TASK_BYTES // size)
        kept: dict[int, npt.NDArray[Any]] = {}
        keep_from = stop // tile[0] * across if stop % tile[0] and stop < self.stored.shape[0] else wanted.stop

        def work(numbers: Sequence[int]) -> None:
            for number in numbers:
                if not self.stored.filters and len(tile) == 1 and self._straight(number, start, stop, out):
                    continue
                values = self.kept.get(number)
                if values is None:
                    values = self._tile(number)
                if number >= keep_from:
                    kept[number] = values
                first, column = number // across * tile[0], 0
                a, b = max(first, start), min(first + tile[0], stop)
                if len(tile) == 1:
                    out[a - start : b - start] = values[a - first : b - first]
                else:
                    column = number % across * tile[1]
                    there = out[a - start : b - start, column : column + tile[1]]
                    there[:] = values[a - first : b - first, : there.shape[1]]

        batches = [wanted[i : i + step] for i in range(0, len(wanted), step)]
        if len(batches) > 1 and self.stored.filters:
            for _ in self.pool.map(work, batches):
                pass
        else:
            for batch in batches:
                work(batch)
        self.kept = kept

    def _straight(self, number: int, start: int, stop: int, out: npt.NDArray[Any]) -> bool:
        """Read the part of a plain tile that is wanted into its place, if the tile is there."""
        assert self.stored.tiles is not None
        assert self.stored.tile is not None
        offset, first = int(self.stored.tiles[number, 0]), number * self.stored.tile[0]
        if offset < 0:
            return False
        a, b = max(first, start), min(first + self.stored.tile[0], stop)
        self.disk.fill(out[a - start : b - start], offset + (a - first) * self.stored.dtype.itemsize, self.stored.name)
        return True

    def _tile(self, number: int) -> npt.NDArray[Any]:
        """Return one tile, decoded."""
        stored = self.stored
        assert stored.tiles is not None
        assert stored.tile is not None
        offset, size, mask = (int(n) for n in stored.tiles[number])
        if offset < 0:
            return np.full(stored.tile, stored.fill, dtype=stored.dtype)
        raw = np.empty(size, dtype=np.uint8)
        self.disk.fill(raw, offset, stored.name)
        expected = int(np.prod(stored.tile, dtype=np.int64)) * stored.dtype.itemsize
        raw = undone(raw, mask, stored.filters, expected, stored.dtype.itemsize, self.where)
        return raw.view(stored.dtype).reshape(stored.tile)


def threads() -> int:
    """Return how many threads decode."""
    return min(n_cores(), MOST_THREADS)
