"""How often each number came, for many numbers: in memory what fits, the rest in a temporary file.

The file has no name, so it is gone when the process is, however that ends.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryFile, gettempdir
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from ..errors import OutputError
from ..packed import pack, unpack
from . import kernels

Keys = npt.NDArray[np.uint64]
Counts = npt.NDArray[np.uint32]

BUFFER = 1 << 20
"""Numbers that are put in order at once."""

MOST = 2 << 20
"""Different numbers kept in memory."""


class Scratch:
    """A temporary file, closed when nothing refers to it."""

    def __init__(self, folder: Path | None) -> None:
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
        self.file: IO[bytes] = TemporaryFile(dir=folder)  # noqa: SIM115
        weakref.finalize(self, self.file.close)
        if folder is not None:
            with suppress(OSError):  # something else is there
                folder.rmdir()


@dataclass(frozen=True)
class Part:
    """Some keys and how often each came, in a file."""

    scratch: Scratch
    at: int
    keys: int
    """Bytes of the keys; those of their counts follow."""
    counts: int
    n: int

    @staticmethod
    def write(scratch: Scratch, keys: Keys, counts: Counts) -> Part:
        """Append sorted keys to a file."""
        steps, times = pack(np.diff(keys, prepend=np.uint64(0))), pack(counts)
        part = Part(scratch, scratch.file.tell(), len(steps), len(times), len(keys))
        scratch.file.write(steps + times)
        return part

    def read(self) -> tuple[Keys, Counts]:
        """Read them back."""
        stored = memoryview(os.pread(self.scratch.file.fileno(), self.keys + self.counts, self.at))
        steps: Any = unpack(stored[: self.keys], np.uint64, self.n)
        return np.cumsum(steps, out=steps), unpack(stored[self.keys :], np.uint32, self.n)


class Tally:
    """Counts keys, each below 2**63.

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
        self.scratch: Path | None = None
        """Where the temporary file goes; None is the system's folder for such files."""
        self._keys: Keys = np.empty(0, dtype=np.uint64)
        self._counts: Counts = np.empty(0, dtype=np.uint32)
        self._known = 0
        self._parts: dict[int, list[Part]] = {}
        self._file: Scratch | None = None

    @staticmethod
    def memory(at_once: int, keys: int) -> int:
        """Predict its bytes for a number of keys: tables are half full as a rule."""
        buffer = max(BUFFER, at_once)
        return 4 * min(keys, buffer) + 6 * min(keys, MOST + buffer)

    @cached_property
    def buffer(self) -> Keys:
        """Where the caller writes keys, from `n` on, and raises `n`."""
        return np.empty(max(BUFFER, self.at_once), dtype=np.uint64)

    def make_room(self) -> None:
        """Take in what is in the buffer, and empty it."""
        if not self.n:
            return
        keys = self.buffer[: self.n]
        keys.sort()
        counts = np.empty(self.n, dtype=np.uint32)
        n = kernels.squeeze(keys, counts)
        self._add(keys[:n], counts[:n])
        self.n = 0

    def merge(self, other: Tally, ranges: Mapping[int, int]) -> None:
        """Take in all that `other` has counted; `ranges` says which of its ranges is which one here."""
        for theirs, mine in ranges.items():
            for keys, counts in other._in_memory(theirs):
                for at in range(0, len(keys), BUFFER):
                    some = keys[at : at + BUFFER] + np.uint64(mine * self.span)
                    self._add(some, counts[at : at + BUFFER])
            self._parts.setdefault(mine, []).extend(other._parts.get(theirs, []))

    def entries(self, number: int) -> Iterator[tuple[Keys, Counts]]:
        """Yield keys of a range, counted from its beginning, and how often each came; a key may come several times."""
        yield from self._in_memory(number)
        for part in self._parts.get(number, []):
            yield part.read()

    def _in_memory(self, number: int) -> Iterator[tuple[Keys, Counts]]:
        self.make_room()
        start, stop = self._bounds(number)
        if stop > start:
            yield self._keys[start:stop] - np.uint64(number * self.span), self._counts[start:stop]

    def _add(self, keys: Keys, counts: Counts) -> None:
        """Take in keys in order, each once."""
        total = kernels.count_either(self._keys[: self._known], keys)
        if total > MOST and self._known:
            self._put_away()
            total = len(keys)
        if not len(self._keys):
            room = MOST + max(BUFFER, self.at_once)  # takes memory as it is used
            self._keys, self._counts = np.empty(room, dtype=np.uint64), np.empty(room, dtype=np.uint32)
        kernels.merge_counts(self._keys, self._counts, self._known, keys, counts, total)
        self._known = total

    def _put_away(self) -> None:
        """Move what is in memory to the file."""
        keys, counts = self._keys[: self._known], self._counts[: self._known]
        first, last = (int(keys[i]) // self.span for i in (0, -1))
        try:
            self._file = self._file or Scratch(self.scratch)
            for number in range(first, last + 1):
                start, stop = self._bounds(number)
                if stop > start:
                    part = Part.write(self._file, keys[start:stop] - np.uint64(number * self.span), counts[start:stop])
                    self._parts.setdefault(number, []).append(part)
            self._file.file.flush()
        except OSError as error:
            folder = self.scratch or gettempdir()
            raise OutputError(
                f"cannot write temporary data to {folder}: {error.strerror}; free some space or choose another "
                "folder with spool="
            ) from error
        self._known = 0

    def _bounds(self, number: int) -> tuple[int, int]:
        """Return where in memory a range begins and ends."""
        ends = np.array([number * self.span, (number + 1) * self.span], dtype=np.uint64)
        start, stop = np.searchsorted(self._keys[: self._known], ends)
        return int(start), int(stop)
