"""Events of a run, for listeners: progress and notices. Library code never prints.

A listener is called by one thread at a time. `Fetched` and `Waiting` come from a thread of their own, about once a
second, and only where the source is far away.

Examples
--------
>>> import numpy as np, pandas as pd, headrace as hr, tempfile
>>> from headrace.sources.arrays import ArraySource
>>> def listen(event):
...     match event:
...         case PassStarted():
...             print(f"pass {event.number} of {event.total}: {event.purpose}, {event.n_obs} cells")
...         case ChunkDone():
...             print(f"{event.n_obs} cells done, {event.nnz} non-zeros left")
...         case PassFinished():
...             assert event.seconds >= 0
...         case Notice() | Waiting() | Fetched():  # the last two only where the source is far away
...             print(event)
>>> cells = ArraySource(np.eye(3), pd.DataFrame(index=list("abc")), pd.DataFrame(index=list("ghi")))
>>> spec = hr.Plan(cells, [hr.Log1p()]).write_h5ad(tempfile.mkdtemp() + "/x.h5ad", on_event=listen)
pass 1 of 1: write, 3 cells
3 cells done, 3 non-zeros left
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class PassStarted:
    """One read of all cells begins."""

    number: int
    """Counting from 1."""
    total: int
    """How many passes the run takes."""
    purpose: str
    """What the pass is for, e.g. ``"FilterGenes"`` or ``"write"``."""
    n_obs: int
    """Cells to be read."""
    workers: int = 1
    """Processes that do it."""


@dataclass(frozen=True)
class ChunkDone:
    """A chunk went through the whole pass."""

    n_obs: int
    """Cells read from the source for it."""
    nnz: int
    """Non-zeros that were left when it left the steps."""


@dataclass(frozen=True)
class PassFinished:
    """One read of all cells is over."""

    number: int
    seconds: float


@dataclass(frozen=True)
class Notice:
    """Something a user should know; nothing is wrong."""

    message: str


@dataclass(frozen=True)
class Fetched:
    """How far the fetching of a remote source has come."""

    bytes: int
    """Fetched by this run so far."""
    planned: int
    """To be fetched by this run in all, as `explain` says; without what an earlier run has kept."""
    rate: float
    """Bytes a second, lately."""
    seconds_left: float | None
    """How long the rest takes at the rate of the run so far; None while nothing has come."""
    retries: int
    """Requests that failed and were made again."""


@dataclass(frozen=True)
class Waiting:
    """No byte has come for a while."""

    seconds: float
    """For how long."""
    what: str
    """What is being waited for."""
    failed: str
    """What went wrong last, in words; empty if nothing did."""

    def __str__(self) -> str:
        failed = f" ({self.failed})" if self.failed else ""
        return f"no byte has come for {self.seconds:.0f} s, waiting for {self.what}{failed}"


Event = PassStarted | ChunkDone | PassFinished | Notice | Fetched | Waiting
Listener = Callable[[Event], None]


def one_at_a_time(listener: Listener) -> Listener:
    """Return a listener that is called by one thread at a time, whoever calls."""
    lock = threading.RLock()

    def listen(event: Event) -> None:
        with lock:
            listener(event)

    return listen


def ignore(event: Event) -> None:
    """Listen to nothing."""
