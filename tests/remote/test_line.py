"""What a line does to a run: faults at opening, in obs and in the middle of X, with both readers, before a real S3 server.

Time-outs and pauses are short, and cases wait side by side: all of them are run at once by four processes, and each test
looks at its own. The same in full, and kills by the dozen, are in `make faults`.
"""

from __future__ import annotations

import hashlib
import logging
import multiprocessing
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import headrace as hr
from headrace import traffic as traffic_module
from headrace.errors import LineError, SourceError
from headrace.events import Fetched, Waiting
from headrace.sources.tiles import settings as tile_settings
from headrace.sources.tiles.store import Object, open_store
from headrace.support import retry
from headrace.testing import SimulatedDataset, build_census
from headrace.traffic import Traffic
from tests.remote.kills import Chains, settings
from tests.remote.proxy import Proxy, Rule
from tests.remote.server import serve

URI = "s3://census/soma"
STEPS = [hr.NormalizeTotal(1e4), hr.Log1p()]
X = "X/raw/__fragments/.*/[ad][01].tdb"
PLACES = {"opening": "census_info/datasets/", "obs": "homo_sapiens/obs/", "X": X}
READERS = ("tiles", "tiledb")
PASSING = ("refuse", "reset", "cut", "short", "long", "less", "500", "503", "stall")

pytestmark = pytest.mark.filterwarnings("ignore::headrace.DuplicateCellsWarning")


@pytest.fixture(scope="module")
def small_census(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two datasets of one organism: 1,400 cells, 1.5 MB."""
    kinds = [SimulatedDataset(700, assay, n_vars=2700, nnz_per_cell=450) for assay in ("EFO:0009922", "EFO:0008931")]
    return build_census(tmp_path_factory.mktemp("line") / "census", {"homo_sapiens": kinds}, layers=["raw"])


@pytest.fixture(scope="module")
def server(small_census: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    pytest.importorskip("botocore.session")
    with serve(small_census, tmp_path_factory.mktemp("line-s3")) as port:
        yield port


@pytest.fixture(scope="module")
def whole(small_census: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """What an export from the local disk writes."""
    out = tmp_path_factory.mktemp("whole") / "out.h5ad"
    hr.Plan(hr.open_census(small_census).query("homo_sapiens"), STEPS).write_h5ad(out)
    return hashlib.sha256(out.read_bytes()).hexdigest()


def shorten(patch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        patch.delenv(name, raising=False)
    patch.setattr(retry, "FIRST_PAUSE", 0.02)
    patch.setattr(retry, "LONGEST_PAUSE", 0.2)
    patch.setattr(retry, "DOUBTFUL_FOR", 0.3)
    patch.setattr(tile_settings, "LEAST_READ_TIMEOUT_MS", 1000)


@pytest.fixture(autouse=True, scope="module")
def short() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        shorten(patch)
        yield


def begin() -> None:
    """In a process of its own."""
    warnings.simplefilter("ignore")
    shorten(pytest.MonkeyPatch())


def config(port: int) -> dict[str, str]:
    """Time-outs are short, and it is headrace that tries again."""
    short = {"connect_max_tries": "1", "request_timeout_ms": "1000", "connect_timeout_ms": "1000"}
    return {**settings(port), **{f"vfs.s3.{name}": value for name, value in short.items()}}


def export(port: int, out: Path, reader: Any = "tiles", retry_for: float = 20.0, **more: Any) -> str:
    census = hr.open_census(URI, tiledb_config=config(port), reader=reader, retry_for=retry_for)
    hr.Plan(census.query("homo_sapiens"), STEPS).write_h5ad(out, **more)
    return hashlib.sha256(out.read_bytes()).hexdigest()


# ------------------------------------------------------------------------------------------ many cases, side by side
@dataclass(frozen=True)
class Case:
    """An export behind a line of its own.

    Parameters
    ----------
    reader
        "tiles" or "tiledb".
    faults
        What happens: the arguments of a `Rule`.
    retry_for
        Seconds.
    """

    reader: str
    faults: tuple[tuple[str, str, int, int], ...]
    retry_for: float = 20.0


@dataclass
class Outcome:
    """What came of it: the file's checksum or an error, the faults that happened, and what was left."""

    sha: str = ""
    error: str = ""
    kinds: tuple[str, ...] = ()
    """The error's class, and those above."""
    seconds: float = 0.0
    happened: list[tuple[int, str]] = field(default_factory=list)
    last: Fetched | None = None
    left: list[str] = field(default_factory=list)
    threads: list[str] = field(default_factory=list)
    """Those of headrace that were alive some seconds later."""


def run(case: Case, server: int, folder: Path) -> Outcome:
    found, begun, told = Outcome(), time.monotonic(), list[Any]()
    folder.mkdir()
    with Proxy(server, rules=[Rule(*one) for one in case.faults], down=0.2) as line:
        try:
            out = folder / "out.h5ad"
            found.sha = export(line.port, out, case.reader, case.retry_for, on_event=told.append)
        except Exception as error:
            found.error, found.kinds = str(error), tuple(one.__name__ for one in type(error).__mro__)
    found.last = next((event for event in reversed(told) if isinstance(event, Fetched)), None)
    found.seconds, found.happened = time.monotonic() - begun, line.happened
    found.left = [path.name for path in folder.iterdir()]
    begun = time.monotonic()
    while _threads() and time.monotonic() - begun < 10:
        time.sleep(0.05)
    found.threads = _threads()
    return found


def _threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("headrace")]


