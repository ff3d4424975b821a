"""A reorder buffer: jobs run in threads, results are stored in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

WAITING = 16
"""Jobs that are not put away yet: each holds a buffer. The same on every machine, and however fast it is: when a chunk
is put away decides where in the file it lies."""


class ReorderBuffer:
    """Runs jobs in threads and hands their results on in the order in which the jobs came.

    Checksums and compression take longer than writing does, and need no order; a file's chunks do,
    so that the same data gives the same bytes whatever the number of threads.

    Parameters
    ----------
    threads
        Jobs run at once.

    Examples
    --------
    >>> shelf = []
    >>> box = ReorderBuffer(threads=2)
    >>> for n in range(5):
    ...     box.put(lambda n=n: n * n, shelf.append)
    >>> box.flush(); box.close(); shelf
    [0, 1, 4, 9, 16]
    """

    def __init__(self, threads: int) -> None:
        self.pool = ThreadPoolExecutor(threads, thread_name_prefix="headrace-out")
        self.pending: deque[tuple[Future[Any], Callable[[Any], None]]] = deque()

    def put(self, job: Callable[[], Any], store: Callable[[Any], None]) -> None:
        """Run `job` in a thread; `store` gets its result here, in turn."""
        self.pending.append((self.pool.submit(job), store))
        if len(self.pending) > WAITING:
            self._next()

    def flush(self) -> None:
        """Put everything away."""
        while self.pending:
            self._next()

    def close(self) -> None:
        """End the threads; what was not put away is dropped."""
        self.pending.clear()
        self.pool.shutdown(wait=True, cancel_futures=True)

    def _next(self) -> None:
        future, store = self.pending.popleft()
        store(future.result())
