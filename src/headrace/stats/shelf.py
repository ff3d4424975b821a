"""Sums of many groups of cells: in memory those that came last, the rest in a temporary file."""

from __future__ import annotations

import zlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import SourceError
from ..support.packed import pack, unpack
from ..support.places import temporary
from ..support.scratch import Scratch

Ints = npt.NDArray[np.int64]

ALL = 1 << 30
"""Sums of so many bytes are all kept in memory: the cells of their groups may come in any order."""

MOST = 64 << 20
"""Bytes that are kept there of sums that are larger."""


@dataclass
class Block:
    """The sums of one group."""

    words: npt.NDArray[Any]
    cells: Ints
    """Cells of each dataset; of one dataset if what was measured does not matter."""

    @property
    def nbytes(self) -> int:
        """Bytes that it takes."""
        return self.words.nbytes + self.cells.nbytes


@dataclass(frozen=True)
class Slot:
    """What is in a file, and where."""

    file: Scratch
    at: int
    stored: int
    checksum: int
    shape: tuple[int, ...]
    dtype: npt.DTypeLike
    n_cells: int


class Shelf:
    """Blocks by the number of their group. What is asked for may be changed until another is asked for.

    The cells of a batch mostly lie together in a stream, so that the block that was not asked for longest is the one to
    put away. What is in the file is packed, with a checksum.

    Parameters
    ----------
    size
        Bytes of all blocks that may come.
    """

    def __init__(self, size: int) -> None:
        self.most = self.kept(size) if size > ALL else None
        self.scratch: Path | None = None
        """The folder of the temporary file; None is the system's for such files."""
        self._near: dict[int, Block] = {}
        self._away: dict[int, Slot] = {}
        self._places: dict[int, tuple[int, int]] = {}
        """Of every group that was put away before: where it may be written, and how many bytes."""
        self._file: Scratch | None = None
        self._end = self._bytes = 0

    def __getstate__(self) -> dict[str, Any]:
        """Leave out where it would write: a copy only reads what was put away, and puts away in a file of its own."""
        return {**self.__dict__, "_file": None, "_end": 0, "_places": {}}

    @staticmethod
    def kept(size: int) -> int:
        """Return how many bytes of so many are kept in memory."""
        return size if size <= ALL else MOST

    def __len__(self) -> int:
        return len(self._near) + len(self._away)

    def __contains__(self, code: int) -> bool:
        return code in self._near or code in self._away

    def __iter__(self) -> Iterator[int]:
        """Yield the numbers of the groups, in order."""
        return iter(sorted([*self._near, *self._away]))

    def __getitem__(self, code: int) -> Block:
        block = self._near.pop(code, None)
        if block is None:
            block = self._fetched(self._away[code])
            del self._away[code]
            self._bytes += block.nbytes
        self._near[code] = block  # the last to be put away
        self._make_room()
        return block

    def __setitem__(self, code: int, block: Block) -> None:
        old = self._near.pop(code, None)
        self._bytes += block.nbytes - (0 if old is None else old.nbytes)
        self._away.pop(code, None)
        self._near[code] = block
        self._make_room()

    def items(self) -> Iterator[tuple[int, Block]]:
        """Yield every group and its block, in order."""
        for code in self:
            yield code, self[code]

    def near_first(self, codes: Collection[int]) -> list[int]:
        """Return some groups, those first that are in memory."""
        return sorted(codes, key=lambda code: code not in self._near)

    def _make_room(self) -> None:
        while self.most is not None and self._bytes > self.most and len(self._near) > 1:
            code = next(iter(self._near))
            block = self._near.pop(code)
            self._bytes -= block.nbytes
            self._away[code] = self._put(code, block)

    def _put(self, code: int, block: Block) -> Slot:
        if self._file is None:
            self._file = Scratch(self.scratch or temporary(), "spool= or TMPDIR")
        stored = pack(block.words) + block.cells.tobytes()
        at, room = self._places.get(code, (0, 0))
        if len(stored) > room:  # what is not written of the room takes no disk
            at, room = self._end, max(len(stored), block.nbytes) + 4096
            self._places[code], self._end = (at, room), at + room
        self._file.write(stored, at)
        words = block.words
        return Slot(self._file, at, len(stored), zlib.crc32(stored), words.shape, words.dtype, len(block.cells))

    def _fetched(self, slot: Slot) -> Block:
        stored = np.empty(slot.stored, dtype=np.uint8)
        slot.file.read(stored, slot.at)
        if zlib.crc32(stored.data) != slot.checksum:
            raise SourceError(f"the temporary file in {slot.file.folder} is damaged; check the disk")
        edge = slot.stored - 8 * slot.n_cells
        words = unpack(stored[:edge].data, slot.dtype, int(np.prod(slot.shape))).reshape(slot.shape)
        return Block(words, stored[edge:].copy().view(np.int64))
