"""How a plan is run, and how its memory is divided."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..chunk import StreamSpec
from ..events import Listener, ignore
from ..protocols import Executor, Source, Step
from ..support.memory import MAX_CHUNK_NNZ, Budget, default_budget, divide, n_cores, parse_bytes
from ..support.places import absolute, temporary
from .executors import Serial, Threads
from .schedule import source_passes


@dataclass(frozen=True)
class Settings:
    """How a plan is run; none of it changes the result.

    Parameters
    ----------
    memory
        The budget, in bytes.
    executor
        None for threads on all processors.
    spool
        Folder for spools; None for the system's temporary folder, and only for plans of several passes.
    resume
        Whether to go on from the parts that an interrupted run of the same plan has left, and to keep such parts of a
        source that is far away and read once.
    keep_spool
        Whether to leave the parts when the output is in place.
    """

    memory: int
    executor: Executor | None = None
    on_event: Listener = ignore
    spool: Path | None = None
    resume: bool = True
    keep_spool: bool = False

    def keeps(self, source: Source[Any], steps: Sequence[Step]) -> bool:
        """Return whether a spool is kept: for several passes over the source, or to go on with one from far away."""
        passes = source_passes(steps)
        return source.spooled and (passes > 1 or (self.spool is not None and self.resume and bool(source.traffic)))

    def place(self, source: Source[Any], steps: Sequence[Step]) -> Path | None:
        """Return the folder that the spool will be in, or None if there will be none."""
        return (self.spool or temporary()) if self.keeps(source, steps) else None

    def __post_init__(self) -> None:
        if self.spool is not None:  # the process may be in another folder when it is used
            object.__setattr__(self, "spool", absolute(self.spool))

    def workers(self) -> Executor:
        """Return the executor."""
        cores = n_cores()
        return self.executor or (Threads(cores, cores) if cores > 1 else Serial())


def bytes_of(memory: int | str | None) -> int:
    """Read a budget; None is the default one."""
    return default_budget() if memory is None else parse_bytes(memory)


def budget_of(
    source: Source[Any],
    steps: Sequence[Step],
    out: StreamSpec,
    settings: Settings,
    over_source: Sequence[Step],
    statistics: int = 0,
) -> Budget:
    """Divide the memory among what a plan needs.

    Parameters
    ----------
    out
        What comes out of the steps.
    over_source
        Those of the steps whose passes are over the source.
    statistics
        Bytes of what looks at the cells besides the steps.
    """
    spec, dense = source.spec, 0
    for step in steps:
        statistics += step.memory(spec)
        spec = step.preview(spec)
        dense = max(dense, spec.n_vars if step.densifies else 0)
    in_flight, spooled = settings.workers().in_flight, settings.keeps(source, over_source)
    return divide(
        settings.memory,
        out,
        source.within(settings.memory // 4).cost(),
        statistics=statistics,
        in_flight=in_flight,
        dense=dense,
        spooled=spooled,
        once=spooled and source_passes(over_source) == 1,
        most=source.most_nnz or MAX_CHUNK_NNZ,
    )
