"""Quality control: what scanpy's own tests try, and scuttle's isOutlier."""

from __future__ import annotations

import warnings
from importlib.metadata import version
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

NEW_SCANPY = tuple(int(n) for n in version("scanpy").split(".")[:2]) >= (1, 12)


def cells(n: int, **columns: Any) -> pd.DataFrame:
    return pd.DataFrame(columns, index=[f"c{i}" for i in range(n)])


def genes(n: int, **columns: Any) -> pd.DataFrame:
    return pd.DataFrame(columns, index=[f"g{i}" for i in range(n)])


def counts(n_cells: int = 80, n_vars: int = 120) -> np.ndarray:
    X = np.random.default_rng(0).poisson(0.8, (n_cells, n_vars))
    X[3], X[:, 5] = 0, 0
    return X


def both(X: Any, var: pd.DataFrame, dtype: Any, step: hr.QCMetrics, **options: Any) -> tuple[ad.AnnData, ad.AnnData]:
    expected = ad.AnnData(sparse.csr_matrix(X, dtype=dtype), obs=cells(X.shape[0]), var=var.copy())
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "invalid value encountered", RuntimeWarning)
        sc.pp.calculate_qc_metrics(expected, inplace=True, **options)
    return hr.Plan(ArraySource(X, cells(X.shape[0]), var, n_obs=9), [step]).to_anndata(), expected


@pytest.mark.parametrize("log1p", [True, False])
@pytest.mark.parametrize("percent_top", [(), (10,), (50, 20, 100), (1, 120)])
def test_as_scanpy(log1p: bool, percent_top: tuple[int, ...]) -> None:
    """Empty cells (NaN), empty genes, unsorted numbers of top genes, as many as there are; dtypes too."""
    var = genes(120, mt=np.arange(120) < 9, none=False)
    step = hr.QCMetrics(("mt", "none"), percent_top, log1p=log1p, expr_type="reads", var_type="things")
    got, expected = both(
        counts(), var, np.float32, step, qc_vars=["mt", "none"], percent_top=percent_top or None, log1p=log1p,
        expr_type="reads", var_type="things",
    )  # fmt: skip
    for ours, theirs in ((got.obs, expected.obs), (got.var, expected.var)):
        assert list(ours) == list(theirs)
        for name in theirs:
            if NEW_SCANPY and "mean_" in name:  # from 1.12 on float32, as X is; ours stay exact
                assert ours[name].dtype == np.float64
            else:
                assert ours[name].dtype == theirs[name].dtype, name
            np.testing.assert_allclose(ours[name], theirs[name], rtol=3e-7, err_msg=name)


def test_top_genes_by_eye() -> None:
    X = np.array([[5, 0, 3, 2, 0], [1, 1, 1, 1, 1], [0, 0, 0, 7, 0], [300, 1, 299, 0, 400]])
    got = hr.Plan(ArraySource(X, cells(4), genes(5)), [hr.QCMetrics(percent_top=(1, 2, 3))]).to_anndata().obs
    assert got["pct_counts_in_top_1_genes"].tolist() == [50, 20, 100, 40]
    assert got["pct_counts_in_top_2_genes"].tolist() == [80, 40, 100, 70]
    np.testing.assert_allclose(got["pct_counts_in_top_3_genes"], [100, 60, 100, 99.9])


def test_values_that_are_no_counts() -> None:
    X = counts().astype(np.float64)
    X[X > 0] = np.log1p(X[X > 0])
    var = genes(120)
    got = hr.Plan(ArraySource(X, cells(80), var, holds=Holds.LOGGED), [hr.QCMetrics(percent_top=(5,))]).to_anndata()
    expected = ad.AnnData(sparse.csr_matrix(X), obs=cells(80), var=var)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "invalid value encountered", RuntimeWarning)
        sc.pp.calculate_qc_metrics(expected, percent_top=(5,), inplace=True)
    np.testing.assert_allclose(
        got.obs["pct_counts_in_top_5_genes"], expected.obs["pct_counts_in_top_5_genes"], rtol=1e-6
    )
    np.testing.assert_allclose(got.var["mean_counts"], expected.var["mean_counts"], rtol=1e-6)


