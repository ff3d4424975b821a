"""Principal components against scanpy's, in float64, on every published study.

Components whose variances nearly agree may turn within the plane that they span: they are compared as planes.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import scanpy as sc
from sklearn.metrics import adjusted_rand_score

import headrace as hr
from tests.against.published import STUDIES, held, study

N_TOP = 500
NEAR = 3e-3
"""Variances are near one another if they differ by less, relative: float32 turns such components by more than 1e-5."""

LOGGED = [hr.NormalizeTotal(1e4), hr.Log1p()]
MARKED = [*LOGGED, hr.HighlyVariableGenes(n_top_genes=N_TOP)]


def logged(X: Any, obs: pd.DataFrame, var: pd.DataFrame) -> ad.AnnData:
    """Normalise and mark genes by scanpy, in float64."""
    adata = ad.AnnData(X.copy(), obs=obs.copy(), var=var[[]].copy())
    sc.pp.normalize_total(adata, target_sum=1e4)
    sc.pp.log1p(adata)
    sc.pp.highly_variable_genes(adata, n_top_genes=N_TOP)
    return adata


def by_scanpy(adata: ad.AnnData, k: int, scale: bool = True, **options: Any) -> ad.AnnData:
    adata = adata.copy()
    if scale:
        adata.X = adata.X.toarray()
        sc.pp.scale(adata, max_value=10)
    sc.pp.pca(adata, n_comps=k, svd_solver="arpack", dtype="float64", **options)
    return adata


def assert_same_components(ours: ad.AnnData, theirs: ad.AnnData, ratio: float = 1e-9, key: str = "pca") -> None:
    obsm, varm = ("X_pca", "PCs") if key == "pca" else (key, key)
    a, b = ours.uns[key], theirs.uns[key]
    assert a["params"] == b["params"]
    np.testing.assert_allclose(a["variance_ratio"], b["variance_ratio"], rtol=0, atol=ratio)
    np.testing.assert_allclose(a["variance"], b["variance"], rtol=1e-7)
    assert ours.obsm[obsm].dtype == np.float32
    assert ours.varm[varm].dtype == np.float64
    variance = b["variance"]
    cuts = np.flatnonzero(-np.diff(variance) > NEAR * variance[:-1]) + 1
    groups = np.split(np.arange(len(variance)), cuts)
    if len(groups) > 1 and len(groups[-1]) > 0:
        groups = groups[:-1]  # what the last is near to may be beyond
    assert sum(map(len, groups)) > 0.3 * len(variance)
    for group in groups:
        loadings, turned = ours.varm[varm][:, group], theirs.varm[varm][:, group]
        turn = turned.T @ loadings if len(group) > 1 else np.eye(1)
        np.testing.assert_allclose(turned @ turn, loadings, atol=2e-6)
        scores = theirs.obsm[obsm][:, group] @ turn
        size = np.abs(scores).max()
        np.testing.assert_allclose(ours.obsm[obsm][:, group], scores, rtol=0, atol=1e-5 * max(1.0, size / 10))


def few(X: Any, obs: pd.DataFrame, var: pd.DataFrame) -> tuple[Any, pd.DataFrame, pd.DataFrame]:
    """Return the first cells of a study: scanpy takes long for more."""
    return X[:600], obs.iloc[:600], var


def n_comps(obs: pd.DataFrame) -> int:
    return min(50, len(obs) - 2)


@pytest.mark.parametrize("name", STUDIES)
def test_scaled_values(name: str, shared: Path) -> None:
    X, obs, var = few(*study(shared, name))
    k = n_comps(obs)
    steps = [*MARKED, hr.Scale(max_value=10, store=False), hr.PCA(k)]
    ours = hr.Plan(held(X, obs, var[[]]), steps).to_anndata()
    adata = logged(X, obs, var)
    theirs = by_scanpy(adata, k)
    assert_same_components(ours, theirs)
    np.testing.assert_allclose(ours.var["mean"], theirs.var["mean"], rtol=1e-6, atol=1e-12)
    assert (ours.varm["PCs"][~ours.var["highly_variable"]] == 0).all()
    # of the very same float32 values, variances are the same but for the last digits
    same = adata.copy()
    same.X = ours.X.astype(np.float64)
    np.testing.assert_allclose(ours.uns["pca"]["variance"], by_scanpy(same, k).uns["pca"]["variance"], rtol=1e-10)


@pytest.mark.parametrize("name", ["human/pbmc3k", "human/pollen_smarter"])
def test_other_values(name: str, shared: Path) -> None:
    """Logs as they are, of a layer, not centred; scaled values that are written; residuals."""
    X, obs, var = few(*study(shared, name))
    k, adata = 20, logged(X, obs, var)
    source = held(X, obs, var[[]])
    steps = [*MARKED, hr.SaveLayer("logs"), hr.PCA(k, key_added="of_logs"), hr.PCA(k, layer="logs")]
    ours = hr.Plan(source, steps).to_anndata()
    theirs = by_scanpy(adata, k, scale=False, key_added="of_logs")
    assert_same_components(ours, theirs, key="of_logs")
    adata.layers["logs"] = adata.X
    assert_same_components(ours, by_scanpy(adata, k, scale=False, layer="logs"))

    stored = hr.Plan(source, [*MARKED, hr.SelectGenes("highly_variable"), hr.Scale(max_value=10), hr.PCA(k)])
    ours = stored.to_anndata()
    assert_same_components(ours, by_scanpy(adata[:, adata.var["highly_variable"]], k))
    plain = [hr.SelectGenes("highly_variable"), hr.Scale(zero_center=False), hr.PCA(k, zero_center=False)]
    ours = hr.Plan(source, [*MARKED, *plain]).to_anndata()
    chosen = adata[:, adata.var["highly_variable"]].copy()
    sc.pp.scale(chosen, zero_center=False)
    theirs = by_scanpy(chosen, k, scale=False, zero_center=False)
    np.testing.assert_allclose(ours.uns["pca"]["variance"], theirs.uns["pca"]["variance"], rtol=1e-6)
    np.testing.assert_allclose(ours.uns["pca"]["variance_ratio"], theirs.uns["pca"]["variance_ratio"], atol=1e-8)
    np.testing.assert_allclose(ours.obsm["X_pca"][:, 0], theirs.obsm["X_pca"][:, 0], rtol=1e-5, atol=1e-5)

    residuals = [hr.HighlyVariableGenes(n_top_genes=N_TOP, flavor="seurat_v3"), hr.SelectGenes("highly_variable")]
    ours = hr.Plan(source, [*residuals, hr.NormalizePearsonResiduals(), hr.PCA(k)]).to_anndata()
    chosen = ad.AnnData(X.copy(), obs=obs.copy(), var=var[[]].copy())[:, ours.var_names].copy()
    with np.errstate(invalid="ignore", divide="ignore"):
        sc.experimental.pp.normalize_pearson_residuals(chosen)
    chosen.X = np.nan_to_num(chosen.X)
    chosen.var["highly_variable"] = True
    assert_same_components(ours, by_scanpy(chosen, k, scale=False))


def test_values_without_a_limit(shared: Path) -> None:
    """Scaled but not clipped, on both sides far out."""
    X, obs, var = study(shared, "mouse/heart_1k_v2")
    ours = hr.Plan(held(X, obs, var[[]]), [*MARKED, hr.Scale(store=False), hr.PCA(15)]).to_anndata()
    adata = logged(X, obs, var)
    adata.X = adata.X.toarray()
    sc.pp.scale(adata)
    assert np.abs(adata.X).max() > 20
    assert_same_components(ours, by_scanpy(adata, 15, scale=False))


def test_clusters(shared: Path) -> None:
    """Leiden on the graph of neighbours finds the clusters that it finds with scanpy's components."""
    X, obs, var = study(shared, "human/pbmc3k")
    steps = [*LOGGED, hr.HighlyVariableGenes(n_top_genes=2000), hr.Scale(max_value=10, store=False), hr.PCA()]
    ours = hr.Plan(held(X, obs, var[[]]), steps).to_anndata()
    adata = ad.AnnData(X.copy(), obs=obs.copy(), var=var[[]].copy())
    sc.pp.normalize_total(adata, target_sum=1e4)
    sc.pp.log1p(adata)
    sc.pp.highly_variable_genes(adata, n_top_genes=2000)
    theirs = by_scanpy(adata, 50)
    found = [clusters(each.obsm["X_pca"]) for each in (ours, theirs)]
    assert len(np.unique(found[0])) > 4
    assert adjusted_rand_score(*found) >= 0.99


def clusters(scores: npt.NDArray[Any]) -> npt.NDArray[Any]:
    adata = ad.AnnData(obsm={"X_pca": scores.astype(np.float32)})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of libraries beneath
        sc.pp.neighbors(adata, use_rep="X_pca", method="gauss", random_state=0)  # "umap" compiles for half a minute
        sc.tl.leiden(adata, flavor="igraph", n_iterations=2, directed=False, random_state=0)
    return np.asarray(adata.obs["leiden"])
