"""Locks of what is copied and pickled."""

from __future__ import annotations

import threading


class Lock:
    """A `threading.Lock` for a member of an object: a copy of that object has a lock of its own, which is free."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.acquire, self.release = self._lock.acquire, self._lock.release

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *error: object) -> None:
        self._lock.release()

    def __reduce__(self) -> tuple[type[Lock], tuple[()]]:
        return Lock, ()
