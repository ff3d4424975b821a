"""The reorder buffer: results in the order of the jobs, at moments that do not depend on how fast they are."""

from __future__ import annotations

import threading
import time

import pytest

from headrace.sinks.h5ad.reorder import WAITING, ReorderBuffer


def test_a_result_is_put_away_when_sixteen_others_wait() -> None:
    """That decides where in a file a chunk lies: the same on every machine."""
    box, shelf = ReorderBuffer(threads=3), []
    for n in range(40):
        box.put(lambda n=n: time.sleep(0.002 * (n % 3 == 0)) or n, shelf.append)
        assert shelf == list(range(max(0, n + 1 - 16)))
    assert WAITING == 16
    box.flush()
    assert shelf == list(range(40))
    box.flush()
    assert shelf == list(range(40))
    box.close()


def test_jobs_run_at_once() -> None:
    box, shelf, both = ReorderBuffer(threads=2), [], threading.Barrier(2, timeout=20)
    for n in range(4):
        box.put(lambda n=n: both.wait() * 0 + n, shelf.append)
    box.flush()
    assert shelf == [0, 1, 2, 3]
    box.close()


def test_what_was_not_put_away_is_dropped() -> None:
    box, shelf, done = ReorderBuffer(threads=1), [], []
    begun, goes_on = threading.Event(), threading.Event()
    box.put(lambda: begun.set() or (goes_on.wait() and done.append("begun")), shelf.append)
    begun.wait()
    for n in range(5):
        box.put(lambda n=n: done.append(n), shelf.append)
    threading.Timer(1, goes_on.set).start()
    box.close()
    assert done == ["begun"], "what has begun is waited for, the rest never begins"
    box.flush()
    assert shelf == []
    with pytest.raises(RuntimeError):
        box.put(lambda: 1, shelf.append)


def test_a_job_that_fails_says_so_in_its_turn() -> None:
    box, shelf = ReorderBuffer(threads=2), []
    box.put(lambda: 1, shelf.append)
    box.put(lambda: 1 // 0, shelf.append)
    box.put(lambda: 3, shelf.append)
    with pytest.raises(ZeroDivisionError):
        box.flush()
    assert shelf == [1]
    box.flush()
    assert shelf == [1, 3]
    box.close()
