"""Counts of many keys: in memory what fits, the rest in a temporary file."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import SourceError
from ..support.locks import Lock
from ..support.packed import pack, unpack
from ..support.places import temporary
from ..support.scratch import Scratch
from . import kernels

Keys = npt.NDArray[np.uint64]
Counts = npt.NDArray[np.uint32]

BUFFER = 1 << 19
"""Numbers that are put in order at once."""

MOST = 1 << 19
"""Different numbers kept in memory."""

BUFFERS = 4
"""Buffers at most: one that is filled, and those that threads put in order meanwhile."""

AT_ONCE = 1 << 17
"""Keys that are packed together."""


@dataclass(frozen=True)
class Part:
    """Some keys and how often each came, in a file."""

    file: Scratch
    at: int
    keys: int
    """Bytes of the keys; those of their counts follow."""
    counts: int
    checksum: int
    n: int

    @staticmethod
    def write(file: Scratch, at: int, keys: Keys, counts: Counts) -> Part:
        """Write sorted keys at a place in a file."""
        steps, times = pack(np.diff(keys, prepend=np.uint64(0))), pack(counts)
        stored = steps + times
        file.write(stored, at)
        return Part(file, at, len(steps), len(times), zlib.crc32(stored), len(keys))

    @property
    def end(self) -> int:
        """Where in the file it ends."""
        return self.at + self.keys + self.counts

    def read(self) -> tuple[Keys, Counts]:
        """Read them back, or raise `SourceError`."""
        stored = np.empty(self.keys + self.counts, dtype=np.uint8)
        self.file.read(stored, self.at)
        if zlib.crc32(stored.data) != self.checksum:
            raise SourceError(f"the temporary file in {self.file.folder} is damaged; check the disk")
        steps: Any = unpack(stored[: self.keys].data, np.uint64, self.n)
        return np.cumsum(steps, out=steps), unpack(stored[self.keys :].data, np.uint32, self.n)


class Tally:
    """Counts keys, each below 2**63. One thread at a time may write keys to `buffer`; what is full is counted by any.

    Parameters
    ----------
    span
        Keys are looked up in ranges of this size: 0 to `span` - 1, `span` to 2 `span` - 1, and so on.
    at_once
        The most keys that are added at once.
    """

    def __init__(self, span: int, at_once: int) -> None:
        self.span, self.at_once = span, at_once
        self.n = 0
        """Keys in the buffer."""
        self.lock = Lock()
        """Held while what is counted changes."""
        self._spare: list[Keys] = []
        self._made = 1
        self.scratch: Path | None = None
        """The folder of the temporary file; None is the system's for such files."""
        self._keys: Keys = np.empty(0, dtype=np.uint64)
        self._counts: Counts = np.empty(0, dtype=np.uint32)
        self._known = 0
        self._parts: dict[int, list[Part]] = {}
        self._file: Scratch | None = None
        self._end = 0

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what is empty, and where it would write: a copy puts away in a file of its own."""
        self.make_room()
        held = {name: value for name, value in self.__dict__.items() if name != "buffer"}
        keys, counts = self._keys[: self._known].copy(), self._counts[: self._known].copy()
        return {**held, "_keys": keys, "_counts": counts, "_file": None, "_end": 0, "_spare": [], "_made": 1}

    @staticmethod
    def memory(at_once: int, keys: int) -> int:
        """Predict its bytes for a number of keys."""
        return 20 * min(keys, BUFFERS * max(BUFFER, at_once)) + 12 * min(keys, MOST)

    @cached_property
    def buffer(self) -> Keys:
        """Where the caller writes keys, from `n` on, and raises `n`."""
        return np.empty(max(BUFFER, self.at_once), dtype=np.uint64)

    def make_room(self) -> None:
        """Count what is in the buffer, and empty it."""
        full, self.n = self.buffer[: self.n], 0
        self._count(full)

    def full(self) -> Keys | None:
        """Return the keys in the buffer, which another replaces; None if there is no other, and they were counted."""
        if not self._spare and self._made == BUFFERS:
            self.make_room()
            return None
        full, self.n = self.buffer[: self.n], 0
        if self._spare:
            self.buffer = self._spare.pop()
        else:
            self._made += 1
            self.buffer = np.empty_like(self.buffer)
        return full

    def count(self, full: Keys | None) -> None:
        """Count keys that `full` returned, and take their buffer back; several threads may do so at once."""
        if full is not None:
            self._count(full)
            self._spare.append(np.asarray(full.base))

    def _count(self, keys: Keys) -> None:
        kernels.sort_keys(keys, np.empty_like(keys), 0)
        counts = np.empty(len(keys), dtype=np.uint32)
        n = kernels.squeeze(keys, counts)
        if n:
            with self.lock:
                self._add(keys[:n], counts[:n])

    def merge(self, other: Tally, ranges: Mapping[int, int]) -> None:
        """Add all that `other` has counted; `ranges` says which of its ranges is which one here."""
        for theirs, mine in ranges.items():
            for keys, counts in other._in_memory(theirs):
                self._add(keys + np.uint64(mine * self.span), counts)
            self._parts.setdefault(mine, []).extend(other._parts.get(theirs, []))

    def entries(self, number: int) -> Iterator[tuple[Keys, Counts]]:
        """Yield keys of a range, counted from its beginning, and how often each came; a key may come several times."""
        yield from self._in_memory(number)
        for part in self._parts.get(number, []):
            yield part.read()

    def _in_memory(self, number: int) -> Iterator[tuple[Keys, Counts]]:
        self.make_room()
        start, stop = self._bounds(number)
        for at in range(start, stop, AT_ONCE):
            some = slice(at, min(at + AT_ONCE, stop))
            yield self._keys[some] - np.uint64(number * self.span), self._counts[some]

    def _add(self, keys: Keys, counts: Counts) -> None:
        """Add sorted keys, each once."""
        total = kernels.count_either(self._keys[: self._known], keys)
        if total > MOST and self._known:
            self._put_away()
            total = len(keys)
        if len(self._keys) < total:
            room = MOST + max(BUFFER, self.at_once)  # takes memory as it is used
            known = self._keys[: self._known], self._counts[: self._known]  # of a copy
            self._keys, self._counts = np.empty(room, dtype=np.uint64), np.empty(room, dtype=np.uint32)
            self._keys[: self._known], self._counts[: self._known] = known
        kernels.merge_counts(self._keys, self._counts, self._known, keys, counts, total)
        self._known = total

    def _put_away(self) -> None:
        """Move what is in memory to the file."""
        keys, counts = self._keys[: self._known], self._counts[: self._known]
        first, last = (int(keys[i]) // self.span for i in (0, -1))
        self._file = self._file or Scratch(self.scratch or temporary(), "spool= or TMPDIR")
        for number in range(first, last + 1):
            start, stop = self._bounds(number)
            for at in range(start, stop, AT_ONCE):
                some = slice(at, min(at + AT_ONCE, stop))
                part = Part.write(self._file, self._end, keys[some] - np.uint64(number * self.span), counts[some])
                self._end = part.end
                self._parts.setdefault(number, []).append(part)
        self._known = 0

    def _bounds(self, number: int) -> tuple[int, int]:
        """Return where in memory a range begins and ends."""
        ends = np.array([number * self.span, (number + 1) * self.span], dtype=np.uint64)
        start, stop = np.searchsorted(self._keys[: self._known], ends)
        return int(start), int(stop)
