"""What the system lets this process have: memory, address space, processors, threads."""

from __future__ import annotations

import os
import re
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ..errors import MemoryBudgetError, OutputError

if sys.platform != "win32":
    import resource

ROOT = Path("/")
NONE = 1 << 60
"""From here on a number of bytes is no limit: the kernel writes the largest one that it knows."""

MOST_DIGITS = 40
"""Of a number that is read: Python makes no number of thousands of them."""

LIBRARIES = 620 << 20
"""Bytes of address space that numpy, pandas, numba and the rest take, nearly all of it never used."""

SPARE = 64 << 20
"""Bytes of address space for what nobody has foreseen."""


class Mount(NamedTuple):
    """A mounted hierarchy of control groups."""

    root: str
    """The group that is mounted, as the kernel names it."""
    folder: Path
    unified: bool
    """Whether it is version 2."""


def memory_limits(root: Path = ROOT) -> dict[str, int]:
    """Return the limits of this process's memory in bytes, by their names.

    Of control groups (version 1 and 2) the least counts from the process's own group up to the topmost that can be
    seen; a container sees its own as the topmost. `ulimit -v` and `ulimit -d` limit what is mapped, which is more than
    what is held. SLURM's own figure counts where it kills without control groups.

    Parameters
    ----------
    root
        Where `/proc` and `/sys` are.
    """
    found: dict[str, int] = {}
    for folder, unified in _groups("memory", root):
        for name in ("memory.max", "memory.high") if unified else ("memory.limit_in_bytes",):
            _least(found, "control group", _number(folder / name))
        if not unified:  # groups above that cannot be seen from within a container
            _least(found, "control group", _field(folder / "memory.stat", "hierarchical_memory_limit"))
    for name, limit in address_limits().items():
        _least(found, name, limit)
    for name, times in (("SLURM_MEM_PER_NODE", ""), ("SLURM_MEM_PER_CPU", "SLURM_CPUS_ON_NODE")):
        megabytes, n = whole(os.environ.get(name, "")), whole(os.environ.get(times, "1"))
        if megabytes is not None and n is not None:
            _least(found, name, megabytes * n << 20)
    return found


def address_limits() -> dict[str, int]:
    """Return what `ulimit -v` and `ulimit -d` allow, in bytes; nothing where they allow all."""
    if sys.platform == "win32":
        return {}
    kinds = {"ulimit -v": resource.RLIMIT_AS, "ulimit -d": resource.RLIMIT_DATA}
    found = {name: resource.getrlimit(kind)[0] for name, kind in kinds.items()}
    return {name: limit for name, limit in found.items() if limit != resource.RLIM_INFINITY and limit < NONE}


def check_address_space(more: int, what: str) -> None:
    """Raise `MemoryBudgetError` if so many bytes cannot be mapped any more; says why, with figures.

    Libraries in C do not bear that: they wait for ever for a thread that was not started, or end the process.
    """
    for name, limit in address_limits().items():
        taken = _field(Path("/proc/self/status"), "VmSize:" if name == "ulimit -v" else "VmData:", 1024)
        if taken is not None and taken + more + SPARE > limit:
            raise MemoryBudgetError(
                f"{what} would need about {(taken + more + SPARE) / 1e6:,.0f} MB of address space, of which "
                f"{taken / 1e6:,.0f} MB are taken already, and '{name}' allows {limit / 1e6:,.0f} MB; raise it "
                f"('{name} unlimited'; a batch system sets it by the memory that is asked for), or lower memory"
            )


def stack_bytes() -> int:
    """Return the address space that a new thread takes."""
    if sys.platform == "win32":
        return 1 << 20
    soft = resource.getrlimit(resource.RLIMIT_STACK)[0]
    return 8 << 20 if soft == resource.RLIM_INFINITY else soft


