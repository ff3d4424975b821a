"""A simulated Census against scanpy in memory, and against the Census's own experimental.pp."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata as ad
import cellxgene_census
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
import scanpy.preprocessing._highly_variable_genes as hvg_module
import tiledbsoma

import headrace as hr
from tests.against.test_scanpy import OTHER_SUMS, by_batch

ORGANISM = "homo_sapiens"


DATASETS = [
    {"n_cells": 2000, "genes": 0.7, "nnz_per_cell": 1500, "tissue": "lung"},
    {"n_cells": 1200, "assay": "EFO:0009899", "genes": 0.6, "nnz_per_cell": 1100, "tissue": "blood"},
    {"n_cells": 800, "genes": 0.95, "nnz_per_cell": 1600, "tissue": "prefrontal cortex", "is_primary": False},
    {"n_cells": 900, "assay": {"EFO:0009922": 0.85, "EFO:0008931": 0.15}, "tissue": "bone marrow"},
    {"n_cells": 500, "assay": "EFO:0008931", "genes": 0.5, "nnz_per_cell": 4200, "tissue": "liver"},
    {"n_cells": 50},
]


@pytest.fixture(scope="module")
def census(shared_tool: Callable[..., None], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """5,437 cells of six datasets, 9 million non-zeros."""
    folder = tmp_path_factory.mktemp("census")
    (folder / "spec.json").write_text(json.dumps({"n_genes": 24_000, "organisms": {ORGANISM: DATASETS}}))
    shared_tool("make_mini_census.py", folder / "out", "--spec", folder / "spec.json")
    return folder / "out" / "soma"


@pytest.fixture(scope="module")
def query(census: Path) -> hr.CensusQuery:
    return hr.open_census(census).query(ORGANISM, genes="all", primary_only=True)


@pytest.fixture(scope="module")
def counts(census: Path) -> ad.AnnData:
    """The same cells by the Census's own API, in float64."""
    with warnings.catch_warnings(), cellxgene_census.open_soma(uri=str(census)) as opened:
        warnings.filterwarnings("ignore", "Transforming to str index", ad.ImplicitModificationWarning)
        adata = cellxgene_census.get_anndata(opened, ORGANISM, obs_value_filter="is_primary_data == True")
    adata.X = adata.X.astype(np.float64)
    adata.obs_names, adata.var_names = adata.obs["soma_joinid"].astype(str), adata.var["feature_id"]
    adata.obs["dataset_id"] = adata.obs["dataset_id"].cat.remove_unused_categories()
    return adata


@pytest.fixture(scope="module")
def logged(counts: ad.AnnData) -> ad.AnnData:
    adata = counts.copy()
    sc.pp.normalize_total(adata, target_sum=1e4)
    sc.pp.log1p(adata)
    return adata


@pytest.mark.parametrize("batch_key", [None, "dataset_id"])
def test_seurat(batch_key: str | None, query: hr.CensusQuery, logged: ad.AnnData) -> None:
    expected = sc.pp.highly_variable_genes(logged, n_top_genes=2000, batch_key=batch_key, inplace=False)
    expected.index = logged.var_names
    steps = [hr.NormalizeTotal(1e4), hr.Log1p(), hr.HighlyVariableGenes(2000, batch_key=batch_key)]
    got = hr.Plan(query, steps).var()
    for name in ("means", "dispersions", "dispersions_norm"):
        np.testing.assert_allclose(got[name], expected[name], rtol=1e-6, atol=1e-6, err_msg=name)
    np.testing.assert_array_equal(got["highly_variable"], expected["highly_variable"])
    if batch_key:
        np.testing.assert_array_equal(got["highly_variable_nbatches"], expected["highly_variable_nbatches"])


@pytest.mark.parametrize("batch_key", [None, "sex"])
def test_seurat_v3(batch_key: str | None, query: hr.CensusQuery, counts: ad.AnnData, monkeypatch: Any) -> None:
    class Stable:
        """numpy, whose argsort leaves ties in order."""

        def __getattr__(self, name: str) -> Any:
            return getattr(np, name)

        def argsort(self, a: Any, axis: int = -1) -> Any:
            return np.argsort(a, axis=axis, kind="stable")

    def scanpy() -> pd.DataFrame:
        return sc.pp.highly_variable_genes(
            counts, n_top_genes=2000, flavor="seurat_v3", batch_key=batch_key, inplace=False
        )

    scanpy()  # it compiles its loops, which must see the real numpy
    monkeypatch.setattr(hvg_module, "np", Stable())
    expected = scanpy()
    if OTHER_SUMS and batch_key:
        expected = expected.assign(**by_batch(counts.X, counts.obs, counts.var, "seurat_v3", 2000, batch_key))
    got = hr.Plan(query, [hr.HighlyVariableGenes(2000, "seurat_v3", batch_key)]).var()
    for name in ("means", "variances", "variances_norm"):
        np.testing.assert_allclose(got[name], expected[name], rtol=1e-9, atol=1e-12, err_msg=name)
    np.testing.assert_array_equal(got["highly_variable"], expected["highly_variable"])
    np.testing.assert_array_equal(got["highly_variable_rank"], expected["highly_variable_rank"])


