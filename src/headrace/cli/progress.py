"""Progress of a run on the terminal."""

from __future__ import annotations

import os
import sys
from typing import Any

from ..events import ChunkDone, Event, Notice, PassFinished, PassStarted
from .console import Session


class Progress:
    """A listener to a plan's events: a bar for each pass if stderr is a terminal, and what a user should know.

    A context manager: the bar is gone when an exception leaves the block.

    Parameters
    ----------
    session
        The run, whose `bar` it sets.
    """

    def __init__(self, session: Session) -> None:
        self.session = session

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
                if sys.stderr.isatty():
                    self.session.bar = _bar(event)
            case ChunkDone():
                if self.session.bar is not None:
                    self.session.bar.update(event.n_obs)
            case PassFinished():
                self._close()
            case Notice():
                self.session.say(f"note: {event.message}")

    def _close(self) -> None:
        bar, self.session.bar = self.session.bar, None
        if bar is not None:
            bar.close()


def _bar(event: PassStarted) -> Any:
    from tqdm import tqdm  # needed on a terminal only

    purpose = " + ".join(dict.fromkeys(event.purpose.split(" + ")))
    title = f"pass {event.number} of {event.total}: {purpose}"
    # a terminal that does not know how wide it is says 0, and tqdm would show nothing
    width: dict[str, Any] = (
        {"dynamic_ncols": True} if os.get_terminal_size(sys.stderr.fileno()).columns else {"ncols": 80}
    )
    return tqdm(total=event.n_obs, desc=title, unit=" cells", unit_scale=True, file=sys.stderr, **width)
