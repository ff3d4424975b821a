"""What may pass is tried again, with growing pauses; what cannot is named, with its remedy.

Faults are told by what obstore, TileDB and requests say of them: each has words of its own, and none a common kind.
"""

from __future__ import annotations

import random
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import tenacity

from ..errors import HeadraceError, LineError, SourceError
from ..traffic import Traffic

T = TypeVar("T")
Ref = TypeVar("Ref")

FIRST_PAUSE, LONGEST_PAUSE = 0.2, 20.0
"""Seconds between tries; each pause is twice the one before, and up to as much again by chance."""

DOUBTFUL_FOR = 10.0
"""Seconds for which is tried again what is likely to be a wrong name or address, if nothing has ever come from it."""

DAMAGE_TRIES = 3
"""How often what came is asked for if it contradicts itself: a byte may have changed on the way."""

PASSES, DOUBTFUL, STAYS = "passes", "may pass", "stays"


NETWORK = "check the network"
PROXY = "check HTTP_PROXY, HTTPS_PROXY and NO_PROXY, or vfs.s3.proxy_host"
ADDRESS = "check the address, and vfs.s3.endpoint_override if it is set"
KEYS = "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or vfs.s3.aws_access_key_id"
RIGHTS = "ask for permission to read it, or check the credentials; a public bucket needs vfs.s3.no_sign_request=true"
LATER = "try again later"

UNKNOWN_HOST = "the name of the server cannot be looked up (DNS)"
MISSING = "it is not there"
REFUSED = "the connection is refused"

KINDS: tuple[tuple[str, str, str, str], ...] = (
    # what is said; what it is; what to do; whether it passes. The first that fits counts.
    (
        r"\b(ExpiredToken\w*|TokenRefreshRequired|RequestExpired)\b|token.{0,20}expired",
        "the credentials have run out",
        "get new ones, and run again",
        STAYS,
    ),
    (
        r"\b(InvalidAccessKeyId|SignatureDoesNotMatch|InvalidToken|InvalidClientTokenId|UnrecognizedClient\w*)\b",
        "the credentials are not accepted",
        KEYS,
        STAYS,
    ),
    (r"\bRequestTimeTooSkewed\b", "the clock of this computer is wrong", "set it, and run again", STAYS),
    (
        r"\b(PermanentRedirect|TemporaryRedirect|AuthorizationHeaderMalformed|IllegalLocationConstraint\w*)\b"
        r"|incorrectly configured region|(Response Code: |status code: )30[1278]",
        "the bucket is in another region",
        "set tiledb_config={'vfs.s3.region': '...'} to that of the bucket",
        STAYS,
    ),
    (
        r"certificate (verify|has|is|not)|invalid peer certificate|self.signed certificate|curlCode: (51|60|77)\b",
        "the server's certificate is not accepted",
        "name the certificates of a private server: vfs.s3.ca_file",
        STAYS,
    ),
    (
        r"\bAccessDenied\b|(Response Code: |status code: )40[13]|PermissionDenied|Unauthenticated",
        "access is denied",
        RIGHTS,
        STAYS,
    ),
    (r"(Response Code: |status code: )407", "the proxy asks for a password", PROXY, STAYS),
    (r"\bNoSuchBucket\b", MISSING, ADDRESS, STAYS),
    (
        r"\b(NoSuchKey|NoSuchVersion)\b|(Response Code: |status code: )(404|410)\b",
        MISSING,
        ADDRESS,
        STAYS,
    ),
    (
        r"\b(SlowDown|RequestLimitExceeded|Throttling\w*)\b|(Response Code: |status code: )(429|503)\b",
        "the server asks to slow down (503 SlowDown)",
        LATER,
        PASSES,
    ),
    (
        r"\b(InternalError|ServiceUnavailable|RequestTimeout)\b|(Response Code: |status code: )(408|5\d\d)\b",
        "the server has an error of its own (HTTP 5xx)",
        LATER,
        PASSES,
    ),
    (
        r"dns error|resolve (host|proxy)|failed to resolve|name resolution|getaddrinfo|name or service not known",
        UNKNOWN_HOST,
        f"{NETWORK} and the address",
        DOUBTFUL,
    ),
    (r"curlCode: 35\b|InvalidContentType|wrong version number|HandshakeFailure", "it does not speak TLS", ADDRESS,
     DOUBTFUL),
    (
        r"curlCode: 28\b|\bkind: Timeout|\bTimedOut\b|timed out|Timeout was reached",
        "no answer came in time",
        NETWORK,
        PASSES,
    ),
    (
        r"ConnectionRefused|curlCode: (7|97)\b|connection refused|tunnel error|ProxyError|unsuccessful tunnel",
        REFUSED,
        f"{NETWORK} and the address",
        PASSES,
    ),
    (
        r"curlCode: (16|18|52|55|56|92)\b|\bkind: (Connect|Interrupted|Request|Decode)|IncompleteBody|connection reset"
        r"|ConnectionReset|error sending request|body error|network is unreachable|RemoteDisconnected|BadRecordMac"
        r"|Connection aborted|bad record mac|Broken ?pipe",
        "the connection was cut",
        NETWORK,
        PASSES,
    ),
    (
        r"correct number of bytes|UnexpectedRange|Requested \d+\.\.\d+, got|Xml Parse Error|Invalid XML|Got invalid",
        "an answer is cut short",
        NETWORK,
        PASSES,
    ),
    (r"\bcurlCode: \d+|(Response Code: |status code: )4\d\d", "the request is refused", ADDRESS, STAYS),
)  # fmt: skip


