"""Every statistic against scanpy in memory, in float64, on every published study.

headrace streams float32: a value carries 6e-8 of rounding, so statistics agree to 1e-6 relative. A normalised
dispersion is a difference of two nearly equal numbers over a spread; what it is off by is relative to its terms.
"""

from __future__ import annotations

import functools
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
import scanpy.experimental.pp._highly_variable_genes as residual_module
import scanpy.preprocessing._highly_variable_genes as hvg_module
from scipy import sparse

import headrace as hr
from tests.against.published import STUDIES, held, study

N_TOP = 500


class _StableNumpy:
    """numpy, whose argsort leaves ties in order, on every processor."""

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)

    def argsort(self, a: Any, axis: int = -1) -> Any:
        return np.argsort(a, axis=axis, kind="stable")


@functools.cache
def compile_scanpy() -> None:
    """Let scanpy compile its loops with the real numpy, before another one stands in for it."""
    counts = sparse.csr_matrix(np.random.default_rng(0).poisson(1.0, (60, 40)).astype(np.float64))
    for flavor in ("seurat_v3", "pearson_residuals"):
        scanpy_hvg(
            counts,
            pd.DataFrame(index=map(str, range(60))),
            pd.DataFrame(index=map(str, range(40))),
            flavor,
            n_top_genes=10,
        )


