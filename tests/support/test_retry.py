"""When is tried again, for how long, and what is said at the end; by a clock of its own."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Iterator, Sequence

import pytest

from headrace.errors import InputError, LineError, SourceError
from headrace.events import Waiting
from headrace.support.amounts import parse_rate, parse_seconds
from headrace.support.faults import failure
from headrace.support.retry import DAMAGE_TRIES, LONGEST_PAUSE, call, resumed, until
from headrace.traffic import QUIET, Traffic


class Clock:
    def __init__(self) -> None:
        self.now, self.slept = 1000.0, []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def far(retry_for: float = 300.0, proxy: str = "") -> tuple[Traffic, Clock]:
    clock = Clock()
    return Traffic(retry_for, proxy, clock=clock, sleep=clock.sleep), clock


def fails(text: str, times: int = 10**9) -> tuple[list[int], object]:
    calls: list[int] = []

    def function() -> str:
        calls.append(1)
        if len(calls) <= times:
            raise RuntimeError(text)
        return "done"

    return calls, function


BUSY = "[HTTP Response Code: 503] [Exception: SlowDown]"
UNKNOWN = "curlCode: 6, Could not resolve hostname"


def test_pauses_grow_and_are_never_twice_the_same() -> None:
    traffic, clock = far()
    calls, function = fails(BUSY, 12)
    assert call(traffic, "X", function) == "done"
    assert len(calls) == 13
    assert traffic.retries == 12
    for number, pause in enumerate(clock.slept):
        base = min(0.2 * 2**number, LONGEST_PAUSE / 2)
        assert base <= pause <= 2 * base <= LONGEST_PAUSE
    assert len(set(clock.slept)) == 12


def test_given_up_after_so_long_without_progress() -> None:
    traffic, clock = far(60)
    _, function = fails(BUSY)
    with pytest.raises(
        LineError, match=r"while reading X: the server asks to slow down .*tried \d+ times; no byte for"
    ):
        call(traffic, "X", function)
    assert 35 < clock.now - 1000 <= 60


def test_progress_elsewhere_counts() -> None:
    traffic, clock = far(60)

    def function() -> None:
        if clock.now < 1500:
            traffic.arrived(1)
        raise RuntimeError(BUSY)

    with pytest.raises(LineError):
        call(traffic, "X", function)
    assert 1500 < clock.now <= 1500 + 20 + 60


def test_bytes_that_a_try_brings_again_are_no_progress() -> None:
    """Who begins anew at each try, as TileDB does, reads the same once more: that must end, too."""
    traffic, clock = far(60)

    def function() -> None:
        clock.now += 1
        traffic.arrived(1)
        raise RuntimeError(BUSY)

    with pytest.raises(LineError, match=r"tried \d+ times; nothing new for \d+ s"):
        call(traffic, "X", function, outer=True)
    assert 35 < clock.now - 1000 <= 62


def test_who_was_tried_again_is_not_tried_again_by_the_caller() -> None:
    traffic, clock = far(60)
    _, function = fails(BUSY)
    with pytest.raises(LineError) as caught:
        call(traffic, "all", lambda: call(traffic, "X", function))
    assert clock.now - 1000 <= 60
    assert str(caught.value).count("tried") == 1


def test_a_wrong_name_is_not_waited_for_but_a_lost_one_is() -> None:
    traffic, clock = far(300)
    with pytest.raises(LineError, match=r"\(DNS\)"):
        call(traffic, "X", fails(UNKNOWN)[1])
    assert clock.now - 1000 <= 10
    traffic, clock = far(300)
    traffic.arrived(1)
    with pytest.raises(LineError, match=r"\(DNS\)"):
        call(traffic, "X", fails(UNKNOWN)[1])
    assert clock.now - 1000 > 200


def test_a_proxy_is_named() -> None:
    traffic, clock = far(300, "proxy.example:3128")
    with pytest.raises(LineError, match=r"requests go through the proxy proxy\.example:3128: check HTTP_PROXY"):
        call(traffic, "X", fails("curlCode: 7, Could not connect to server")[1])
    assert clock.now - 1000 <= 10


def test_damage_is_read_again_a_few_times() -> None:
    traffic, _ = far()
    calls = []

    def function() -> None:
        calls.append(1)
        raise SourceError("tile 3 is damaged")

    with pytest.raises(SourceError, match="tile 3"):
        call(traffic, "X", function)
    assert len(calls) == DAMAGE_TRIES
    with pytest.raises(InputError):
        call(traffic, "X", lambda: parse_seconds("x"))
    with pytest.raises(SourceError):
        call(None, "X", function)
    assert len(calls) == DAMAGE_TRIES + 1, "what is at hand is not read again"


def test_what_is_no_longer_wanted_is_not_tried_again() -> None:
    traffic, _ = far()
    stopped = threading.Event()
    calls, function = fails(BUSY)
    stopped.set()
    with until(stopped), pytest.raises(LineError):
        call(traffic, "X", function)
    assert len(calls) == 1


def test_a_stream_goes_on_where_it_failed() -> None:
    traffic, _ = far()
    seen: list[tuple[list[int], bool]] = []

    def read(wanted: Sequence[int], again: bool) -> Iterator[int]:
        seen.append((list(wanted), again))
        for one in wanted:
            if one in (2, 5) and not any(wanted[0] == one for wanted, _ in seen):
                raise RuntimeError("curlCode: 56, Recv failure: connection reset by peer")
            yield one * 10

    assert list(resumed(traffic, "X", read, range(7))) == [0, 10, 20, 30, 40, 50, 60]
    assert seen == [([*range(7)], False), ([*range(2, 7)], True), ([5, 6], True)]


@pytest.mark.parametrize(
    ("text", "words", "kind"),
    [
        (BUSY, "slow down", "passes"),
        ("status code: 500 Internal Server Error", "error of its own", "passes"),
        ("status code: 403 Forbidden: <Code>AccessDenied</Code>", "access is denied", "stays"),
        ("status code: 403 Forbidden: <Code>InvalidAccessKeyId</Code>", "not accepted", "stays"),
        ("status code: 400 Bad Request: <Code>ExpiredToken</Code>", "have run out", "stays"),
        ("[HTTP Response Code: 404] [Exception: NoSuchBucket]", "not there", "stays"),
        ("Received redirect without LOCATION, this normally indicates an incorrectly configured region", "region", "stays"),
        ("kind: Connect, ConnectError(\"tcp connect error\", ConnectionRefused)", "refused", "passes"),
        ("kind: Connect, \"dns error\"", "DNS", "may pass"),
        ("curlCode: 60, SSL peer certificate", "certificate", "stays"),
        ("kind: Timeout", "no answer came in time", "passes"),
        ("The read did not return the correct number of bytes. Expected: 4", "cut short", "passes"),
    ],
)  # fmt: skip
def test_faults_are_told_by_what_libraries_say(text: str, words: str, kind: str) -> None:
    found = failure("reading X", RuntimeError(text))
    assert found is not None
    assert words in found.words
    assert found.kind == kind


def test_what_is_nothing_of_the_line_is_left_alone() -> None:
    assert failure("reading X", RuntimeError("Query FAILED: Cannot load tile offsets; memory budget")) is None


# ------------------------------------------------------------------------------------------------------------- traffic
def test_silence_is_said_every_half_minute() -> None:
    traffic, clock = far()
    assert traffic.quiet() is None
    with traffic.waiting("obs of s3://x"):
        clock.now += QUIET - 1
        assert traffic.quiet() is None
        clock.now += 1
        traffic.retried("the connection was cut")
        said = traffic.quiet()
        assert said == Waiting(QUIET, "obs of s3://x", "the connection was cut")
        assert str(said) == "no byte has come for 30 s, waiting for obs of s3://x (the connection was cut)"
        assert traffic.quiet() is None
        clock.now += QUIET
        assert traffic.quiet() is not None
        traffic.arrived(1)
        clock.now += QUIET - 1
        assert traffic.quiet() is None


def test_what_was_fetched() -> None:
    traffic, clock = far()
    traffic.arrived(500)  # before the run
    told = []
    with traffic.told(told.append, 1000):
        clock.now += 10
        traffic.arrived(250)
        got = traffic.fetched()
        assert (got.bytes, got.planned, got.rate, got.seconds_left) == (250, 1000, 25.0, 30.0)
    assert [event.bytes for event in told] == [0, 250]


def test_an_error_of_the_listener_comes_to_the_run() -> None:
    traffic, _ = far()

    def listener(event: object) -> None:
        if calls:
            raise ZeroDivisionError
        calls.append(event)

    calls: list[object] = []
    with pytest.raises(ZeroDivisionError), traffic.told(listener, 10):
        traffic.tick()
        traffic.raise_error()


def test_it_pickles_small() -> None:
    copy = pickle.loads(pickle.dumps(Traffic(7, "proxy:1")))
    assert (copy.retry_for, copy.proxy, copy.bytes) == (7, "proxy:1", 0)


@pytest.mark.parametrize("text", ["soon", "", "-3", "5 parsecs", True])
def test_a_time_that_is_none(text: str) -> None:
    with pytest.raises(InputError, match="is no time"):
        parse_seconds(text)


@pytest.mark.parametrize("text", ["fast", "0Mbit", "50", -1, "50 Mbyte"])
def test_a_rate_that_is_none(text: str) -> None:
    with pytest.raises(InputError, match="is no rate"):
        parse_rate(text)
