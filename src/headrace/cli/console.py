"""What the command line says besides its results, and how it ends.

Exit codes: 0 done, 1 a failure told in one line, 2 wrong usage, 130 interrupted (143 terminated, 129 hung up).
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import click

from ..errors import HeadraceError
from ..support.shortage import files_remedy, remedy
from .signals import SIGNALS, heard
from .spelled import spelled

DONE, FAILED, USAGE = 0, 1, 2


class Interrupted(BaseException):
    """The user, or the system, wants the run to stop. No `KeyboardInterrupt`: click answers that one itself."""


@dataclass
class Session:
    """One run of the command line.

    Parameters
    ----------
    debug
        Whether a failure shows its traceback, and warnings of other packages are shown.
    started
        When it began, by `time.monotonic`.
    """

    debug: bool = field(default_factory=lambda: os.environ.get("HEADRACE_DEBUG", "") not in ("", "0"))
    started: float = field(default_factory=time.monotonic)
    options: Collection[str] = ()
    """What the command that runs can be told: its options are named in what the library says."""
    bar: Any = None
    """The progress bar on the terminal's last line, if there is one."""
    _signals: list[int] = field(default_factory=list)
    _target: tuple[Path, tuple[int, int] | None] | None = None
    _spool: Path | None = None
    _parts: Collection[tuple[str, int, int]] = ()
    """Those of the spool when the run began, told apart without a clock: that of the disk may go otherwise."""

    def say(self, text: str) -> None:
        """Write one line to stderr, above the progress bar."""
        with suppress(OSError, ValueError):  # a terminal that is gone, a reader who has read enough: the run goes on
            if self.bar is None:
                click.echo(text, err=True)
            else:
                self.bar.write(text, file=sys.stderr)

    def seconds(self) -> float:
        """Return how long the run has taken so far."""
        return time.monotonic() - self.started

    def watch(self, target: Path, spool: Path | None = None) -> None:
        """Remember what is to be written where, to tell what there is of it should the run be interrupted.

        Parameters
        ----------
        target
            The file to be written.
        spool
            The folder of the plan's spool, if it has one: it is kept for the next run of the same plan.
        """
        self._target, self._spool, self._parts = (target, _identity(target)), spool, _parts(spool)

    def check(self) -> None:
        """Raise `Interrupted` if the run is to stop: whoever caught the first one must not keep it going."""
        if self.stopped:
            raise Interrupted

    def on_signal(self, number: int, frame: object) -> None:
        """Stop at the first signal and clean up; leave at once at the third."""
        del frame
        self._signals.append(number)
        if len(self._signals) == 1:
            raise Interrupted
        if len(self._signals) > 2:
            os._exit(128 + number)
        with suppress(OSError):
            os.write(2, b"\nstopping; once more leaves at once, and may leave a hidden .partial file behind\n")

    def on_ignored(self, ignored: Any) -> None:
        """Let a signal come again that Python ignores, since it came in a finaliser."""
        if issubclass(ignored.exc_type, Interrupted) and self.stopped:
            number = self._signals.pop()
            main = threading.main_thread().ident
            threading.Timer(0.01, signal.pthread_kill, (main, number)).start()
        else:
            sys.__unraisablehook__(ignored)

    @property
    def stopped(self) -> bool:
        """Whether a signal has asked the run to stop."""
        return bool(self._signals)

    def ended(self, error: BaseException) -> int:
        """Say why the run ended with an exception, and return the exit code."""
        if self.stopped:
            self.say(f"{SIGNALS[signal.Signals(self._signals[0])]}; {self._outcome()}")
            return 128 + self._signals[0]
        if isinstance(error, click.UsageError):
            return _wrong_usage(error)
        if isinstance(error, SystemExit):
            return error.code if isinstance(error.code, int) else FAILED
        if isinstance(error, BrokenPipeError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python tries again when it ends
            return DONE
        if self.debug:
            traceback.print_exception(error)
        if isinstance(error, click.ClickException):
            self.say(f"error: {error.format_message()}")
        elif isinstance(error, HeadraceError):
            said = [one_line(error), *([] if "ulimit -n" in str(error) else filter(None, [files_remedy(error)]))]
            self.say(f"error: {spelled('; '.join(said), self.options)}")
        elif isinstance(error, MemoryError):
            limit = "what limits this process (ulimit -v, the container, the job)"
            self.say(f"error: no memory is left: raise {limit}, or lower --memory")
        elif remedy(error, ""):
            self.say(f"error: {getattr(error, 'strerror', error)}: {remedy(error, '')}")
        else:
            kind = type(error).__name__
            self.say(f"error: unexpected {kind}: {one_line(error)}: please report, run again with --debug")
        return FAILED

    def _outcome(self) -> str:
        if self._target is not None and _identity(self._target[0]) != self._target[1]:
            return f"{self._target[0]} had been written before, and is whole"
        if not _parts(self._spool) <= set(self._parts):
            return f"nothing was written; run it again to go on from what is kept in {self._spool}"
        return "nothing was written"


def one_line(error: BaseException) -> str:
    r"""Return an error's message and notes in one line.

    Examples
    --------
    >>> error = ValueError("the filter\nis empty")
    >>> error.add_note("in step 2")
    >>> one_line(error)
    'the filter is empty (in step 2)'
    """
    notes = [f"({_join(note)})" for note in getattr(error, "__notes__", ())]
    return " ".join([_join(str(error)), *notes])


def leave(code: int) -> NoReturn:
    """End the process at once, when a stopped run has cleaned up.

    Python's own way out would wait for reads that hang, and tell of the errors of objects that are half made.
    """
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


@contextmanager
def stoppable(session: Session, for_good: bool) -> Iterator[None]:
    """Let signals stop the run within the block.

    Parameters
    ----------
    session
        The run.
    for_good
        Whether the process ends with the block, so that there is nothing to give the signals back to.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, session.on_signal) for number in heard()}
    hook, sys.unraisablehook = sys.unraisablehook, session.on_ignored
    try:
        yield
    finally:
        sys.unraisablehook = hook
        for number, handler in before.items():
            signal.signal(number, signal.SIG_IGN if for_good else handler)


@contextmanager
def plain_warnings(session: Session) -> Iterator[None]:
    """Show headrace's warnings and what it logs as one line each, and those of other packages only for debugging."""

    def show(
        message: Warning | str, category: type[Warning], filename: str, lineno: int, file: Any = None, line: Any = None
    ) -> None:
        if category.__module__.partition(".")[0] == "headrace":
            session.say(f"warning: {spelled(_join(str(message)), session.options)}")
        elif session.debug:
            session.say(warnings.formatwarning(message, category, filename, lineno).rstrip())

    logged = logging.getLogger("headrace")
    handler = _Said(session)
    before, logged.propagate = logged.propagate, False
    logged.addHandler(handler)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = show
            yield
    finally:
        logged.removeHandler(handler)
        logged.propagate = before


class _Said(logging.Handler):
    """Says what the library logs, such as that nothing comes."""

    def __init__(self, session: Session) -> None:
        super().__init__(logging.WARNING)
        self.session = session

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line."""
        self.session.say(f"note: {record.getMessage()}")


def out_of(n: int, before: int) -> str:
    """Write how many are left of how many; of all, that is the number alone.

    Examples
    --------
    >>> out_of(15, 1779), out_of(1779, 1779)
    ('15 of 1,779', '1,779')
    """
    return f"{n:,}" if n == before else f"{n:,} of {before:,}"


def peak_memory() -> int:
    """Return the most bytes this process has held at once."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        import resource  # not on every system

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
    # getrusage would count what the parent process held when it started this one
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) * 1024


