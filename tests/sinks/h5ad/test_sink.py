"""The h5ad file: what other tools need of it, and what happens when writing goes wrong."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from scipy import sparse

import headrace as hr
from headrace.sinks.h5ad import direct
from headrace.sinks.h5ad.elements import write_element
from headrace.sources.arrays import ArraySource
from tests.conftest import LIVER


@pytest.fixture(scope="module")
def liver(demo_census: Path) -> hr.CensusQuery:
    return hr.open_census(demo_census).query("mus_musculus", dataset_id=LIVER)


@pytest.fixture(scope="module")
def exported(liver: hr.CensusQuery, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("h5ad") / "liver.h5ad"
    hr.Plan(liver, hr.recipes.full_length(min_genes=200)).write_h5ad(path)
    return path


# ---------------------------------------------------------------------------------------------------- other tools
def test_scanpy_goes_on_from_it_without_a_warning(exported: Path) -> None:
    """Warnings are errors here: reading, filters, HVG, PCA, neighbors, UMAP."""
    adata = ad.read_h5ad(exported)
    sc.pp.filter_cells(adata, min_genes=1)
    sc.pp.filter_genes(adata, min_cells=1)
    sc.pp.highly_variable_genes(adata, n_top_genes=500)
    sc.pp.normalize_total(adata, layer="counts", target_sum=1e4)
    sc.pp.pca(adata, n_comps=20)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of umap and its own dependencies
        sc.pp.neighbors(adata, n_neighbors=10)
        sc.tl.umap(adata, maxiter=10)
    assert np.isfinite(adata.obsm["X_umap"]).all()
    adata.write_h5ad(exported.with_name("again.h5ad"))


def test_backed_and_lazy_reading(exported: Path) -> None:
    whole = ad.read_h5ad(exported)
    backed = ad.read_h5ad(exported, backed="r")
    part = backed[100:150, :40].to_memory()
    assert (part.X != whole[100:150, :40].X).nnz == 0
    backed.file.close()


def test_encodings(exported: Path) -> None:
    with h5py.File(exported) as file:
        assert file.attrs["encoding-type"] == "anndata"
        for name in ("X", "layers/counts"):
            group = file[name]
            assert group.attrs["encoding-type"] == "csr_matrix"
            assert group.attrs["encoding-version"] == "0.1.0"
            assert group["data"].dtype == np.float32
            assert group["indices"].dtype == group["indptr"].dtype == np.int32
            assert group["data"].fletcher32
            n_obs, n_vars = group.attrs["shape"]
            X = sparse.csr_matrix((group["data"][:], group["indices"][:], group["indptr"][:]), shape=(n_obs, n_vars))
            X.has_sorted_indices = False
            X.sort_indices()
            np.testing.assert_array_equal(X.indices, group["indices"][:])
            assert (group["data"][:] != 0).all()
        assert file["obs"].attrs["encoding-type"] == "dataframe"
        assert file["obs"].attrs["_index"] == "_index"
        assert file["var"].attrs["_index"] == "feature_id"
        assert file["obs/cell_type"].attrs["encoding-type"] == "categorical"
        assert file["obs/soma_joinid"].dtype == np.int64


def test_only_categories_in_use(exported: Path, demo_census: Path) -> None:
    obs = ad.read_h5ad(exported).obs
    for name in obs.columns:
        if isinstance(obs[name].dtype, pd.CategoricalDtype):
            assert set(obs[name].cat.categories) == set(obs[name]), name
    everything = hr.open_census(demo_census).query("mus_musculus").spec.obs
    assert len(everything["dataset_id"].cat.categories) > obs["dataset_id"].cat.categories.size


def test_uns_is_scanpys_and_says_how_it_was_made(exported: Path) -> None:
    import json

    uns = ad.read_h5ad(exported).uns
    assert uns["hvg"] == {"flavor": "seurat"}
    assert "log1p" in uns
    made = uns["headrace"]
    assert made["census"]["census_build_date"] == "2025-11-08"
    assert json.loads(made["query"]["dataset_id"]) == [LIVER]
    assert "median length" in made["feature_length"]
    assert json.loads(made["length_normalized_assays"]) == {"EFO:0008931": 700}
    assert [step["step"] for step in json.loads(made["steps"])][:3] == ["SaveLayer", "FilterCells", "FilterGenes"]
    assert made["versions"]["headrace"] == hr.__version__
    assert len(made["fingerprint"]) == 64


def test_a_base_is_noted_where_scanpy_looks_for_it(liver: hr.CensusQuery, tmp_path: Path) -> None:
    steps = [hr.NormalizeTotal(1e4), hr.Log1p(base=2), hr.HighlyVariableGenes(n_top_genes=100)]
    hr.Plan(liver, steps).write_h5ad(tmp_path / "two.h5ad")
    adata = ad.read_h5ad(tmp_path / "two.h5ad")
    assert adata.uns["log1p"]["base"] == 2
    marked = adata.var["highly_variable"].to_numpy().copy()
    sc.pp.highly_variable_genes(adata, n_top_genes=100)
    assert (adata.var["highly_variable"].to_numpy() == marked).all()


def test_gzip_and_no_checksum_hold_the_same(exported: Path, liver: hr.CensusQuery, tmp_path: Path) -> None:
    plain = ad.read_h5ad(exported)
    for number, options in enumerate(
        ({"compression": "gzip"}, {"checksum": False}, {"compression": "gzip", "checksum": False})
    ):
        path = tmp_path / f"{number}.h5ad"
        hr.Plan(liver, hr.recipes.full_length(min_genes=200)).write_h5ad(path, **options)
        other = ad.read_h5ad(path)
        assert (other.X != plain.X).nnz == 0
        assert other.obs.equals(plain.obs)
        assert other.var.equals(plain.var)
    assert (tmp_path / "0.h5ad").stat().st_size < exported.stat().st_size / 2


def test_empty_cells_and_odd_names(tmp_path: Path) -> None:
    """A cell without counts, one gene, names with commas, quotes, slashes and letters of the world."""
    names = ["a,b", 'q"uote', "snow ☃", "sla/sh", "new\nline"]
    X = np.array([[0], [3], [0], [1], [0]])
    obs = pd.DataFrame(
        {
            "text": names,
            "half": [0.5, np.nan, 1, 2, 3],
            "kind": pd.Categorical(["x", None, "x", "z", "z"], categories=["x", "y", "z"]),
        },
        index=names,
    )
    source = ArraySource(X, obs, pd.DataFrame(index=["gene/1"]))
    hr.Plan(source, [hr.NormalizeTotal(10)]).write_h5ad(tmp_path / "odd.h5ad")
    adata = ad.read_h5ad(tmp_path / "odd.h5ad")
    assert adata.obs_names.tolist() == names
    assert adata.obs["text"].tolist() == names
    assert adata.obs["kind"].cat.categories.tolist() == ["x", "z"]
    assert adata.obs["kind"].isna().tolist() == [False, True, False, False, False]
    np.testing.assert_array_equal(adata.X.toarray().ravel(), [0, 10, 0, 10, 0])


# ------------------------------------------------------------------------------------------------- what goes wrong
def test_an_existing_file_is_refused(exported: Path, liver: hr.CensusQuery) -> None:
    before = exported.read_bytes()
    with pytest.raises(hr.OutputError, match=r"exists; overwrite=True"):
        hr.Plan(liver).write_h5ad(exported)
    assert exported.read_bytes() == before


def test_a_missing_folder_is_named(liver: hr.CensusQuery, tmp_path: Path) -> None:
    with pytest.raises(hr.OutputError, match=r"there is no folder .*nowhere"):
        hr.Plan(liver).write_h5ad(tmp_path / "nowhere" / "x.h5ad")
    with pytest.raises(hr.OutputError, match="is a folder"):
        hr.Plan(liver).write_h5ad(tmp_path)


class Boom(hr.Log1p):
    """Fails at a late chunk."""

    def __call__(self, chunk: hr.Chunk) -> hr.Chunk:
        if "690" in chunk.obs.index.str[-3:]:
            raise RuntimeError("boom")
        return super().__call__(chunk)


@pytest.mark.parametrize("executor", [hr.Serial(), hr.Threads(2, 2)], ids=["serial", "threads"])
def test_a_failing_step_leaves_the_old_file(executor: object, liver: hr.CensusQuery, tmp_path: Path) -> None:
    path = tmp_path / "out.h5ad"
    path.write_text("old")
    with pytest.raises(RuntimeError, match="boom"):
        hr.Plan(liver, [Boom()]).write_h5ad(path, overwrite=True, executor=executor)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["out.h5ad"]


def test_no_cell_left_is_an_error(liver: hr.CensusQuery, tmp_path: Path) -> None:
    with pytest.raises(hr.InputError, match="no cell of 700 passed the filters"):
        hr.Plan(liver, [hr.FilterCells(min_genes=10**6)]).write_h5ad(tmp_path / "x.h5ad")
    with pytest.raises(hr.InputError, match=r"FilterGenes\(.*none of the .* genes is within the bounds"):
        hr.Plan(liver, [hr.FilterGenes(min_cells=10**6)]).write_h5ad(tmp_path / "x.h5ad")
    assert list(tmp_path.glob("*.h5ad")) == []


SLOW = """
import sys, time
import headrace as hr
class Slow(hr.Log1p):
    def __call__(self, chunk):
        print("working", flush=True)
        time.sleep(0.2)
        return super().__call__(chunk)
