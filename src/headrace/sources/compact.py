"""Numbers of many cells in little memory: which ones are wanted, and how many values each has."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Iterator
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from ..support.packed import pack, unpack

Ints = npt.NDArray[np.int64]

BLOCK = 1 << 16
"""Numbers, or cells, that are held together."""

DENSE = BLOCK // 16
"""From so many numbers of a block on a bit for each number of it takes less than two bytes for each that is wanted."""


class Joinids:
    """Whole numbers that increase: a bit each where they lie close together, else two bytes; nothing where all are.

    Behaves as an array of int64: a slice of it is one, so that nothing has to know how they are held.

    Parameters
    ----------
    values
        To begin with, shape (n,), increasing.

    Examples
    --------
    >>> joinids = Joinids(np.array([3, 5, 70_000]))
    >>> len(joinids), joinids[1], joinids[1:].tolist()
    (3, 5, [5, 70000])
    """

    def __init__(self, values: Ints | None = None) -> None:
        self._numbers: list[int] = []
        self._blocks: list[npt.NDArray[Any] | None] = []
        self._ends = [0]
        self._known: tuple[int, Ints] = -1, np.zeros(0, dtype=np.int64)
        if values is not None:
            self.extend(values)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what was looked up."""
        return {**self.__dict__, "_known": (-1, np.zeros(0, dtype=np.int64))}

    def extend(self, values: Ints) -> None:
        """Append numbers, shape (n,): increasing, and above those that are there."""
        if not len(values):
            return
        blocks = values >> 16
        edges = np.concatenate([[0], np.flatnonzero(np.diff(blocks)) + 1, [len(values)]])
        for start, stop in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
            number, part = int(blocks[start]), values[start:stop]
            if self._numbers and self._numbers[-1] == number:
                part = np.concatenate([self._block(len(self._numbers) - 1), part])
                self._drop()
            self._numbers.append(number)
            self._blocks.append(_held(part & (BLOCK - 1)))
            self._ends.append(self._ends[-1] + len(part))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        """Return all of them."""
        del copy  # it always is one
        return self[:].astype(dtype or np.int64)

    def __len__(self) -> int:
        return self._ends[-1]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Joinids) and len(self) == len(other) and self.digest() == other.digest()

    def __hash__(self) -> int:
        return hash(self.digest())

    @overload
    def __getitem__(self, key: slice) -> Ints: ...
    @overload
    def __getitem__(self, key: int) -> int: ...
    def __getitem__(self, key: int | slice) -> Ints | int:
        if not isinstance(key, slice):
            at = range(len(self))[key]
            return int(self[at : at + 1][0])
        start, stop, step = key.indices(len(self))
        if step != 1:
            raise ValueError("a slice of joinids has no step")
        if stop <= start:
            return np.zeros(0, dtype=np.int64)
        first = bisect_right(self._ends, start) - 1
        parts = []
        for k in range(first, len(self._blocks)):
            if self._ends[k] >= stop:
                break
            parts.append(self._block(k)[max(0, start - self._ends[k]) : stop - self._ends[k]])
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def tolist(self) -> list[int]:
        """Return all of them as whole numbers of Python."""
        return [one for part in self.parts() for one in part.tolist()]

    def between(self, first: int, stop: int) -> Ints:
        """Return the numbers from `first` on and below `stop`."""
        parts = [self._block(k) for k, number in enumerate(self._numbers) if first >> 16 <= number <= (stop - 1) >> 16]
        found = np.concatenate([np.zeros(0, dtype=np.int64), *parts])
        return found[np.searchsorted(found, first) : np.searchsorted(found, stop)]

    def parts(self) -> Iterator[Ints]:
        """Yield all of them, some at a time."""
        for k in range(len(self._blocks)):
            yield self._block(k)

    def digest(self) -> str:
        """Return the SHA-256 of them as int64."""
        total = hashlib.sha256()
        for part in self.parts():
            total.update(part.tobytes())
        return total.hexdigest()

    @property
    def nbytes(self) -> int:
        """Bytes that they take."""
        return sum(0 if one is None else one.nbytes for one in self._blocks) + 200 * len(self._blocks)

    def _block(self, k: int) -> Ints:
        known, values = self._known
        if known != k:
            values = _numbers(self._blocks[k]) + (self._numbers[k] << 16)
            self._known = k, values  # in one step: threads ask for different ones
        return values

    def _drop(self) -> None:
        """Forget the last block."""
        self._numbers.pop()
        self._blocks.pop()
        self._ends.pop()
        self._known = -1, np.zeros(0, dtype=np.int64)


