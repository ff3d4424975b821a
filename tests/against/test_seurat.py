"""Against other people's programs: Seurat and scuttle in R, and the files that scanpy's own tests go by."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import headrace as hr
from headrace.chunk import Holds
from headrace.sources.arrays import ArraySource
from tests.against.published import matrix

IN_R = {
    "human/pbmc3k": "pbmc3k",
    "mouse/tms_liver_smartseq2": "tms_liver_smartseq2",
    "mouse/goolam_embryo_smartseq2": "goolam_embryo_smartseq2",
    "human/pancreas_smartseq2": "pancreas_smartseq2",
}


class Study:
    """The input that R was given, and what it said."""

    def __init__(self, shared: Path, name: str) -> None:
        folder = shared / "data" / "sc" / name
        results = shared / "data" / "expected" / "seurat"
        read = {
            part: pd.read_csv(results / f"{IN_R[name]}.{part}.csv.gz")
            for part in ("genes", "cells", "values", "scaled")
        }
        self.genes = read["genes"].set_index("feature_id")
        self.cells = read["cells"].set_index("cell_id")
        self.values, self.scaled = read["values"], read["scaled"]
        obs, var = pd.read_parquet(folder / "obs.parquet"), pd.read_parquet(folder / "var.parquet")
        obs.index = obs["cell_id"].astype(str)
        known = np.flatnonzero(var["feature_id"] != "")
        place = known[pd.Index(var["feature_id"].iloc[known]).get_indexer(self.genes.index)]
        assert (var["feature_id"].iloc[place] == self.genes.index).all()
        X = matrix(folder)[:, place]
        X = X[obs.index.get_indexer(self.cells.index.astype(str))].tocsr()
        self.source = ArraySource(
            X,
            pd.DataFrame(index=self.cells.index.astype(str)),
            pd.DataFrame({"feature_length": self.genes["length"]}, index=self.genes.index),
            n_obs=500,
        )

    def at(self, adata, table: pd.DataFrame) -> np.ndarray:
        rows, columns = (
            adata.obs_names.get_indexer(table["cell_id"].astype(str)),
            adata.var_names.get_indexer(table["feature_id"]),
        )
        assert (rows >= 0).all()
        assert (columns >= 0).all()
        return np.asarray(adata.X[rows, columns]).ravel()


@pytest.fixture(scope="module", params=list(IN_R))
def study(request: pytest.FixtureRequest, shared: Path) -> Study:
    return Study(shared, request.param)


def test_lognormalize(study: Study) -> None:
    got = study.at(hr.Plan(study.source, hr.recipes.cp10k()).to_anndata(), study.values)
    np.testing.assert_allclose(got, study.values["seurat_lognorm"], rtol=1e-6)


def test_tpm(study: Study) -> None:
    got = study.at(hr.Plan(study.source, hr.recipes.tpm()).to_anndata(), study.values)
    np.testing.assert_allclose(got, study.values["scuttle_tpm"], rtol=1e-6)


def test_size_factors(study: Study) -> None:
    adata = hr.Plan(study.source, hr.recipes.lognormcounts()).to_anndata()
    np.testing.assert_allclose(adata.obs["sizeFactor"], study.cells["lib_size_factor"], rtol=1e-12)
    assert adata.obs["sizeFactor"].mean() == pytest.approx(1.0, rel=1e-12)
    np.testing.assert_allclose(study.at(adata, study.values), study.values["scuttle_lognormcounts"], rtol=1e-6)


def test_vst(study: Study) -> None:
    var = hr.Plan(study.source, [hr.HighlyVariableGenes(flavor="seurat_v3", n_top_genes=1000)]).var()
    np.testing.assert_allclose(var["means"], study.genes["vst_mean"], rtol=1e-12)
    np.testing.assert_allclose(var["variances"], study.genes["vst_variance"], rtol=1e-10)
    np.testing.assert_allclose(var["variances_norm"], study.genes["vst_variance_standardized"], rtol=1e-10, atol=1e-12)
    assert (var["highly_variable"] == study.genes["vst_rank1000"].notna()).all()
    chosen = var["highly_variable"]
    assert (
        var.loc[chosen, "highly_variable_rank"] + 1 == study.genes.loc[chosen, "vst_rank1000"]
    ).mean() > 0.99  # but for ties


def test_mean_var_plot(study: Study) -> None:
    """Seurat's dispersions are scanpy's; its z-scores are over bins with other edges, and are not compared."""
    steps = [hr.NormalizeTotal(1e4), hr.Log1p(), hr.HighlyVariableGenes()]
    var = hr.Plan(study.source, steps).var()
    np.testing.assert_allclose(var["means"], study.genes["mvp_mean"], rtol=1e-6)
    known = study.genes["mvp_dispersion"].notna() & (study.genes["mvp_dispersion"] != 0)
    np.testing.assert_allclose(var["dispersions"][known], study.genes["mvp_dispersion"][known], rtol=1e-6, atol=1e-6)


def test_scale_data(study: Study) -> None:
    got = study.at(
        hr.Plan(study.source, [hr.NormalizeTotal(1e4), hr.Log1p(), hr.Scale(max_value=10)]).to_anndata(), study.scaled
    )
    np.testing.assert_allclose(got, study.scaled["seurat_scaled_max10"], rtol=1e-5, atol=1e-6)


# ------------------------------------------------------------------------------------- the files of scanpy's tests
@pytest.mark.parametrize("flavor", ["seurat", "cell_ranger"])
def test_dispersions_of_pbmc68k(flavor: str, shared: Path) -> None:
    folder = shared / "data" / "not_raw" / "pbmc68k_reduced"
    var = pd.read_parquet(folder / "var.parquet")
    index = pd.Index(var["original_id"].astype(str))
    assert index.is_unique
    X = matrix(folder)
    cells = pd.DataFrame(index=[str(i) for i in range(X.shape[0])])
    # not counts, but that is what scanpy's test calls them; float32 as they are stored there
    source = ArraySource(X.astype(np.float32), cells, pd.DataFrame(index=index), holds=Holds.NORMALIZED, n_obs=100)
    hvg = hr.HighlyVariableGenes() if flavor == "seurat" else hr.HighlyVariableGenes(100, "cell_ranger")
    got = hr.Plan(source, [hr.FilterCells(min_counts=1), hr.NormalizeTotal(1e4), hr.Log1p(), hvg]).var()
    expected = pd.read_csv(shared / "data" / "expected" / "scanpy" / f"{flavor}_hvg.csv", index_col=0)
    assert (got["highly_variable"].to_numpy() == expected["highly_variable"].astype(bool).to_numpy()).all()
    for column in ("means", "dispersions", "dispersions_norm"):
        # the tolerance of scanpy's own test
        np.testing.assert_allclose(got[column], expected[column], rtol=2e-5, atol=2e-5, err_msg=column)


@pytest.fixture(scope="module")
def pbmc3k(shared: Path) -> ArraySource:
    folder = shared / "data" / "sc" / "human" / "pbmc3k"
    X = matrix(folder)
    var = pd.read_parquet(folder / "var.parquet")
    names = pd.Index(var["symbol"].astype(str))
    unique = names.where(~names.duplicated(), names + "-" + var["original_id"].astype(str))
    obs = pd.DataFrame(
        {"batch": pd.Categorical([f"source_{n}" for n in np.repeat([1, 2, 3, 4, 5, 5], 500)[: X.shape[0]]])}
    )
    obs.index = obs.index.astype(str)
    return ArraySource(X, obs, pd.DataFrame(index=unique), n_obs=400)


def test_seurat_v3_of_pbmc3k(pbmc3k: ArraySource, shared: Path) -> None:
    expected = pd.read_csv(shared / "data" / "expected" / "scanpy" / "seurat_hvg_v3.csv.gz", index_col=0)
    steps = [hr.FilterCells(min_genes=200), hr.FilterGenes(min_cells=3)]
    got = hr.Plan(pbmc3k, [*steps, hr.HighlyVariableGenes(1000, "seurat_v3")]).var()
    assert len(got) == len(expected)
    np.testing.assert_allclose(got["means"], expected["mean"], rtol=1e-12)
    np.testing.assert_allclose(got["variances"], expected["variance"], rtol=1e-11)
    np.testing.assert_allclose(got["variances_norm"], expected["variance.standardized"], rtol=1e-10)


def test_seurat_v3_of_five_batches(pbmc3k: ArraySource, shared: Path) -> None:
    """Seurat's SelectIntegrationFeatures is "seurat_v3_paper"; "seurat_v3" ranks otherwise."""
    expected = set(pd.read_csv(shared / "data" / "expected" / "scanpy" / "seurat_hvg_v3_batch.csv")["x"])
    assert len(expected) == 2000
    shares = {}
    for flavor in ("seurat_v3_paper", "seurat_v3"):
        steps = [hr.FilterCells(min_genes=200), hr.FilterGenes(min_cells=3)]
        var = hr.Plan(pbmc3k, [*steps, hr.HighlyVariableGenes(2000, flavor, "batch")]).var()
        shares[flavor] = len(expected & set(var.index[var["highly_variable"]])) / 2000
    assert shares["seurat_v3_paper"] >= 0.9945  # what scanpy reaches
    assert shares["seurat_v3"] == pytest.approx(0.3825, abs=0.01)
