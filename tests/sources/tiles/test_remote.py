"""Tiles from a real S3 server, behind a proxy that counts, delays and fails."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from headrace.errors import SourceError
from headrace.sources.ranges import CellRange
from headrace.sources.tiles import Declined, Line, TileReader, open_fragments
from tests.remote.proxy import Proxy
from tests.remote.server import serve

X = "census_data/homo_sapiens/ms/RNA/X/raw"


@pytest.fixture(scope="module")
def server(demo_census: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    pytest.importorskip("botocore.session")
    with serve(demo_census / X, tmp_path_factory.mktemp("tiles-s3")) as port:
        yield port


def config(port: int) -> dict[str, str]:
    return {
        "vfs.s3.endpoint_override": f"127.0.0.1:{port}",
        "vfs.s3.scheme": "http",
        "vfs.s3.use_virtual_addressing": "false",
        "vfs.s3.no_sign_request": "true",
        "vfs.s3.region": "us-east-1",
    }


def matrices(uri: str, settings: dict[str, str], joinids: np.ndarray | None = None, window: int = 64 << 20) -> list:
    fragments = open_fragments(uri, settings)
    low, high = fragments[0].footer.rows[0], fragments[-1].footer.rows[1]
    joinids = np.arange(low, high + 1) if joinids is None else joinids
    gene_map = np.arange(fragments[0].footer.columns[1] + 1, dtype=np.int32)
    reader = TileReader(
        fragments, joinids, None, gene_map, line=Line("://" in uri), threads=2, window=window
    )  # fmt: skip
    return list(reader.read([CellRange(i, min(i + 500, len(joinids))) for i in range(0, len(joinids), 500)]))


def same(ours: list, theirs: list) -> None:
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        assert one.shape == other.shape
        assert np.array_equal(one.indptr, other.indptr)
        assert np.array_equal(one.indices, other.indices)
        assert np.array_equal(one.data.view(np.uint32), other.data.view(np.uint32))


@pytest.mark.parametrize("window", [1 << 16, 64 << 20])
def test_the_same_as_from_the_disk(server: int, demo_census: Path, window: int) -> None:
    local = matrices(str(demo_census / X), {})
    tiles = sum(path.stat().st_size for path in (demo_census / X).glob("__fragments/*/[ad][01].tdb"))
    with Proxy(server) as line:
        same(matrices("s3://census/soma", config(line.port), window=window), local)
        opening = [one for one in line.lines if "0.tdb" not in one and "d1.tdb" not in one]
        assert len(opening) <= 4, "a list; schema and end of the metadata; perhaps the middle of it"
        assert line.bytes <= 1.05 * tiles + (1 << 20)


def test_few_cells_take_few_bytes(server: int, demo_census: Path) -> None:
    with Proxy(server) as line:
        far = matrices("s3://census/soma", config(line.port), np.array([3, 700]))
        few = line.bytes
    same(far, matrices(str(demo_census / X), {}, np.array([3, 700])))
    with Proxy(server) as line:
        matrices("s3://census/soma", config(line.port))
        assert few <= line.bytes


@pytest.mark.parametrize("fault", ["503", "500", "reset", "cut"])
@pytest.mark.parametrize("number", [0, 1, 4])
def test_what_may_pass_is_tried_again(server: int, demo_census: Path, fault: str, number: int) -> None:
    """While the array is opened, and in the middle of it."""
    with Proxy(server, faults={number: fault}) as line:
        same(matrices("s3://census/soma", config(line.port)), matrices(str(demo_census / X), {}))
        assert line.requests > number + 1


def test_what_stays_is_said(server: int) -> None:
    settings = {**config(server), "vfs.s3.connect_max_tries": "1"}
    with Proxy(server, faults=dict.fromkeys(range(4, 100), "403")) as line:
        settings["vfs.s3.endpoint_override"] = f"127.0.0.1:{line.port}"
        with pytest.raises(SourceError, match="while reading s3://census/soma/__fragments/.*check the network"):
            matrices("s3://census/soma", settings)


def test_nothing_there_is_left_to_tiledb_to_say(server: int) -> None:
    with pytest.raises(Declined, match="no fragments"):
        open_fragments("s3://census/nothing", config(server))


def test_a_stall_ends(server: int, demo_census: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that brings no byte is given up and made again."""
    from headrace.sources.tiles import settings as module

    monkeypatch.setattr(module, "LEAST_READ_TIMEOUT_MS", 500)
    with Proxy(server, faults={4: "stall"}) as line:
        ours = matrices("s3://census/soma", {**config(line.port), "vfs.s3.request_timeout_ms": "500"})
    same(ours, matrices(str(demo_census / X), {}))