def check_threads(n: int, what: str) -> None:
    """Raise `OutputError` unless `n` more threads can run at once, as tried."""
    from .workers import end  # not needed to say one's version

    go = threading.Event()
    started: list[threading.Thread] = []
    try:
        for _ in range(n):
            thread = threading.Thread(target=go.wait, name="headrace-trial", daemon=True)
            started.append(thread)
            thread.start()
    except (RuntimeError, MemoryError):
        raise OutputError(
            f"{what} needs {n} more threads at once, and only {len(started) - 1} can be started: raise 'ulimit -u' or "
            "the container's limit of processes (pids), end other processes, or take fewer processors (taskset -c 0)"
        ) from None
    finally:
        go.set()
        for thread in started:
            end(thread)


def processors(root: Path = ROOT) -> int:
    """Count the processors this process may use: those it may run on, no more than its quota and its batch job's."""
    n = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for folder, unified in _groups("cpu", root):
        if unified:
            told = _text(folder / "cpu.max").split()
        else:
            told = [_text(folder / "cpu.cfs_quota_us"), _text(folder / "cpu.cfs_period_us")]
        quota, period, *_ = *map(whole, told), None, None
        if quota is not None and period:
            n = min(n, -(-quota // period))  # rounded up: half a processor too many waits, too few would too
    job = whole(os.environ.get("SLURM_CPUS_PER_TASK", ""))
    return max(1, min(n, job or n))


def whole(text: str) -> int | None:
    """Return a whole number that is written as the system writes it, or None where it is none, or beyond all use.

    Examples
    --------
    >>> whole("4096"), whole("max"), whole("-1"), whole("²")
    (4096, None, None, None)
    """
    return int(text) if text.isascii() and text.isdigit() and len(text) < MOST_DIGITS else None


def _groups(controller: str, root: Path) -> Iterator[tuple[Path, bool]]:
    """Yield the folders of this process's groups of a controller, from its own up; whether they are of version 2."""
    own: dict[bool, str] = {}
    for line in _text(root / "proc/self/cgroup").splitlines():
        number, _, rest = line.partition(":")
        names, _, path = rest.partition(":")
        if number == "0" and not names:
            own[True] = path
        elif controller in names.split(","):
            own[False] = path
    usual = [Mount("", root / "sys/fs/cgroup", True), Mount("", root / "sys/fs/cgroup" / controller, False)]
    for mount in list(_mounts(controller, root)) or usual:
        path, top = own.get(mount.unified, ""), mount.root.rstrip("/")
        inside = path[len(top) :] if path == top or path.startswith(f"{top}/") else ""
        parts = [part for part in inside.split("/") if part]
        if ".." in parts:
            parts = []  # outside of what this namespace sees
        for length in range(len(parts), -1, -1):
            yield mount.folder.joinpath(*parts[:length]), mount.unified


def _mounts(controller: str, root: Path) -> Iterator[Mount]:
    for line in _text(root / "proc/self/mountinfo").splitlines():
        fields = line.split()
        if "-" not in fields[:-1] or len(fields) < 7:
            continue
        kind, options = fields[fields.index("-") + 1], fields[-1]
        unified = kind == "cgroup2"
        if unified or (kind == "cgroup" and controller in options.split(",")):
            place = root / _unescaped(fields[4]).lstrip("/")
            yield Mount(_unescaped(fields[3]), place, unified)


def _unescaped(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match.group(1), 8)), text)


def _least(found: dict[str, int], name: str, limit: int | None) -> None:
    if limit is not None and 0 < limit < NONE:
        found[name] = min(limit, found.get(name, limit))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="surrogateescape").strip()  # names are bytes to Linux
    except (OSError, ValueError):
        return ""


def _number(path: Path) -> int | None:
    return whole(_text(path))


def _field(path: Path, name: str, unit: int = 1) -> int | None:
    """Return a number out of a file of names and numbers."""
    for line in _text(path).splitlines():
        words = line.split()
        number = whole(words[1]) if len(words) > 1 and words[0] == name else None
        if number is not None:
            return number * unit
    return None
