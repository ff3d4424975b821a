"""Prefetching: an iterator that runs in a thread of its own."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterable
from typing import Any, TypeVar

from .retry import until
from .workers import end

Item = TypeVar("Item")

_END = object()

LONGEST_WAIT = 5.0
"""Seconds for which a thread that is to stop is waited for: a request may hang for minutes."""


def prefetch(items: Iterable[Item], depth: int = 1) -> Generator[Item]:
    """Yield the items, computing up to `depth` of them before they are asked for.

    An exception of the iterator is raised where its item would have come. Closing the generator
    stops the thread before the next item; if that does not come, since a server is silent, it is not waited for.

    Examples
    --------
    >>> list(prefetch(x * x for x in range(4)))
    [0, 1, 4, 9]
    """
    out: queue.Queue[tuple[Any, BaseException | None]] = queue.Queue(depth)
    stop = threading.Event()

    def put(entry: tuple[Any, BaseException | None]) -> bool:
        while not stop.is_set():
            try:
                out.put(entry, timeout=0.1)
            except queue.Full:
                continue
            return True
        return False

    def run() -> None:
        try:
            with until(stop):
                for item in items:
                    if not put((item, None)):
                        return
                    del item  # do not keep it alive while the next is made
            put((_END, None))
        except BaseException as error:  # raised again in the consumer's thread
            put((_END, error))

    thread = threading.Thread(target=run, name="headrace-prefetch", daemon=True)
    try:
        thread.start()
        while True:
            item, error = out.get()
            if error is not None:
                raise error
            if item is _END:
                return
            yield item
            del item
    finally:
        stop.set()
        here = threading.current_thread() is thread  # garbage is collected in any thread, in this one too
        if not here and end(thread, LONGEST_WAIT) and isinstance(items, Generator):  # else the thread is still in it
            items.close()
