"""`batch_key` takes columns of any type, as scanpy's."""

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
from headrace.errors import PlanError

N = 240
BATCH = np.random.default_rng(3).integers(0, 3, N)

KINDS: dict[str, Any] = {
    "text": np.array(["b2", "b10", "b1"], dtype=object)[BATCH],
    "integers": np.array([2, 10, 1])[BATCH],
    "floats of few values": np.array([2.5, 10.0, 1.0])[BATCH],
    "nullable integers": pd.array(np.array([2, 10, 1])[BATCH], dtype="Int64"),
    "string": pd.array(np.array(["b2", "b10", "b1"])[BATCH], dtype="string"),
    "booleans": BATCH == 1,
    "nullable booleans": pd.array(BATCH == 1, dtype="boolean"),
}


def adata(column: Any) -> ad.AnnData:
    rng = np.random.default_rng(1)
    X = rng.poisson(rng.gamma(1.0, 2.0, 60) * rng.gamma(2.0, 0.5, (N, 1))).astype(np.float32)
    obs = pd.DataFrame({"batch": column, "id": [f"id{i}" for i in range(N)]}, index=[f"c{i}" for i in range(N)])
    return ad.AnnData(sparse.csr_matrix(X), obs=obs, var=pd.DataFrame(index=[f"g{i}" for i in range(60)]))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("flavor", ["seurat_v3", "seurat"])
def test_genes_are_scanpys_whatever_the_type_of_the_batches(kind: str, flavor: Any, tmp_path: Path) -> None:
    expected = adata(KINDS[kind])
    with ad.settings.override(allow_write_nullable_strings=True):
        expected.write_h5ad(tmp_path / "in.h5ad", convert_strings_to_categoricals=False)
    source = hr.open_h5ad(tmp_path / "in.h5ad")
    assert not isinstance(source.spec.obs["batch"].dtype, pd.CategoricalDtype)
    logged = [] if flavor == "seurat_v3" else [hr.NormalizeTotal(1e4), hr.Log1p()]
    steps = [*logged, hr.HighlyVariableGenes(20, flavor=flavor, batch_key="batch")]
    got = hr.Plan(source, steps).var()
    if logged:
        sc.pp.normalize_total(expected, target_sum=1e4)
        sc.pp.log1p(expected)
    expected.obs["batch"] = expected.obs["batch"].astype(str).astype("category")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sc.pp.highly_variable_genes(expected, n_top_genes=20, flavor=flavor, batch_key="batch")
    assert got.index[got["highly_variable"]].tolist() == expected.var_names[expected.var["highly_variable"]].tolist()


def test_a_missing_batch_is_no_batch(tmp_path: Path) -> None:
    whole = adata(pd.array([None if i % 7 == 0 else int(i) for i in BATCH], dtype="Int64"))
    whole.write_h5ad(tmp_path / "in.h5ad")
    left = whole[~whole.obs["batch"].isna()].copy()
    left.obs["batch"] = left.obs["batch"].astype(int).astype(str).astype("category")
    got = hr.Plan(
        hr.open_h5ad(tmp_path / "in.h5ad"), [hr.HighlyVariableGenes(20, flavor="seurat_v3", batch_key="batch")]
    ).var()
    sc.pp.highly_variable_genes(left, n_top_genes=20, flavor="seurat_v3", batch_key="batch")
    np.testing.assert_array_equal(got["highly_variable"], left.var["highly_variable"])


@pytest.mark.parametrize("column", ["id", "batch"])
def test_what_makes_no_groups_is_refused_with_its_number(column: str, tmp_path: Path) -> None:
    adata(np.random.default_rng(0).random(N)).write_h5ad(tmp_path / "in.h5ad", convert_strings_to_categoricals=False)
    with pytest.raises(PlanError, match=f"{column}.*240 different values"):
        hr.Plan(hr.open_h5ad(tmp_path / "in.h5ad"), [hr.FilterOutliers("batch", batch_key=column)])
