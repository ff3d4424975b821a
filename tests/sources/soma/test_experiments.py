"""Experiments as `tiledbsoma.io` writes them: names, layers, booleans, the past."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import tiledbsoma as soma
import tiledbsoma.io as somaio
from scipy import sparse

import headrace as hr


@pytest.fixture
def adata() -> ad.AnnData:
    rng = np.random.default_rng(0)
    X = sparse.csr_matrix(rng.poisson(0.7, (40, 9)).astype(np.float32))
    obs = pd.DataFrame({"kind": pd.Categorical(["a", "b"] * 20)}, index=[f"AAAC-{i}" for i in range(40)])
    return ad.AnnData(X, obs=obs, var=pd.DataFrame(index=[f"E{j}" for j in range(9)]))


def test_names_and_the_only_layer_are_those_of_tiledbsoma(adata: ad.AnnData, tmp_path: Path) -> None:
    somaio.from_anndata(str(tmp_path / "e"), adata, "RNA")  # its layer is called "data"
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
    somaio.from_anndata(str(tmp_path / "e"), adata, "RNA")
    with pytest.raises(hr.InputError, match="has no layer 'raw'; known: data, other"):
        hr.open_soma(tmp_path / "e")
    ours = hr.Plan(hr.open_soma(tmp_path / "e", layer="other")).to_anndata()
    np.testing.assert_array_equal(ours.X.toarray(), adata.layers["other"].toarray())


def test_booleans_are_ones(adata: ad.AnnData, tmp_path: Path) -> None:
    adata.X = adata.X.astype(bool)
    somaio.from_anndata(str(tmp_path / "e"), adata, "RNA")
    with soma.open(str(tmp_path / "e")) as opened:
        assert opened.ms["RNA"].X["data"].schema.field("soma_data").type == "bool"
    ours = hr.Plan(hr.open_soma(tmp_path / "e")).to_anndata()
    assert ours.X.dtype == np.float32
    np.testing.assert_array_equal(ours.X.toarray(), adata.X.toarray().astype(np.float32))


@pytest.mark.parametrize("kind", ["number", "time"])
def test_an_experiment_as_it_was(kind: str, adata: ad.AnnData, tmp_path: Path) -> None:
    uri = str(tmp_path / "e")
    somaio.from_anndata(uri, adata, "RNA")
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