def cases(named: dict[str, Case]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", named.values(), ids=named.keys())


@pytest.fixture(scope="module")
def outcomes(
    request: pytest.FixtureRequest, server: int, whole: str, tmp_path_factory: pytest.TempPathFactory
) -> dict[Case, Outcome]:
    """What came of all cases whose tests are asked for."""
    asked = [getattr(item, "callspec", None) for item in request.session.items if item.path == request.path]
    wanted = list(dict.fromkeys(one.params["case"] for one in asked if one is not None and "case" in one.params))
    wanted.sort(key=lambda case: -len(case.faults))  # the longest first
    folder = tmp_path_factory.mktemp("cases")
    folders = [folder / str(number) for number in range(len(wanted))]
    with ProcessPoolExecutor(4, multiprocessing.get_context("spawn"), begin) as pool:
        return dict(zip(wanted, pool.map(run, wanted, [server] * len(wanted), folders), strict=True))


# ---------------------------------------------------------------------------------------------------- what may pass
PASSES = {
    f"{reader}-{place}": Case(reader, tuple((fault, match, skip, 1) for skip, fault in enumerate(PASSING)))
    for place, match in PLACES.items()
    for reader in READERS
}
SLOW_DOWN = {"tiles": Case("tiles", (("503", X, 1, 20),))}
STOPS = {"tiles": Case("tiles", (("stop", "raw/.*a0.tdb", 0, 2),))}


@cases(PASSES)
def test_what_may_pass_is_tried_again(case: Case, outcomes: dict[Case, Outcome], whole: str) -> None:
    found = outcomes[case]
    assert (found.error, found.sha) == ("", whole)
    assert len(found.happened) >= len(PASSING) - 1, "each happened, or two to one request"
    assert found.left == ["out.h5ad"]


@cases(SLOW_DOWN)
def test_slow_down_twenty_times(case: Case, outcomes: dict[Case, Outcome], whole: str) -> None:
    found = outcomes[case]
    assert (found.error, found.sha, len(found.happened)) == ("", whole, 20)
    assert found.last is not None
    assert found.last.retries > 0
    assert found.last.seconds_left == pytest.approx(0, abs=1)


@cases(STOPS)
def test_a_stall_in_the_middle_of_an_answer(case: Case, outcomes: dict[Case, Outcome], whole: str) -> None:
    found = outcomes[case]
    assert (found.error, found.sha, len(found.happened)) == ("", whole, 2)


# ------------------------------------------------------------------------------------------------------- what stays
STAYING = {
    "403": "access is denied; ask for permission",
    "404": "it is not there; check the address",
    "301": "the bucket is in another region.* set tiledb_config={'vfs.s3.region'",
    "expired": "the credentials (have|may have) run out",
    "bad-key": "the credentials are not accepted; check AWS_ACCESS_KEY_ID|access is denied.* check the credentials",
    "signature": "the credentials are not accepted|access is denied.* check the credentials",
}
STAYS = {
    f"{reader}-{place}-{fault}": Case(reader, ((fault, PLACES[place], int(place == "X"), 1000),), retry_for=300)
    for reader in READERS
    for place in PLACES
    for fault in STAYING
}
# long enough for a busy machine, which may give nothing for a second while all is well
GIVEN_UP = {reader: Case(reader, (("500", X, 1, 1000),), retry_for=8.0) for reader in READERS}


@cases(STAYS)
def test_what_stays_is_named_at_once(case: Case, outcomes: dict[Case, Outcome]) -> None:
    found = outcomes[case]
    assert "SourceError" in found.kinds, found
    assert re.search(STAYING[case.faults[0][0]], found.error)
    assert "\n" not in found.error
    assert found.seconds < 100
    assert "out.h5ad" not in found.left
    assert not found.threads, "nobody waits for what they ask for"


@cases(GIVEN_UP)
def test_what_does_not_pass_is_given_up(case: Case, outcomes: dict[Case, Outcome]) -> None:
    said = r"error of its own \(HTTP 5xx\); try again later \(tried (once|\d+ times); (no byte|nothing new) for"
    assert "LineError" in outcomes[case].kinds
    assert re.search(said, outcomes[case].error)


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
FLIPPED = {
    f"{reader}-{file}": Case(reader, (("flip", f"raw/.*{file}.tdb", 0, 1),))
    for file in ("d0", "a0", "__fragment_metadata")
    for reader in READERS
}
DAMAGED = {name: Case(case.reader, ((*case.faults[0][:3], 1000),)) for name, case in FLIPPED.items()} | {
    "obs": Case("tiles", (("flip", "homo_sapiens/obs/.*a23.tdb", 0, 1),))  # the numbers that X is compared with
}


@cases(FLIPPED)
def test_a_flipped_byte_is_fetched_again(case: Case, outcomes: dict[Case, Outcome], whole: str) -> None:
    found = outcomes[case]
    assert (found.error, found.sha, len(found.happened)) == ("", whole, 1)


@cases(DAMAGED)
def test_a_flipped_byte_that_stays(case: Case, outcomes: dict[Case, Outcome], whole: str) -> None:
    """An error, or a byte that is of no use."""
    found = outcomes[case]
    assert found.happened
    assert "SourceError" in found.kinds or found.sha == whole, found


# ------------------------------------------------------------------------------------------------- counted, and said
@pytest.mark.parametrize("reader", READERS)
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
def test_what_has_come_is_not_fetched_again(server: int, small_census: Path, tmp_path: Path) -> None:
    """Of a request that is cut in its middle, and of a process that is gone."""
    (path,) = (small_census / "census_data/homo_sapiens/ms/RNA/X/raw/__fragments").glob("*/a0.tdb")
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


def test_what_was_listed_is_kept_until_it_is_written_anew(server: int, small_census: Path, tmp_path: Path) -> None:
    """So are columns of obs read: a run that goes on takes what has come, if the object is still that one."""
    (path,) = (small_census / "census_data/homo_sapiens/ms/RNA/X/raw/__fragments").glob("*/a0.tdb")
    stored, name = path.read_bytes(), f"__fragments/{path.parent.name}/a0.tdb"
    place = f"{URI}/census_data/homo_sapiens/ms/RNA/X/raw"

    def store(port: int, retry_for: float) -> tuple[Any, Traffic]:
        traffic = Traffic(retry_for)
        traffic.keep = tmp_path / "kept"
        return open_store(place, config(port), traffic), traffic

    with Proxy(server, rules=[Rule("stop", "/a0.tdb", times=99)]) as line:
        remote, first = store(line.port, 0.1)
        listed = remote.objects()[name]
        with pytest.raises(LineError):
            remote.read_same(name, 0, len(stored), listed)
        assert first.bytes > len(stored) / 4
    remote, second = store(server, 5)
    assert bytes(remote.read_same(name, 0, len(stored), listed)) == stored
    assert second.bytes == len(stored) - first.bytes
    remote, third = store(server, 5)
    assert bytes(remote.read_same(name, 0, len(stored), listed, anew=True)) == stored
    assert third.bytes == len(stored)
    with pytest.raises(SourceError, match="written anew"):
        store(server, 5)[0].read_same(name, 0, len(stored), Object(listed.size, f"other {listed.tag}"))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="signals")