def _held(low: Ints) -> npt.NDArray[Any] | None:
    """Return how some numbers below `BLOCK` are held."""
    if len(low) == BLOCK:
        return None
    if len(low) < DENSE:
        return low.astype(np.uint16)
    marks = np.zeros(BLOCK, dtype=bool)
    marks[low] = True
    return np.packbits(marks)


def _numbers(held: npt.NDArray[Any] | None) -> Ints:
    """Undo `_held`."""
    if held is None:
        return np.arange(BLOCK)
    return held.astype(np.int64) if held.dtype == np.uint16 else np.flatnonzero(np.unpackbits(held))


class Sizes:
    """How many values each cell has, compressed: some 1.5 bytes a cell. Behaves as an array of int64, as `Joinids`.

    Examples
    --------
    >>> sizes = Sizes()
    >>> sizes.extend(np.array([3, 5]))
    >>> sizes.extend(np.array([7]))
    >>> sizes[1:].tolist(), sizes.total
    ([5, 7], 15)
    """

    def __init__(self, values: Ints | None = None) -> None:
        self._blocks: list[bytes] = []
        self._open: list[npt.NDArray[np.int32]] = []
        self._n = 0
        self._known: tuple[int, npt.NDArray[np.int32]] = -1, np.zeros(0, dtype=np.int32)
        self.total = 0
        if values is not None:
            self.extend(values)

    def extend(self, values: npt.NDArray[Any]) -> None:
        """Append the numbers of further cells, shape (n,)."""
        self._open.append(values.astype(np.int32))
        self._n += len(values)
        self.total += int(values.sum())
        if sum(map(len, self._open)) >= BLOCK:
            held = np.concatenate(self._open)
            whole = len(held) // BLOCK * BLOCK
            self._blocks += [pack(held[at : at + BLOCK]) for at in range(0, whole, BLOCK)]
            self._open = [held[whole:].copy()]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        """Return all of them."""
        del copy  # it always is one
        return self[:].astype(dtype or np.int64)

    def __len__(self) -> int:
        return self._n

    def __getitem__(self, key: slice) -> Ints:
        start, stop, _ = key.indices(self._n)
        parts = [
            self._block(k)[max(0, start - k * BLOCK) : max(0, stop - k * BLOCK)]
            for k in range(start // BLOCK, -(-max(stop, start + 1) // BLOCK))
        ]
        return np.concatenate(parts).astype(np.int64)

    def parts(self) -> Iterator[Ints]:
        """Yield all of them, `BLOCK` at a time."""
        for start in range(0, self._n, BLOCK):
            yield self[start : start + BLOCK]

    @property
    def nbytes(self) -> int:
        """Bytes that they take."""
        return sum(map(len, self._blocks)) + sum(one.nbytes for one in self._open)

    def _block(self, k: int) -> npt.NDArray[np.int32]:
        if k == len(self._blocks):
            return np.concatenate(self._open) if self._open else np.zeros(0, dtype=np.int32)
        known, values = self._known
        if known != k:
            values = unpack(memoryview(self._blocks[k]), np.int32, BLOCK)
            self._known = k, values
        return values


class Even:
    """The same number for every cell, where nobody knows each one's."""

    def __init__(self, each: int, n: int) -> None:
        self.each, self.n, self.total = each, n, each * n

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, key: slice) -> Ints:
        start, stop, _ = key.indices(self.n)
        return np.full(max(0, stop - start), self.each)
