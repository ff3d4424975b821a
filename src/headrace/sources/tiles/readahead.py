"""Reads what is needed next before it is asked for: ranges of files, in the order of the stream.

Tiles that lie side by side, or nearly, are read in one request. Far away, as many bytes are on their way at once as
the line needs: about four times what it carries in one round trip, by the shortest answer and the highest rate seen so
far, and never more than the budget.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from ...support.retry import until
from .fragment import FILES, Fragment, Tiles
from .store import Bytes, Store

LOCAL_REQUEST = 4 << 20
SMALLEST_REQUEST, LARGEST_REQUEST = 1 << 20, 8 << 20
LEAST_WINDOW = 16 << 20
"""What is on its way at once before anything is known of the line."""
MOST_REQUESTS = 48
WASTE = 0.03
"""The bytes between tiles that may be read along with them, as a part of the tiles' own."""


@dataclass(eq=False)
class Part:
    """A range of a file that one request reads."""

    store: Store
    path: str
    start: int
    stop: int
    data: Future[Bytes] | None = None
    stopped: threading.Event | None = None
    """Set when nobody wants it any more."""

    def wait(self) -> Bytes:
        """Wait for the bytes, unless nobody wants them any more."""
        assert self.data is not None
        assert self.stopped is not None
        while not self.data.done() and not self.stopped.is_set():
            wait([self.data], 0.5)
        if not self.data.done():
            raise CancelledError
        return self.data.result()


@dataclass(eq=False)
class Piece:
    """Some tiles of one fragment, and the part of a file that each lies in."""

    fragment: Fragment
    tiles: Tiles
    parts: tuple[list[Part], list[Part], list[Part]] = field(default_factory=lambda: ([], [], []))

    @property
    def nbytes(self) -> int:
        """Bytes of the tiles as stored."""
        return int((self.tiles.stops - self.tiles.starts).sum())

    def fetched(self) -> tuple[list[Bytes], npt.NDArray[np.uint64], npt.NDArray[np.int64]]:
        """Wait for the tiles; return what holds them, and the address and size of each, shape (3, n)."""
        held: list[Bytes] = []
        addresses = np.zeros(self.tiles.starts.shape, dtype=np.uint64)
        for file, parts in enumerate(self.parts):
            known: tuple[Part | None, int] = (None, 0)
            bases = np.zeros(len(parts), dtype=np.int64)
            for i, part in enumerate(parts):
                if part is not known[0]:
                    data = part.wait()
                    held.append(data)
                    known = (part, data.ctypes.data - part.start)
                bases[i] = known[1]
            addresses[file] = (bases + self.tiles.starts[file]).astype(np.uint64)
        return held, addresses, self.tiles.stops - self.tiles.starts


class Block(Protocol):
    """What is decoded at once."""

    pieces: list[Piece]


B = TypeVar("B", bound=Block)