def size(n_bytes: int) -> str:
    """Write a number of bytes for people.

    Examples
    --------
    >>> size(12_345), size(7_654_321), size(20 * 10**9)
    ('12 kB', '7.7 MB', '20.0 GB')
    """
    if n_bytes < 10**6:
        return f"{n_bytes / 1e3:.0f} kB"
    return f"{n_bytes / 1e6:,.1f} MB" if n_bytes < 10**9 else f"{n_bytes / 1e9:,.1f} GB"


def _join(text: str) -> str:
    return " ".join(line.strip() for line in text.splitlines())


def _identity(path: Path) -> tuple[int, int] | None:
    """Return what changes when a file is replaced; None if there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def _parts(spool: Path | None) -> set[tuple[str, int, int]]:
    """Return the parts of all spools in a folder, and what has come from far away and is no part yet."""
    paths: list[Path] = []
    with suppress(OSError):  # a folder that may not be looked into is told of where it is opened
        paths = [] if spool is None else [*spool.glob("*/*.part"), *spool.glob("*/*/*.bytes")]
    found = {str(path): _identity(path) for path in paths}
    return {(name, *identity) for name, identity in found.items() if identity is not None}


def _wrong_usage(error: click.UsageError) -> int:
    if error.ctx is not None:
        click.echo(f"{error.ctx.get_usage()}\nTry '{error.ctx.command_path} --help' for help.\n", err=True)
    click.echo(f"error: {error.format_message()}", err=True)
    return USAGE
