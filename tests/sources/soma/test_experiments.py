"""Experiments as `tiledbsoma.io` writes them: names, layers, booleans, the past."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import tiledbsoma as soma
import tiledbsoma.io as somaio
from scipy import sparse

import headrace as hr
from tests.somaio import from_anndata

# of tiledbsoma 1.17's own calls of pandas
pytestmark = pytest.mark.filterwarnings("ignore:The dtype argument is deprecated:FutureWarning")


@pytest.fixture
def adata() -> ad.AnnData:
    rng = np.random.default_rng(0)
    X = sparse.csr_matrix(rng.poisson(0.7, (40, 9)).astype(np.float32))
    obs = pd.DataFrame({"kind": pd.Categorical(["a", "b"] * 20)}, index=[f"AAAC-{i}" for i in range(40)])
    return ad.AnnData(X, obs=obs, var=pd.DataFrame(index=[f"E{j}" for j in range(9)]))


def by_tiledbsoma(adata: ad.AnnData, uri: str | Path) -> None:
    """Have tiledbsoma write an experiment, if it knows the anndata that there is (2.3 does not know 0.13)."""
    try:
        from_anndata(str(uri), adata, "RNA")
    except TypeError as error:
        pytest.skip(f"tiledbsoma.io cannot write it: {error}")


def test_names_and_the_only_layer_are_those_of_tiledbsoma(adata: ad.AnnData, tmp_path: Path) -> None:
    by_tiledbsoma(adata, tmp_path / "e")  # its layer is called "data"
    with soma.open(str(tmp_path / "e")) as opened:
        theirs = somaio.to_anndata(opened, "RNA", X_layer_name="data")
    plan = hr.Plan(hr.open_soma(tmp_path / "e", obs_filter="kind == 'b'"), [hr.FilterCells(min_genes=1)])
    plan.write_h5ad(tmp_path / "out.h5ad")
    expected = theirs[theirs.obs["kind"] == "b"]
    for ours in (plan.to_anndata(), ad.read_h5ad(tmp_path / "out.h5ad")):
        assert list(ours.obs_names) == list(expected.obs_names)
        assert "obs_id" not in ours.obs
        np.testing.assert_array_equal(ours.X.toarray(), expected.X.toarray())


def test_of_several_layers_one_is_to_be_named(adata: ad.AnnData, tmp_path: Path) -> None:
    adata.layers["other"] = adata.X * 2
    by_tiledbsoma(adata, tmp_path / "e")
    with pytest.raises(hr.InputError, match="has no layer 'raw'; known: data, other"):
        hr.open_soma(tmp_path / "e")
    ours = hr.Plan(hr.open_soma(tmp_path / "e", layer="other")).to_anndata()
    np.testing.assert_array_equal(ours.X.toarray(), adata.layers["other"].toarray())


def test_booleans_are_ones(adata: ad.AnnData, tmp_path: Path) -> None:
    adata.X = adata.X.astype(bool)
    by_tiledbsoma(adata, tmp_path / "e")
    with soma.open(str(tmp_path / "e")) as opened:
        assert opened.ms["RNA"].X["data"].schema.field("soma_data").type == "bool"
    ours = hr.Plan(hr.open_soma(tmp_path / "e")).to_anndata()
    assert ours.X.dtype == np.float32
    np.testing.assert_array_equal(ours.X.toarray(), adata.X.toarray().astype(np.float32))


@pytest.mark.parametrize("kind", ["number", "time"])
def test_an_experiment_as_it_was(kind: str, adata: ad.AnnData, tmp_path: Path) -> None:
    uri = str(tmp_path / "e")
    by_tiledbsoma(adata, uri)
    time.sleep(0.01)
    before = time.time_ns() // 10**6
    time.sleep(0.01)
    with soma.open(uri, "w") as opened:
        somaio.update_obs(opened, somaio_obs(uri).assign(later=1.5))
        array = opened.ms["RNA"].X["data"]
        array.write(_coo(adata.X * 3))
    when = before if kind == "number" else datetime.fromtimestamp(before / 1000, UTC)
    now, then = hr.open_soma(uri), hr.open_soma(uri, timestamp=when)
    assert now.identity() != then.identity()
    np.testing.assert_array_equal(hr.Plan(now).to_anndata().X.toarray(), adata.X.toarray() * 3)
    assert "later" in now.spec.obs
    with soma.open(uri, context=soma.SOMATileDBContext(timestamp=before)) as opened:
        theirs = somaio.to_anndata(opened, "RNA", X_layer_name="data")
    ours = hr.Plan(then).to_anndata()
    assert "later" not in ours.obs
    np.testing.assert_array_equal(ours.X.toarray(), theirs.X.toarray())
    np.testing.assert_array_equal(ours.X.toarray(), adata.X.toarray())


def somaio_obs(uri: str) -> pd.DataFrame:
    with soma.open(uri) as opened:
        return opened.obs.read().concat().to_pandas().drop(columns="soma_joinid")


def _coo(X: sparse.csr_matrix) -> object:
    import pyarrow as pa

    coo = X.tocoo()
    return pa.SparseCOOTensor.from_scipy(sparse.coo_matrix((coo.data, (coo.row, coo.col)), shape=coo.shape))


def with_obs(folder: Path, index: list[str], *, at_once: bool = False) -> tuple[str, pd.DataFrame]:
    """Write 40 cells whose obs is indexed by some columns; return where, and obs in the order of joinids."""
    n, rng = 40, np.random.default_rng(1)
    order, missing = rng.permutation(n), np.arange(n) % 7 == 6
    kind = pa.DictionaryArray.from_arrays(pa.array(np.arange(n) % 2, pa.int8(), mask=missing), pa.array(["a", "b"]))
    columns = {"cell": pa.array([f"c{i:03}" for i in order], pa.large_string()), "number": pa.array(order * 10)}
    obs = pa.table({"soma_joinid": pa.array(np.arange(n)), **columns, "kind": kind})
    var = pa.table({"soma_joinid": pa.array([0]), "feature_id": pa.array(["g"], pa.large_string())})
    domain = [{"soma_joinid": (0, n - 1), "number": (0, 1000)}.get(name) for name in index]
    uri = str(folder / "e")
    with soma.Experiment.create(uri) as made:
        table = made.add_new_dataframe("obs", schema=obs.schema, index_column_names=index, domain=domain)
        if at_once:
            table.write(obs)
        table.close()
        rna = made.add_new_collection("ms").add_new_collection("RNA", soma.Measurement)
        with rna.add_new_dataframe("var", schema=var.schema, domain=[[0, 0]]) as table:
            table.write(var)
        X = rna.add_new_collection("X").add_new_sparse_ndarray("raw", type=pa.float32(), shape=(n, 1))
        values = {
            "soma_dim_0": np.arange(n),
            "soma_dim_1": np.zeros(n, np.int64),
            "soma_data": np.arange(1, n + 1, dtype="f4"),
        }
        X.write(pa.table(values))
    if not at_once:
        with soma.open(f"{uri}/obs", "w") as table:
            table.write(obs)
    return uri, obs.to_pandas()


@pytest.mark.parametrize("index", [["cell"], ["number"], ["cell", "soma_joinid"], ["soma_joinid", "number"]])
@pytest.mark.parametrize(
    ("asked", "wanted"),
    [
        ({}, lambda obs: obs.soma_joinid >= 0),
        ({"obs_joinids": [30, 3, 5, 20]}, lambda obs: obs.soma_joinid.isin([3, 5, 20, 30])),
        ({"obs_filter": "kind == 'a'"}, lambda obs: obs.kind == "a"),
        (
            {"obs_filter": "kind == 'a' or number > 300", "obs_joinids": [3, 4, 6, 20, 39]},
            lambda obs: ((obs.kind == "a") | (obs.number > 300)) & obs.soma_joinid.isin([3, 4, 6, 20, 39]),
        ),
    ],
)
def test_an_obs_that_is_indexed_otherwise(index: list[str], asked: dict, wanted: Any, tmp_path: Path) -> None:
    uri, obs = with_obs(tmp_path, index)
    expected = obs[wanted(obs)]
    ours = hr.Plan(hr.open_soma(uri, **asked)).to_anndata()
    for name in ("soma_joinid", "cell", "number"):
        assert ours.obs[name].tolist() == expected[name].tolist()
    assert ours.obs["kind"].isna().tolist() == expected["kind"].isna().tolist()
    assert ours.obs["kind"].dropna().tolist() == expected["kind"].dropna().tolist()
    assert ours.X.toarray().ravel().tolist() == (expected["soma_joinid"] + 1).tolist()
    with pytest.raises(hr.InputError, match="1 of 2 obs_joinids are not in"):
        hr.Plan(hr.open_soma(uri, obs_joinids=[3, 99])).to_anndata()


@pytest.mark.parametrize("asked", [{}, {"obs_joinids": [3]}, {"obs_filter": "kind == 'a'"}])
def test_categories_that_tiledbsoma_has_lost_are_said(asked: dict, tmp_path: Path) -> None:
    uri, _ = with_obs(tmp_path, ["soma_joinid"], at_once=True)
    with soma.open(f"{uri}/obs") as table:
        lost = not len(table.read().concat()["kind"].chunk(0).dictionary)
    if not lost:
        pytest.skip("this tiledbsoma keeps them")
    with pytest.raises(hr.SourceError, match="categories that are not stored|while reading .*obs"):
        hr.Plan(hr.open_soma(uri, **asked)).to_anndata()


@pytest.mark.parametrize("when", [-1, pd.NaT, datetime(1960, 1, 1, tzinfo=UTC)], ids=str)
def test_a_time_that_there_was_not(when: Any, demo_census: Path) -> None:
    with pytest.raises(hr.InputError, match="timestamp=.*milliseconds since 1970"):
        hr.open_soma(demo_census / "census_data" / "mus_musculus", timestamp=when)


@pytest.mark.parametrize("config", [pd.Series({"vfs.s3.region": "x"}), [("vfs.s3.region", "x")], "x", 1], ids=repr)
def test_settings_that_are_no_dictionary(config: Any, demo_census: Path) -> None:
    with pytest.raises(hr.InputError, match="tiledb_config"):
        hr.open_census(demo_census, tiledb_config=config)
