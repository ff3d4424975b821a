"""A run whose tasks somebody else starts: a folder of files, one shard a task, no process that has to stay.

`begin` writes the plan and its ranges, `work` does the next step of one shard, `merge` brings a pass together and
begins the next, `assemble` writes the file. Each may be repeated, and be done twice at once. If the plan says how the
file is stored, shards make its chunks after the last pass, and `assemble` only copies.
"""

from __future__ import annotations

import json
import os
import secrets
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import InputError, OutputError
from ..events import Listener, ignore
from ..protocols import Executor, Sink
from ..sinks.discard import Discard, Prepares
from ..sinks.h5ad.sink import H5ad
from ..support.atomic import write_atomically
from ..support.memory import n_cores
from ..support.places import absolute, look
from .executors import Serial, Threads
from .place import JOB, Done, Place, asked_name, ready_name, stage_name, state_name
from .plan import Plan
from .ranges import perform, prepare
from .schedule import passes, source_passes
from .settings import Settings
from .shards import Incomplete, Shards

ABOUT, PLAN = "queue.json", "plan"
VERSION = 1

DEFAULTS = {"compression": None, "checksum": True, "counts": "float32"}
"""How a file is stored if nothing is said."""


@dataclass(frozen=True)
class About:
    """What `queue.json` says of a run."""

    shards: int
    passes: list[str]
    memory: int
    threads: int
    token: str
    fingerprint: str = ""
    out: str | None = None
    stored: dict[str, Any] | None = None
    version: int = VERSION

    def shard(self, assembling: bool = False) -> Shards:
        """Return the executor."""
        return Shards(self.shards, self.token, self.threads, self.fingerprint, assembling, self.stored is not None)


@dataclass(frozen=True)
class Status:
    """How far a run has come.

    Parameters
    ----------
    number, total
        The pass that shards work on, and passes over the cells.
    missing
        Shards of it that are not done.
    size
        Bytes of all files.
    """

    folder: Path
    shards: int
    number: int
    total: int
    purposes: list[str]
    missing: list[int]
    size: int

    @property
    def next(self) -> str:
        """The command that goes on."""
        if self.missing:
            return f"headrace work {self.folder} --shard {self.missing[0]}"
        if self.number < self.total:
            return f"headrace merge {self.folder}"
        return f"headrace assemble {self.folder} --out FILE.h5ad"


def begin(
    plan: Plan,
    folder: str | os.PathLike[str],
    shards: int,
    memory: int,
    threads: int = 1,
    out: str | None = None,
    stored: dict[str, Any] | None = None,
) -> Status:
    """Write the plan and its ranges into a new folder.

    Parameters
    ----------
    shards
        Ranges into which the cells are cut, all of about the same number of non-zeros.
    memory
        The budget of each task, in bytes.
    threads
        Of each task.
    stored
        If given, shards make the chunks of the file: `compression`, `checksum` and `counts` of `Plan.write_h5ad`.

    Raises
    ------
    InputError
        If there is no such number of shards, or chunks are to be made of what are no cells but samples.
    OutputError
        If the folder has a run already, or cannot be written.
    """
    if shards < 1:
        raise InputError(f"shards={shards}: at least 1")
    if stored is not None and any(step.becomes_source for step in plan.steps):
        raise InputError("chunks of the file (--chunks) are made of cells, not of samples or groups; leave it out")
    path = absolute(folder)
    if look(path / ABOUT):
        raise OutputError(f"{path} has a plan already; choose another folder, or remove it")
    token = secrets.token_hex(16)
    # the pass that writes is the last, unless the stream ends in a step that becomes a source
    said = passes(plan.steps)[: source_passes(plan.steps)]
    names = [" + ".join(dict.fromkeys(names)) for names in said]
    about = About(shards, names, memory, threads, token, out=out, stored=stored)
    with Place.at(path) as place:
        place.save(PLAN, (plan.source, plan.steps))
        found: list[str] = []
        _go_on(plan, path, about, found.append)
        about = About(**{**vars(about), "fingerprint": found[0]})
        write_atomically(json.dumps(vars(about), indent=1).encode(), path / ABOUT, shared=True)
    return status(path)


