"""The same export from S3: a real server on loopback, started here."""

from __future__ import annotations

import hashlib
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

import headrace as hr
from tests.conftest import LIVER
from tests.remote.server import serve

botocore_session = pytest.importorskip("botocore.session")


@dataclass
class Counted:
    """A proxy before the server that counts what is fetched."""

    port: int
    requests: int = 0
    bytes: int = 0


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory, demo_census: Path) -> Iterator[tuple[str, Counted]]:
    """The demo Census in a bucket: its URI, and the counting proxy to reach it by."""
    with serve(demo_census, tmp_path_factory.mktemp("s3")) as port:
        counted, proxy = start_proxy(port)
        yield "s3://census/soma", counted
        proxy.shutdown()
        proxy.server_close()


def start_proxy(port: int) -> tuple[Counted, ThreadingHTTPServer]:
    """Pass requests on to the server at `port`, and count."""
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def pass_on(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = self.rfile.read(length) if length else None
            headers = {k: v for k, v in self.headers.items() if k.lower() not in ("host", "connection")}
            asked = urllib.request.Request(f"http://127.0.0.1:{port}{self.path}", body, headers, method=self.command)
            try:
                answer = urllib.request.urlopen(asked)
            except urllib.error.HTTPError as error:
                answer = error
            data = answer.read()
            with lock:
                counted.requests += 1
                counted.bytes += len(data)
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                if name.lower() not in ("transfer-encoding", "connection", "content-length"):
                    self.send_header(name, value)
            size = answer.headers.get("Content-Length", len(data)) if self.command == "HEAD" else len(data)
            self.send_header("Content-Length", str(size))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

        do_GET = do_HEAD = do_POST = do_PUT = pass_on  # noqa: N815 # http.server's names

        def log_message(self, *args: object) -> None:
            """Say nothing."""

    proxy = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    counted = Counted(proxy.server_address[1])
    threading.Thread(target=proxy.serve_forever, daemon=True).start()
    return counted, proxy


def config(port: int) -> dict[str, object]:
    return {
        "vfs.s3.endpoint_override": f"127.0.0.1:{port}",
        "vfs.s3.scheme": "http",
        "vfs.s3.use_virtual_addressing": False,
    }


def size(census: Path) -> int:
    return sum(path.stat().st_size for path in census.rglob("*") if path.is_file())


def test_the_same_bytes_from_s3(s3: tuple[str, Counted], demo_census: Path, tmp_path: Path) -> None:
    uri, counted = s3
    steps = hr.recipes.full_length(min_genes=200)
    local = hr.open_census(demo_census).query("mus_musculus", dataset_id=LIVER)
    hr.Plan(local, steps).write_h5ad(tmp_path / "local.h5ad")
    with hr.open_census(uri, tiledb_config=config(counted.port)) as census:
        remote = census.query("mus_musculus", dataset_id=LIVER)
        hr.Plan(remote, steps).write_h5ad(tmp_path / "remote.h5ad")
    digests = {hashlib.sha256((tmp_path / f"{name}.h5ad").read_bytes()).hexdigest() for name in ("local", "remote")}
    assert len(digests) == 1
    # a tenth of the cells is asked for; TileDB reads whole tiles, and the tables of cells and genes
    assert 0 < counted.bytes < size(demo_census)


def test_the_source_is_read_once(s3: tuple[str, Counted], tmp_path: Path) -> None:
    """Two passes over the data fetch X once: as many bytes as one pass, within the cost of opening it."""
    uri, counted = s3
    fetched = []
    for steps in (
        [hr.NormalizeTotal(1e4)],
        [hr.FilterGenes(min_cells=3), hr.NormalizeTotal(1e4), hr.FilterGenes(min_counts=1)],
    ):
        before = counted.bytes
        with hr.open_census(uri, tiledb_config=config(counted.port)) as census:
            hr.Plan(census.query("mus_musculus"), steps).write_h5ad(tmp_path / f"{len(steps)}.h5ad")
        fetched.append(counted.bytes - before)
    assert fetched[1] == pytest.approx(fetched[0], rel=0.02)


def test_a_missing_bucket_is_named(s3: tuple[str, Counted]) -> None:
    with pytest.raises(hr.InputError, match="no SOMA object at 's3://nowhere/soma'"):
        hr.open_census("s3://nowhere/soma", tiledb_config=config(s3[1].port))


def test_the_proxy_of_the_environment_is_used(
    s3: tuple[str, Counted], monkeypatch: pytest.MonkeyPatch, demo_census: Path
) -> None:
    """TileDB does not read HTTP_PROXY itself; headrace does it for it, and honours NO_PROXY."""
    from headrace.sources.soma.location import Location

    for name in ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTPS_PROXY", "http://user:p%40ss@proxy.example:8080")
    settings = Location.of("s3://bucket/census").context().tiledb_config
    assert settings["vfs.s3.proxy_host"] == "proxy.example"
    assert settings["vfs.s3.proxy_port"] == "8080"
    assert settings["vfs.s3.proxy_scheme"] == "http"
    assert settings["vfs.s3.proxy_username"] == "user"
    assert settings["vfs.s3.proxy_password"] == "p@ss"
    assert settings["vfs.s3.region"] == "us-west-2"
    assert settings["vfs.s3.no_sign_request"] == "true"
    monkeypatch.setenv("NO_PROXY", "amazonaws.com")
    assert "vfs.s3.proxy_host" not in Location.of("s3://bucket/census").context().tiledb_config
    own = Location.of("s3://bucket/census", {"vfs.s3.region": "eu-west-1"}).context().tiledb_config
    assert own["vfs.s3.region"] == "eu-west-1"


def test_only_settings_that_this_tiledb_has_are_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """They differ between versions; what the user sets is the user's."""
    from headrace.sources.soma import location

    name = "sm.query.sparse_global_order.preprocess_tile_merge"
    here = location.Location.of("s3://bucket/census")
    assert str(here.context().tiledb_config[name]) == "0"
    known = location._known_settings() - {name, "vfs.s3.no_sign_request"}
    monkeypatch.setattr(location, "_known_settings", lambda: known)
    settings = here.context().tiledb_config
    assert name not in settings
    assert "vfs.s3.no_sign_request" not in settings
    assert settings["vfs.s3.region"] == "us-west-2"
    assert settings["soma.init_buffer_bytes"]
    own = location.Location.of("s3://bucket/census", {name: 1}).context().tiledb_config
    assert own[name] == "1"
