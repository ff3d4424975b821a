"""Passes that other processes do: the run hands out ranges of cells, and takes in what comes of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from itertools import pairwise
from typing import Any

from ..chunk import Chunk
from ..events import ChunkDone, Listener
from ..preparer import Preparer
from ..protocols import Accumulator, Executor, Transform
from .place import JOB, Done, Job, Place, Stage, asked_name, stage_name
from .ranges import TOGETHER, fold_states, groups, merge_some
from .schedule import Node, Pass


class Crew(ABC):
    """Those who do the tasks of one run."""

    keeps_ready = False
    """Whether what was made ready for the file stays when it is in it."""

    @property
    @abstractmethod
    def n_workers(self) -> int:
        """How many processes there are now."""

    @abstractmethod
    def ranges(self, n_chunks: int, nnz: int) -> int:
        """Return into how many ranges so many chunks are cut."""

    @abstractmethod
    def perform(self, stage: Stage, job: Job) -> Iterator[Done]:
        """Have all tasks of a pass done; yield them by position, when what they leave is in the run's folder."""

    def prepares(self, preparer: Preparer) -> bool:
        """Whether they make cells ready for the file, so that this process only copies."""
        return False

    def prepare(self, stage: Stage, job: Job) -> Iterator[int]:
        """Have the cells of a pass made ready; yield the ranges by position."""
        raise NotImplementedError

    def merge(self, place: Place, stage: Stage, level: int, among: int) -> None:
        """Have the states of a level merged, group by group; here, if nobody else does it."""
        for group in range(len(groups(among))):
            merge_some(place, stage.number, level, group, among)


class Elsewhere(Executor):
    """An executor whose workers are other processes. What is too small for them is done in this thread."""

    @property
    @abstractmethod
    def token(self) -> str:
        """What tells runs of data apart that have no identity of their own: data in memory."""

    @abstractmethod
    def crew(self, place: Place, memory: int, on_event: Listener) -> AbstractContextManager[Crew]:
        """Begin a run in a folder; `memory` is the budget of each process, in bytes."""

    def map(self, fn: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        """Yield `fn(item)` for every item, in order."""
        return map(fn, items)


def cut(refs: Sequence[Any], n: int) -> tuple[tuple[Any, ...], ...]:
    """Cut references into so many ranges, some of them empty if there are fewer references.

    Examples
    --------
    >>> cut("abcde", 3)
    (('a',), ('b', 'c'), ('d', 'e'))
    """
    edges = [i * len(refs) // n for i in range(n + 1)]
    return tuple(tuple(refs[a:b]) for a, b in pairwise(edges))


class Spread:
    """The passes of one run over its source, done elsewhere.

    Parameters
    ----------
    job
        What every task needs. If the folder has one of an earlier run of the plan, that is gone on with.
    """

    def __init__(self, place: Place, crew: Crew, job: Job, on_event: Listener) -> None:
        self.place, self.crew, self.on_event = place, crew, on_event
        earlier = place.load(JOB)
        refs = [ref for one in job.ranges for ref in one]
        if isinstance(earlier, Job) and [ref for one in earlier.ranges for ref in one] == refs:
            self.job = earlier
        else:
            for name in place.folder.names():
                if name.startswith("pass-"):
                    place.folder.remove(name)  # of other ranges
            self.job = job
            place.save(JOB, job)

    def stage(self, current: Pass, number: int, before: Sequence[Transform], nodes: Sequence[Node], obs: Any) -> Stage:
        """Leave in the folder what the tasks of a pass need."""
        stage = Stage(number, (*before, *current.path), obs, tuple(node.transform for node in nodes))
        there = self.place.load(stage_name(number))
        if there is None:
            self.place.save(stage_name(number), stage)
        else:  # made by an earlier run, maybe on another machine: what was done since goes by it
            for node, transform in zip(nodes, there.transforms, strict=True):
                node.transform = transform if transform is not None else node.transform
        return self.place.needed(stage_name(number))  # type: ignore[no-any-return] # it was just put there

    def fold(self, stage: Stage, into: Sequence[Accumulator[Any]]) -> int:
        """Do a pass that does not write; return how many cells came to its end."""
        found = self.place.load(f"{stage.name}.merged")
        if found is None:
            n_obs = came = nnz = 0
            for done in self.crew.perform(stage, self.job):
                self.on_event(ChunkDone(done.n_obs, done.nnz))
                n_obs, came, nnz = n_obs + done.n_obs, came + done.came, nnz + done.nnz
            self.take_in(stage, into)
            self.place.save(f"{stage.name}.merged", (n_obs, came, nnz, list(into)))
            return came
        n_obs, came, nnz, states = found
        self.on_event(ChunkDone(n_obs, nnz))
        for mine, theirs in zip(into, states, strict=True):
            mine.merge(theirs)
        return int(came)

    def cells(self, stage: Stage, preparer: Preparer | None = None) -> Iterator[Chunk]:
        """Do the pass that writes; yield what comes out, in order, as the preparer makes it where that pays."""
        performed = self.crew.perform(stage, self.job)
        if preparer is None or not self.crew.prepares(preparer):
            for done in performed:
                self.on_event(ChunkDone(done.n_obs, done.nnz))
                yield from self.place.cells(stage, done)
            return
        before, so_far = [], Counter[str]()
        for done in performed:
            self.on_event(ChunkDone(done.n_obs, done.nnz))
            before.append(dict(so_far))
            so_far.update(done.stored)
        self.place.save(asked_name(stage.number), (preparer, before))
        for number in self.crew.prepare(stage, self.job):
            yield from self.place.ready(stage, number, preparer, self.crew.keeps_ready)

    def take_in(self, stage: Stage, into: Sequence[Accumulator[Any]]) -> None:
        """Merge what all tasks of a pass have found, in a tree by position."""
        if not into:
            return
        level, n = 0, len(self.job.ranges)
        while n > TOGETHER:
            self.crew.merge(self.place, stage, level, n)
            level, n = level + 1, len(groups(n))
        fold_states(self.place, Stage(stage.number, tuple(into), None, ()), level, range(n))


__all__ = ["Crew", "Elsewhere", "Spread", "cut", "merge_some"]
