"""Prefetching: what is left of it when nobody wants more."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from headrace.support import prefetch as module
from headrace.support.prefetch import prefetch


def test_a_server_that_is_silent_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread hangs within an item when the consumer stops; it ends by itself when the item comes."""
    monkeypatch.setattr(module, "LONGEST_WAIT", 0.05)
    comes, closed = threading.Event(), threading.Event()

    def items() -> Iterator[int]:
        try:
            yield 1
            comes.wait()
            yield 2
        finally:
            closed.set()

    reading = prefetch(items())
    assert next(reading) == 1
    ending = threading.Thread(target=reading.close)  # type: ignore[attr-defined] # it is a generator
    ending.start()
    ending.join(20)
    assert not ending.is_alive()
    comes.set()
    assert closed.wait(20), "the thread has gone on to its end"


def test_what_was_begun_is_closed() -> None:
    closed = threading.Event()

    def items() -> Iterator[int]:
        try:
            yield from range(100)
        finally:
            closed.set()

    reading = prefetch(items())
    assert next(reading) == 0
    reading.close()  # type: ignore[attr-defined]
    assert closed.is_set()


def test_garbage_that_the_thread_itself_collects() -> None:
    """A generator that nobody holds any more is closed wherever garbage is collected, its own thread included."""
    held: list[Any] = []
    failed: list[BaseException] = []
    taken, closed = threading.Event(), threading.Event()

    def items() -> Iterator[int]:
        yield 0
        taken.wait(10)
        try:
            held.pop().close()
        except BaseException as error:
            failed.append(error)
        closed.set()
        yield 1

    held.append(prefetch(items()))
    assert next(held[0]) == 0
    taken.set()
    assert closed.wait(10)
    assert not failed
