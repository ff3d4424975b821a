"""What a line does to a run: faults at opening, in obs and in the middle of X, with both readers, before a real S3 server.

Time-outs and pauses are short; the same in full, and kills by the dozen, are in `make faults`.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import re
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import headrace as hr
from headrace import traffic as traffic_module
from headrace.errors import LineError, SourceError
from headrace.events import Fetched, Waiting
from headrace.sources.tiles import settings as tile_settings
from headrace.sources.tiles.store import PART, open_store
from headrace.support import retry
from headrace.traffic import Traffic
from tests.remote.kills import Chains, settings
from tests.remote.proxy import SNDBUF, Proxy, Rule
from tests.remote.server import serve

URI = "s3://census/soma"
STEPS = [hr.NormalizeTotal(1e4), hr.Log1p()]
PLACES = {"opening": "census_info/datasets/", "obs": "homo_sapiens/obs/", "X": "X/raw/__fragments"}
PASSING = ("refuse", "reset", "cut", "short", "long", "less", "500", "503")

pytestmark = [pytest.mark.line, pytest.mark.filterwarnings("ignore::headrace.DuplicateCellsWarning")]


@pytest.fixture(scope="module")
def server(demo_census: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    pytest.importorskip("botocore.session")
    with serve(demo_census, tmp_path_factory.mktemp("line-s3")) as port:
        yield port


@pytest.fixture(scope="module")
def whole(demo_census: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """What an export from the local disk writes."""
    out = tmp_path_factory.mktemp("whole") / "out.h5ad"
    hr.Plan(hr.open_census(demo_census).query("homo_sapiens"), STEPS).write_h5ad(out)
    return hashlib.sha256(out.read_bytes()).hexdigest()


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(retry, "FIRST_PAUSE", 0.02)
    monkeypatch.setattr(retry, "LONGEST_PAUSE", 0.2)
    monkeypatch.setattr(retry, "DOUBTFUL_FOR", 0.3)
    monkeypatch.setattr(tile_settings, "LEAST_READ_TIMEOUT_MS", 1000)


def config(port: int) -> dict[str, str]:
    """Time-outs are short, and it is headrace that tries again."""
    short = {"connect_max_tries": "1", "request_timeout_ms": "1000", "connect_timeout_ms": "1000"}
    return {**settings(port), **{f"vfs.s3.{name}": value for name, value in short.items()}}


def export(port: int, out: Path, reader: Any = "tiles", retry_for: float = 20.0, **more: Any) -> str:
    census = hr.open_census(URI, tiledb_config=config(port), reader=reader, retry_for=retry_for)
    hr.Plan(census.query("homo_sapiens"), STEPS).write_h5ad(out, **more)
    return hashlib.sha256(out.read_bytes()).hexdigest()


# ---------------------------------------------------------------------------------------------------- what may pass
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("reader", ["tiles", "tiledb"])
def test_what_may_pass_is_tried_again(reader: str, place: str, server: int, whole: str, tmp_path: Path) -> None:
    faults = (*PASSING, "stall")
    rules = [Rule(fault, PLACES[place], skip=number) for number, fault in enumerate(faults)]
    with Proxy(server, rules=rules, down=0.2) as line:
        assert export(line.port, tmp_path / "out.h5ad", reader) == whole
        assert len(line.happened) >= len(faults) - 1, "each happened, or two to one request"
    assert [path.name for path in tmp_path.iterdir()] == ["out.h5ad"]


def test_slow_down_twenty_times(server: int, whole: str, tmp_path: Path) -> None:
    told: list[Any] = []
    with Proxy(server, rules=[Rule("503", PLACES["X"], skip=4, times=20)]) as line:
        assert export(line.port, tmp_path / "out.h5ad", on_event=told.append) == whole
        assert len(line.happened) == 20
    last = [event for event in told if isinstance(event, Fetched)][-1]
    assert last.retries > 0
    assert last.seconds_left == pytest.approx(0, abs=1)


def test_a_stall_in_the_middle_of_an_answer(server: int, whole: str, tmp_path: Path) -> None:
    with Proxy(server, rules=[Rule("stop", "raw/.*a0.tdb", times=2)]) as line:
        assert export(line.port, tmp_path / "out.h5ad") == whole


# ------------------------------------------------------------------------------------------------------- what stays
STAYING = {
    "403": "access is denied; ask for permission",
    "404": "it is not there; check the address",
    "301": "the bucket is in another region.* set tiledb_config={'vfs.s3.region'",
    "expired": "the credentials (have|may have) run out",
    "bad-key": "the credentials are not accepted; check AWS_ACCESS_KEY_ID|access is denied.* check the credentials",
    "signature": "the credentials are not accepted|access is denied.* check the credentials",
}


@pytest.mark.parametrize("fault", STAYING)
@pytest.mark.parametrize(
    ("reader", "place"), [("tiles", "opening"), ("tiledb", "obs"), ("tiles", "X"), ("tiledb", "X")]
)
def test_what_stays_is_named_at_once(fault: str, reader: str, place: str, server: int, tmp_path: Path) -> None:
    skip = 4 if place == "X" else 0
    with (
        Proxy(server, rules=[Rule(fault, PLACES[place], skip=skip, times=1000)]) as line,
        pytest.raises(SourceError, match=STAYING[fault]) as caught,
    ):
        export(line.port, tmp_path / "out.h5ad", reader, retry_for=600)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out.h5ad").exists()


@pytest.mark.parametrize("reader", ["tiles", "tiledb"])
def test_what_does_not_pass_is_given_up(reader: str, server: int, tmp_path: Path) -> None:
    with (
        Proxy(server, rules=[Rule("500", PLACES["X"], skip=4, times=1000)]) as line,
        pytest.raises(
            LineError, match=r"error of its own \(HTTP 5xx\); try again later \(tried \d+ times; no byte for"
        ),
    ):
        export(line.port, tmp_path / "out.h5ad", reader, retry_for=1.0)


def test_a_name_that_is_not_known(tmp_path: Path) -> None:
    there = {**config(1), "vfs.s3.endpoint_override": "nowhere.invalid"}
    with pytest.raises(LineError, match=r"cannot be looked up \(DNS\); check the network and the address"):
        hr.open_census(URI, tiledb_config=there)


def test_a_proxy_that_is_not_there(server: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]  # bound, and nobody listens
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{port}")
        monkeypatch.setenv("no_proxy", "")
        there = {**config(server), "vfs.s3.endpoint_override": f"127.0.0.2:{server}"}
        with pytest.raises(LineError, match=rf"refused.* go through the proxy 127.0.0.1:{port}: check HTTP_PROXY"):
            hr.open_census(URI, tiledb_config=there)


# ------------------------------------------------------------------------------------------------------- flipped bytes
@pytest.mark.parametrize("file", ["raw/.*d0.tdb", "raw/.*a0.tdb", "raw/.*__fragment_metadata.tdb"])
@pytest.mark.parametrize("reader", ["tiles", "tiledb"])
def test_a_flipped_byte(reader: str, file: str, server: int, whole: str, tmp_path: Path) -> None:
    """Fetched again it is right; if it is on the server, that is an error."""
    out = tmp_path / "out.h5ad"
    with Proxy(server, rules=[Rule("flip", file)]) as line:
        assert export(line.port, out, reader) == whole
        assert line.happened
    with Proxy(server, rules=[Rule("flip", file, times=1000)]) as line, contextlib.suppress(SourceError):
        assert export(line.port, out, reader, overwrite=True) == whole, "a byte that is of no use"


def test_a_flipped_byte_of_obs(server: int, whole: str, tmp_path: Path) -> None:
    """The numbers of values that X is compared with."""
    with Proxy(server, rules=[Rule("flip", "homo_sapiens/obs/.*a23.tdb")]) as line:
        with contextlib.suppress(SourceError):
            assert export(line.port, tmp_path / "out.h5ad") == whole
        assert line.happened


# ------------------------------------------------------------------------------------------------- counted, and said
@pytest.mark.parametrize("reader", ["tiles", "tiledb"])
def test_planned_and_fetched_bytes_agree(reader: Any, server: int, tmp_path: Path) -> None:
    told: list[Any] = []
    with Proxy(server) as line:
        census = hr.open_census(URI, tiledb_config=config(line.port), reader=reader)
        plan = hr.Plan(census.query("homo_sapiens"), STEPS)
        explained = plan.explain(rate="50Mbit")
        before = line.bytes
        plan.write_h5ad(tmp_path / "out.h5ad", on_event=told.append)
        fetched = line.bytes - before
    assert explained.fetched_bytes == pytest.approx(fetched, rel=0.1)
    assert explained.fetched_seconds == pytest.approx(explained.fetched_bytes * 8 / 50e6)
    assert "to fetch, 1 s at 50 Mbit/s" in str(explained)
    events = [event for event in told if isinstance(event, Fetched)]
    assert events[0].bytes == 0
    assert {event.planned for event in events} == {explained.fetched_bytes}
    assert events[-1].bytes == pytest.approx(fetched, rel=0.1)


def test_when_nothing_comes_that_is_said(
    server: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """In a run to its listener; at opening, where there is none, to the log."""
    monkeypatch.setattr(traffic_module, "QUIET", 0.4)
    monkeypatch.setattr(traffic_module, "TICK", 0.1)
    told: list[Any] = []
    with (
        Proxy(server, rules=[Rule("stall", "raw/.*a0.tdb", times=99)]) as line,
        pytest.raises(LineError, match="in time"),
    ):
        export(line.port, tmp_path / "out.h5ad", retry_for=1, on_event=told.append)
    waiting = [event for event in told if isinstance(event, Waiting)]
    assert waiting
    assert re.search(r"waiting for .*a0\.tdb of s3://census/soma", str(waiting[0]))
    with (
        caplog.at_level(logging.WARNING, "headrace"),
        Proxy(server, rules=[Rule("stall", "census_info", times=99)]) as line,
        pytest.raises(LineError, match="in time"),
    ):
        hr.open_census(URI, tiledb_config=config(line.port), retry_for=0.5).datasets()
    assert "no byte has come for" in caplog.text
    assert re.search("waiting for .*s3://census/soma", caplog.text)


# --------------------------------------------------------------------------------------------------------- killed runs
def test_what_has_come_is_not_fetched_again(server: int, demo_census: Path, tmp_path: Path) -> None:
    """Of a request that is cut in its middle, and of a process that is gone."""
    (path,) = (demo_census / "census_data/homo_sapiens/ms/RNA/X/raw/__fragments").glob("*/a0.tdb")
    stored, name = path.read_bytes(), f"__fragments/{path.parent.name}/a0.tdb"
    place = f"{URI}/census_data/homo_sapiens/ms/RNA/X/raw"
    with Proxy(server, rules=[Rule("stop", "a0.tdb", times=99)]) as line:
        first = Traffic(0.1)
        first.keep = tmp_path / "kept"
        with pytest.raises(LineError):
            open_store(place, config(line.port), first).read(name, 0, len(stored))
        came = line.bytes
    assert came > len(stored) / 4
    with Proxy(server) as line:
        second = Traffic(5)
        second.keep = tmp_path / "kept"
        assert bytes(open_store(place, config(line.port), second).read(name, 1000, len(stored))) == stored[1000:]
        assert line.bytes <= len(stored) - first.bytes
        assert second.bytes == line.bytes
    for kept in (tmp_path / "kept").iterdir():
        broken = bytearray(kept.read_bytes())
        broken[len(broken) // 2] ^= 1
        kept.write_bytes(broken)
    third = Traffic(5)
    third.keep = tmp_path / "kept"
    assert bytes(open_store(place, config(server), third).read(name, 0, len(stored))) == stored
    assert 0 < third.bytes < len(stored)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="signals")
def test_a_killed_run_goes_on(server: int, tmp_path: Path) -> None:
    """One pass, killed by SIGKILL when half of its bytes had passed."""
    chains = Chains(server, tmp_path, rate=500_000)
    one_run, _ = chains.run()
    sha = hashlib.sha256(chains.out.read_bytes()).hexdigest()
    chains.out.unlink()
    first, killed = chains.run(one_run // 2)
    assert killed
    assert not chains.out.exists()
    second, _ = chains.run()
    assert hashlib.sha256(chains.out.read_bytes()).hexdigest() == sha
    under_way = 14 * (SNDBUF // 2 + PART)  # so many requests; what is in buffers is gone
    assert first + second - chains.opening <= one_run + under_way
    assert second < 0.9 * one_run
    assert [path.name for path in tmp_path.iterdir()] == ["out.h5ad"]
