"""The folder of a run that several processes do: what its tasks need, and what they leave."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from ..chunk import Chunk
from ..errors import SourceError
from ..preparer import Preparer
from ..protocols import Accumulator, Source, Transform
from ..support.private import Folder, own_folder
from .encoded import decode
from .states import load, save

JOB = "job"


@dataclass(frozen=True, eq=False)
class Job:
    """What every task of a plan needs.

    Parameters
    ----------
    source
        The plan's, made to read within the memory of one process.
    obs
        No rows: the columns of the source's cells.
    ranges
        References to the chunks of each range, in order.
    memory
        The budget of one process, in bytes.
    spooled
        Whether what is read is kept for later passes.
    identity
        Of the source when the run began; empty for data in memory.
    """

    source: Source[Any]
    obs: pd.DataFrame
    ranges: tuple[tuple[Any, ...], ...]
    memory: int
    spooled: bool
    identity: str = ""

    def checked(self) -> Job:
        """Return it, or raise `SourceError` if this process sees other cells or values than the run began with."""
        if self.identity and self.source.identity() != self.identity:
            raise SourceError(
                "the source is not what the run began with: it was changed meanwhile, or another copy of it is here; "
                "begin a new run"
            )
        return self


@dataclass(frozen=True, eq=False)
class Stage:
    """What every task of one pass needs.

    Parameters
    ----------
    number
        Of the pass, from 1.
    path
        What each chunk goes through: transforms, and accumulators that are empty.
    obs
        No rows: the columns of the cells that are written; None if none are.
    transforms
        What each step of the plan has become, or None.
    """

    number: int
    path: tuple[Transform | Accumulator[Any], ...]
    obs: pd.DataFrame | None
    transforms: tuple[Transform | None, ...]

    @property
    def name(self) -> str:
        """What its files' names begin with."""
        return f"pass-{self.number}"

    @property
    def accumulators(self) -> list[Accumulator[Any]]:
        """Those on the path."""
        return [stop for stop in self.path if isinstance(stop, Accumulator)]


@dataclass(frozen=True)
class Done:
    """What a task says of itself.

    Parameters
    ----------
    number
        Of the range.
    n_obs, came, nnz
        Cells that were read, cells and non-zeros that were left.
    lengths
        Bytes of each chunk that was written.
    seconds
        How long it took.
    stored
        Non-zeros of each matrix that was written, by its name in a file.
    """

    number: int
    n_obs: int
    came: int
    nnz: int
    lengths: tuple[int, ...] = ()
    seconds: float = 0.0
    stored: Mapping[str, int] = field(default_factory=dict)


def stage_name(number: int) -> str:
    """Return the name of what every task of a pass needs."""
    return f"pass-{number}.stage"


def state_name(stage: int, number: int) -> str:
    """Return the name of what a task leaves."""
    return f"pass-{stage}-{number:06d}.state"


def cells_name(stage: int, number: int) -> str:
    """Return the name of the cells that a task leaves."""
    return f"pass-{stage}-{number:06d}.cells"


def asked_name(stage: int) -> str:
    """Return the name of what is needed to make cells ready for the file."""
    return f"pass-{stage}.asked"


def ready_name(stage: int, number: int, piece: int | None = None) -> str:
    """Return the name of a chunk of them that is ready for the file; without its number, of what says how many."""
    return f"pass-{stage}-{number:06d}.ready" + ("" if piece is None else f"-{piece:06d}")


def merged_name(stage: int, level: int, group: int) -> str:
    """Return the name of states that were merged."""
    return f"pass-{stage}-{group:06d}.merged-{level}"


@dataclass(frozen=True)
class Place:
    """The folder of a run, held open. Its name is the plan's fingerprint.

    Parameters
    ----------
    path, folder
        Where it is.
    """

    path: Path
    folder: Folder

    @staticmethod
    @contextmanager
    def at(path: Path) -> Iterator[Place]:
        """Hold a folder within the block; raise `OutputError` if it is not one's own."""
        with own_folder(path, "the run's folder", "choose another folder with spool=") as folder:
            yield Place(path, folder)

    def save(self, name: str, value: Any) -> None:
        """Leave a value."""
        save(self.folder, name, value, [self.path.name, name])

    def load(self, name: str) -> Any:
        """Return a value; None if it is not there or not as it was written, and then it is removed."""
        try:
            return load(self.folder, name, [self.path.name, name])
        except FileNotFoundError:
            return None
        except ValueError:
            self.folder.remove(name)
            return None

    def needed(self, name: str) -> Any:
        """Return a value, or raise `SourceError`."""
        value = self.load(name)
        if value is None:
            raise SourceError(f"{self.path / name} is gone or damaged; run again, which makes it anew")
        return value

    def done(self, stage: int, number: int) -> Done | None:
        """Return what a task says of itself if all that it leaves is there."""
        found = self.load(state_name(stage, number))
        if found is None:
            return None
        done: Done = found[0]
        if done.lengths and self._size(cells_name(stage, number)) != sum(done.lengths):
            return None
        return done

    def cells(self, stage: Stage, done: Done) -> Iterator[Chunk]:
        """Yield the chunks that a task has written, in order.

        Raises
        ------
        SourceError
            If they are damaged; they are removed then.
        """
        if not done.lengths:
            return
        assert stage.obs is not None
        name = cells_name(stage.number, done.number)
        try:
            with self.folder.open(name) as file:
                for length in done.lengths:
                    yield decode(file.read(length), stage.obs)
        except (OSError, ValueError) as error:
            self.folder.remove(name)
            raise SourceError(
                f"{self.path / name} is damaged or gone ({error}); run again, which makes it anew"
            ) from None

    def ready(self, stage: Stage, number: int, preparer: Preparer, keep: bool = False) -> Iterator[Chunk]:
        """Yield the chunks of a range that are ready for the file, in order. They are removed on the way, or kept.

        Raises
        ------
        SourceError
            If one is damaged or gone: the next run makes all of the range again.
        """
        assert stage.obs is not None
        said = ready_name(stage.number, number)
        pieces, of = self.needed(said)
        assert of == preparer, "they are made anew for a file that is stored otherwise"
        if not keep:
            self.folder.remove(said)
        for piece in range(pieces):
            name = ready_name(stage.number, number, piece)
            try:
                prepared = self.needed(name)
            except SourceError:
                self.folder.remove(said)
                raise
            yield preparer.taken(prepared, stage.obs)
            if not keep:
                self.folder.remove(name)  # its arrays can still be read

    def _size(self, name: str) -> int:
        with suppress(OSError):
            return os.stat(name, dir_fd=self.folder.handle, follow_symlinks=False).st_size
        return -1
