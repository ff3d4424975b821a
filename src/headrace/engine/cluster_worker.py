"""What dask's workers are asked to do. Each function is called in a worker, by its name."""

from __future__ import annotations

import os
import shutil
import sys
import threading
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ..support.atomic import write_within
from ..support.memory import use_cores
from .executors import Serial, Threads
from .place import JOB, Done, Job, Place, cells_name, stage_name, state_name
from .ranges import merge_some, perform, prepare

PACKAGES = ("headrace", "numpy", "tiledbsoma")
"""Those whose versions have to be the same everywhere; tiledbsoma brings TileDB."""

PIECE = 32 << 20
"""Bytes of a file that are sent at once."""

_one_at_a_time = threading.Lock()
_jobs: dict[str, Job] = {}


def versions() -> dict[str, str]:
    """Return the versions of what has to be the same everywhere."""
    found = {"Python": f"{sys.version_info.major}.{sys.version_info.minor}"}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "missing"
    return found


def about(mark: str, files: list[str], dask_worker: Any = None) -> dict[str, Any]:
    """Say what this worker is.

    Parameters
    ----------
    mark
        A file that only the client has made: who sees it shares the folder.
    files
        What the source reads.
    dask_worker
        The worker: dask gives it by this name.
    """
    worker = dask_worker
    return {
        "versions": versions(),
        "memory": worker.memory_manager.memory_limit,
        "threads": worker.state.nthreads,
        "shares": os.path.exists(mark),
        "missing": [name for name in files if not os.path.exists(name)],
        "host": worker.address,
    }


def home(shared: str | None, fingerprint: str, worker: Any = None) -> Path:
    """Return the folder of a run: a shared one, or one of this worker, which goes when it goes."""
    from distributed import get_worker

    if shared is not None:
        return Path(shared)
    return Path((worker or get_worker()).local_directory) / "headrace" / fingerprint


def put(shared: str | None, fingerprint: str, name: str, data: bytes, dask_worker: Any = None) -> None:
    """Leave a file in the folder of a run."""
    with Place.at(home(shared, fingerprint, dask_worker)) as place:
        write_within(place.folder.handle, name, data, shared=True)


def task(shared: str | None, fingerprint: str, stage: int, number: int) -> Done | None:
    """Do a task, alone in this process, as the budget of memory is the process's. None: it does not know the run."""
    from distributed import get_worker

    threads = get_worker().state.nthreads
    with _one_at_a_time, Place.at(home(shared, fingerprint)) as place:
        use_cores(threads)
        if fingerprint not in _jobs:
            job = place.load(JOB)
            if job is None:
                return None
            _jobs.clear()
            _jobs[fingerprint] = job.checked()
        work = place.load(stage_name(stage))
        if work is None:
            return None
        executor = Threads(threads, threads) if threads > 1 else Serial()
        return perform(place, work, number, _jobs[fingerprint], executor)


def ready(shared: str | None, fingerprint: str, stage: int, number: int) -> bool:
    """Make the cells of a range ready for the file."""
    with _one_at_a_time, Place.at(home(shared, fingerprint)) as place:
        prepare(place, place.needed(stage_name(stage)), number)
    return True


def together(shared: str | None, fingerprint: str, stage: int, group: int, level: int, among: int) -> bool:
    """Merge the states of a group."""
    with _one_at_a_time, Place.at(home(shared, fingerprint)) as place:
        merge_some(place, stage, level, group, among)
    return True


def size(shared: str | None, fingerprint: str, name: str) -> int:
    """Return the bytes of a file of a run."""
    return (home(shared, fingerprint) / name).stat().st_size


def piece(shared: str | None, fingerprint: str, name: str, start: int) -> bytes:
    """Return some bytes of a file of a run."""
    with Place.at(home(shared, fingerprint)) as place, place.folder.open(name) as file:
        file.seek(start)
        return file.read(PIECE)


def forget(
    shared: str | None, fingerprint: str, stage: int | None, number: int | None, dask_worker: Any = None
) -> None:
    """Remove what a task has left on this worker and is elsewhere now; or all of the run, if no task is named."""
    folder = home(shared, fingerprint, dask_worker)
    if shared is not None:
        _jobs.clear()
    elif number is None:
        _jobs.clear()
        shutil.rmtree(folder, ignore_errors=True)
    else:
        assert stage is not None
        with Place.at(folder) as place:
            for name in (state_name(stage, number), cells_name(stage, number)):
                place.folder.remove(name)
