"""A dask cluster: the passes of a plan are done by its workers. No task graph: a few tasks a worker at a time."""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from ..errors import InputError, first_line
from ..events import Listener, Notice
from ..preparer import Preparer
from ..support.given import check_fields, check_range
from ..support.memory import available, n_cores
from .cluster_tasks import Tasks
from .cluster_worker import about, forget, ready, together, versions
from .elsewhere import Crew, Elsewhere
from .place import Done, Job, Place, Stage
from .ranges import groups

LARGEST_RANGE = 1 << 28
"""Non-zeros of a task, at most: some seconds to a minute of work."""

RANGES_A_WORKER = 8
"""Tasks that each worker gets in a pass, at least, if there are chunks for that: so that none waits long at the end."""

RANGES = 32
"""Tasks of a pass, at least: the file waits for the first of them, and nobody has work while the last is written."""

MANY = 8
"""Workers from which on they make chunks ready for the file: one process that unpacks for all of them would be late."""

STARTING = 60.0
"""Seconds that a scheduler has to answer."""


@dataclass(frozen=True, eq=False)
class Distributed(Elsewhere):
    """The workers of a dask cluster do the passes; needs `pip install 'headrace[dask]'`.

    Parameters
    ----------
    cluster
        A `distributed.Client`, or the address of a scheduler, e.g. "tcp://10.0.0.1:8786". None: processes of this
        machine, for as long as a run takes.
    n_workers
        How many of these; by default one for each processor. Not with a cluster that is there.

    Raises
    ------
    InputError
        If dask is not installed, nothing answers at the address, or it has no workers.

    Notes
    -----
    `memory=` is the budget of each worker. Files are shared with the workers if they see the folder of `spool=`; else
    what they make is fetched from them. In a script, processes of this machine are started below
    `if __name__ == "__main__":`, as always with Python.

    Examples
    --------
    >>> Distributed(n_workers=2)
    Distributed(n_workers=2)
    """

    cluster: str | Any | None = None
    n_workers: int | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        check_range(self, "n_workers", 1, 4096)
        if self.cluster is not None and self.n_workers is not None:
            raise InputError("Distributed: n_workers= is of processes of this machine; leave it out, or the cluster")
        try:
            import distributed
        except ImportError:
            raise InputError(
                "Distributed needs dask's scheduler, which is not installed: pip install 'headrace[dask]'"
            ) from None
        cluster: Any = self.cluster
        of_dask = isinstance(cluster, (distributed.Client, distributed.deploy.cluster.Cluster))
        if cluster is not None and not of_dask and not (isinstance(cluster, str) and cluster and cluster.isprintable()):
            raise InputError(
                f"Distributed(cluster={cluster!r:.100}): it takes a distributed.Client, a cluster of dask, or a "
                f"scheduler's address, not {type(cluster).__name__}"
            )

    def __repr__(self) -> str:
        of = "" if self.cluster is None else repr(self.cluster)
        return f"Distributed({of if self.n_workers is None else f'n_workers={self.n_workers}'})"

    @cached_property
    def token(self) -> str:
        """What tells runs of data in memory apart."""
        return secrets.token_hex(16)

    @cached_property
    def _n(self) -> int:
        return self.n_workers or n_cores()

    @property
    def in_flight(self) -> int:
        """Chunks that each worker works on at once: the threads of the smallest."""
        if self.cluster is None:
            return max(1, n_cores() // self._n)
        with self._client() as client:
            threads = client.nthreads()
        return int(min(threads.values(), default=1))

    @contextmanager
    def _client(self) -> Iterator[Any]:
        """Yield a client of the cluster; one that was made here is closed, as is a cluster."""
        import distributed

        Client: Any = distributed.Client  # it has no types
        LocalCluster: Any = distributed.LocalCluster

        if isinstance(self.cluster, Client):
            yield self.cluster
            return
        if self.cluster is None:
            options: dict[str, Any] = {
                "n_workers": self._n,
                "threads_per_worker": max(1, n_cores() // self._n),
                "processes": True,
                "dashboard_address": ":0",
                "memory_limit": available() // self._n,
                "silence_logs": logging.CRITICAL,
            }
            with LocalCluster(**options) as cluster, Client(cluster) as client:
                yield client
            return
        try:
            client = Client(self.cluster, timeout=STARTING)
        except (OSError, ValueError, TypeError) as error:
            raise InputError(
                f"no dask scheduler answers at {self.cluster!r}: {first_line(error)}; is it running?"
            ) from error
        with client:
            yield client

    @contextmanager
    def crew(self, place: Place, memory: int, on_event: Listener) -> Iterator[Crew]:
        """Begin a run."""
        with self._client() as client:
            made = Workers(client, place, memory, on_event)
            try:
                yield made
            finally:
                made.close()


@dataclass
class Workers(Crew):
    """The workers of one run.

    Parameters
    ----------
    client
        Of dask.
    place
        The folder of the run, where it ends up.
    memory
        The budget of each, in bytes.
    """

    client: Any
    place: Place
    memory: int
    on_event: Listener
    files: list[str] = field(default_factory=list)
    shared: str | None = None
    at_home: dict[str, dict[int, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.known: dict[str, dict[str, Any]] = {}
        self.likes: dict[int, str] = {}
        self.address = str(self.client.scheduler.address)
        found = self.ask(None)
        if not found:
            raise InputError(f"the dask scheduler at {self.address} has no workers; start some, or wait for them")
        if all(one["shares"] for one in found.values()):
            self.shared = str(self.place.path)
        else:
            n = sum(not one["shares"] for one in found.values())
            self.on_event(
                Notice(
                    f"{n} of {len(found)} workers do not see {self.place.path}: what they make is fetched from them; "
                    "with spool= in a folder that all share it is not"
                )
            )

    @property
    def n_workers(self) -> int:
        """How many workers there are now, or were when the scheduler was still there."""
        try:
            return len(self.client.nthreads())
        except Exception:  # of whatever kind dask has; the first task says so
            return len(self.known)

    def ask(self, workers: list[str] | None) -> dict[str, dict[str, Any]]:
        """Ask workers what they are, all by default; raise if one cannot be used.

        Raises
        ------
        InputError
            With what is wrong and what to do.
        """
        mark = f"mark-{secrets.token_hex(8)}"
        self.place.save(mark, None)
        try:
            found = self.client.run(about, str(self.place.path / mark), self.files, workers=workers, on_error="return")
        finally:
            self.place.folder.remove(mark)
        own = versions()
        for where, one in found.items():
            if isinstance(one, OSError):
                continue  # it goes just now, or is restarted
            if isinstance(one, Exception):
                raise InputError(
                    f"worker {where} cannot run headrace: {first_line(one)}; install headrace {own['headrace']} there"
                ) from one
            for name, mine in own.items():
                theirs = one["versions"].get(name)
                if theirs != mine:
                    raise InputError(
                        f"worker {where} has {name} {theirs}, this process has {mine}: results might differ; install "
                        "the same versions everywhere"
                    )
            if one["missing"]:
                raise InputError(
                    f"worker {where} does not see {one['missing'][0]}; put it in a folder that all workers share, "
                    "under the same name"
                )
            if one["memory"] and one["memory"] < self.memory:
                raise InputError(
                    f"worker {where} may take {one['memory'] / 1e6:,.0f} MB, and memory= is "
                    f"{self.memory / 1e6:,.0f} MB for each; start workers with a larger --memory-limit, or give a "
                    "smaller memory="
                )
        answered = {where: one for where, one in found.items() if not isinstance(one, OSError)}
        self.known.update(answered)
        return answered

    def ranges(self, n_chunks: int, nnz: int) -> int:
        """Return into how many ranges so many chunks are cut."""
        wanted = max(RANGES, RANGES_A_WORKER * len(self.known), -(-nnz // LARGEST_RANGE))
        return max(1, min(n_chunks, wanted))

    def perform(self, stage: Stage, job: Job) -> Iterator[Done]:
        """Have all tasks of a pass done; yield them by position."""
        files = [os.fspath(path) for path in job.source.files]
        if files != self.files:
            self.files = files
            self.ask(None)
        with Tasks(self, stage, len(job.ranges)) as tasks:
            yield from tasks.in_order()

    def prepares(self, preparer: Preparer) -> bool:
        """Whether workers see each other's files, and it pays."""
        return self.shared is not None and (len(self.known) >= MANY or (preparer.costly and len(self.known) > 1))

    def prepare(self, stage: Stage, job: Job) -> Iterator[int]:
        """Have the cells of a pass made ready; yield the ranges by position."""
        with Tasks(self, stage, len(job.ranges), ready) as tasks:
            for number, _ in enumerate(tasks.in_order()):
                yield number

    def merge(self, place: Place, stage: Stage, level: int, among: int) -> None:
        """Have the states of a level merged by the workers, if they see them."""
        if self.shared is None:
            super().merge(place, stage, level, among)
            return
        with Tasks(self, stage, len(groups(among)), together, (level, among)) as tasks:
            for _ in tasks.in_order():
                pass

    def close(self) -> None:
        """Have the workers forget the run; those that are gone have."""
        with suppress(Exception):
            self.client.run(forget, self.shared, self.place.path.name, None, None, on_error="ignore")


__all__ = ["Distributed", "Workers"]
