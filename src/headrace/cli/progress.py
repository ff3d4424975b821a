"""Progress of a run on the terminal."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import Any

from ..events import ChunkDone, Event, Fetched, Notice, PassFinished, PassStarted, Waiting
from ..support.amounts import duration
from .console import Session, size

A_LINE = 60.0
"""Seconds between two lines about what is fetched, where there is no terminal for a bar."""


class Progress:
    """A listener to a plan's events: a bar for each pass if stderr is a terminal, and what a user should know.

    While a source that is far away is read, the bar counts the bytes that come instead of cells, and where there is no
    terminal a line says so once a minute. A context manager: the bar is gone when an exception leaves the block.

    Parameters
    ----------
    session
        The run, whose `bar` it sets.
    clock
        The time in seconds.
    """

    def __init__(self, session: Session, clock: Callable[[], float] = time.monotonic) -> None:
        self.session, self.clock = session, clock
        self.title, self.of_bytes, self.said = "", False, clock()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *exc: object) -> None:
        self._close()

    def __call__(self, event: Event) -> None:
        """Show one event."""
        self.session.check()
        match event:
            case PassStarted():
                self._close()
                purpose = " + ".join(dict.fromkeys(event.purpose.split(" + ")))
                on = f" on {event.workers} workers" if event.workers > 1 else ""
                self.title = f"pass {event.number} of {event.total}{on}: {purpose}"
                if sys.stderr.isatty():
                    self.session.bar = _bar(self.title, event.n_obs, " cells")
            case ChunkDone():
                if self.session.bar is not None and not self.of_bytes:
                    self.session.bar.update(event.n_obs)
            case Fetched():
                self._fetched(event)
            case PassFinished():
                self._close()
            case Notice():
                self.session.say(f"note: {event.message}")
            case Waiting():
                self.session.say(f"note: {event}")

    def _fetched(self, event: Fetched) -> None:
        bar = self.session.bar
        if bar is not None:
            if not self.of_bytes:
                self._close()
                bar = self.session.bar = _bar(self.title, event.planned, "B")
                self.of_bytes = True
            bar.total = max(event.planned, event.bytes)
            if event.retries:
                bar.set_postfix_str(f"{event.retries} retries", refresh=False)
            bar.update(event.bytes - bar.n)
            bar.refresh()
        elif self.clock() - self.said >= A_LINE:
            self.said = self.clock()
            self.session.say(written(event))

    def _close(self) -> None:
        bar, self.session.bar, self.of_bytes = self.session.bar, None, False
        if bar is not None:
            bar.close()


def written(event: Fetched) -> str:
    """Write how far the fetching has come in one line.

    Examples
    --------
    >>> written(Fetched(120_000_000, 2_300_000_000, 12_300_000.0, 190.0, 2))
    'fetched 120.0 MB of 2.3 GB, 12.3 MB/s, 3 min 10 s left, 2 retries'
    """
    left = "" if event.seconds_left is None else f", {duration(event.seconds_left)} left"
    retries = f", {event.retries} {'retry' if event.retries == 1 else 'retries'}" if event.retries else ""
    return f"fetched {size(event.bytes)} of {size(event.planned)}, {event.rate / 1e6:,.1f} MB/s{left}{retries}"


def _bar(title: str, total: int, unit: str) -> Any:
    from tqdm import tqdm  # needed on a terminal only

    # a terminal that does not know how wide it is says 0, and tqdm would show nothing
    width: dict[str, Any] = (
        {"dynamic_ncols": True} if os.get_terminal_size(sys.stderr.fileno()).columns else {"ncols": 80}
    )
    return tqdm(total=total, desc=title, unit=unit, unit_scale=True, file=sys.stderr, **width)
