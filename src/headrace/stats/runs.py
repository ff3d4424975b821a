"""Statistics by group and gene that need not fit in memory: sorted entries, in memory what fits, the rest in a file.

What comes is merged into what is there by sizes, so that an entry is moved a few times only. When there is too much,
all of it goes to a temporary file as one sorted run. Runs are read together, in order, a block of each at a time.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ..errors import SourceError
from ..support.packed import pack, unpack
from ..support.places import temporary
from ..support.scratch import Scratch
from . import kernels

Keys = npt.NDArray[np.uint64]
Words = npt.NDArray[np.uint64]

BYTES = 48
"""Of an entry in memory: its key and five words."""

PACKED = 24
"""Of an entry in a file, at most as a rule."""

MOST = 2 << 20
"""Entries that are kept in memory."""

BLOCK = 1 << 13
"""Entries that are packed together."""

MOST_RUNS = 64
"""Runs that are read together; more are merged into one."""


@dataclass(frozen=True, eq=False)
class Entries:
    """Sorted keys, shape (n,), each once, and their words, shape (n, 5); see `kernels.entries`."""

    keys: Keys
    words: Words

    def __len__(self) -> int:
        return len(self.keys)

    def some(self, start: int, stop: int) -> Entries:
        """Return some of them; nothing is copied."""
        return Entries(self.keys[start:stop], self.words[start:stop])

    def merged(self, other: Entries) -> Entries:
        """Return both together."""
        if not len(self) or not len(other):
            return self if len(self) else other
        n = len(self) + len(other)
        keys, words = np.empty(n, dtype=np.uint64), np.empty((n, 5), dtype=np.uint64)
        n = kernels.merge_entries(self.keys, self.words, other.keys, other.words, keys, words)
        return Entries(keys[:n], words[:n])


NONE = Entries(np.empty(0, dtype=np.uint64), np.empty((0, 5), dtype=np.uint64))


@dataclass(frozen=True)
class Part:
    """Some entries in a file."""

    file: Scratch
    at: int
    keys: int
    """Bytes of the keys; those of the words follow."""
    words: int
    checksum: int
    n: int
    first: int
    """The first key."""

    @staticmethod
    def write(file: Scratch, at: int, entries: Entries) -> Part:
        """Write entries at a place in a file."""
        keys, words = pack(np.diff(entries.keys, prepend=np.uint64(0))), pack(entries.words.T.ravel())
        file.write(keys + words, at)
        checksum = zlib.crc32(words, zlib.crc32(keys))
        return Part(file, at, len(keys), len(words), checksum, len(entries), int(entries.keys[0]))

    @property
    def end(self) -> int:
        """Where in the file it ends."""
        return self.at + self.keys + self.words

    def read(self) -> Entries:
        """Read them back, or raise `SourceError`."""
        stored = np.empty(self.keys + self.words, dtype=np.uint8)
        self.file.read(stored, self.at)
        if zlib.crc32(stored.data) != self.checksum:
            raise SourceError(f"the temporary file in {self.file.folder} is damaged; check the disk")
        keys: Any = unpack(stored[: self.keys].data, np.uint64, self.n)
        words = unpack(stored[self.keys :].data, np.uint64, 5 * self.n).reshape(5, self.n).T
        return Entries(np.cumsum(keys, out=keys), np.ascontiguousarray(words))


class Runs:
    """Entries that came, merged by key."""

    def __init__(self) -> None:
        self.scratch: Path | None = None
        """The folder of the temporary file; None is the system's for such files."""
        self.here: list[Entries] = []
        """In memory: each run less than half as long as the one before it."""
        self.stored: list[list[Part]] = []
        """In files, run by run."""
        self._file: Scratch | None = None
        self._end = 0

    def __getstate__(self) -> dict[str, Any]:
        """Leave out where it would write: a copy puts away in a file of its own."""
        return {**self.__dict__, "_file": None, "_end": 0}

    @staticmethod
    def memory(entries: int) -> int:
        """Predict its bytes for a number of entries: what is kept, merged, and read from every run."""
        return 3 * BYTES * min(entries, MOST) + (MOST_RUNS * BYTES * BLOCK if entries > MOST else 0)

    @staticmethod
    def disk(entries: int) -> int:
        """Predict the bytes of its temporary file, at most as a rule."""
        return PACKED * entries if entries > MOST else 0

    def add(self, entries: Entries) -> None:
        """Add entries, which are not copied."""
        if not len(entries):
            return
        self.here.append(entries)
        while len(self.here) > 1 and len(self.here[-2]) < 2 * len(self.here[-1]):
            self._merge_last()
        if sum(map(len, self.here)) > MOST:
            while len(self.here) > 1:
                self._merge_last()
            if len(self.here[0]) > MOST // 2:
                self._put_away()

    def merge(self, other: Runs) -> None:
        """Add all that `other` has."""
        self.stored += other.stored
        for entries in other.here:
            self.add(entries)
        self._compact()

    def copy(self) -> Runs:
        """Return the same, as it is now."""
        out = Runs()
        out.scratch, out.here, out.stored = self.scratch, list(self.here), list(self.stored)
        return out

    def ranges(self, edges: Iterable[int]) -> Iterator[Entries]:
        """Yield the entries from each edge up to the next; edges are in order."""
        cursors: list[_Cursor] = [*map(_Held, self.here), *map(_Stored, self.stored)]
        start = None
        for stop in edges:
            found = [entries for cursor in cursors for entries in cursor.up_to(stop)]
            if start is not None:
                yield _merged(found)
            start = stop

    def _merge_last(self) -> None:
        last = self.here.pop()
        self.here[-1] = self.here[-1].merged(last)

    def _put_away(self) -> None:
        """Move what is in memory to the file."""
        if self._file is None:
            self._begin()
        (entries,), self.here = self.here, []
        self._write([entries])
        self._compact()

    def _begin(self) -> None:
        self._file, self._end = Scratch(self.scratch or temporary(), "spool= or TMPDIR"), 0

    def _write(self, entries: Iterable[Entries]) -> None:
        """Write sorted entries to the file, as one run."""
        assert self._file is not None
        parts: list[Part] = []
        for some in entries:
            for start in range(0, len(some), BLOCK):
                parts.append(Part.write(self._file, self._end, some.some(start, start + BLOCK)))
                self._end = parts[-1].end
        self.stored.append(parts)

    def _compact(self) -> None:
        """Merge the runs in files into one, in a file of its own, if they are many."""
        if len(self.stored) <= MOST_RUNS:
            return
        many = Runs()
        many.stored, self.stored = self.stored, []
        firsts = sorted(part.first for run in many.stored for part in run)
        self._begin()
        self._write(many.ranges([0, *firsts[::MOST_RUNS][1:], 2**64 - 1]))


