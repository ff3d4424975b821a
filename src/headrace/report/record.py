"""What happened in a run: its passes, its time and memory, its warnings. Not the same twice, so no file keeps it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from ..events import ChunkDone, Event, Fetched, Notice, PassFinished, PassStarted, Waiting
from ..support.memory import resident

MOST_SAMPLES = 400
"""Samples of memory that are kept; twice as far apart whenever there are more."""

EVERY = 0.05
"""Seconds between two samples, at first."""


@dataclass
class PassRecord:
    """One pass over the cells."""

    purpose: str
    n_obs: int
    began: float
    seconds: float = 0.0
    chunks: int = 0
    seen: int = 0
    nnz: int = 0
    peak: int = 0


@dataclass
class Record:
    """A listener that remembers.

    Parameters
    ----------
    clock, memory
        Seconds, and the bytes that the process holds.
    """

    clock: Callable[[], float] = time.monotonic
    memory: Callable[[], int] = resident
    total: int = 0
    """The budget."""
    predicted: int = 0
    to_read: int = 0
    far: bool = False
    fetched: Fetched | None = None
    passes: list[PassRecord] = field(default_factory=list)
    samples: list[tuple[float, int]] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    warnings: list[tuple[str, str]] = field(default_factory=list)
    """The kind of each warning, and what it says."""
    waited: float = 0.0
    """The longest time in which nothing came, in seconds."""
    written: list[tuple[str, int]] = field(default_factory=list)
    """Files, and their bytes."""
    every: float = EVERY
    started: float | None = None
    ended: float = 0.0

    def __call__(self, event: Event) -> None:
        """Note one event."""
        now = self.clock()
        if self.started is None:
            self.started = now
        at = now - self.started
        match event:
            case PassStarted():
                self.passes.append(PassRecord(event.purpose, event.n_obs, at))
                self._sample(at, always=True)
            case ChunkDone():
                current = self.passes[-1]
                current.chunks, current.seen = current.chunks + 1, current.seen + event.n_obs
                current.nnz += event.nnz
                self._sample(at)
            case PassFinished():
                self.passes[-1].seconds = event.seconds
                self._sample(at, always=True)
            case Fetched():
                self.fetched = event
            case Waiting():
                self.waited = max(self.waited, event.seconds)
            case Notice():
                self.notices.append(event.message)
        self.ended = at

    def _sample(self, at: float, always: bool = False) -> None:
        if not always and self.samples and at - self.samples[-1][0] < self.every:
            return
        held = self.memory()
        self.samples.append((at, held))
        self.passes[-1].peak = max(self.passes[-1].peak, held)
        if len(self.samples) > MOST_SAMPLES:
            # of two neighbours the one that held more: no peak is lost
            pairs = zip(self.samples[::2], self.samples[1::2], strict=False)
            self.samples, self.every = [max(pair, key=lambda one: one[1]) for pair in pairs], self.every * 2

    def warned(self, message: str, category: type[Warning]) -> None:
        """Note a warning of headrace's, once."""
        if category.__module__.partition(".")[0] == "headrace":
            one = (category.__name__, message)
            if one not in self.warnings:
                self.warnings.append(one)

    @property
    def peak(self) -> int:
        """The most that was held, in bytes, as far as it was seen."""
        return max((held for _, held in self.samples), default=0)