def test_a_killed_run_goes_on(server: int, tmp_path: Path) -> None:
    """One pass, killed by SIGKILL when half of its cells had passed: both runs fetch what one does.

    What is in buffers when a process ends is lost: eight kilobytes for each request under way.
    """
    chains = Chains(server, tmp_path, rate=600_000)
    one_run, _ = chains.run()
    cells, opening = one_run - chains.opening, chains.opening
    sha = hashlib.sha256(chains.out.read_bytes()).hexdigest()
    chains.out.unlink()
    first, killed = chains.run(opening + cells // 2)
    assert killed
    assert not chains.out.exists()
    second, _ = chains.run()
    assert hashlib.sha256(chains.out.read_bytes()).hexdigest() == sha
    assert first - opening > 0.4 * cells
    assert first - opening + second - opening <= 1.10 * cells
    assert [path.name for path in tmp_path.iterdir()] == ["out.h5ad"]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="signals")
@pytest.mark.parametrize(
    ("number", "code", "said", "place"),
    [(signal.SIGINT, 130, "interrupted", "X"), (signal.SIGTERM, 143, "terminated", "obs")],
)
def test_a_signal_while_nothing_comes(
    number: signal.Signals, code: int, said: str, place: str, server: int, tmp_path: Path
) -> None:
    """The command ends within seconds, whatever it waits for, in one line that names what is kept."""
    rules = [Rule("stall", "raw/.*a0.tdb" if place == "X" else "obs/__fragments/.*a19.tdb", times=1000)]
    with Proxy(server, rules=rules) as line:
        given = [word for name, value in settings(line.port).items() for word in ("--tiledb-config", f"{name}={value}")]
        command = [sys.executable, "-m", "headrace", "export", "--census", URI, "--organism", "homo_sapiens"]
        command += [*given, "--out", str(tmp_path / "out.h5ad")]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            end = time.monotonic() + 120
            while not line.happened and process.poll() is None:
                assert time.monotonic() < end
                time.sleep(0.02)
            time.sleep(0.5)
            begun = time.monotonic()
            process.send_signal(number)
            stdout, stderr = process.communicate(timeout=60)
            seconds = time.monotonic() - begun
    kept = tmp_path / ".headrace-spool"
    assert (process.returncode, stdout) == (code, "")
    assert stderr.splitlines()[-1] == f"{said}; nothing was written; run it again to go on from what is kept in {kept}"
    assert seconds < 10
    assert [path.name for path in tmp_path.iterdir()] == [".headrace-spool"]
