"""Counts that are not whole go through everything with scanpy's numbers."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from scipy import sparse

import headrace as hr
from headrace.errors import CountsError, FractionalCountsWarning

N = 200


@pytest.fixture(scope="module")
def corrected(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Counts after the removal of ambient RNA: 3 becomes 2.4."""
    rng = np.random.default_rng(1)
    X = rng.poisson(rng.gamma(0.5, 3.0, 100) * rng.gamma(2.0, 0.5, (N, 1))) * rng.uniform(0.3, 1, (N, 100))
    X[:, 0] += 0.5  # no cell and no gene is empty: there scanpy has NaN
    X[0] += 0.25
    obs = pd.DataFrame({"batch": pd.Categorical(rng.choice(["a", "b"], N))}, index=[f"c{i}" for i in range(N)])
    path = tmp_path_factory.mktemp("fractional") / "in.h5ad"
    var = pd.DataFrame(index=[f"g{i}" for i in range(100)])
    ad.AnnData(sparse.csr_matrix(X.astype(np.float32)), obs=obs, var=var).write_h5ad(path)
    return path


def opened(path: Path) -> Any:
    with pytest.warns(FractionalCountsWarning, match="not whole"):
        return hr.open_h5ad(path, holds="counts")


@pytest.mark.parametrize("flavor", ["seurat_v3", "seurat_v3_paper"])
@pytest.mark.parametrize("batch_key", [None, "batch"])
def test_seurat_v3_is_scanpys(flavor: Any, batch_key: str | None, corrected: Path) -> None:
    plan = hr.Plan(opened(corrected), [hr.HighlyVariableGenes(30, flavor=flavor, batch_key=batch_key)])
    got, expected = plan.var(), ad.read_h5ad(corrected)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sc.pp.highly_variable_genes(expected, n_top_genes=30, flavor=flavor, batch_key=batch_key)
    np.testing.assert_array_equal(got["highly_variable"], expected.var["highly_variable"])
    for name in ("means", "variances", "variances_norm"):
        np.testing.assert_allclose(got[name], expected.var[name], rtol=1e-6)


@pytest.mark.parametrize("batch_key", [None, "batch"])
def test_pearson_residuals_are_scanpys(batch_key: str | None, corrected: Path) -> None:
    step = hr.HighlyVariableGenes(30, flavor="pearson_residuals", batch_key=batch_key)
    got, expected = hr.Plan(opened(corrected), [step]).var(), ad.read_h5ad(corrected)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sc.experimental.pp.highly_variable_genes(
            expected, n_top_genes=30, flavor="pearson_residuals", batch_key=batch_key
        )
    np.testing.assert_array_equal(got["highly_variable"], expected.var["highly_variable"])
    np.testing.assert_allclose(got["residual_variances"], expected.var["residual_variances"], rtol=1e-5)


def test_residuals_of_all_cells_are_scanpys(corrected: Path) -> None:
    got = hr.Plan(opened(corrected), [hr.NormalizePearsonResiduals()]).to_anndata()
    expected = ad.read_h5ad(corrected)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sc.experimental.pp.normalize_pearson_residuals(expected)
    np.testing.assert_allclose(got.X, expected.X, rtol=1e-4, atol=1e-5)


def test_rounded_counts_take_the_way_of_whole_ones(corrected: Path) -> None:
    plan = hr.Plan(opened(corrected), [hr.RoundCounts(), hr.HighlyVariableGenes(30, flavor="seurat_v3")])
    assert plan.steps[1].passes == 1
    expected = ad.read_h5ad(corrected)
    expected.X = np.rint(expected.X)
    sc.pp.highly_variable_genes(expected, n_top_genes=30, flavor="seurat_v3")
    np.testing.assert_array_equal(plan.var()["highly_variable"], expected.var["highly_variable"])


def test_it_is_the_same_for_every_size_of_chunks(corrected: Path) -> None:
    steps = [hr.HighlyVariableGenes(30, flavor="seurat_v3", batch_key="batch")]
    one = hr.Plan(opened(corrected), steps).var(executor=hr.Serial())
    two = hr.Plan(opened(corrected), steps).var(memory="400MB")
    pd.testing.assert_frame_equal(one, two, check_exact=True)


def test_no_hint_calls_them_logarithms(corrected: Path) -> None:
    with pytest.raises(CountsError, match="holds='counts'") as error:
        hr.open_h5ad(corrected)
    assert "logged" not in str(error.value)


def test_logarithms_are_called_so_where_the_file_does(corrected: Path, tmp_path: Path) -> None:
    adata = ad.read_h5ad(corrected)
    sc.pp.log1p(adata)
    adata.write_h5ad(tmp_path / "logged.h5ad")
    with pytest.raises(CountsError, match="holds='logged'"):
        hr.open_h5ad(tmp_path / "logged.h5ad")


def test_negative_ones_are_no_counts(corrected: Path, tmp_path: Path) -> None:
    adata = ad.read_h5ad(corrected)
    adata.X.data[-1] = -0.5
    adata.write_h5ad(tmp_path / "negative.h5ad")
    for step in (hr.HighlyVariableGenes(30, flavor="seurat_v3"), hr.RoundCounts()):
        with pytest.raises(CountsError, match=r"-0\.5"):
            hr.Plan(opened(tmp_path / "negative.h5ad"), [step]).var()