def test_of_a_layer() -> None:
    X = counts()
    steps = [hr.SaveLayer("counts"), hr.NormalizeTotal(1e4), hr.QCMetrics(layer="counts")]
    got = hr.Plan(
        ArraySource(X, cells(80), genes(600)[:120]), [*steps[:2], hr.QCMetrics(percent_top=(9,), layer="counts")]
    ).to_anndata()
    assert (got.obs["total_counts"] == X.sum(axis=1)).all()
    assert (got.var["total_counts"] == X.sum(axis=0)).all()
    with pytest.raises(hr.PlanError, match="no layer 'count' was saved"):
        hr.Plan(
            ArraySource(X, cells(80), genes(120)),
            [hr.SaveLayer("counts"), hr.QCMetrics(percent_top=(), layer="count")],
        )


def test_sets_of_genes() -> None:
    names = ["MT-ND1", "MT-CO1", "ACTB", "RPS3", "RPL5"]
    source = ArraySource(
        np.array([[1, 2, 3, 4, 10]]), cells(1), genes(5, feature_name=names, marked=[True, False, False, False, True])
    )
    got = hr.Plan(source, [hr.QCMetrics({"mt": "MT-", "ribo": ("RPS", "RPL")}, percent_top=())]).to_anndata()
    assert got.obs[["total_counts_mt", "total_counts_ribo"]].iloc[0].tolist() == [3, 14]
    assert got.var["mt"].tolist() == [True, True, False, False, False]
    assert got.var["ribo"].tolist() == [False, False, False, True, True]
    assert got.obs["pct_counts_ribo"].iloc[0] == 70
    column = hr.Plan(source, [hr.QCMetrics("marked", percent_top=())]).to_anndata()
    assert column.obs["total_counts_marked"].iloc[0] == 11
    with pytest.raises(hr.PlanError, match="no gene's name begins with 'mt-'; did you mean 'MT-'"):
        hr.Plan(source, [hr.QCMetrics({"mt": "mt-"}, percent_top=())])
    with pytest.raises(hr.PlanError, match="var has no column 'mito'"):
        hr.Plan(source, [hr.QCMetrics(["mito"], percent_top=())])
    with pytest.raises(hr.PlanError, match="not bool"):
        hr.Plan(source, [hr.QCMetrics(["feature_name"], percent_top=())])


def test_what_has_no_totals() -> None:
    source = ArraySource(counts(), cells(80), genes(120))
    with pytest.raises(hr.InputError, match="there are only 120 genes here"):
        hr.Plan(source, [hr.QCMetrics()])
    for step in (
        hr.QCMetrics(percent_top=()),
        hr.FilterCells(min_genes=3),
        hr.FilterGenes(min_cells=3),
        hr.NormalizeTotal(1e4),
    ):
        with pytest.raises(hr.PlanError, match="standardized here"):
            hr.Plan(source, [hr.Scale(), step])


def test_no_pass_of_its_own() -> None:
    source = ArraySource(counts(), cells(80), genes(120))
    assert "1 pass " in str(hr.Plan(source, [hr.QCMetrics(percent_top=(5,))]).explain())
    assert "2 passes" in str(hr.Plan(source, [hr.QCMetrics(percent_top=(5,)), hr.FilterGenes(min_cells=5)]).explain())


# ------------------------------------------------------------------------------------------------------- bounds
def test_cells_within_bounds_of_columns() -> None:
    X = counts()
    obs = cells(80, age=np.linspace(0, 79, 80), ok=np.arange(80) % 2 == 0)
    obs.loc["c70", "age"] = np.nan
    steps = [
        hr.QCMetrics({"mt": "g1"}, percent_top=()),
        hr.FilterCells(min_genes=5, min={"age": 10, "ok": 1}, max={"age": 75, "pct_counts_mt": 20}),
    ]
    got = hr.Plan(ArraySource(X, obs, genes(120), n_obs=7), steps).to_anndata()
    share = X[:, [i for i in range(120) if str(i).startswith("1")]].sum(axis=1) / np.maximum(X.sum(axis=1), 1) * 100
    keep = (obs["age"] >= 10) & (obs["age"] <= 75) & obs["ok"] & (share <= 20) & ((X > 0).sum(axis=1) >= 5)
    assert list(got.obs_names) == list(obs.index[keep])
    assert 0 < keep.sum() < 40


def test_bounds_that_make_no_sense() -> None:
    source = ArraySource(counts(), cells(80, name=["x"] * 80, age=1.0), genes(120))
    with pytest.raises(hr.PlanError, match="obs has no column 'agee'; did you mean 'age'"):
        hr.Plan(source, [hr.FilterCells(max={"agee": 3})])
    with pytest.raises(hr.PlanError, match="not a number"):
        hr.Plan(source, [hr.FilterCells(max={"name": 3})])
    for wrong in ({"min": {"age": 3}, "max": {"age": 2}}, {"max": {"age": "3"}}, {"min": {"age": np.nan}}, {}):
        with pytest.raises(hr.InputError):
            hr.FilterCells(**wrong)