def test_quality(query: hr.CensusQuery, counts: ad.AnnData) -> None:
    counts.var["mt"] = counts.var["feature_name"].str.startswith("MT-").to_numpy()
    obs, var = sc.pp.calculate_qc_metrics(counts, qc_vars=["mt"])
    got = hr.Plan(query, [hr.QCMetrics({"mt": "MT-"})]).to_anndata()
    for name in obs:
        np.testing.assert_allclose(got.obs[name], obs[name], rtol=1e-6, err_msg=name)
    for name in var:
        np.testing.assert_allclose(got.var[name], var[name], rtol=1e-6, atol=1e-12, err_msg=name)


def census_hvg(path: Path, batch_key: str | None) -> pd.DataFrame:
    # when it is imported it compiles for ten seconds
    from cellxgene_census.experimental.pp import highly_variable_genes

    with cellxgene_census.open_soma(uri=str(path)) as census:
        cells = tiledbsoma.AxisQuery(value_filter="is_primary_data == True")
        with census["census_data"][ORGANISM].axis_query("RNA", obs_query=cells) as axes:
            return highly_variable_genes(axes, n_top_genes=1000, batch_key=batch_key)


def test_the_census_has_the_same_genes(query: hr.CensusQuery, census: Path) -> None:
    """Means and variances of cellxgene_census are streamed in another way; the 1000 genes must be the same."""
    expected = census_hvg(census, None)
    got = hr.Plan(query, [hr.HighlyVariableGenes(1000, "seurat_v3")]).var()
    chosen = got["highly_variable"].to_numpy()
    assert chosen.sum() == 1000
    np.testing.assert_array_equal(chosen, expected["highly_variable"].to_numpy())
    np.testing.assert_allclose(got["means"], expected["means"], rtol=1e-9)
    np.testing.assert_allclose(got["variances"], expected["variances"], rtol=1e-6, atol=1e-12)


def test_a_batch_on_which_scanpy_fails(query: hr.CensusQuery, counts: ad.AnnData, census: Path) -> None:
    """The trend of one dataset is singular. scanpy stops; the Census adds unseeded noise; headrace as little as will do."""
    with pytest.raises(ValueError, match="near singularities|reciprocal condition number"):
        sc.pp.highly_variable_genes(counts, n_top_genes=1000, flavor="seurat_v3", batch_key="dataset_id", inplace=False)
    with pytest.warns(hr.LoessJitterWarning, match="dataset_id="):
        got = hr.Plan(query, [hr.HighlyVariableGenes(1000, "seurat_v3", "dataset_id")]).var()
    expected = census_hvg(census, "dataset_id")
    same = int((got["highly_variable"].to_numpy() & expected["highly_variable"].to_numpy()).sum())
    print("same genes as the Census's own, of 1000:", same)
    assert same >= 990


def test_genes_any_are_over_the_cells_that_measured_them(census: Path, counts: ad.AnnData) -> None:
    some = hr.open_census(census).query(ORGANISM, genes="any", primary_only=True)
    got = hr.Plan(some, [hr.HighlyVariableGenes(flavor="seurat_v3", n_top_genes=1000)]).var()
    plain = hr.Plan(some, [hr.HighlyVariableGenes(flavor="seurat_v3", n_top_genes=1000, measured_only=False)]).var()
    n = got["n_measured_cells"].to_numpy()
    assert (n < len(counts)).any()
    np.testing.assert_allclose(got["means"] * n, plain["means"] * len(counts), rtol=1e-12)
    np.testing.assert_array_equal(got["means"][n == len(counts)], plain["means"][n == len(counts)])
    sample = np.flatnonzero(n < len(counts))[::50]
    for gene, values in zip(
        sample, counts.X[:, counts.var_names.get_indexer(got.index[sample])].toarray().T, strict=True
    ):
        values = values[np.argsort(-values)][: n[gene]]  # the cells of the other datasets have none
        assert got["variances"].iloc[gene] == pytest.approx(values.var(ddof=1), rel=1e-9, abs=1e-12)
    differ = int((got["highly_variable"] != plain["highly_variable"]).sum()) // 2
    assert differ > 0