census = hr.open_census(sys.argv[1])
hr.Plan(census.query("mus_musculus"), [Slow()]).write_h5ad(sys.argv[2], overwrite=True, memory="800MB")
"""


@pytest.mark.parametrize("kill", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM], ids=lambda one: one.name)
def test_a_killed_run_leaves_the_old_file(kill: signal.Signals, demo_census: Path, tmp_path: Path) -> None:
    path = tmp_path / "out.h5ad"
    path.write_text("old")
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW, str(demo_census), str(path)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(0.05)
    process.send_signal(kill)
    process.wait(60)
    process.stdout.close()
    assert process.returncode != 0
    assert path.read_text() == "old"
    # a kill cannot tidy up: what is left is hidden, and the next run takes it over
    hr.Plan(hr.open_census(demo_census).query("mus_musculus")).write_h5ad(path, overwrite=True)
    assert ad.read_h5ad(path).n_obs == 1200
    assert [p.name for p in tmp_path.iterdir()] == ["out.h5ad"]


def test_a_full_disk_is_said_and_leaves_the_old_file(tmp_path: Path, demo_census: Path) -> None:
    """A file size limit is the full disk that every machine can have."""
    path = tmp_path / "out.h5ad"
    path.write_text("old")
    code = (
        "import resource, signal, sys, headrace as hr\n"
        "query = hr.open_census(sys.argv[1]).query('mus_musculus')\n"
        "plan = hr.Plan(query, [hr.Log1p()])\n"
        "list(plan.chunks())\n"  # compiled code is cached before the limit
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, 2_000_000))\n"
        "try: plan.write_h5ad(sys.argv[2], overwrite=True)\n"
        "except hr.OutputError as error: print('said:', error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(demo_census), str(path)], capture_output=True, text=True, check=True
    )
    assert "said: writing" in done.stdout, done.stderr
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["out.h5ad"]


def test_two_runs_for_one_file(liver: hr.CensusQuery, tmp_path: Path) -> None:
    from headrace.support.atomic import atomic_file

    with atomic_file(tmp_path / "out.h5ad"), pytest.raises(hr.OutputError, match="another run is writing"):
        hr.Plan(liver).write_h5ad(tmp_path / "out.h5ad")


def test_a_flipped_bit_is_noticed_when_reading(exported: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    original = exported.read_bytes()
    with h5py.File(exported) as file:
        data = file["X/data"].id
        info = data.get_chunk_info(0)
    for _ in range(20):
        broken = bytearray(original)
        broken[info.byte_offset + int(rng.integers(info.size))] ^= 1 << int(rng.integers(8))
        path = tmp_path / "broken.h5ad"
        path.write_bytes(broken)
        with h5py.File(path) as file, pytest.raises(OSError):
            file["X/data"][:]


def test_wide_indices_are_decided_before_writing(tmp_path: Path) -> None:
    """More than 2**31 - 1 non-zeros may come: indices and indptr are both int64."""
    from dataclasses import replace

    from headrace.sinks.h5ad.sink import H5ad

    source = ArraySource(np.eye(3), pd.DataFrame(index=list("abc")), pd.DataFrame(index=list("xyz")))
    for nnz, expected in ((2**31 - 1, np.int32), (2**31, np.int64), (None, np.int64)):
        spec = replace(source.spec, nnz=nnz)
        path = tmp_path / f"{nnz}.h5ad"
        with H5ad(path).open(spec) as writer:
            for chunk in source.read(source.refs(10)):
                writer.write(chunk)
            writer.finish(spec)
        with h5py.File(path) as file:
            assert file["X/indices"].dtype == file["X/indptr"].dtype == expected
        np.testing.assert_array_equal(ad.read_h5ad(path).X.toarray(), np.eye(3))


def test_umask_is_honoured(liver: hr.CensusQuery, tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        hr.Plan(liver).write_h5ad(tmp_path / "x.h5ad")
    finally:
        os.umask(before)
    assert (tmp_path / "x.h5ad").stat().st_mode & 0o777 == 0o640


def test_uns_is_written_as_anndata_writes_it(tmp_path: Path) -> None:
    from anndata.io import write_elem

    values: dict[str, Any] = {
        "text": "é\n",
        "empty": "",
        "int": 3,
        "big": 2**40,
        "float": 0.1,
        "bool": True,
        "numpy": np.float32(1.5),
        "flag": np.bool_(False),
        "array": np.arange(6, dtype=np.int16).reshape(2, 3),
        "words": np.array(["a", "b"], dtype=object),
        "frame": pd.DataFrame({"x": [1, 2]}),
        "nested": {"empty": {}, "deep": {"n": np.int64(1)}},
    }
    for name, write in (("ours", write_element), ("theirs", write_elem)):
        with h5py.File(tmp_path / name, "w") as file:
            write(file, "uns", values)
    with h5py.File(tmp_path / "ours") as ours, h5py.File(tmp_path / "theirs") as theirs:
        names: list[str] = []
        theirs.visit(names.append)
        found: list[str] = []
        ours.visit(found.append)
        assert sorted(found) == sorted(names)
        for name in names:
            a, b = ours[name], theirs[name]
            assert {k: str(v) for k, v in a.attrs.items()} == {k: str(v) for k, v in b.attrs.items()}, name
            if isinstance(b, h5py.Dataset):
                assert (a.dtype, a.shape) == (b.dtype, b.shape), name
                np.testing.assert_array_equal(a[()], b[()])


def test_missing_whole_numbers_and_booleans_stay_missing(tmp_path: Path) -> None:
    obs = pd.DataFrame(
        {
            "n": pd.array([1, None, 3, 2**60], dtype="Int64"),
            "small": pd.array([None, 7, 8, 9], dtype="UInt8"),
            "good": pd.array([True, None, False, True], dtype="boolean"),
        },
        index=list("abcd"),
    )
    source = ArraySource(np.eye(4), obs, pd.DataFrame(index=list("wxyz")), n_obs=3)
    hr.Plan(source).write_h5ad(tmp_path / "out.h5ad")
    pd.testing.assert_frame_equal(ad.read_h5ad(tmp_path / "out.h5ad").obs, obs, check_index_type=False)
    assert not hr.verify_h5ad(tmp_path / "out.h5ad").problems


@pytest.mark.parametrize("refused", ["when it is opened", "when it is written"])
def test_where_nothing_can_be_written_directly_the_bytes_are_the_same(
    refused: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    X = np.random.default_rng(0).poisson(1, (500, 2000))  # more than a stored chunk of 1 MiB
    source = ArraySource(X, pd.DataFrame(index=map(str, range(500))), pd.DataFrame(index=map(str, range(2000))))
    hr.Plan(source).write_h5ad(tmp_path / "directly.h5ad")
    pwrite, tried = os.pwrite, []

    def not_here(handle: int, data: Any, offset: int) -> int:
        if fcntl.fcntl(handle, fcntl.F_GETFL) & getattr(os, "O_DIRECT", 0):
            tried.append(offset)
            raise OSError(errno.EINVAL, "Invalid argument")
        return pwrite(handle, data, offset)

    if refused == "when it is opened":
        monkeypatch.setattr(direct, "open_direct", lambda path: None)
    else:
        monkeypatch.setattr(os, "pwrite", not_here)
    hr.Plan(source).write_h5ad(tmp_path / "otherwise.h5ad")
    assert len(tried) <= 1, "once is enough to know"
    assert (tmp_path / "otherwise.h5ad").read_bytes() == (tmp_path / "directly.h5ad").read_bytes()


def test_a_file_of_no_cells_has_all_its_parts(tmp_path: Path) -> None:
    from dataclasses import replace

    from headrace.chunk import Holds
    from headrace.sinks.h5ad.sink import H5ad

    source = ArraySource(np.eye(3), pd.DataFrame({"n": [1, 2, 3]}, index=list("abc")), pd.DataFrame(index=list("xyz")))
    spec = replace(source.spec, layers={"counts": Holds.COUNTS}).with_obsm(X_two=np.empty((0, 2)))
    with H5ad(tmp_path / "none.h5ad").open(spec) as writer:
        writer.finish(spec)
    adata = ad.read_h5ad(tmp_path / "none.h5ad")
    assert adata.shape == adata.layers["counts"].shape == (0, 3)
    assert adata.obsm["X_two"].shape == (0, 2)
    assert adata.obs["n"].dtype == np.int64
    assert adata.var_names.tolist() == list("xyz")
    assert not hr.verify_h5ad(tmp_path / "none.h5ad").problems


def test_chunks_are_no_larger_than_what_can_come(tmp_path: Path) -> None:
    X = np.array([[1, 0, 2], [0, 0, 3], [4, 5, 0], [0, 0, 0]])
    source = ArraySource(X, pd.DataFrame({"n": range(4)}, index=list("abcd")), pd.DataFrame(index=list("xyz")), n_obs=3)
    hr.Plan(source, [hr.SaveLayer("counts")]).write_h5ad(tmp_path / "x.h5ad")
    with h5py.File(tmp_path / "x.h5ad") as file:
        for name in ("X", "layers/counts"):
            assert {part: file[name][part].chunks for part in ("data", "indices", "indptr")} == {
                "data": (5,),
                "indices": (5,),
                "indptr": (5,),
            }
            np.testing.assert_array_equal(file[name]["data"][:], [1, 2, 3, 4, 5])
            np.testing.assert_array_equal(file[name]["indices"][:], [0, 2, 2, 0, 1])
            np.testing.assert_array_equal(file[name]["indptr"][:], [0, 2, 3, 5, 5])
            assert file[name].attrs["shape"].tolist() == [4, 3]
        assert file["obs/n"].chunks == (4,)
    hr.Plan(source, [hr.Scale()]).write_h5ad(tmp_path / "dense.h5ad")
    with h5py.File(tmp_path / "dense.h5ad") as file:
        assert (file["X"].shape, file["X"].chunks, file["X"].dtype) == ((4, 3), (4, 3), np.float32)
        assert dict(file["X"].attrs) == {"encoding-type": "array", "encoding-version": "0.2.0"}
        for name in ("layers", "obsm", "obsp", "uns", "varm", "varp"):
            assert dict(file[name].attrs) == {"encoding-type": "dict", "encoding-version": "0.1.0"}
        assert dict(file.attrs) == {"encoding-type": "anndata", "encoding-version": "0.1.0"}
