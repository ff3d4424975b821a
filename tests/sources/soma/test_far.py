"""A Census that is far away: few requests, none twice, the same numbers; the second time from the cache, or not at all."""

from __future__ import annotations

import pickle
import re
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import tiledbsoma as soma

import headrace as hr
from headrace.sources.soma.arrays import Frame
from headrace.sources.soma.location import Location
from headrace.sources.soma.replica import experiment_replica
from headrace.sources.soma.tables import to_frame
from headrace.sources.tiles.store import Remote
from headrace.testing import SimulatedDataset, build_census
from tests.conftest import LIVER
from tests.remote.proxy import Proxy
from tests.remote.server import serve

botocore_session = pytest.importorskip("botocore.session")
DATA = re.compile(r"/__fragments/[^/]+/(?!__fragment_metadata)")


@pytest.fixture(scope="module")
def port(demo_census: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with serve(demo_census, tmp_path_factory.mktemp("far-s3")) as port:
        yield port


@pytest.fixture
def line(port: int) -> Iterator[Proxy]:
    with Proxy(port, delay=0.03) as line:
        yield line


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HEADRACE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def config(port: int) -> dict[str, str]:
    return {
        "vfs.s3.endpoint_override": f"127.0.0.1:{port}",
        "vfs.s3.scheme": "http",
        "vfs.s3.use_virtual_addressing": "false",
        "vfs.s3.no_sign_request": "true",
        "vfs.s3.region": "us-east-1",
    }


def upload(port: int, folder: Path, to: str) -> None:
    client = botocore_session.Session().create_client(
        "s3", endpoint_url=f"http://127.0.0.1:{port}", aws_access_key_id="any", aws_secret_access_key="any",
        region_name="us-east-1",
    )  # fmt: skip
    there = client.get_paginator("list_objects_v2").paginate(Bucket="census", Prefix=f"{to}/")
    for page in there:
        for one in page.get("Contents", []):
            client.delete_object(Bucket="census", Key=one["Key"])
    paths = [path for path in folder.rglob("*") if path.is_file()]
    with ThreadPoolExecutor(8) as pool:
        keys = [f"{to}/{path.relative_to(folder)}" for path in paths]
        list(
            pool.map(lambda key, path: client.put_object(Bucket="census", Key=key, Body=path.read_bytes()), keys, paths)
        )


def small(path: Path, seed: int = 0) -> Path:
    return build_census(
        path, {"mus_musculus": [SimulatedDataset(20, n_vars=50, nnz_per_cell=20, dataset_id=LIVER)]}, seed=seed
    )


def far(line: Proxy, uri: str = "s3://census/soma") -> hr.Census:
    return hr.open_census(uri, tiledb_config=config(line.port))


def asked(line: Proxy) -> list[str]:
    """What was asked for, without the time and random part of names."""
    return [re.sub(r"__\d+_\d+_[0-9a-f]{32}", "T", one.split(" ")[1]) for one in line.lines]


def same_stream(ours: Any, theirs: Any) -> None:
    """The same cells, genes and values, chunk by chunk."""
    pd.testing.assert_frame_equal(ours.spec.var, theirs.spec.var)
    pd.testing.assert_frame_equal(ours.spec.obs, theirs.spec.obs)
    assert ours.spec.uns == theirs.spec.uns
    assert ours.spec.nnz == theirs.spec.nnz
    if theirs.spec.measured is not None:
        assert list(ours.spec.measured.datasets) == list(theirs.spec.measured.datasets)
        np.testing.assert_array_equal(ours.spec.measured.bits, theirs.spec.measured.bits)
    chunks = [list(one.read(one.refs(300_000))) for one in (ours, theirs)]
    assert len(chunks[0]) == len(chunks[1]) > 0
    for mine, other in zip(*chunks, strict=True):
        pd.testing.assert_frame_equal(mine.obs, other.obs)
        assert np.array_equal(mine.X.indptr, other.X.indptr)
        assert np.array_equal(mine.X.indices, other.X.indices)
        assert np.array_equal(mine.X.data, other.X.data)


# ------------------------------------------------------------------------------------------------- how many requests
def test_nothing_is_asked_for_twice(line: Proxy) -> None:
    """Open, datasets, query and its spec: a listing, and each object once, many at a time."""
    census = far(line)
    opened = len(line.lines)
    lists = [one for one in line.lines if "list-type" in one]
    assert len(lists) == 5
    assert opened <= 5 + 65
    assert line.most >= 20
    census.datasets()
    census.datasets(title="liver")
    assert len(line.lines) == opened, "the table came with the first requests"
    query = census.query("mus_musculus", dataset_id=LIVER)
    names = [name for name in query.spec.obs.columns if name != "soma_joinid"]
    assert len(line.lines) <= opened + 95
    assert len(set(line.lines)) == len(line.lines)
    assert not any("HEAD" in one for one in line.lines)
    wanted = [one for one in asked(line) if "/obs/" in one and DATA.search(one)]
    columns = {re.sub(r"\D.*", "", one.rpartition("/a")[2]) for one in wanted if "/a" in one}
    needed = ["dataset_id", "assay", "assay_ontology_term_id", "is_primary_data", "nnz"]
    assert columns == {str(names.index(name)) for name in needed}, "of obs only what decides what is read"
    assert not any("homo_sapiens" in one and "list-type" not in one for one in line.lines)


def test_the_stream_brings_each_column_of_obs_once(line: Proxy) -> None:
    query = far(line).query("mus_musculus", dataset_id=LIVER)
    before = len(line.lines)
    list(query.read(query.refs(100_000)))
    columns = [one for one in line.lines[before:] if "/obs/" in one]
    assert len(columns) == len(set(columns)) > 20
    assert all(DATA.search(one) for one in columns)


def test_what_is_not_there_is_said_as_before(line: Proxy) -> None:
    with pytest.raises(hr.InputError, match="no SOMA object at 's3://census/nowhere'"):
        far(line, "s3://census/nowhere")
    with pytest.raises(hr.InputError, match="is a Experiment|SOMAExperiment, not a Census"):
        far(line, "s3://census/soma/census_data/mus_musculus")
    census = far(line)
    with pytest.raises(hr.InputError, match="no organism 'rabbit'"):
        census.query("rabbit")
    with pytest.raises(hr.InputError, match="did you mean 'liver'"):
        census.query("mus_musculus", obs_filter="tissue == 'livr'")
    with pytest.raises(hr.InputError, match="has no layer 'row'"):
        census.query("mus_musculus", layer="row")
    with pytest.raises(hr.InputError, match="names 'tisue'"):
        census.query("mus_musculus", obs_filter="tisue == 'liver'")
    with pytest.raises(hr.InputError, match="has no dataset"):
        census.query("mus_musculus", dataset_id="nothing")
    with pytest.raises(hr.InputError, match="cannot be used"):
        census.query("mus_musculus", obs_filter="tissue == == 'liver'")


@pytest.mark.parametrize("number", [2, 40, 100])
@pytest.mark.parametrize("fault", ["503", "reset", "cut"])
def test_what_may_pass_is_tried_again(port: int, demo_census: Path, fault: str, number: int) -> None:
    """In the listing, among the tables, and in the query."""
    with Proxy(port, faults={number: fault}) as line:
        ours = far(line).query("mus_musculus", dataset_id=LIVER)
        theirs = hr.open_census(demo_census).query("mus_musculus", dataset_id=LIVER)
        pd.testing.assert_frame_equal(ours.spec.var, theirs.spec.var)
        assert np.array_equal(ours.cells.joinids, theirs.cells.joinids)
        assert np.array_equal(ours.cells.nnz, theirs.cells.nnz)
        assert line.requests > number + 1


def test_what_stays_is_said(port: int) -> None:
    """By the name of the object, as trouble of reading and not of the filter."""
    with Proxy(port, faults=dict.fromkeys(range(140, 300), "403")) as line:
        census = far(line)
        with pytest.raises(hr.SourceError, match=r"while reading s3://census/soma/.*check the network"):
            for assay in ("a", "b", "c"):
                census.query("mus_musculus", obs_filter=f"assay != '{assay}' and tissue_general != '{assay}'")


# ---------------------------------------------------------------------------------------------------- the same numbers
QUERIES: dict[str, dict[str, Any]] = {
    "a dataset": {"organism": "mus_musculus", "dataset_id": LIVER},
    "all": {"organism": "mus_musculus", "genes": "any"},
    "a filter": {"organism": "mus_musculus", "obs_filter": "tissue_general == 'liver' and nnz > 800", "genes": "any"},
    "cells": {"organism": "homo_sapiens", "obs_joinids": list(range(3, 900, 7)), "genes": "all"},
    "normalized": {"organism": "mus_musculus", "layer": "normalized", "obs_filter": "sex == 'female'"},
    "by TileDB": {"organism": "mus_musculus", "dataset_id": LIVER, "reader": "tiledb"},
}


@pytest.mark.parametrize(
    ("query", "few"),
    [*((one, True) for one in QUERIES.values()), (QUERIES["a filter"], False), (QUERIES["cells"], False)],
    ids=[*QUERIES, "a filter, then the rest", "cells, then the rest"],
)
def test_the_same_as_from_the_disk(
    line: Proxy, demo_census: Path, query: dict[str, Any], few: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not few:
        monkeypatch.setattr("headrace.sources.soma.arrays.FEW_BYTES", -1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        same_stream(far(line).query(**query), hr.open_census(demo_census).query(**query))


def test_a_query_travels_to_another_process(line: Proxy, demo_census: Path) -> None:
    query = far(line).query("mus_musculus", dataset_id=LIVER)
    copy = pickle.loads(pickle.dumps(query))
    assert len(pickle.dumps(query)) < 10_000
    same_stream(copy, hr.open_census(demo_census).query("mus_musculus", dataset_id=LIVER))


def test_tables_of_obs_are_counted_from_far(line: Proxy, demo_census: Path) -> None:
    ours, theirs = far(line), hr.open_census(demo_census)
    pd.testing.assert_frame_equal(ours.datasets(assays=True), theirs.datasets(assays=True))
    pd.testing.assert_frame_equal(ours.datasets(organism="homo_sapiens"), theirs.datasets(organism="homo_sapiens"))
    assert ours.info == theirs.info
    assert ours.organisms == theirs.organisms


# ------------------------------------------------------------------------------ arrays of many tiles and several fragments
SMALL_TILES = {"tiledb": {"create": {"capacity": 50}}}


@pytest.fixture(scope="module")
def experiment(port: int, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An experiment whose obs has all kinds of columns, in small tiles and three fragments, two of which overlap."""
    root = tmp_path_factory.mktemp("small") / "experiment"
    n, n_vars, rng = 1000, 40, np.random.default_rng(0)
    schema = pa.schema(
        {
            "soma_joinid": pa.int64(),
            "obs_id": pa.large_string(),
            "label": pa.dictionary(pa.int32(), pa.large_string()),
            "flag": pa.bool_(),
            "score": pa.float64(),
            "count": pa.int32(),
            "text": pa.large_string(),
            "nnz": pa.int64(),
        }
    )
    X = (rng.random((n, n_vars)) < 0.2) * rng.integers(1, 9, (n, n_vars))
    X[:, 0] = 1

    def rows(numbers: np.ndarray, label: str) -> pa.Table:
        return pa.table(
            {
                "soma_joinid": numbers,
                "obs_id": [f"cell {k}" for k in numbers],
                "label": pa.DictionaryArray.from_arrays(
                    pa.array(numbers % 3, pa.int32()), pa.array([f"{label}{k}" for k in range(3)], pa.large_string())
                ),
                "flag": pa.array([None if k % 11 == 0 else k % 2 == 0 for k in numbers]),
                "score": numbers * 1.5,
                "count": pa.array([None if k % 7 == 0 else k for k in numbers.tolist()], pa.int32()),
                "text": [("x" * (k % 5)) or None for k in numbers],
                "nnz": (X[numbers] > 0).sum(axis=1),
            },
            schema=schema,
        )

    with soma.Experiment.create(str(root)) as made:
        made.add_new_dataframe("obs", schema=schema, domain=((0, n - 1),), platform_config=SMALL_TILES)
        rna = made.add_new_collection("ms").add_new_collection("RNA", soma.Measurement)
        var = rna.add_new_dataframe(
            "var", schema=pa.schema({"soma_joinid": pa.int64(), "var_id": pa.large_string()}), domain=((0, n_vars - 1),)
        )
        var.write(pa.table({"soma_joinid": np.arange(n_vars), "var_id": pa.array([f"g{k}" for k in range(n_vars)])}))
        x = rna.add_new_collection("X").add_new_sparse_ndarray(
            "raw", type=pa.float32(), shape=(n, n_vars), platform_config=SMALL_TILES
        )
        i, j = np.nonzero(X)
        x.write(pa.table({"soma_dim_0": i, "soma_dim_1": j, "soma_data": X[i, j].astype(np.float32)}))
    for numbers, label in [(np.arange(600), "a"), (np.arange(600, n), "b"), (np.arange(500, 700), "c")]:
        with soma.open(f"{root}/obs", "w") as obs:  # several writes of one handle lose their labels
            obs.write(rows(numbers, label))
    upload(port, root, "experiment")
    return root


ROWS: dict[str, Any] = {
    "all": None,
    "some": (120, 230),
    "one": np.array([777]),
    "scattered": np.arange(5, 1000, 97),
    "both fragments": (590, 610),
    "none": np.array([5000]),
}


@pytest.mark.parametrize("value_filter", [None, "label in ['a1', 'c2'] and score > 30", "text == 'xx'", "count < 50"])
@pytest.mark.parametrize("rows", ROWS.values(), ids=ROWS)
def test_tiles_of_any_kind(
    line: Proxy, experiment: Path, rows: Any, value_filter: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every kind of column, of some rows: what TileDB reads of the whole array, from the tiles that were fetched."""
    monkeypatch.setattr("headrace.sources.soma.arrays.FEW_BYTES", -1)
    if isinstance(rows, np.ndarray) and rows[-1] >= 1000:
        rows = np.array([0]) if value_filter is None else np.array([999])
    replica = experiment_replica(Location.of("s3://census/experiment", config(line.port)))
    assert replica is not None
    obs = replica.at("obs")
    obs.fetch(obs.array())
    frame, whole = Frame(obs.open(), obs), Frame(soma.open(str(experiment / "obs")), None)
    names = ["soma_joinid", "obs_id", "label", "flag", "score", "count", "text", "nnz"]
    ours = pa.concat_tables(frame.read(names, rows, value_filter)).sort_by("soma_joinid")
    theirs = pa.concat_tables(whole.read(names, rows, value_filter)).sort_by("soma_joinid")
    assert theirs["soma_joinid"].to_pylist() == ours["soma_joinid"].to_pylist()
    assert ours.to_pydict() == theirs.to_pydict()
    assert ours.schema == theirs.schema
    pd.testing.assert_frame_equal(to_frame(frame.empty(names)), to_frame(whole.empty(names)))


def test_some_rows_take_some_tiles(line: Proxy, experiment: Path) -> None:
    replica = experiment_replica(Location.of("s3://census/experiment", config(line.port)))
    assert replica is not None
    obs = replica.at("obs")
    obs.fetch(obs.array())
    few = sum(stop - start for _, start, stop in obs.rows(["score", "soma_joinid"], (120, 130)))
    whole = sum(stop - start for _, start, stop in obs.rows(["score", "soma_joinid"], None))
    assert 0 < few <= whole / 5


def test_what_was_not_fetched_is_an_error_never_a_number(line: Proxy, experiment: Path) -> None:
    replica = experiment_replica(Location.of("s3://census/experiment", config(line.port)))
    assert replica is not None
    obs = replica.at("obs")
    obs.fetch(obs.array())
    obs.fetch(obs.rows(["soma_joinid", "score"], (0, 30)))
    opened = obs.open()
    assert len(opened.read(coords=(slice(0, 30),), column_names=["score"]).concat()) == 31
    for asked_for in [{"coords": (slice(0, 300),)}, {}]:
        with pytest.raises(soma.SOMAError):
            opened.read(column_names=["score"], **asked_for).concat()
    with pytest.raises(soma.SOMAError):
        opened.read(coords=(slice(0, 30),), column_names=["text"]).concat()


def test_an_experiment_from_far(line: Proxy, experiment: Path, cache: Path) -> None:
    """It may change: nothing of it is kept."""
    ours = hr.open_soma("s3://census/experiment", tiledb_config=config(line.port), obs_filter="score < 900")
    same_stream(ours, hr.open_soma(experiment, obs_filter="score < 900"))
    assert not list(cache.rglob("*.entry"))


# ------------------------------------------------------------------------------------------------------------ the cache
def run(line: Proxy, uri: str = "s3://census/soma") -> hr.Census:
    census = far(line, uri)
    census.datasets()
    census.query("mus_musculus", dataset_id=LIVER).spec  # noqa: B018
    return census


def test_the_second_run_asks_for_the_listing_alone(line: Proxy, cache: Path, demo_census: Path) -> None:
    run(line)
    first = len(line.lines)
    assert first > 50
    census = run(line)
    assert len(line.lines) == first + 5
    assert all("list-type" in one for one in line.lines[first:])
    local = hr.open_census(demo_census).query("mus_musculus", dataset_id=LIVER)
    same_stream(census.query("mus_musculus", dataset_id=LIVER), local)
    assert not any("/X/" in path.name for path in cache.rglob("*"))
    assert sum(path.stat().st_size for path in cache.rglob("*.entry")) < 3e6, "tables and metadata, no X"


def test_a_damaged_entry_is_fetched_again(line: Proxy, cache: Path, demo_census: Path) -> None:
    run(line)
    kept = sorted(cache.rglob("*.entry"))
    for path in kept[::10]:
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 0x10
        path.write_bytes(data)
    before = len(line.lines)
    census = run(line)
    assert len(line.lines) == before + 5 + len(kept[::10])
    local = hr.open_census(demo_census).query("mus_musculus", dataset_id=LIVER)
    same_stream(census.query("mus_musculus", dataset_id=LIVER), local)


def test_another_census_at_the_same_address(line: Proxy, port: int, cache: Path, tmp_path: Path) -> None:
    """Its tables are its own, whatever is kept of the one that was there before; also one that is nearly the same."""
    one, other = small(tmp_path / "1"), small(tmp_path / "2", seed=1)
    shutil.copytree(one, tmp_path / "3")
    with soma.open(f"{tmp_path}/3/census_info/datasets", "w") as table:
        rows = soma.open(f"{one}/census_info/datasets").read().concat().slice(0, 1)
        at = rows.column_names.index("dataset_title")
        table.write(rows.set_column(at, rows.schema.field(at), pa.array(["another title"], rows.schema.field(at).type)))
    for root in (one, other, tmp_path / "3", one):
        upload(port, root, "changing")
        census, local = run(line, "s3://census/changing"), hr.open_census(root)
        pd.testing.assert_frame_equal(census.datasets(), local.datasets())
        same_stream(census.query("mus_musculus", dataset_id=LIVER), local.query("mus_musculus", dataset_id=LIVER))


def test_a_census_that_is_replaced_while_it_is_read(line: Proxy, port: int, cache: Path, tmp_path: Path) -> None:
    root = small(tmp_path / "replaced")
    upload(port, root, "replaced")
    census = far(line, "s3://census/replaced")
    client = botocore_session.Session().create_client(
        "s3", endpoint_url=f"http://127.0.0.1:{port}", aws_access_key_id="any", aws_secret_access_key="any",
        region_name="us-east-1",
    )  # fmt: skip
    (path,) = (root / "census_data/mus_musculus/obs/__fragments").glob("*/a0.tdb")
    key = f"replaced/{path.relative_to(root)}"
    client.put_object(Bucket="census", Key=key, Body=path.read_bytes()[:-1] + b"\0")
    with pytest.raises(hr.SourceError, match=r"a0.tdb was written anew while it was read; open it again"):
        census.query("mus_musculus", dataset_id=LIVER)


def test_what_has_no_date_is_not_kept(line: Proxy, port: int, cache: Path, demo_census: Path, tmp_path: Path) -> None:
    root = small(tmp_path / "undated")
    uri = f"{root}/census_info/summary"
    with soma.open(uri) as table:
        rows = table.read().concat().to_pandas()
        schema = table.schema
    rows.loc[rows["label"] == "census_build_date", "value"] = "today"
    with soma.open(uri, "w") as table:
        table.write(pa.Table.from_pandas(rows, schema=schema, preserve_index=False))
    upload(port, root, "undated")
    run(line, "s3://census/undated")
    assert not list(cache.rglob("*.entry"))
    hr.open_census(demo_census).query("mus_musculus", dataset_id=LIVER)
    assert not list(cache.rglob("*.entry")), "nor what is on this machine"


def test_the_cache_can_be_turned_off_and_fail(
    line: Proxy, tmp_path: Path, demo_census: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    for folder in ("off", str(tmp_path / "file" / "below")):
        monkeypatch.setenv("HEADRACE_CACHE", folder)
        before = len(line.lines)
        census = run(line)
        assert len(line.lines) - before > 50
        same_stream(
            census.query("mus_musculus", dataset_id=LIVER),
            hr.open_census(demo_census).query("mus_musculus", dataset_id=LIVER),
        )


RUN = """
import json, sys
import headrace as hr
query = hr.open_census("s3://census/soma", tiledb_config=json.loads(sys.argv[1])).query("mus_musculus")
print(query.spec.n_obs, query.spec.nnz, len(query.spec.var))
"""


def test_several_processes_share_a_cache(line: Proxy, cache: Path, demo_census: Path) -> None:
    import json

    command = [sys.executable, "-W", "ignore", "-c", RUN, json.dumps(config(line.port))]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    said = [one.communicate(timeout=120) for one in running]
    spec = hr.open_census(demo_census).query("mus_musculus", primary_only=False).spec
    for out, errors in said:
        assert out.split() == [str(spec.n_obs), str(spec.nnz), str(len(spec.var))], errors
    assert not list(cache.rglob("*.partial"))


@pytest.mark.parametrize("reader", ["from the disk", "from far"])
def test_long_metadata_is_read_when_it_is_needed(
    line: Proxy, demo_census: Path, reader: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That of the whole Census takes 60 MB: it is fetched once, and not held in memory."""
    theirs = hr.open_census(demo_census).query("mus_musculus", reader="tiledb", primary_only=False)
    held = hr.open_census(demo_census).query("mus_musculus", reader="tiles", primary_only=False)
    for module in ("tiles.gate", "soma.replica"):
        monkeypatch.setattr(f"headrace.sources.{module}.TAIL_BYTES", 800)
    census = far(line) if reader == "from far" else hr.open_census(demo_census)
    ours = census.query("mus_musculus", reader="tiles", primary_only=False)
    same_stream(ours, theirs)
    (lazy,), (whole,) = ours._choice.fragments, held._choice.fragments
    assert lazy.metadata_bytes < whole.metadata_bytes
    assert sum("/X/raw/" in one and "__fragment_metadata" in one for one in line.lines) <= 6, "its end, and sections"


def flipped(monkeypatch: pytest.MonkeyPatch, match: str, times: int) -> list[str]:
    """A byte in the middle of the first answers for what matches is another; return what they were for."""
    hit: list[str] = []
    read = Remote.read_same

    def damaged(self: Remote, path: str, start: int, stop: int, known: Any, anew: bool = False) -> Any:
        data = read(self, path, start, stop, known, anew)
        if re.search(match, path) and len(hit) < times and len(data):
            hit.append(path)
            data = data.copy()
            data[len(data) // 2] ^= 4
        return data

    monkeypatch.setattr(Remote, "read_same", damaged)
    return hit


@pytest.mark.parametrize("match", ["__group", "/__schema/", "__fragment_metadata", r"/obs/.*a\d+\.tdb", r"/var/.*_var"])
def test_a_byte_that_is_flipped_on_the_way_is_noticed(
    line: Proxy, cache: Path, demo_census: Path, match: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the checksum that S3's listing has of each object; the right bytes are kept."""
    hit = flipped(monkeypatch, match, 3)
    local = hr.open_census(demo_census).query("mus_musculus", dataset_id=LIVER)
    same_stream(run(line).query("mus_musculus", dataset_id=LIVER), local)
    assert len(hit) == 3
    monkeypatch.undo()
    monkeypatch.setenv("HEADRACE_CACHE", str(cache))
    before = len(line.lines)
    census = run(line)
    assert len(line.lines) == before + 5
    assert np.array_equal(census.query("mus_musculus", dataset_id=LIVER).cells.nnz, local.cells.nnz)


def test_tags_that_are_no_checksums(line: Proxy, demo_census: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As of encrypted buckets: what comes twice alike is taken."""
    monkeypatch.setattr("headrace.sources.soma.fetched._MD5", re.compile(r'"([0-9a-f]{31})'))
    ours = far(line).query("mus_musculus", dataset_id=LIVER)
    assert np.array_equal(ours.cells.nnz, hr.open_census(demo_census).query("mus_musculus", dataset_id=LIVER).cells.nnz)


def test_what_cannot_be_decoded_is_fetched_again(
    line: Proxy, experiment: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parts of objects have no checksum; TileDB notices some damage."""
    monkeypatch.setattr("headrace.sources.soma.fetched._MD5", re.compile("never"))
    hit = flipped(monkeypatch, r"obs/.*/a3\.tdb", 1)
    ours = hr.open_soma("s3://census/experiment", tiledb_config=config(line.port), obs_filter="score < 900")
    assert np.array_equal(ours.cells.joinids, hr.open_soma(experiment, obs_filter="score < 900").cells.joinids)
    assert hit