def failure(what: str, error: BaseException) -> LineError | None:
    """Return what is to be raised for a library's error, or None if it is nothing of the way to the data.

    Parameters
    ----------
    what
        What was being done, e.g. "reading s3://bucket/soma/obs".

    Examples
    --------
    >>> print(failure("reading X", OSError("curlCode: 28, Timeout was reached")))
    while reading X: no answer came in time; check the network
    """
    text = str(error)
    for pattern, words, remedy, kind in KINDS:
        if re.search(pattern, text, re.IGNORECASE | re.DOTALL):
            where = re.search(r"x-amz-bucket-region'? ?[=:] ?'?([a-z0-9-]+)", text)
            if "region" in words and where:
                words, remedy = f"{words}, {where[1]}", f"set tiledb_config={{'vfs.s3.region': '{where[1]}'}}"
            return LineError(f"while {what}: {words}; {remedy}", words, kind)
    return None


def patience(error: BaseException, traffic: Traffic) -> float:
    """Return for how many seconds without progress it is worth to try again; 0 if it will not pass."""
    if not isinstance(error, LineError) or error.kind == STAYS or error.final:
        return 0.0
    by_proxy = bool(traffic.proxy) and error.words == REFUSED
    if traffic.last or (error.kind == PASSES and not by_proxy):
        return traffic.retry_for
    return min(DOUBTFUL_FOR, traffic.retry_for)


def call(traffic: Traffic | None, what: str, function: Callable[[], T]) -> T:
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

    Raises
    ------
    LineError
        If it does not pass.
    """
    if traffic is None:
        return function()
    begun, tries = traffic.clock(), 0
    stopped = getattr(_local, "stopped", None)

    def gives_up(state: tenacity.RetryCallState) -> bool:
        error = state.outcome.exception() if state.outcome else None
        if stopped is not None and stopped.is_set():
            return True
        if isinstance(error, LineError):
            return traffic.clock() - max(begun, traffic.last) + state.upcoming_sleep > patience(error, traffic)
        return state.attempt_number >= DAMAGE_TRIES

    def before_sleep(state: tenacity.RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        traffic.retried(error.words if isinstance(error, LineError) else str(error))

    def again(error: BaseException) -> bool:
        return patience(error, traffic) > 0 if isinstance(error, LineError) else isinstance(error, SourceError)

    def once() -> T:
        nonlocal tries
        tries += 1
        try:
            with traffic.waiting(what):
                return function()
        except HeadraceError:
            raise
        except Exception as error:  # tiledbsoma's, TileDB's
            failed = failure(f"reading {what}", error)
            if failed is None:
                raise
            raise failed from error

    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception(again),
        stop=gives_up,
        wait=_pause,
        before_sleep=before_sleep,
        sleep=traffic.sleep if stopped is None else tenacity.sleep_using_event(stopped),
        reraise=True,
    )
    try:
        return retrying(once)
    except LineError as error:
        if error.final:
            raise
        said = error.args[0]
        if traffic.proxy and error.words in (REFUSED, UNKNOWN_HOST):
            said += f"; requests go through the proxy {traffic.proxy}: {PROXY}"
        if tries > 1 and error.kind != STAYS:
            said += f" (tried {tries} times; no byte for {traffic.clock() - max(begun, traffic.last):.0f} s)"
        error.args, error.final = (said,), True  # whoever called the caller is not to begin again
        raise


def _pause(state: tenacity.RetryCallState) -> float:
    pause = min(FIRST_PAUSE * 2.0 ** (state.attempt_number - 1), LONGEST_PAUSE / 2)
    return pause * (1 + random.random())


_local = threading.local()


@contextmanager
def until(stopped: threading.Event) -> Iterator[None]:
    """Have this thread try nothing again, nor go on waiting to do so, once the event is set."""
    _local.stopped = stopped
    try:
        yield
    finally:
        _local.stopped = None


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
        while (item := call(traffic, what, following)) is not end:
            done += 1
            yield item
            del item
    finally:
        close = getattr(items, "close", None)
        if close is not None:
            close()
