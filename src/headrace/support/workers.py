"""Threads that end when they are told to, even if an interrupt came while one was started."""

from __future__ import annotations

import itertools
import threading
import time
from concurrent.futures import ThreadPoolExecutor

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

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the threads, when they have done what they were given."""
        super().shutdown(wait, cancel_futures=cancel_futures)
        for thread in threading.enumerate() if wait else ():
            if thread.name.startswith(f"{self.prefix}_"):
                end(thread)


def end(thread: threading.Thread) -> None:
    """Wait for a thread that was told to end; it may be about to begin, or never have begun."""
    while thread in threading.enumerate():
        if thread.is_alive():
            thread.join()
        else:
            time.sleep(0.001)  # it has been started, and does not know it yet