class _Cursor(Protocol):
    """A place in a run."""

    def up_to(self, key: int) -> Iterator[Entries]:
        """Yield what comes before a key, and go on to there."""


class _Held(_Cursor):
    """A place in a run in memory."""

    def __init__(self, entries: Entries) -> None:
        self.entries = entries

    def up_to(self, key: int) -> Iterator[Entries]:
        at = int(np.searchsorted(self.entries.keys, np.uint64(key)))
        before, self.entries = self.entries.some(0, at), self.entries.some(at, len(self.entries))
        yield before


class _Stored(_Cursor):
    """A place in a run in a file."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self.parts, self.next, self.held = parts, 0, _Held(NONE)

    def up_to(self, key: int) -> Iterator[Entries]:
        while True:
            yield from self.held.up_to(key)
            if len(self.held.entries) or self.next == len(self.parts) or self.parts[self.next].first >= key:
                return
            self.held = _Held(self.parts[self.next].read())
            self.next += 1


def _merged(parts: list[Entries]) -> Entries:
    """Merge several, the same number of times each."""
    parts = [part for part in parts if len(part)]
    while len(parts) > 1:
        pairs = [left.merged(right) for left, right in zip(parts[::2], parts[1::2], strict=False)]
        parts = pairs + parts[2 * len(pairs) :]
    return parts[0] if parts else NONE
