"""What comes from far away: how much, how fast, what failed, and what is being waited for."""

from __future__ import annotations

import logging
import shutil
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from .events import Fetched, Listener, Waiting

RETRY_FOR = 300.0
"""Seconds without progress after which a run gives up."""

QUIET = 30.0
"""Seconds without a byte after which that is said, and from then on as often."""

TICK = 1.0
"""Seconds between two looks."""

RECENT = 10.0
"""Seconds over which the rate is an average."""

TELLING = 1 << 18
"""Bytes of an answer that tell of the rate of the line."""

log = logging.getLogger("headrace")


class Traffic:
    """Counts what is fetched for one Census or experiment. Safe in several threads; a copy by pickling begins anew.

    While something is waited for, a thread looks once a second, and says so if nothing comes: to the listener of the
    run, or else as a warning to the logger "headrace".

    Parameters
    ----------
    retry_for
        Seconds without progress during which failed requests are made again.
    proxy
        The address of the proxy that requests go through, if there is one.
    clock, sleep
        The time in seconds, and what waits; for tests.
    """

    def __init__(
        self,
        retry_for: float = RETRY_FOR,
        proxy: str = "",
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.retry_for, self.proxy, self.clock, self.sleep = retry_for, proxy, clock, sleep
        self.bytes = self.retries = 0
        self.keep: Path | None = None
        """The folder where a run keeps what has come and is not yet of use, if it is to go on after a kill."""
        self.rate = 0.0
        """Bytes a second, the most that was seen; 0 if nothing large has come."""
        self.last = 0.0
        """When something came last, by the clock; 0 if nothing did."""
        self.failed = ""
        """What went wrong last, since something came."""
        self.error: BaseException | None = None
        """What the listener has raised in the thread that looks."""
        self._lock = threading.Lock()
        self._waiting: dict[object, tuple[bool, float, str]] = {}
        self._said = 0.0
        self._listener: Listener | None = None
        self._planned = self._base_bytes = self._base_retries = 0
        self._base_time = 0.0
        self._recent: deque[tuple[float, int]] = deque()
        self._thread: threading.Thread | None = None

    def __reduce__(self) -> tuple[type[Traffic], tuple[float, str]]:
        return (Traffic, (self.retry_for, self.proxy))

    def arrived(self, n: int) -> None:
        """Count bytes that have come."""
        with self._lock:
            self.bytes += n
            self.last, self.failed = self.clock(), ""

    def answered(self, n: int, seconds: float) -> None:
        """Learn from one request how fast the line is, at least."""
        with self._lock:
            if seconds and n >= TELLING:
                self.rate = max(self.rate, n / seconds)

    def forget(self) -> None:
        """Drop what is kept of what has come: it may be damaged."""
        if self.keep is not None:
            shutil.rmtree(self.keep, ignore_errors=True)

    def retried(self, why: str) -> None:
        """Count a request that failed and is made again."""
        with self._lock:
            self.retries += 1
            self.failed = why

    @contextmanager
    def waiting(self, what: str, outer: bool = False) -> Iterator[None]:
        """Know what is being waited for within the block; `outer` if what it waits for itself is better told."""
        key = object()
        with self._lock:
            self._waiting[key] = (outer, self.clock(), what)
            self._look()
        try:
            yield
        finally:
            with self._lock:
                del self._waiting[key]

    @contextmanager
    def told(self, listener: Listener, planned: int) -> Iterator[None]:
        """Tell a run's listener within the block about once a second, at its beginning and at its end.

        Parameters
        ----------
        planned
            Bytes that the run is going to fetch.
        """
        with self._lock:
            self._listener, self._planned = listener, planned
            self._base_bytes, self._base_retries, self._base_time = self.bytes, self.retries, self.clock()
            self._recent.clear()
            self._look()
        try:
            listener(self.fetched())
            yield
            listener(self.fetched())
        finally:
            with self._lock:
                self._listener = None

    def fetched(self) -> Fetched:
        """Say how far the run has come."""
        with self._lock:
            now, n = self.clock(), self.bytes - self._base_bytes
            self._recent.append((now, n))
            while now - self._recent[0][0] > RECENT:
                self._recent.popleft()
            (since, before), spent = self._recent[0], now - self._base_time
            rate = (n - before) / (now - since) if now > since else n / spent if spent else 0.0
            if now - since >= TICK:
                self.rate = max(self.rate, rate)
            left = max(0, self._planned - n) * spent / n if n else None
            return Fetched(n, self._planned, rate, left, self.retries - self._base_retries)

    def quiet(self) -> Waiting | None:
        """Say what has been waited for without a byte, if it is time to say so."""
        with self._lock:
            if not self._waiting:
                return None
            outer, begun, what = min(self._waiting.values())
            now = self.clock()
            if now - max(begun, self.last, self._said) < QUIET:
                return None
            self._said = now
            others = sum(one[0] == outer for one in self._waiting.values()) - 1
            more = f" and {others} more" if others else ""
            return Waiting(now - max(begun, self.last), what + more, self.failed)

    def raise_error(self) -> None:
        """Raise in the thread of the run what its listener has raised in another one."""
        if self.error is not None:
            error, self.error = self.error, None
            raise error

    def tick(self) -> None:
        """Look once, and tell."""
        listener, waiting = self._listener, self.quiet()
        if listener is None:
            if waiting is not None:
                log.warning("%s", waiting)
            return
        try:
            listener(self.fetched())
            if waiting is not None:
                listener(waiting)
        except BaseException as error:  # raised again where the run is
            self._listener, self.error = None, error

    def _look(self) -> None:
        """Have a thread that looks, until there is nothing to look at; the lock is held."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="headrace-traffic", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        while True:
            time.sleep(TICK)
            self.tick()
            with self._lock:
                if not self._waiting and self._listener is None:
                    self._thread = None
                    return
