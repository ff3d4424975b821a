"""A run whose tasks somebody else starts: a folder of files, one shard a task, no process that has to stay.

`begin` writes the plan and its ranges, `work` does the next step of one shard, `merge` brings a pass together and
begins the next, `assemble` writes the file. Each may be repeated, and be done twice at once.
"""

from __future__ import annotations

import json
import os
import secrets
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import InputError, OutputError
from ..events import Listener, ignore
from ..protocols import Executor
from ..sinks.discard import Discard
from ..support.atomic import write_atomically
from ..support.memory import n_cores
from .executors import Serial, Threads
from .place import JOB, Done, Place, stage_name, state_name
from .plan import Plan
from .ranges import perform
from .schedule import passes, source_passes
from .settings import Settings
from .shards import Incomplete, Shards

ABOUT, PLAN = "queue.json", "plan"
VERSION = 1


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
    version: int = VERSION

    def shard(self) -> Shards:
        """Return the executor."""
        return Shards(self.shards, self.token, self.threads, self.fingerprint)


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
    plan: Plan, folder: str | os.PathLike[str], shards: int, memory: int, threads: int = 1, out: str | None = None
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

    Raises
    ------
    InputError
        If there is no such number of shards.
    OutputError
        If the folder has a run already, or cannot be written.
    """
    if shards < 1:
        raise InputError(f"shards={shards}: at least 1")
    path = Path(os.path.abspath(folder))
    if (path / ABOUT).exists():
        raise OutputError(f"{path} has a plan already; choose another folder, or remove it")
    token = secrets.token_hex(16)
    # the pass that writes is the last, unless the stream ends in a step that becomes a source
    said = passes(plan.steps)[: source_passes(plan.steps)]
    about = About(shards, [" + ".join(dict.fromkeys(names)) for names in said], memory, threads, token, out=out)
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
        before = place.done(number, shard)
        if before is not None:
            return before, number, True
        job, stage = place.needed(JOB).checked(), place.needed(stage_name(number))
        threads = min(about.threads, n_cores())
        done = perform(place, stage, shard, job, executor or (Threads(threads, threads) if threads > 1 else Serial()))
    return done, number, False


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
        If shards are missing, or a pass has to be merged first.
    """
    now = status(folder)
    if now.missing or now.number < now.total:
        waits = _shards(now.missing) if now.missing else "being merged"
        raise InputError(f"pass {now.number} of {now.total} waits for {waits}; go on with '{now.next}'")
    path, about = _opened(folder)
    with Place.at(path) as place:
        plan = Plan(*place.needed(PLAN))
    executor = Shards(**{**vars(about.shard()), "assembling": True})
    return plan.write_h5ad(out, memory=about.memory, executor=executor, spool=path, keep_spool=True, **options)


def status(folder: str | os.PathLike[str]) -> Status:
    """Say how far a run has come."""
    path, about = _opened(folder)
    total = len(about.passes)
    with Place.at(path / about.fingerprint) as place:
        number = _stage(place)
        names = place.folder.names()
        merged = f"pass-{number}.merged" in names
        missing = [i for i in range(about.shards) if state_name(number, i) not in names and not merged]
        size = sum(os.stat(name, dir_fd=place.folder.handle).st_size for name in names)
    return Status(path, about.shards, number, total, about.passes, missing, size)


def _go_on(plan: Plan, path: Path, about: About, told: Any = None, on_event: Listener = ignore) -> None:
    """Go through all passes that are complete, and begin the next."""
    executor = about.shard()
    settings = Settings(about.memory, executor, on_event, path, True, True)
    with suppress(Incomplete):
        plan.write(Discard(), settings)
    if told is not None:
        told(next(each.name for each in path.iterdir() if each.is_dir() and (each / JOB).exists()))


def _stage(place: Place) -> int:
    """Return the number of the pass that has begun last."""
    names = place.folder.names()
    number = 1
    while stage_name(number + 1) in names:
        number += 1
    return number


def _opened(folder: str | os.PathLike[str]) -> tuple[Path, About]:
    path = Path(os.path.abspath(folder))
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