class Line:
    """What has been seen of the way to the data: how long an answer takes, and how much comes in a second."""

    def __init__(self, remote: bool) -> None:
        self.remote = remote
        self.delay, self.rate = 0.0, 0.0
        self._recent: deque[tuple[float, int]] = deque()
        self._lock = threading.Lock()

    def saw(self, begun: float, ended: float, nbytes: int) -> None:
        """Take note of one answer."""
        with self._lock:
            seconds = max(ended - begun, 1e-4)  # no shorter than the delay, whatever the rate is taken for
            self.delay = min(self.delay, seconds) if self.delay else seconds
            self._recent.append((ended, nbytes))
            while ended - self._recent[0][0] > max(0.5, 4 * self.delay):
                self._recent.popleft()
            since = max(ended - self._recent[0][0], ended - begun)
            self.rate = max(self.rate, sum(n for _, n in self._recent) / since)

    def window(self, budget: int) -> int:
        """Return how many bytes should be on their way."""
        if not self.remote:
            return budget
        return int(min(max(4 * self.rate * self.delay, LEAST_WINDOW), budget))

    def request(self, window: int) -> int:
        """Return how many bytes one request should be for."""
        if not self.remote:
            return LOCAL_REQUEST
        return min(max(window // 32, SMALLEST_REQUEST), LARGEST_REQUEST)


class _File:
    """The requests for one file, in order; the last one is held back as long as more may join it."""

    def __init__(self, ahead: ReadAhead, store: Store, path: str) -> None:
        self.ahead, self.store, self.path = ahead, store, path
        self.open: Part | None = None
        self.known: dict[int, Part] = {}
        self.needed = self.wasted = 0

    def parts(self, starts: list[int], stops: list[int], size: int) -> list[Part]:
        """Return the part that each tile lies in; tiles are asked for in order, the last ones perhaps again."""
        self.known = {start: part for start, part in self.known.items() if starts and start >= starts[0]}
        out = []
        for start, stop in zip(starts, stops, strict=True):
            part = self.known.get(start)
            if part is None:
                part = self.known[start] = self._join(start, stop, size)
            out.append(part)
        return out

    def _join(self, start: int, stop: int, size: int) -> Part:
        self.needed += stop - start
        if self.open is not None:
            gap = start - self.open.stop
            fits = gap >= 0 and stop - self.open.start <= size
            if fits and self.wasted + gap <= WASTE * self.needed:
                self.wasted += gap
                self.open.stop = stop
                return self.open
            self.send(self.open)
        self.open = Part(self.store, self.path, start, stop)
        return self.open

    def send(self, part: Part) -> None:
        """Ask for a part, if that was not done before."""
        if part.data is None:
            part.stopped = self.ahead.stopped
            part.data = self.ahead.pool.submit(self.ahead.fetch, part)
        if part is self.open:
            self.open = None


class ReadAhead:
    """Gives blocks of tiles as they are needed, and asks for the next ones meanwhile.

    Parameters
    ----------
    line
        What is known of the way to the data.
    budget
        Bytes that may be asked for and not yet given.
    """

    def __init__(self, line: Line, budget: int) -> None:
        self.line, self.budget = line, budget
        self.pool = ThreadPoolExecutor(MOST_REQUESTS if line.remote else 2, thread_name_prefix="headrace-fetch")
        self.stopped = threading.Event()
        self._files: dict[tuple[int, int], _File] = {}

    def fetch(self, part: Part) -> Bytes:
        """Read one part, and learn from it how the line is."""
        begun = time.monotonic()
        with until(self.stopped):
            data = part.store.read(part.path, part.start, part.stop)
        self.line.saw(begun, time.monotonic(), len(data))
        return data

    def stream(self, blocks: Iterable[B]) -> Iterator[B]:
        """Yield each block once all its parts have been asked for; `Piece.fetched` waits for them."""
        planned: deque[tuple[B, int]] = deque()
        under_way = 0
        for block in blocks:
            size = self._plan(block)
            planned.append((block, size))
            under_way += size
            while planned and under_way > self.line.window(self.budget):
                under_way -= planned[0][1]
                yield self._send(planned.popleft()[0])
        while planned:
            yield self._send(planned.popleft()[0])

    def _plan(self, block: Block) -> int:
        size = self.line.request(self.line.window(self.budget))
        for piece in block.pieces:
            for file, name in enumerate(FILES):
                key = (id(piece.fragment), file)
                if key not in self._files:
                    path = f"{piece.fragment.folder}/{name}"
                    self._files[key] = _File(self, piece.fragment.store, path)
                starts, stops = piece.tiles.starts[file].tolist(), piece.tiles.stops[file].tolist()
                piece.parts[file].extend(self._files[key].parts(starts, stops, size))
        return sum(piece.nbytes for piece in block.pieces)

    def _send(self, block: B) -> B:
        for piece in block.pieces:
            for file, parts in enumerate(piece.parts):
                for part in parts:
                    if part.data is None:
                        self._files[id(piece.fragment), file].send(part)
        return block

    def close(self) -> None:
        """Let go of what was asked for, and of what is being tried again."""
        self.stopped.set()
        self.pool.shutdown(wait=False, cancel_futures=True)
