"""scanpy's own files of highly variable genes, which Seurat and Cell Ranger computed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from scipy import sparse

import headrace as hr
from headrace.chunk import Holds
from headrace.sources.arrays import ArraySource


@pytest.fixture(scope="module")
def pbmc68k(shared: Path) -> ArraySource:
    """700 cells of 68k PBMC, already on a log scale: the input of scanpy's own tests."""
    folder = shared / "data" / "not_raw" / "pbmc68k_reduced"
    obs, var = pd.read_parquet(folder / "obs.parquet"), pd.read_parquet(folder / "var.parquet")
    coo = pq.read_table(folder / "X.parquet")
    places = (coo["cell"].to_numpy(), coo["gene"].to_numpy())
    X = sparse.csr_matrix((coo["count"].to_numpy(), places), shape=(len(obs), len(var)))
    names = pd.Index(var["original_id"].astype(str), name="gene")
    return ArraySource(
        X, pd.DataFrame(index=obs.index.astype(str)), pd.DataFrame(index=names), Holds.NORMALIZED, n_obs=101
    )


@pytest.mark.parametrize(
    ("flavor", "options"),
    [("seurat", {"min_mean": 0.0125, "max_mean": 3, "min_disp": 0.5}), ("cell_ranger", {"n_top_genes": 100})],
)
def test_the_published_genes(flavor: str, options: dict[str, float], pbmc68k: ArraySource, shared: Path) -> None:
    expected = pd.read_csv(shared / "data" / "expected" / "scanpy" / f"{flavor}_hvg.csv")
    steps = [
        hr.FilterCells(min_counts=1),
        hr.NormalizeTotal(1e4),
        hr.Log1p(),
        hr.HighlyVariableGenes(flavor=flavor, **options),
    ]
    var = hr.Plan(pbmc68k, steps).var()
    assert (var["highly_variable"].to_numpy() == expected["highly_variable"].to_numpy()).all()
    for column in ("means", "dispersions", "dispersions_norm"):
        # the files were written with as many digits as scanpy's own test compares
        np.testing.assert_allclose(var[column], expected[column], rtol=2e-5, atol=2e-5, err_msg=column)
