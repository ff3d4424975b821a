"""Rows of a file, read in blocks: chunks that come in order read each block once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

Block = TypeVar("Block")


class Blocks(Generic[Block]):
    """The two blocks last used. Safe to use from several threads.

    Parameters
    ----------
    length
        How many rows there are.
    size
        How many of them are a block.

    Examples
    --------
    >>> blocks = Blocks(10, 4)
    >>> [rows[a:b] for rows, a, b in blocks.parts(3, 9, lambda start, stop: list(range(start, stop)))]
    [[3], [4, 5, 6, 7], [8]]
    """

    def __init__(self, length: int, size: int) -> None:
        self.length, self.size = length, size
        self.lock = threading.Lock()
        self.kept: dict[int, Block] = {}

    def parts(self, start: int, stop: int, load: Callable[[int, int], Block]) -> Iterator[tuple[Block, int, int]]:
        """Yield the blocks that have rows of a span, and which of a block's rows these are.

        Parameters
        ----------
        load
            Reads the rows between two positions. (Given here, and not kept: who owns this may own a file, which is to
            be closed as soon as its owner is gone.)
        """
        for number in range(start // self.size, (max(stop, start + 1) - 1) // self.size + 1):
            first = number * self.size
            yield self._block(number, load), max(start, first) - first, min(stop, first + self.size) - first

    def _block(self, number: int, load: Callable[[int, int], Block]) -> Block:
        with self.lock:
            if number not in self.kept:
                self.kept = {n: block for n, block in self.kept.items() if n == number - 1}
                self.kept[number] = load(number * self.size, min((number + 1) * self.size, self.length))
            return self.kept[number]
