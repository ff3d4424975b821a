"""An executor whose tasks somebody else starts, and what it says while it waits for them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ..errors import InputError
from ..events import Listener
from ..preparer import Preparer
from .elsewhere import Crew, Elsewhere
from .place import Done, Job, Place, Stage, ready_name


class Incomplete(Exception):  # noqa: N818 # nothing is wrong
    """A pass waits for shards, or the pass that writes for `assemble`.

    Parameters
    ----------
    number
        Of the pass.
    missing
        Shards that are not done.
    """

    def __init__(self, number: int, missing: list[int]) -> None:
        super().__init__(f"pass {number} waits for {len(missing)} shards")
        self.number, self.missing = number, missing


@dataclass(frozen=True)
class Shards(Elsewhere):
    """An executor whose tasks somebody else starts; see `begin`.

    Parameters
    ----------
    n
        Ranges.
    token
        What tells this run from others.
    in_flight
        Chunks that each task works on at once.
    fingerprint
        Of the run, if it has begun.
    assembling
        Whether cells are asked for, or only that all is ready.
    preparing
        Whether shards make chunks ready for the file, after the last pass.
    """

    n: int
    token: str = ""
    in_flight: int = 1
    fingerprint: str = ""
    assembling: bool = False
    preparing: bool = False

    @contextmanager
    def crew(self, place: Place, memory: int, on_event: Listener) -> Iterator[Crew]:
        """Begin, or go on."""
        if self.fingerprint and place.path.name != self.fingerprint:
            raise InputError(
                "the cells are not those of the plan: the source was changed since, or headrace was; make a new plan "
                "in another folder"
            )
        yield Left(self, place)


@dataclass
class Left(Crew):
    """Takes in what tasks have left."""

    shards: Shards
    place: Place
    n_workers: int = 0
    keeps_ready = True

    def ranges(self, n_chunks: int, nnz: int) -> int:
        """Return the number of shards."""
        return self.shards.n

    def perform(self, stage: Stage, job: Job) -> Iterator[Done]:
        """Yield what tasks say of themselves, or raise `Incomplete` before the first."""
        found = [self.place.done(stage.number, number) for number in range(len(job.ranges))]
        missing = [number for number, done in enumerate(found) if done is None]
        if missing or (stage.obs is not None and not (self.shards.assembling or self.shards.preparing)):
            raise Incomplete(stage.number, missing)
        yield from (done for done in found if done is not None)

    def prepares(self, preparer: Preparer) -> bool:
        """Whether the plan says so."""
        return self.shards.preparing

    def prepare(self, stage: Stage, job: Job) -> Iterator[int]:
        """Yield the ranges by position, or raise `Incomplete` before the first."""
        names = self.place.folder.names()
        missing = [number for number in range(len(job.ranges)) if ready_name(stage.number, number) not in names]
        if missing or not self.shards.assembling:
            raise Incomplete(stage.number, missing)
        yield from range(len(job.ranges))
