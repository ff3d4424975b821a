"""`SaveRaw`: what scanpy takes by default is there, and not twice in the file."""

from __future__ import annotations

import warnings
from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from scipy import sparse

import headrace as hr
from headrace.errors import PlanError
from headrace.sources.arrays import ArraySource


@pytest.fixture(scope="module")
def source() -> ArraySource:
    rng = np.random.default_rng(3)
    rates = rng.gamma(1.0, 1.0, (3, 120))
    kinds = np.repeat([0, 1, 2], 50)
    X = sparse.csr_matrix(rng.poisson(rates[kinds]).astype(np.float32))
    obs = pd.DataFrame({"kind": pd.Categorical.from_codes(kinds, ["a", "b", "c"])}, index=[f"c{i}" for i in range(150)])
    return ArraySource(X, obs, pd.DataFrame(index=[f"g{j}" for j in range(120)]))


@pytest.mark.parametrize("subset", [True, False])
def test_scanpy_finds_marker_genes_of_the_workbench(subset: bool, source: ArraySource, tmp_path: Path) -> None:
    plan = hr.Plan(source, hr.recipes.workbench(n_top_genes=60, subset=subset))
    plan.write_h5ad(tmp_path / "out.h5ad")
    assert hr.verify_h5ad(tmp_path / "out.h5ad").problems == ()

    theirs = ad.AnnData(sparse.csr_matrix(source.X), obs=source.obs.copy(), var=source.var.copy())
    sc.pp.normalize_total(theirs, target_sum=1e4)
    sc.pp.log1p(theirs)
    sc.pp.highly_variable_genes(theirs, n_top_genes=60)
    if subset:
        theirs = theirs[:, theirs.var["highly_variable"]].copy()
    sc.tl.rank_genes_groups(theirs, "kind")
    expected = sc.get.rank_genes_groups_df(theirs, None)
    for ours in (plan.to_anndata(), ad.read_h5ad(tmp_path / "out.h5ad")):
        assert ours.raw.shape == ours.shape
        assert list(ours.raw.var_names) == list(ours.var_names)
        assert list(ours.raw.var.columns) == list(ours.var.columns)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            sc.tl.rank_genes_groups(ours, "kind")
        found = sc.get.rank_genes_groups_df(ours, None)
        assert not found["logfoldchanges"].isna().any()
        pd.testing.assert_frame_equal(found, expected, rtol=1e-5)


def test_raw_takes_no_room_and_is_read_in_every_way(source: ArraySource, tmp_path: Path) -> None:
    for raw in (True, False):
        hr.Plan(source, hr.recipes.workbench(subset=False, n_top_genes=60, raw=raw)).write_h5ad(
            tmp_path / f"{raw}.h5ad"
        )
    # names of two groups, and none of the 60 kB that the layer takes
    assert (tmp_path / "True.h5ad").stat().st_size - (tmp_path / "False.h5ad").stat().st_size < 20_000
    with h5py.File(tmp_path / "True.h5ad") as file:
        assert file["raw/X"] == file["layers/logcounts"]
        assert file["raw/var"] == file["var"]
    expected = ad.read_h5ad(tmp_path / "False.h5ad").layers["logcounts"]
    backed = ad.read_h5ad(tmp_path / "True.h5ad", backed="r")
    np.testing.assert_array_equal(backed.raw.X[:10].toarray(), expected[:10].toarray())
    backed.file.close()
    again = hr.open_h5ad(tmp_path / "True.h5ad", raw=True, holds="logged")
    np.testing.assert_array_equal(hr.Plan(again).to_anndata().X.toarray(), expected.toarray())
    ad.read_h5ad(tmp_path / "True.h5ad").write_h5ad(tmp_path / "written.h5ad")  # anndata writes it whole
    np.testing.assert_array_equal(ad.read_h5ad(tmp_path / "written.h5ad").raw.X.toarray(), expected.toarray())


def test_a_changed_bit_of_the_layer_is_found_by_verify(source: ArraySource, tmp_path: Path) -> None:
    hr.Plan(source, hr.recipes.workbench(n_top_genes=60)).write_h5ad(tmp_path / "out.h5ad")
    with h5py.File(tmp_path / "out.h5ad", "r+") as file:
        file["raw/X/data"][7] += 1
    assert any("logcounts" in problem for problem in hr.verify_h5ad(tmp_path / "out.h5ad").problems)


def test_raw_is_a_layer_that_was_saved(source: ArraySource) -> None:
    with pytest.raises(PlanError, match=r"SaveRaw: no layer 'logs' was saved before; did you mean 'logz'"):
        hr.Plan(source, [hr.SaveLayer("logz"), hr.SaveRaw("logs")])
    with pytest.raises(PlanError, match=r"DropLayer: layer 'a' is raw since SaveRaw\('a'\)"):
        hr.Plan(source, [hr.SaveLayer("a"), hr.SaveRaw("a"), hr.DropLayer("a")])
