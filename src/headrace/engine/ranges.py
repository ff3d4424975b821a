"""Ranges of cells: what a task does of a pass, in whatever process, and how the results come together.

A task reads its range, takes it through the path of the pass, and leaves two files in the run's folder: what the
accumulators hold, and of a pass that writes the cells that came out. Files appear whole or not at all and are the same
whoever makes them, so that a task may be done again, twice at once, or not at all if its files are there.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from ..chunk import Chunk
from ..errors import OutputError, SourceError
from ..preparer import non_zeros
from ..protocols import Accumulator, Executor, Source, Transform
from ..support.allocator import release_freed_memory
from ..support.atomic import write_all, written_within
from ..support.memory import resident
from ..support.shortage import remedy
from .encoded import encode
from .place import Done, Job, Place, Stage, asked_name, cells_name, merged_name, ready_name, stage_name, state_name
from .schedule import lock_of, run_path
from .spool import Spool

Path_ = tuple[Transform | Accumulator[Any], ...]
Item = tuple[Any, Chunk | None]
"""A reference to a chunk, and the chunk; None where a spool has it."""

PRESSURE = 0.85
"""The part of the budget from which on freed memory goes back to the system: the heap is fragmented by then."""

PRESSURE_EVERY = 4  # chunks between two measurements of it

TOGETHER = 16
"""States that are merged at once: as many files are open."""


# ----------------------------------------------------------------------------------------------------- one task
def perform(place: Place, stage: Stage, number: int, job: Job, executor: Executor) -> Done:
    """Do a task, unless what it leaves is there.

    Parameters
    ----------
    stage
        Read for this task: its accumulators are filled.
    number
        Of the range.
    executor
        How many chunks are worked on at once.
    """
    done = place.done(stage.number, number)
    if done is not None:
        return done
    started = time.monotonic()
    refs = job.ranges[number]
    cells = Cells(job.source, Spool(place.path, job.obs, True, [place.folder]) if job.spooled else None)
    for stop in stage.accumulators:
        stop.use_scratch(place.path)
    n_obs = came = nnz = 0
    lengths: list[int] = []
    matrices: Counter[str] = Counter()
    name = cells_name(stage.number, number)
    with _written(place, name, stage.obs is not None) as file:
        for read, chunk in through(cells.read(refs), cells.kept, stage.path, executor, job.memory):
            n_obs, came, nnz = n_obs + read, came + chunk.n_obs, nnz + chunk.nnz
            if file is not None and chunk.n_obs:
                stored = encode(chunk)
                write_all(file, stored)
                lengths.append(len(stored))
                matrices.update(non_zeros(chunk))
    done = Done(number, n_obs, came, nnz, tuple(lengths), time.monotonic() - started, dict(matrices))
    place.save(state_name(stage.number, number), (done, stage.accumulators))
    return done


def prepare(place: Place, stage: Stage, number: int) -> int:
    """Make the cells that a task has written ready for the file, unless they are; return how many chunks they are.

    What is asked for (`asked_name`) is the preparer, and the non-zeros of each matrix before each range.
    """
    name = ready_name(stage.number, number)
    preparer, before = place.needed(asked_name(stage.number))
    there = place.load(name)
    if there is not None and there[1] == preparer:  # an earlier run may have been of a file that is stored otherwise
        return int(there[0])
    at, done = Counter(before[number]), place.done(stage.number, number)
    if done is None:
        raise SourceError(f"range {number} of pass {stage.number} is gone from {place.path}; run again")
    pieces = 0
    for chunk in place.cells(stage, done):
        place.save(ready_name(stage.number, number, pieces), preparer.prepare(chunk, at))
        at.update(non_zeros(chunk))
        pieces += 1
    place.save(name, (pieces, preparer))
    return pieces


@contextmanager
def _written(place: Place, name: str, wanted: bool) -> Iterator[Any]:
    if not wanted:
        yield None
        return
    try:
        with written_within(place.folder.handle, name, shared=True) as file:
            yield file
    except OSError as error:
        raise OutputError(
            f"cannot write to {place.path}: {error.strerror}; "
            + remedy(error, "free some space or choose another folder with spool=")
        ) from error


def through(
    items: Generator[Item], kept: Any, path: Path_, executor: Executor, memory: int
) -> Generator[tuple[int, Chunk]]:
    """Take chunks through the path of a pass; yield the cells that each had, and what came out, in order."""
    locks = [lock_of(stop) for stop in path]

    def work(item: Item) -> tuple[int, Chunk]:
        chunk = kept(*item)
        return chunk.n_obs, run_path(path, locks, chunk).replaced(unlogged=None)  # nothing reads it any more

    with closing(items):  # an error keeps what it was raised in, and that would keep the input open
        for number, done in enumerate(executor.map(work, items)):
            yield done
            if number % PRESSURE_EVERY == 0 and resident() > PRESSURE * memory:
                release_freed_memory()


@dataclass
class Cells:
    """The cells of a source, kept in a spool that several processes share, if there is one."""

    source: Source[Any]
    spool: Spool | None
    there: set[Any] = field(default_factory=set)

    def read(self, refs: Sequence[Any]) -> Generator[Item]:
        """Yield each chunk with its reference; None where the spool has it."""
        if self.spool is not None:
            self.there = {ref for ref in refs if self.spool.path(ref.start, ref.stop).exists()}
        for there, group in groupby(refs, lambda ref: ref in self.there):
            run = list(group)
            if there:
                yield from ((ref, None) for ref in run)
            else:
                yield from zip(run, self.source.read(run), strict=True)

    def kept(self, ref: Any, chunk: Chunk | None) -> Chunk:
        """Keep a chunk that was read, or take it from the spool; what is damaged there is read again."""
        if chunk is None:
            assert self.spool is not None
            try:
                return self.spool.load(ref.start, ref.stop)
            except SourceError:
                (chunk,) = self.source.read([ref])
        if self.spool is not None:
            self.spool.store(ref.start, ref.stop, chunk)
        return chunk


# ------------------------------------------------------------------------------------------------ what comes together
def groups(n: int) -> list[range]:
    """Cut so many states into groups that are merged at once, by position."""
    return [range(start, min(start + TOGETHER, n)) for start in range(0, n, TOGETHER)]


def merge_some(place: Place, number: int, level: int, group: int, among: int) -> None:
    """Merge the states of one group of a pass into a file of the next level, unless it is there."""
    name = merged_name(number, level + 1, group)
    if place.load(name) is not None:
        return
    stage = place.needed(stage_name(number))
    fold_states(place, stage, level, groups(among)[group])
    place.save(name, (None, stage.accumulators))


def fold_states(place: Place, stage: Stage, level: int, numbers: Iterable[int]) -> None:
    """Add states to the accumulators of a stage."""
    for number in numbers:
        name = state_name(stage.number, number) if level == 0 else merged_name(stage.number, level, number)
        _, states = place.needed(name)
        for mine, theirs in zip(stage.accumulators, states, strict=True):
            mine.merge(theirs)


__all__ = ["Cells", "Done", "Job", "Place", "Stage", "fold_states", "groups", "merge_some", "perform", "prepare"]
