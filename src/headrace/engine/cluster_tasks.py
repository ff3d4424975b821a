"""The tasks of one pass on a dask cluster: who does which, who has vanished, what is done again."""

from __future__ import annotations

import queue
import secrets
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from ..errors import HeadraceError, WorkersError, first_line
from ..events import Notice
from ..support.atomic import write_all, written_within
from .cluster_worker import PIECE, forget, piece, put, size, task
from .place import JOB, Done, Stage, cells_name, stage_name, state_name

AHEAD = 2
"""Tasks that a worker has at once: the one it does, and the next."""

MOST_LOST = 4
"""Workers that may vanish with a task before it is believed to be its fault."""

GONE = ("KilledWorker", "CommClosedError", "FutureCancelledError")
"""What dask says of tasks whose worker is no more."""

LOOK = 1.0
"""Seconds between two looks at who is there."""

PATIENCE = 60.0
"""Seconds without any worker, or without the scheduler, after which a run ends."""

SLOW, SLOW_AT_LEAST = 4.0, 20.0
"""A task that takes so many times the median, and so many seconds, is given to a second worker when one is idle."""


@dataclass
class Given:
    """A task that a worker has."""

    number: int
    worker: str
    future: Any
    since: float


class Tasks:
    """All tasks of a pass, from first to last.

    Parameters
    ----------
    workers
        `cluster.Workers`: who does them, and the folder of the run.
    function, more
        What a worker does with a number, and what it is told besides. What other than `task` does is asked for anew.
    """

    def __init__(
        self, workers: Any, stage: Stage, n: int, function: Callable[..., Any] = task, more: tuple[int, ...] = ()
    ) -> None:
        self.workers, self.stage, self.n, self.function, self.more = workers, stage, n, function, more
        self.client, self.place = workers.client, workers.place
        self.run = (workers.shared, self.place.path.name)
        self.done: dict[int, Any] = {}
        self.error: BaseException | None = None
        self.changed = threading.Condition()
        self.ended = False
        self.given: dict[str, Given] = {}
        self.ready: set[str] = set()
        self.lost: dict[int, int] = {}
        self.took: list[float] = []
        self.finished: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.there: dict[str, int] = {}
        self.looked = self.seen = 0.0
        self.thread = threading.Thread(target=self._run, name="headrace-dask", daemon=True)

    def __enter__(self) -> Tasks:
        if self.function is task:
            for number in range(self.n):
                found = self.place.done(self.stage.number, number)
                if found is not None:
                    self.done[number] = found
            if self.done:
                self.workers.on_event(
                    Notice(f"going on from an earlier run: {len(self.done)} of {self.n} ranges are there")
                )
        self.todo = [number for number in range(self.n) if number not in self.done]
        self.thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.ended = True
        self.finished.put("")
        self.thread.join()

    def in_order(self) -> Iterator[Any]:
        """Yield what tasks say of themselves, by position."""
        for number in range(self.n):
            with self.changed:
                while number not in self.done and self.error is None:
                    self.changed.wait(1.0)
                if self.error is not None:
                    raise self.error
                yielded = self.done[number]
            yield yielded

    def _run(self) -> None:  # in a thread of its own, as all below
        self.seen = time.monotonic()
        try:
            while len(self.done) < self.n and not self.ended:
                self._look()
                self._give()
                try:
                    key = self.finished.get(timeout=LOOK)
                except queue.Empty:
                    continue
                if key in self.given:
                    self._took(self.given.pop(key), key)
        except BaseException as error:
            gone = self.client.status != "running" and not isinstance(error, HeadraceError)
            with self.changed:
                self.error = self._gone(error) if gone else error
                self.changed.notify_all()
        finally:
            futures = [one.future for one in self.given.values()]
            self.given.clear()
            if futures and self.client.status == "running":
                with suppress(Exception):  # whoever is gone has nothing to cancel
                    self.client.cancel(futures, force=True)

    def _look(self) -> None:
        """See who is there; tasks of those who are not are to be done again."""
        now = time.monotonic()
        if now - self.looked < LOOK:
            return
        self.looked = now
        try:
            if self.client.status != "running":
                raise OSError(f"the connection is {self.client.status}")
            self.there = dict(self.client.nthreads())
        except Exception as error:  # of whatever kind dask has
            if self.client.status not in ("running", "connecting") or now - self.seen > PATIENCE:
                raise self._gone(error) from error
            return
        if self.there:
            self.seen = now
        elif now - self.seen > PATIENCE:
            raise WorkersError(
                f"the dask scheduler at {self.workers.address} has had no worker for {PATIENCE:.0f} s {self._so_far}; "
                "start workers and run again, which goes on from there"
            )
        self.ready &= set(self.there)
        for key, one in list(self.given.items()):
            if one.worker not in self.there:
                del self.given[key]
                self._again(one, "is gone")

    def _gone(self, error: BaseException) -> WorkersError:
        return WorkersError(
            f"the dask scheduler at {self.workers.address} is gone ({first_line(error)}) {self._so_far}; start it and "
            "run again, which goes on from there"
        )

    @property
    def _so_far(self) -> str:
        return f"after {len(self.done)} of {self.n} ranges of pass {self.stage.number}"

    def _again(self, one: Given, why: str) -> None:
        """Have a task done again."""
        if one.number in self.done or any(other.number == one.number for other in self.given.values()):
            return
        self.lost[one.number] = self.lost.get(one.number, 0) + 1
        if self.lost[one.number] >= MOST_LOST:
            raise WorkersError(
                f"range {one.number} of pass {self.stage.number} has taken {self.lost[one.number]} workers down (the "
                f"last, {one.worker}, {why}): most likely they have less memory than they say; give a smaller memory=, "
                "or workers more"
            )
        self.workers.on_event(Notice(f"worker {one.worker} {why}: range {one.number} is done again"))
        self.todo.insert(0, one.number)

    def _give(self) -> None:
        """Give every worker what it may have."""
        for worker in self.there:
            has = sum(one.worker == worker for one in self.given.values())
            while has < AHEAD:
                number = self._next(worker, idle=not has)
                if number is None or not self._prepared(worker):
                    break
                self._submit(worker, number)
                has += 1

    def _next(self, worker: str, idle: bool) -> int | None:
        """Choose a task for a worker: one whose cells it has kept, the first that nobody has, or one that drags on."""
        likes = self.workers.likes
        if self.todo:
            own = [
                number for number in self.todo if likes.get(number) in (worker, None) or likes[number] not in self.there
            ]
            chosen = own[0] if own else (self.todo[-1] if idle else None)
            if chosen is not None:
                self.todo.remove(chosen)
            return chosen
        if not idle or not self.took:
            return None
        now, slow = time.monotonic(), max(SLOW_AT_LEAST, SLOW * statistics.median(self.took))
        alone = [one for one in self.given.values() if self._n_given(one.number) == 1 and now - one.since > slow]
        oldest = min(alone, key=lambda one: one.since, default=None)
        return None if oldest is None or oldest.worker == worker else oldest.number

    def _n_given(self, number: int) -> int:
        return sum(one.number == number for one in self.given.values())

    def _prepared(self, worker: str) -> bool:
        """Check a worker that is new, and send it what tasks need if it does not see the run's folder."""
        if worker in self.ready:
            return True
        try:
            if worker not in self.workers.known:
                self.workers.ask([worker])
            if self.workers.shared is None:
                for name in (JOB, stage_name(self.stage.number)):
                    self.client.run(put, *self.run, name, self.place.folder.read(name), workers=[worker])
        except HeadraceError:
            raise
        except Exception:  # it has gone meanwhile: the next look tells
            self.there.pop(worker, None)
            return False
        self.ready.add(worker)
        return True

    def _submit(self, worker: str, number: int) -> None:
        key = f"headrace-{self.stage.name}-{number}-{secrets.token_hex(4)}"
        options = {"key": key, "workers": [worker], "allow_other_workers": False, "pure": False}
        future = self.client.submit(self.function, *self.run, self.stage.number, number, *self.more, **options)
        self.given[key] = Given(number, worker, future, time.monotonic())
        future.add_done_callback(lambda _, key=key: self.finished.put(key))

    def _took(self, one: Given, key: str) -> None:
        """Take in what has come of a task."""
        status = one.future.status
        if one.number in self.done:
            return
        if status == "finished":
            try:
                result = self._answer(one)
                if result is not None and self.function is task:
                    self._fetch(one, result)
            except HeadraceError:
                raise
            except Exception as error:
                self._again(one, f"did not answer ({first_line(error)})")
                return
            if result is None:  # it was restarted, and knows nothing of the run
                self.ready.discard(one.worker)
                self.workers.known.pop(one.worker, None)
                self._again(one, "was restarted")
                return
            self.took.append(time.monotonic() - one.since)
            self.workers.likes[one.number] = one.worker
            with self.changed:
                self.done[one.number] = result
                self.changed.notify_all()
            return
        if status == "error":
            failed = one.future.exception()
            if isinstance(failed, HeadraceError):
                raise failed
            kind = type(failed).__name__
            if kind not in GONE:
                where = f"worker {one.worker}, range {one.number} of pass {self.stage.number}"
                raise WorkersError(f"{where}: {kind}: {first_line(failed)}") from failed
        self._again(one, "is gone")

    def _answer(self, one: Given) -> Any:
        """Return what a task says; `TimeoutError` if its worker went before it was asked: dask would wait for ever."""
        for _ in range(int(PATIENCE / LOOK)):
            with suppress(TimeoutError):
                return one.future.result(timeout=LOOK)
            if one.worker not in self.client.nthreads():
                break
        raise TimeoutError("it went before it was asked")

    def _fetch(self, one: Given, done: Done) -> None:
        """Bring what a task has left to the folder of the run, if it is not there."""
        if self.workers.shared is not None:
            return
        on = {"workers": [one.worker], "allow_other_workers": False, "pure": False}
        names = [state_name(self.stage.number, one.number)]
        if done.lengths:
            names.insert(0, cells_name(self.stage.number, one.number))  # the state says that all is there
        for name in names:
            total = self.client.submit(size, *self.run, name, **on).result(timeout=PATIENCE)
            with written_within(self.place.folder.handle, name, shared=True) as file:
                for start in range(0, total, PIECE):
                    write_all(file, self.client.submit(piece, *self.run, name, start, **on).result(timeout=PATIENCE))
        self.client.submit(forget, *self.run, self.stage.number, one.number, **on).result(timeout=PATIENCE)
