"""What may pass is tried again, with growing pauses; what cannot is raised at once."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import tenacity

from ..errors import HeadraceError, LineError, SourceError
from ..traffic import Traffic
from .faults import PASSES, PROXY, REFUSED, STAYS, UNKNOWN_HOST, failure

T = TypeVar("T")
Ref = TypeVar("Ref")

FIRST_PAUSE, LONGEST_PAUSE = 0.2, 20.0
"""Seconds between tries; each pause is twice the one before, and up to as much again by chance."""

DOUBTFUL_FOR = 10.0
"""Seconds for which is tried again what is likely to be a wrong name or address, if nothing has ever come from it."""

DAMAGE_TRIES = 3
"""How often what came is asked for if it contradicts itself: a byte may have changed on the way."""


def patience(error: BaseException, traffic: Traffic) -> float:
    """Return for how many seconds without progress it is worth to try again; 0 if it will not pass."""
    if not isinstance(error, LineError) or error.kind == STAYS or error.final:
        return 0.0
    by_proxy = bool(traffic.proxy) and error.words == REFUSED
    if traffic.last or (error.kind == PASSES and not by_proxy):
        return traffic.retry_for
    return min(DOUBTFUL_FOR, traffic.retry_for)


def call(
    traffic: Traffic | None,
    what: str,
    function: Callable[[], T],
    forget: Callable[[], object] = lambda: None,
    outer: bool = False,
) -> T:
    """Call a function, and again if it raises what may pass.

    Parameters
    ----------
    traffic
        Of the way to the data; None if it is at hand, and nothing is tried again.
    what
        What the function waits for, in words.
    function
        What is to be done. A `LineError` is tried again as long as it says, counted from the last byte that came; any
        other `SourceError`, such as damage, three times at once.
    forget
        Called before what was damaged is tried again: TileDB keeps what it has read.
    outer
        Whether what the function waits for is told better by what it calls itself. Bytes that come then are no
        progress: they may be those of the last try, again. What counts is the time since the first failure.

    Raises
    ------
    LineError
        If it does not pass.
    """
    if traffic is None:
        return function()
    begun, tries = traffic.clock(), 0
    failed: float | None = None
    stopped = stopping()

    def quiet() -> float:
        since = failed if outer and failed is not None else traffic.last
        return traffic.clock() - max(begun, since)

    def gives_up(state: tenacity.RetryCallState) -> bool:
        error = state.outcome.exception() if state.outcome else None
        if stopped is not None and stopped.is_set():
            return True
        if isinstance(error, LineError):
            return quiet() + state.upcoming_sleep > patience(error, traffic)
        return state.attempt_number >= DAMAGE_TRIES

    def before_sleep(state: tenacity.RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        traffic.retried(error.words if isinstance(error, LineError) else str(error))
        if not isinstance(error, LineError):
            forget()

    def again(error: BaseException) -> bool:
        return patience(error, traffic) > 0 if isinstance(error, LineError) else isinstance(error, SourceError)

    def once() -> T:
        nonlocal tries, failed
        tries += 1
        try:
            with traffic.waiting(what, outer):
                return function()
        except BaseException:
            failed = traffic.clock() if failed is None else failed
            raise

    def named() -> T:
        try:
            return once()
        except HeadraceError:
            raise
        except Exception as error:  # tiledbsoma's, TileDB's
            failed = failure(f"reading {what}", error)
            if failed is not None:
                raise failed from error
            if isinstance(error, RuntimeError) or type(error).__module__.startswith("tiledbsoma"):
                raise SourceError(f"while reading {what}: {' '.join(str(error).split())}") from error
            raise

    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception(again),
        stop=gives_up,
        wait=_pause,
        before_sleep=before_sleep,
        sleep=traffic.sleep if stopped is None else tenacity.sleep_using_event(stopped),
        reraise=True,
    )
    try:
        return retrying(named)
    except LineError as error:
        if error.final:
            raise
        said = error.args[0]
        if traffic.proxy and error.words in (REFUSED, UNKNOWN_HOST):
            said += f"; requests go through the proxy {traffic.proxy}: {PROXY}"
        if error.kind != STAYS:
            times = f"{tries} times" if tries > 1 else "once"
            said += f" (tried {times}; {'nothing new' if outer else 'no byte'} for {quiet():.0f} s)"
        error.args, error.final = (said,), True  # whoever called the caller is not to begin again
        raise


def _pause(state: tenacity.RetryCallState) -> float:
    pause = min(FIRST_PAUSE * 2.0 ** (state.attempt_number - 1), LONGEST_PAUSE / 2)
    return pause * (1 + random.random())


_local = threading.local()


@contextmanager
def until(stopped: threading.Event) -> Iterator[None]:
    """Have this thread try nothing again, nor go on waiting to do so, once the event is set."""
    before = stopping()
    _local.stopped = stopped
    try:
        yield
    finally:
        _local.stopped = before


def stopping() -> threading.Event | None:
    """Return the event after which this thread is to try nothing again, if there is one."""
    return getattr(_local, "stopped", None)


def resumed(
    traffic: Traffic | None, what: str, read: Callable[[Sequence[Ref], bool], Iterator[T]], wanted: Sequence[Ref]
) -> Iterator[T]:
    """Yield what `read` yields, one item for each that is wanted; if it fails, go on from where it failed.

    Parameters
    ----------
    read
        Reads consecutive items, in order; it is told whether it is called again after a failure.
    """
    if traffic is None:
        yield from read(wanted, False)
        return
    done, items, again, end = 0, None, False, object()

    def following() -> Any:
        nonlocal items, again
        if items is None:
            items, again = read(wanted[done:], again), True
        try:
            return next(items, end)
        except BaseException:
            items = None
            raise

    try:
        while (item := call(traffic, what, following, outer=True)) is not end:
            done += 1
            yield item
            del item
    finally:
        close = getattr(items, "close", None)
        if close is not None:
            close()
