"""Totals, size factors and scaling where it is awkward: odd cases of scanpy's own tests."""

from __future__ import annotations

import warnings
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from scipy import sparse

import headrace as hr
from headrace.chunk import Holds
from headrace.sources.arrays import ArraySource

X_TOTAL = np.array([[1, 0], [3, 0], [5, 6]])
X_FRAC = np.array([[1, 0, 1], [3, 0, 1], [5, 6, 1]])


def run(X: Any, *steps: Any, holds: Holds = Holds.UNKNOWN, obs: pd.DataFrame | None = None) -> ad.AnnData:
    X = np.asarray(X)
    obs = pd.DataFrame(index=[f"c{i}" for i in range(X.shape[0])]) if obs is None else obs
    return hr.Plan(
        ArraySource(X, obs, pd.DataFrame(index=[f"g{i}" for i in range(X.shape[1])]), holds=holds, n_obs=2), steps
    ).to_anndata()


def dense(adata: ad.AnnData) -> np.ndarray:
    return adata.X.toarray() if sparse.issparse(adata.X) else adata.X


# ------------------------------------------------------------------------------------------------------- totals
@pytest.mark.parametrize("dtype", ["int64", "float32"])
def test_median_total(dtype: str) -> None:
    """scanpy's test_normalize_total: every cell has the median, integers come out as float32."""
    got = run(X_TOTAL.astype(dtype), hr.NormalizeTotal(key_added="n_counts"))
    np.testing.assert_allclose(dense(got).sum(axis=1), [3, 3, 3], rtol=1e-6)
    assert got.X.dtype == np.float32
    adata = ad.AnnData(X_TOTAL.astype(dtype))
    sc.pp.normalize_total(adata, key_added="n_counts")
    np.testing.assert_allclose(dense(got), adata.X, rtol=1e-6)
    np.testing.assert_allclose(got.obs["n_counts"], adata.obs["n_counts"])


def test_target_of_one() -> None:
    np.testing.assert_allclose(dense(run(X_TOTAL, hr.NormalizeTotal(target_sum=1))).sum(axis=1), [1, 1, 1], rtol=1e-6)


def test_highly_expressed_genes_are_left_out_of_totals() -> None:
    got = run(X_FRAC, hr.NormalizeTotal(target_sum=1, exclude_highly_expressed=True, max_fraction=0.7))
    np.testing.assert_allclose(dense(got)[:, 1:3].sum(axis=1), [1, 1, 1], rtol=1e-6)
    # the example of scanpy's documentation
    X = np.array([[3, 3, 3, 6, 6], [1, 1, 1, 2, 2], [1, 22, 1, 2, 2]])
    got = run(X, hr.NormalizeTotal(target_sum=1, exclude_highly_expressed=True, max_fraction=0.2))
    np.testing.assert_allclose(dense(got)[2], [0.5, 11, 0.5, 1, 1])


def test_cells_without_counts_stay() -> None:
    X = np.array([[0, 0, 0], [1, 2, 3], [4, 4, 4], [0, 0, 9]])
    adata = ad.AnnData(X.astype(np.float32))
    with pytest.warns(UserWarning, match="Some cells have zero counts"):
        sc.pp.normalize_total(adata)
    np.testing.assert_allclose(dense(run(X, hr.NormalizeTotal())), adata.X, rtol=1e-6)
    for steps in ([hr.NormalizeTotal(10)], [hr.SizeFactors()], [hr.PFlogPF()]):
        assert (dense(run(X, *steps))[0] == 0).all()
    with pytest.raises(hr.InputError, match="no cell has any counts"):
        run(np.zeros((3, 2)), hr.NormalizeTotal())
    with pytest.raises(hr.InputError, match="no cell has any counts"):
        run(np.zeros((3, 2)), hr.SizeFactors())