@pytest.fixture
def stable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let scanpy break ties of ranks as headrace does. Nothing else of it changes."""
    compile_scanpy()
    monkeypatch.setattr(hvg_module, "np", _StableNumpy())
    monkeypatch.setattr(residual_module, "np", _StableNumpy())


def scanpy_hvg(X: Any, obs: pd.DataFrame, var: pd.DataFrame, flavor: str, **options: Any) -> ad.AnnData:
    adata = ad.AnnData(X.copy(), obs=obs.copy(), var=var[[]].copy())
    if flavor in ("seurat", "cell_ranger"):
        sc.pp.normalize_total(adata, target_sum=1e4)
        sc.pp.log1p(adata)
    with warnings.catch_warnings():
        # more genes asked for than have a dispersion
        warnings.filterwarnings("ignore", "`n_top_genes` > number of normalized dispersions")
        if flavor == "pearson_residuals":
            sc.experimental.pp.highly_variable_genes(adata, flavor=flavor, **options)
        else:
            sc.pp.highly_variable_genes(adata, flavor=flavor, **options)
    return adata


OTHER_SUMS = tuple(map(int, version("scanpy").split(".")[:2])) >= (1, 12)
"""scanpy 1.12 sums up batches in another order: means differ by 1e-16, loess cuts equal ones elsewhere, and variances
differ by 1e-3. What it finds in each batch alone is as before."""


def by_batch(
    X: Any, obs: pd.DataFrame, var: pd.DataFrame, flavor: str, n_top: int, batch_key: str = "batch"
) -> pd.DataFrame:
    """Combine what scanpy finds in each batch alone by the published rule (Stuart et al. 2019), ties in order."""
    norm = []
    for batch in np.unique(obs[batch_key]):
        rows = (obs[batch_key] == batch).to_numpy()
        norm.append(scanpy_hvg(X[rows], obs[rows], var, flavor, n_top_genes=n_top).var["variances_norm"].to_numpy())
    ranks = np.full((len(norm), len(var)), np.nan, dtype=np.float32)
    for number, variance in enumerate(norm):
        top = np.argsort(-variance, kind="stable")[:n_top]
        ranks[number, top] = np.arange(len(top))
    rank = pd.DataFrame(ranks).median().to_numpy()  # of the batches in which a gene is among the first
    n_batches = (~np.isnan(ranks)).sum(axis=0)
    by = [rank, -n_batches] if flavor == "seurat_v3" else [-n_batches, rank]
    chosen = pd.DataFrame(dict(enumerate(by))).sort_values([0, 1], kind="stable", na_position="last").index[:n_top]
    return pd.DataFrame(
        {
            "highly_variable": np.isin(np.arange(len(var)), chosen),
            "highly_variable_rank": rank,
            "highly_variable_nbatches": n_batches,
            "variances_norm": np.mean(norm, axis=0),
        },
        index=var.index,
    )


def our_hvg(X: Any, obs: pd.DataFrame, var: pd.DataFrame, flavor: str, **options: Any) -> ad.AnnData:
    if flavor not in ("seurat", "cell_ranger"):
        options["layer"] = "counts"
    steps = [
        hr.SaveLayer("counts"),
        hr.NormalizeTotal(1e4),
        hr.Log1p(),
        hr.HighlyVariableGenes(flavor=flavor, **options),
    ]
    return hr.Plan(held(X, obs, var[[]]), steps).to_anndata()


def assert_same_genes(ours: pd.DataFrame, theirs: pd.DataFrame) -> None:
    """Same columns and dtypes, same choices, same statistics."""
    assert list(ours) == list(theirs)
    for name in theirs:
        a, b = ours[name].to_numpy(), theirs[name].to_numpy()
        assert a.dtype == b.dtype, name
        if name == "dispersions_norm":
            # a difference over a spread of dispersions: relative to the larger of the terms
            np.testing.assert_allclose(a, b, rtol=1e-6, atol=2e-5, err_msg=name)
        elif name == "dispersions":
            np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6, err_msg=name)  # a logarithm
        elif b.dtype.kind == "f" and not name.endswith("rank"):
            np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-12, err_msg=name)
        else:
            np.testing.assert_array_equal(a, b, err_msg=name)


@pytest.mark.parametrize("batch_key", [None, "batch"])
@pytest.mark.parametrize("flavor", ["seurat", "cell_ranger"])
@pytest.mark.parametrize("name", STUDIES)
def test_dispersions(name: str, flavor: str, batch_key: str | None, shared: Path) -> None:
    data = study(shared, name)
    for options in ({"n_top_genes": N_TOP}, {}):
        expected = scanpy_hvg(*data, flavor, batch_key=batch_key, **options)
        got = our_hvg(*data, flavor, batch_key=batch_key, **options)
        assert_same_genes(got.var, expected.var)
        assert got.uns["hvg"] == expected.uns["hvg"]


@pytest.mark.usefixtures("stable")
@pytest.mark.parametrize("batch_key", [None, "batch"])
@pytest.mark.parametrize("flavor", ["seurat_v3", "seurat_v3_paper", "pearson_residuals"])
@pytest.mark.parametrize("name", STUDIES)
def test_ranks(name: str, flavor: str, batch_key: str | None, shared: Path) -> None:
    """Every rank is equal, of every gene, once scanpy leaves ties in order too."""
    data = study(shared, name)
    expected = scanpy_hvg(*data, flavor, batch_key=batch_key, n_top_genes=N_TOP)
    got = our_hvg(*data, flavor, batch_key=batch_key, n_top_genes=N_TOP)
    assert got.uns["hvg"]["flavor"] == flavor
    if OTHER_SUMS and batch_key and flavor.startswith("seurat_v3"):
        expected.var = expected.var.assign(**by_batch(*data, flavor, N_TOP))
    if (name, flavor, batch_key) == ("human/pollen_smarter", "pearson_residuals", "batch"):
        assert_same_but_for_ties(got.var, expected.var, *data)
    else:
        assert_same_genes(got.var, expected.var)


def assert_same_but_for_ties(
    ours: pd.DataFrame, theirs: pd.DataFrame, X: Any, obs: pd.DataFrame, var: pd.DataFrame
) -> None:
    """In 20 cells many genes have the same residuals in another order: scanpy's sums of them differ by 1e-16.

    Every gene that is alone with its variance, in every batch, must have its rank.
    """
    tied = np.zeros(len(var), dtype=bool)
    clip = np.sqrt((obs["batch"] == "x").sum())
    for batch in "xyz":
        rows = (obs["batch"] == batch).to_numpy()
        alone = scanpy_hvg(X[rows], obs[rows], var, "pearson_residuals", n_top_genes=N_TOP, clip=clip).var
        variance = alone["residual_variances"].to_numpy()
        order = np.argsort(variance)
        near = np.diff(variance[order]) < 1e-12 * variance[order][1:]
        tied[order[1:][near]] = tied[order[:-1][near]] = True
    assert 50 < tied[theirs["highly_variable_rank"].notna()].sum() < 700
    for column in theirs:
        if theirs[column].dtype == np.float64:
            np.testing.assert_allclose(ours[column], theirs[column], rtol=1e-9, err_msg=column)
        elif column != "highly_variable":
            np.testing.assert_array_equal(ours[column][~tied], theirs[column][~tied], err_msg=column)
    assert (ours["highly_variable"] != theirs["highly_variable"]).sum() <= 10


@pytest.mark.parametrize("flavor", ["seurat_v3", "seurat_v3_paper"])
def test_genes_with_equal_variances_stay_in_order(flavor: str, shared: Path) -> None:
    """The published rule (Stuart et al. 2019), on scanpy's own variances of each batch, with a stable sort.

    In a batch, genes seen once in three cells are exactly alike: hundreds of ties at the edge of each batch's list.
    scanpy's own choice among them depends on how the processor sorts, so its ranks are not compared here.
    """
    X, obs, var = study(shared, "human/pbmc3k")
    n_top = 2000
    expected = scanpy_hvg(X, obs, var, flavor, batch_key="batch", n_top_genes=n_top).var
    got = our_hvg(X, obs, var, flavor, batch_key="batch", n_top_genes=n_top).var
    wanted = by_batch(X, obs, var, flavor, n_top)
    expected = expected.assign(**wanted) if OTHER_SUMS else expected
    for column in ("means", "variances", "variances_norm"):
        np.testing.assert_allclose(got[column], expected[column], rtol=1e-9, err_msg=column)
    for column in ("highly_variable_rank", "highly_variable_nbatches", "highly_variable"):
        np.testing.assert_array_equal(got[column], wanted[column], err_msg=column)


@pytest.mark.parametrize("name", STUDIES)
def test_quality(name: str, shared: Path) -> None:
    X, obs, var = study(shared, name)
    adata = ad.AnnData(X.copy(), obs=obs[[]].copy(), var=var[[]].copy())
    prefix = "MT-" if "human" in name else "mt-"
    adata.var["mt"] = var["feature_name"].str.startswith(prefix).to_numpy()
    adata.var["set"] = np.arange(len(var)) % 7 == 0
    sc.pp.calculate_qc_metrics(adata, qc_vars=["set"], inplace=True)
    got = hr.Plan(held(X, obs[[]], adata.var[["mt", "set"]]), [hr.QCMetrics(["set"])]).to_anndata()
    for ours, theirs in ((got.obs, adata.obs), (got.var, adata.var)):
        assert list(ours) == list(theirs)
        for column in theirs:
            np.testing.assert_allclose(ours[column], theirs[column], rtol=1e-6, atol=1e-12, err_msg=column)
    if adata.var["mt"].any():
        counted = hr.Plan(held(X, obs[[]], var), [hr.QCMetrics({"mt": prefix}, percent_top=())]).to_anndata()
        share = np.asarray(X[:, adata.var["mt"].to_numpy()].sum(axis=1) / X.sum(axis=1)).ravel() * 100
        np.testing.assert_allclose(counted.obs["pct_counts_mt"], share, rtol=1e-6)


@pytest.mark.parametrize("name", STUDIES)
def test_totals(name: str, shared: Path) -> None:
    X, obs, var = study(shared, name)
    X, obs = X[:1000], obs[:1000]
    for options in (
        {"target_sum": 1e4, "key_added": "norm"},
        {"key_added": "norm"},
        {"exclude_highly_expressed": True, "max_fraction": 0.02},
        {"exclude_highly_expressed": True, "max_fraction": 0.1, "target_sum": 1e6},
    ):
        # dense, because scanpy's median is over cells without counts too if X is sparse
        adata = ad.AnnData(X.toarray(), obs=obs.copy(), var=var[[]].copy())
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Some cells have zero counts")
            sc.pp.normalize_total(adata, **options)
        got = hr.Plan(held(X, obs, var[[]]), [hr.NormalizeTotal(**options)]).to_anndata()
        np.testing.assert_allclose(got.X.toarray(), adata.X, rtol=1e-6)
        if "key_added" in options:
            np.testing.assert_allclose(got.obs["norm"], adata.obs["norm"], rtol=1e-12)


@pytest.mark.parametrize("zero_center", [True, False])
@pytest.mark.parametrize("name", STUDIES)
def test_scale(name: str, zero_center: bool, shared: Path) -> None:
    X, obs, var = study(shared, name)
    logged = hr.Plan(held(X, obs, var[[]]), [hr.NormalizeTotal(1e4), hr.Log1p()]).to_anndata()
    for max_value in (None, 3.0):
        adata = ad.AnnData(logged.X.astype(np.float64), obs=obs.copy(), var=var[[]].copy())
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "zero-centering a sparse array")
            sc.pp.scale(adata, max_value=max_value, zero_center=zero_center)
        steps = [hr.NormalizeTotal(1e4), hr.Log1p(), hr.Scale(max_value, zero_center)]
        got = hr.Plan(held(X, obs, var[[]]), steps).to_anndata()
        assert isinstance(got.X, np.ndarray) == zero_center
        ours, theirs = (getattr(a.X, "data", a.X) if not zero_center else a.X for a in (got, adata))
        np.testing.assert_allclose(np.asarray(ours), np.asarray(theirs), rtol=1e-6, atol=1e-7)
        np.testing.assert_allclose(got.var["mean"], adata.var["mean"], rtol=1e-9)
        np.testing.assert_allclose(got.var["std"], adata.var["std"], rtol=1e-9)


@pytest.mark.parametrize("name", STUDIES)
def test_pearson_residuals(name: str, shared: Path) -> None:
    X, obs, _ = study(shared, name)
    X = X[:, np.argsort(-np.asarray(X.sum(axis=0)).ravel(), kind="stable")[:1500]].tocsr()
    genes = pd.DataFrame(index=[f"g{i}" for i in range(X.shape[1])])
    for options in ({}, {"theta": 10.0, "clip": 2.0}):
        adata = ad.AnnData(X.toarray(), obs=obs.copy(), var=genes)
        with np.errstate(invalid="ignore"):
            sc.experimental.pp.normalize_pearson_residuals(adata, **options)
        got = hr.Plan(held(X, obs, genes), [hr.NormalizePearsonResiduals(**options)]).to_anndata()
        np.testing.assert_allclose(got.X, np.nan_to_num(adata.X), rtol=1e-6, atol=1e-7)
        assert got.uns["pearson_residuals_normalization"]["theta"] == options.get("theta", 100)
        assert got.uns["pearson_residuals_normalization"]["clip"] == options.get("clip", np.sqrt(X.shape[0]))


def test_filters(shared: Path) -> None:
    X, obs, var = study(shared, "human/pbmc3k", min_cells=0)
    adata = ad.AnnData(X.copy(), obs=obs.copy(), var=var[[]].copy())
    sc.pp.filter_cells(adata, min_genes=300)
    sc.pp.filter_cells(adata, max_counts=4000)
    sc.pp.filter_genes(adata, min_cells=5)
    sc.pp.filter_genes(adata, min_counts=8)
    steps = [
        hr.FilterCells(min_genes=300),
        hr.FilterCells(max_counts=4000),
        hr.FilterGenes(min_cells=5),
        hr.FilterGenes(min_counts=8),
    ]
    got = hr.Plan(held(X, obs, var[[]]), steps).to_anndata()
    assert list(got.obs_names) == list(adata.obs_names)
    assert list(got.var_names) == list(adata.var_names)
    assert (got.X != adata.X).nnz == 0
    for column in ("n_genes", "n_counts"):
        assert (got.obs[column] == adata.obs[column]).all()
    for column in ("n_cells", "n_counts"):
        assert (got.var[column] == adata.var[column]).all()


def test_workbench(shared: Path) -> None:
    X, obs, var = study(shared, "mouse/heart_1k_v2")
    adata = ad.AnnData(X.copy(), obs=obs.copy(), var=var[[]].copy())
    adata.layers["counts"] = adata.X.copy()
    sc.pp.normalize_total(adata, target_sum=1e4)
    sc.pp.log1p(adata)
    adata.layers["logcounts"] = adata.X.copy()
    sc.pp.highly_variable_genes(adata, n_top_genes=2000)
    for subset in (True, False):
        expected = adata[:, adata.var["highly_variable"]].copy() if subset else adata.copy()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "zero-centering a sparse array")
            sc.pp.scale(expected, max_value=10)
        got = hr.Plan(held(X, obs, var[[]]), hr.recipes.workbench(subset=subset)).to_anndata()
        assert list(got.var_names) == list(expected.var_names)
        np.testing.assert_allclose(got.X, expected.X, rtol=1e-5, atol=1e-6)  # float32 values before, and after
        assert (got.layers["counts"] != expected.layers["counts"]).nnz == 0
        np.testing.assert_allclose(got.layers["logcounts"].data, expected.layers["logcounts"].data, rtol=1e-6)


def test_roots(shared: Path) -> None:
    X, obs, var = study(shared, "human/pollen_smarter")
    adata = ad.AnnData(X.copy(), obs=obs.copy(), var=var[[]].copy())
    sc.pp.sqrt(adata)
    got = hr.Plan(held(X, obs, var[[]]), [hr.Sqrt()]).to_anndata()
    np.testing.assert_allclose(got.X.data, adata.X.data, rtol=1e-7)
    got = hr.Plan(held(X, obs, var[[]]), [hr.Arcsinh(cofactor=2)]).to_anndata()
    np.testing.assert_allclose(got.X.data, np.arcsinh(X.data / 2), rtol=1e-7)


def test_proportional_fitting(shared: Path) -> None:
    """The formula of the paper, in dense float64."""
    X, obs, var = study(shared, "human/pancreas_smartseq2")

    def fit(values: np.ndarray) -> np.ndarray:
        totals = values.sum(axis=1, keepdims=True)
        return values / totals * totals.mean()

    expected = fit(np.log1p(fit(X.toarray())))
    got = hr.Plan(held(X, obs, var[[]]), [hr.PFlogPF()]).to_anndata()
    np.testing.assert_allclose(got.X.toarray(), expected, rtol=1e-6)
