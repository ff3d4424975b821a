"""Events of a run, for listeners: progress and notices. Library code never prints."""

from __future__ import annotations

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


Event = PassStarted | ChunkDone | PassFinished | Notice
Listener = Callable[[Event], None]


def ignore(event: Event) -> None:
    """Listen to nothing."""
