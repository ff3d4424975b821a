"""Run a program and measure what it takes: wall time, CPU time, memory of it and all its children."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

EVERY = 0.04
"""Seconds between two looks at memory."""

CANNOT = 42
"""How a script exits that cannot do a job; its last line says why."""

THREADS = ("OMP_NUM", "OPENBLAS_NUM", "MKL_NUM", "NUMBA_NUM", "RAYON_NUM", "POLARS_MAX")


@dataclass(frozen=True)
class Measured:
    """What a process took.

    Parameters
    ----------
    status
        "ok", or what went wrong, in a few words.
    wall, user, system
        Seconds, from before the process starts until it is gone.
    peak
        The most resident memory, in bytes: the largest of the highest that the kernel recorded for one
        process (`ru_maxrss`) and of the highest sum over the process and its children that was seen.
    others
        Share of the machine's processors that other processes used meanwhile; above 0.1 do not trust `wall`.
    said
        What it printed.
    """

    status: str
    wall: float
    user: float
    system: float
    peak: int
    others: float
    said: str

    @property
    def cpu(self) -> float:
        """User and system time, in seconds."""
        return self.user + self.system


def cores() -> int:
    """Count the processors this process may use."""
    return len(os.sched_getaffinity(0))


def environment(work: Path) -> dict[str, str]:
    """Return the variables that every program gets: as many threads as cores, temporary files in `work`.

    Python may keep what it compiles: else those that came without it compile all of their libraries at every start.
    """
    threads = {f"{name}_THREADS": str(cores()) for name in THREADS}
    quiet = {"PYTHONWARNINGS": "ignore", "HDF5_USE_FILE_LOCKING": "FALSE"}
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, **threads, **quiet, "TMPDIR": str(work)}


def stoppable() -> None:
    """Let SIGTERM raise, as SIGINT does: `run` then ends what it started."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))


def warm(path: Path) -> None:
    """Read a file, or all files in a folder, so that it is in the page cache."""
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    block = bytearray(8 << 20)
    for file in files:
        with file.open("rb", buffering=0) as handle:
            while handle.readinto(block):
                pass


def run(command: Sequence[str], work: Path, *, timeout: float, most_memory: int, log: Path) -> Measured:
    """Run `command` in the folder `work` and measure it.

    Parameters
    ----------
    timeout
        Seconds after which it is ended.
    most_memory
        Bytes over which it is ended, before the machine gets into trouble.
    log
        File for what it prints.
    """
    busy, started = _busy(), time.perf_counter()
    with log.open("wb") as printed:
        try:
            process = subprocess.Popen(
                command,
                stdout=printed,
                stderr=subprocess.STDOUT,
                cwd=work,
                env=environment(work),
                start_new_session=True,
            )
        except OSError as error:
            return Measured(f"failed: {error}", 0, 0, 0, 0, 0, "")
        try:
            ended, seen, code, usage = _watch(process.pid, started + timeout, most_memory)
        except BaseException:
            _end(process.pid)
            process.wait()
            raise
    wall = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(code)  # else Popen would wait for it again
    cpu = usage.ru_utime + usage.ru_stime
    others = max(0.0, _busy() - busy - cpu) / wall / (os.cpu_count() or 1)
    said = log.read_text(errors="replace")
    status = ended or _status(process.returncode, said)
    peak = max(seen, usage.ru_maxrss * 1024)
    return Measured(status, wall, usage.ru_utime, usage.ru_stime, peak, others, said)


def _watch(pid: int, deadline: float, most_memory: int) -> tuple[str, int, int, resource.struct_rusage]:
    """Wait for a process; return why it was ended, the most memory that was seen, its exit status and what it used."""
    why, seen = "", 0
    members, looked = [psutil.Process(pid)], 0.0
    while True:
        gone, code, usage = os.wait4(pid, os.WNOHANG)
        if gone:
            return why, seen, code, usage
        now = time.perf_counter()
        if now - looked > 25 * EVERY:  # to go through all processes is slow
            members, looked = _tree(pid), now
        seen = max(seen, sum(_resident(member) for member in members))
        if not why and (now > deadline or seen > most_memory):
            why = "timed out" if now > deadline else f"out of memory: took more than {most_memory / 1e9:.0f} GB"
            _end(pid)
        time.sleep(EVERY)


def _end(pid: int) -> None:
    """End a process that this module started, and what it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def _status(code: int, said: str) -> str:
    """Say how a process ended, by its exit code and its last line."""
    if code == 0:
        return "ok"
    last = next((line.strip() for line in reversed(said.splitlines()) if line.strip()), "")
    if code == CANNOT:
        return last
    if code == -signal.SIGKILL:
        return "failed: killed, most likely for want of memory"
    return f"failed: {last or code}"[:160]


def _tree(pid: int) -> list[psutil.Process]:
    """Return a process and all that it has started."""
    try:
        first = psutil.Process(pid)
        return [first, *first.children(recursive=True)]
    except psutil.Error:
        return []


def _resident(process: psutil.Process) -> int:
    """Return the bytes a process holds, or 0 if it is gone."""
    try:
        return int(process.memory_info().rss)
    except psutil.Error:
        return 0


def _busy() -> float:
    """Return the seconds that all processors together have worked since the machine started."""
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system + times.irq + times.softirq)