def work(folder: str | os.PathLike[str], shard: int, executor: Executor | None = None) -> tuple[Done, int, bool]:
    """Do the next step of one shard, unless it is done.

    Returns
    -------
    What it says of itself, the number of the pass, and whether it was done before.

    Raises
    ------
    InputError
        If there is no such shard, or no plan.
    """
    path, about = _opened(folder)
    if not 0 <= shard < about.shards:
        raise InputError(f"shard {shard}: the run has shards 0 to {about.shards - 1}")
    with Place.at(path / about.fingerprint) as place:
        number = _stage(place)
        last = min(number, len(about.passes))
        before = place.done(last, shard)
        if before is not None and number == last:
            return before, number, True
        job, stage = place.needed(JOB).checked(), place.needed(stage_name(last))
        threads = min(about.threads, n_cores())
        done = perform(place, stage, shard, job, executor or (Threads(threads, threads) if threads > 1 else Serial()))
        if number == last:
            return done, number, False
        started, there = time.monotonic(), place.load(ready_name(last, shard)) is not None
        prepare(place, stage, shard)
    return replace(done, seconds=time.monotonic() - started), number, there


def merge(folder: str | os.PathLike[str], on_event: Listener = ignore) -> Status:
    """Bring together what the shards of a pass have found, and begin the next pass.

    Raises
    ------
    InputError
        If shards are missing.
    """
    now = status(folder)
    if now.missing and now.number <= now.total:
        raise InputError(f"pass {now.number} waits for {_shards(now.missing)}; go on with '{now.next}'")
    path, about = _opened(folder)
    with Place.at(path) as place:
        plan = Plan(*place.needed(PLAN))
    _go_on(plan, path, about, on_event=on_event)
    return status(folder)


def assemble(folder: str | os.PathLike[str], out: str | os.PathLike[str], **options: Any) -> Any:
    """Write the .h5ad file of a run; options are those of `Plan.write_h5ad`.

    Raises
    ------
    InputError
        If shards are missing, a pass has to be merged first, or the plan has said how the file is stored, and it is
        said again.
    """
    now = status(folder)
    if now.missing or now.number < now.total:
        waits = _shards(now.missing) if now.missing else "being merged"
        raise InputError(f"pass {now.number} of {now.total} waits for {waits}; go on with '{now.next}'")
    path, about = _opened(folder)
    with Place.at(path) as place:
        plan = Plan(*place.needed(PLAN))
    executor = about.shard(assembling=True)
    if about.stored is not None:
        said = [name for name, value in options.items() if name in about.stored and value != DEFAULTS[name]]
        if said:
            raise InputError(f"{path}: the plan says how the file is stored; leave {', '.join(said)} out")
        options |= about.stored
    return plan.write_h5ad(out, memory=about.memory, executor=executor, spool=path, keep_spool=True, **options)


def status(folder: str | os.PathLike[str]) -> Status:
    """Say how far a run has come."""
    path, about = _opened(folder)
    purposes = about.passes if about.stored is None else [*about.passes, "chunks of the file"]
    with Place.at(path / about.fingerprint) as place:
        number = _stage(place)
        names = place.folder.names()
        merged = f"pass-{number}.merged" in names
        left = [
            state_name(number, i) if number <= len(about.passes) else ready_name(number - 1, i)
            for i in range(about.shards)
        ]
        missing = [i for i, name in enumerate(left) if name not in names and not merged]
        size = sum(os.stat(name, dir_fd=place.folder.handle).st_size for name in names)
    return Status(path, about.shards, number, len(purposes), purposes, missing, size)


def _go_on(plan: Plan, path: Path, about: About, told: Any = None, on_event: Listener = ignore) -> None:
    """Go through all passes that are complete, and begin the next."""
    executor = about.shard()
    settings = Settings(about.memory, executor, on_event, path, True, True)
    sink: Sink = Discard() if about.stored is None else Prepares(H5ad(path / "none.h5ad", **about.stored))
    with suppress(Incomplete):
        plan.write(sink, settings)
    if told is not None:
        told(next(each.name for each in path.iterdir() if each.is_dir() and (each / JOB).exists()))


def _stage(place: Place) -> int:
    """Return the number of the pass that has begun last; chunks are made in one more than there are."""
    names = place.folder.names()
    number = 1
    while stage_name(number + 1) in names or asked_name(number) in names:
        number += 1
    return number


def _opened(folder: str | os.PathLike[str]) -> tuple[Path, About]:
    path = absolute(folder)
    try:
        said = json.loads((path / ABOUT).read_text())
        return path, About(**said)
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"{path} has no plan; 'headrace plan ... --out {path}' makes one") from error


def _shards(missing: list[int]) -> str:
    """Name some shards.

    Examples
    --------
    >>> _shards([3]), _shards([1, 2, 5])
    ('shard 3', '3 shards (1, 2, 5)')
    """
    if len(missing) == 1:
        return f"shard {missing[0]}"
    shown = ", ".join(map(str, missing[:12])) + (", ..." if len(missing) > 12 else "")
    return f"{len(missing)} shards ({shown})"