def test_totals_of_the_whole_cell() -> None:
    """A plan on some genes still divides by all of them."""
    rng = np.random.default_rng(0)
    X = rng.poisson(3, (20, 30))
    obs = pd.DataFrame({"raw_sum": X.sum(axis=1)}, index=[f"c{i}" for i in range(20)])
    whole = dense(run(X, hr.NormalizeTotal(1e4), obs=obs))[:, :5]
    for steps in (
        [hr.NormalizeTotal(1e4, size="raw_sum")],
        [hr.FilterGenes(min_cells=1), hr.NormalizeTotal(1e4, size="raw_sum")],
    ):
        np.testing.assert_array_equal(dense(run(X[:, :5], *steps, obs=obs)), whole)
    np.testing.assert_array_equal(
        dense(run(X[:, :5], hr.NormalizeTotal(size="raw_sum"), obs=obs)),
        dense(run(X, hr.NormalizeTotal(), obs=obs))[:, :5],
    )
    np.testing.assert_array_equal(
        dense(run(X[:, :5], hr.SizeFactors(size="raw_sum"), obs=obs)), dense(run(X, hr.SizeFactors(), obs=obs))[:, :5]
    )
    with pytest.raises(hr.PlanError, match="obs has no column 'raw_sums'; did you mean 'raw_sum'"):
        run(X, hr.NormalizeTotal(size="raw_sums"), obs=obs)


def test_arguments_of_totals() -> None:
    for wrong in (
        {"target_sum": 0},
        {"target_sum": float("nan")},
        {"max_fraction": 0.1},
        {"exclude_highly_expressed": True, "max_fraction": 1.5},
        {"exclude_highly_expressed": True, "size": "raw_sum"},
    ):
        with pytest.raises(hr.InputError):
            hr.NormalizeTotal(**wrong)


# -------------------------------------------------------------------------------------------------------- scale
X_SCALE = np.array([[-1, 2, 0, 0], [1, 2, 4, 0], [0, 2, 2, 0]], dtype=float)
X_ONES = np.array([[0.1, 0], [0.1, 0], [0.1, 3]])


@pytest.mark.parametrize("zero_center", [True, False])
@pytest.mark.parametrize("max_value", [None, 0.5, 10.0])
def test_small_matrix(zero_center: bool, max_value: float | None) -> None:
    """scanpy's test_scale_simple: negative values, a constant gene, an empty one."""
    adata = ad.AnnData(X_SCALE.copy() if zero_center else sparse.csr_matrix(X_SCALE))
    sc.pp.scale(adata, zero_center=zero_center, max_value=max_value)
    got = run(X_SCALE, hr.Scale(max_value, zero_center), holds=Holds.NORMALIZED)
    np.testing.assert_allclose(dense(got), dense(adata), rtol=1e-6)
    np.testing.assert_allclose(got.var["mean"], adata.var["mean"])
    np.testing.assert_allclose(got.var["std"], adata.var["std"])


def test_constant_genes_are_constant() -> None:
    """0.1 three times has a variance of 1e-18 by rounding; divided by its root it would be noise."""
    got = run(X_ONES, hr.Scale(), holds=Holds.NORMALIZED)
    assert (got.X[:, 0] == 0).all()
    assert got.var["std"].iloc[0] == 1
    assert np.isfinite(got.X).all()


def test_one_cell_and_one_gene() -> None:
    assert run([[3, 0]], hr.Scale(), holds=Holds.NORMALIZED).X.tolist() == [[0, 0]]
    np.testing.assert_allclose(run([[1], [2], [3]], hr.Scale(), holds=Holds.NORMALIZED).X.ravel(), [-1, 0, 1])


def test_integers_are_scaled_too() -> None:
    X = np.random.default_rng(0).poisson(2, (30, 8))
    adata = ad.AnnData(X.copy())
    sc.pp.scale(adata, max_value=1)
    np.testing.assert_allclose(run(X, hr.Scale(max_value=1)).X, adata.X, rtol=1e-6, atol=1e-7)