# ------------------------------------------------------------------------------------------------------ outliers
def is_outlier(
    x: np.ndarray, nmads: float, log: bool = False, side: str = "both", batch: np.ndarray | None = None
) -> np.ndarray:
    """`scuttle::isOutlier`, word for word; R's mad has the constant 1.4826."""
    if batch is not None:
        out = np.zeros(len(x), dtype=bool)
        for one in np.unique(batch):
            out[batch == one] = is_outlier(x[batch == one], nmads, log, side)
        return out
    with np.errstate(divide="ignore"):
        metric = np.log(x) if log else x
    cur_med = np.median(metric)
    cur_mad = 1.4826 * np.median(np.abs(metric - cur_med))
    diff_val = nmads * cur_mad
    upper = np.full(len(x), cur_med + diff_val) if side != "lower" else np.full(len(x), np.inf)
    lower = np.full(len(x), cur_med - diff_val) if side != "higher" else np.full(len(x), -np.inf)
    return (metric < lower) | (upper < metric)


@pytest.mark.parametrize("nmads", [1.5, 3.0])
@pytest.mark.parametrize("log", [True, False])
@pytest.mark.parametrize("side", ["both", "lower", "higher"])
@pytest.mark.parametrize("batched", [True, False])
def test_outliers_as_in_scuttle(nmads: float, log: bool, side: Any, batched: bool) -> None:
    rng = np.random.default_rng(0)
    x = np.exp(np.clip(rng.standard_t(1.5, size=301), -8, 8) + 2)
    x[7] = 0
    batch = np.where(np.arange(301) % 3 == 0, "a", "b")
    obs = cells(301, x=x, batch=pd.Categorical(batch))
    step = hr.FilterOutliers("x", nmads, "batch" if batched else None, log, side)
    got = hr.Plan(ArraySource(np.ones((301, 2)), obs, genes(2), n_obs=40), [step]).to_anndata()
    out = is_outlier(x, nmads, log, side, batch if batched else None)
    assert list(got.obs_names) == list(obs.index[~out])
    assert (side == "lower" and not log) or 0 < out.sum() < 150


def test_outliers_of_what_a_step_has_measured() -> None:
    X = counts()
    steps = [hr.QCMetrics(percent_top=()), hr.FilterOutliers("log1p_total_counts", nmads=2)]
    got = hr.Plan(ArraySource(X, cells(80), genes(120)), steps).to_anndata()
    out = is_outlier(np.log1p(X.sum(axis=1).astype(np.float32)), 2)
    assert list(got.obs_names) == [f"c{i}" for i in np.flatnonzero(~out)]
    assert "c3" not in got.obs_names


def test_no_spread_and_no_value() -> None:
    """With a deviation of 0 all that is not the median is out; without a value or a batch a cell is out."""
    obs = cells(6, x=[2.0, 2.0, 2.0, 2.0, 3.0, np.nan], b=pd.Categorical(["p", "p", "p", None, "p", "p"]))
    source = ArraySource(np.ones((6, 1)), obs, genes(1))
    assert list(hr.Plan(source, [hr.FilterOutliers("x")]).to_anndata().obs_names) == ["c0", "c1", "c2", "c3"]
    assert list(hr.Plan(source, [hr.FilterOutliers("x", batch_key="b")]).to_anndata().obs_names) == ["c0", "c1", "c2"]
    with pytest.raises(hr.InputError, match="above 0"):
        hr.FilterOutliers("x", nmads=0)
    with pytest.raises(hr.PlanError, match="obs has no column 'y'"):
        hr.Plan(source, [hr.FilterOutliers("y")])


def test_the_highest_genes_whatever_the_values_are() -> None:
    rng = np.random.default_rng(1)
    whole = np.floor(rng.lognormal(3, 3, (40, 300))) * (rng.random((40, 300)) < 0.7)  # up to 10**6, many equal
    for X in (whole, whole / 3, np.where(rng.random(whole.shape) < 0.01, 0.5, whole)):
        got, expected = both(
            X, genes(300), np.float32, hr.QCMetrics(percent_top=(1, 50, 100, 299)), percent_top=(1, 50, 100, 299)
        )
        for n in (1, 50, 100, 299):
            name = f"pct_counts_in_top_{n}_genes"
            np.testing.assert_allclose(got.obs[name], expected.obs[name], rtol=1e-6)
