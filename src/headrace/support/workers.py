"""Threads that end when they are told to, even if an interrupt came while one was started."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

Result = TypeVar("Result")

_numbers = itertools.count()


class Workers(ThreadPoolExecutor):
    """A pool of threads that leaves none behind: an interrupt within `submit` makes Python's own forget the new one.

    Parameters
    ----------
    n
        Threads at most.
    name
        What their names begin with.
    """

    def __init__(self, n: int, name: str) -> None:
        self.prefix = f"{name}-{next(_numbers)}"
        super().__init__(n, thread_name_prefix=self.prefix)

    def submit(self, fn: Callable[..., Result], /, *args: Any, **kwargs: Any) -> Future[Result]:
        """Have a thread call a function."""
        try:
            return super().submit(fn, *args, **kwargs)
        except BaseException:  # the thread that was just started counts, else there would be one too many
            self._threads.update(self._started())  # type: ignore[attr-defined] # it is a set
            raise

    def _started(self) -> list[threading.Thread]:
        return [thread for thread in threading.enumerate() if thread.name.startswith(f"{self.prefix}_")]

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the threads, when they have done what they were given."""
        super().shutdown(wait, cancel_futures=cancel_futures)
        for thread in self._started() if wait else ():
            end(thread)


def end(thread: threading.Thread, seconds: float | None = None) -> bool:
    """Wait for a thread that was told to end; it may be about to begin, or never have begun.

    Returns
    -------
    Whether it has ended; False if it has not within so many seconds.
    """
    begun = time.monotonic()
    while thread in threading.enumerate():
        left = None if seconds is None else seconds - (time.monotonic() - begun)
        if left is not None and left <= 0:
            return False
        if thread.is_alive():
            thread.join(left)
        else:
            time.sleep(0.001)  # it has been started, and does not know it yet
    if thread.is_alive():  # from Python 3.13 on a thread leaves the list a moment before it ends
        thread.join()
    return True