def test_what_comes_after_scaling() -> None:
    X = np.random.default_rng(0).poisson(2, (30, 8))
    chosen = run(X, hr.Scale(), hr.SelectGenes(["g1", "g5"]), hr.SaveLayer("scaled"))
    np.testing.assert_array_equal(chosen.X, run(X, hr.Scale()).X[:, [1, 5]])
    np.testing.assert_array_equal(chosen.layers["scaled"], chosen.X)
    for step in (
        hr.Scale(),
        hr.Log1p(),
        hr.Sqrt(),
        hr.Arcsinh(),
        hr.PFlogPF(),
        hr.SizeFactors(),
        hr.HighlyVariableGenes(),
        hr.NormalizePearsonResiduals(),
    ):
        with pytest.raises(hr.PlanError, match="standardized"):
            run(X, hr.Scale(), step)
    with pytest.raises(hr.PlanError, match="takes counts, but X is logged"):
        run(X, hr.Log1p(), hr.NormalizePearsonResiduals())
    for wrong in ({"max_value": 0}, {"max_value": -1.0}):
        with pytest.raises(hr.InputError):
            hr.Scale(**wrong)


def test_dense_output_is_written(tmp_path: Any) -> None:
    X = np.random.default_rng(0).poisson(2, (30, 8))
    source = ArraySource(
        X, pd.DataFrame(index=[f"c{i}" for i in range(30)]), pd.DataFrame(index=[f"g{i}" for i in range(8)]), n_obs=4
    )
    plan = hr.Plan(source, hr.recipes.workbench(n_top_genes=4))
    plan.write_h5ad(tmp_path / "out.h5ad")
    written, held = ad.read_h5ad(tmp_path / "out.h5ad"), plan.to_anndata()
    assert isinstance(written.X, np.ndarray)
    np.testing.assert_array_equal(written.X, held.X)
    assert set(written.layers) - {None} == {"counts", "logcounts"}
    assert (
        written.n_vars
        == held.n_vars
        == hr.Plan(source, [hr.NormalizeTotal(1e4), hr.Log1p(), hr.HighlyVariableGenes(4)])
        .var()["highly_variable"]
        .sum()
    )
    pd.testing.assert_frame_equal(plan.var(), written.var, check_names=False)


# ---------------------------------------------------------------------------------------------------- residuals
@pytest.mark.parametrize("theta", [0.01, 1.0, 100.0, np.inf])
@pytest.mark.parametrize("clip", [None, 0.5, np.inf])
def test_residuals(theta: float, clip: float | None) -> None:
    X = np.random.default_rng(0).poisson(2, (40, 12))
    X[:, 3], X[5] = 0, 0
    adata = ad.AnnData(X.astype(np.float64))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "invalid value encountered", RuntimeWarning)  # 0 / 0 of what has no counts
        sc.experimental.pp.normalize_pearson_residuals(adata, theta=theta, clip=clip)
    got = run(X, hr.NormalizePearsonResiduals(theta, clip))
    np.testing.assert_allclose(got.X, np.nan_to_num(adata.X), rtol=1e-6, atol=1e-7)
    assert (got.X[:, 3] == 0).all()
    for wrong in ({"theta": 0}, {"theta": -1}, {"clip": -1}):
        with pytest.raises(hr.InputError):
            hr.NormalizePearsonResiduals(**wrong)


def test_residuals_of_what_is_no_count() -> None:
    with pytest.raises(hr.CountsError, match="NormalizePearsonResiduals"):
        run([[0.5, 1], [1, 2]], hr.NormalizePearsonResiduals())


# --------------------------------------------------------------------------------------------------- one by one
def test_logs_roots_and_arcsinh_by_eye() -> None:
    X = [[0, 3], [8, 24]]
    np.testing.assert_allclose(dense(run(X, hr.Log1p(base=2))), [[0, 2], [np.log2(9), np.log2(25)]], rtol=1e-6)
    np.testing.assert_allclose(dense(run(X, hr.Sqrt())), np.sqrt(X))
    np.testing.assert_allclose(dense(run(X, hr.Arcsinh())), np.arcsinh(X), rtol=1e-6)
    with pytest.raises(hr.PlanError, match="logged here already"):
        run(X, hr.Log1p(), hr.Sqrt())
    with pytest.raises(hr.InputError):
        hr.Arcsinh(cofactor=0)
