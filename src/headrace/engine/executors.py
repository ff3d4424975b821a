"""How many chunks are worked on at once: one, or one per thread."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TypeVar

from ..protocols import Executor
from ..support.given import check_fields, check_range
from ..support.workers import Workers

Item = TypeVar("Item")
Out = TypeVar("Out")

MOST_THREADS = 4096


@dataclass(frozen=True)
class Serial(Executor):
    """In this thread, one item at a time. The reference the others must agree with.

    Examples
    --------
    >>> import headrace as hr
    >>> list(hr.Serial().map(abs, [-1, 2, -3]))
    [1, 2, 3]
    """

    in_flight: int = 1

    def __post_init__(self) -> None:
        check_fields(self)
        check_range(self, "in_flight", 1, MOST_THREADS)

    def map(self, fn: Callable[[Item], Out], items: Iterable[Item]) -> Iterator[Out]:
        """Yield `fn(item)` for every item, in order."""
        return map(fn, items)


@dataclass(frozen=True)
class Threads(Executor):
    """In `workers` threads, with at most `in_flight` results not yet consumed.

    The hot loops are compiled and release the interpreter lock, and so does reading.

    Examples
    --------
    >>> import headrace as hr
    >>> executor = hr.Threads(workers=4, in_flight=6)  # plan.write_h5ad(path, executor=executor)
    >>> list(executor.map(abs, [-1, 2, -3]))
    [1, 2, 3]
    """

    workers: int = 2
    in_flight: int = 3

    def __post_init__(self) -> None:
        check_fields(self)
        check_range(self, "workers", 1, MOST_THREADS)
        check_range(self, "in_flight", 1, MOST_THREADS)

    def map(self, fn: Callable[[Item], Out], items: Iterable[Item]) -> Iterator[Out]:
        """Yield `fn(item)` for every item, in order."""
        pending: deque[Future[Out]] = deque()
        with Workers(self.workers, "headrace") as pool:
            try:
                for item in items:
                    pending.append(pool.submit(fn, item))
                    if len(pending) >= self.in_flight:
                        yield pending.popleft().result()
                while pending:
                    yield pending.popleft().result()
            finally:
                for future in pending:
                    future.cancel()
