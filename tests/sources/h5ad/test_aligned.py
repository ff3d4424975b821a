"""obsm, varm and uns of an .h5ad file are carried over as anndata has them; what is not is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from scipy import sparse

import headrace as hr
from headrace.errors import InputError, NotCarriedWarning, SourceError
from headrace.sources.h5ad import aligned

N_OBS, N_VARS = 90, 40


@pytest.fixture
def adata() -> Any:
    """What scanpy leaves behind: embeddings, loadings, graphs, colours, marker genes."""
    rng = np.random.default_rng(0)
    X = sparse.csr_matrix(rng.poisson(1.0, (N_OBS, N_VARS)).astype(np.float32))
    obs = pd.DataFrame({"kind": pd.Categorical(list("abc") * 30)}, index=[f"c{i}" for i in range(N_OBS)])
    made = ad.AnnData(X, obs=obs, var=pd.DataFrame(index=[f"g{j}" for j in range(N_VARS)]))
    made.layers["counts"] = X.copy()
    made.obsm["X_pca"] = rng.normal(size=(N_OBS, 5)).astype(np.float32)
    made.obsm["X_umap"] = rng.normal(size=(N_OBS, 2))
    made.obsm["flags"] = rng.random((N_OBS, 3)) < 0.5
    made.obsm["scores"] = pd.DataFrame(rng.normal(size=(N_OBS, 2)), index=obs.index, columns=["s", "t"])
    made.varm["PCs"] = rng.normal(size=(N_VARS, 5))
    made.obsp["connectivities"] = sparse.eye(N_OBS, format="csr")
    made.uns = {
        "kind_colors": np.array(["#111111", "#222222", "#333333"], dtype=object),
        "pca": {"variance": np.arange(5.0), "params": {"zero_center": True, "mask_var": "highly_variable"}},
        "neighbors": {"connectivities_key": "connectivities", "params": {"n_neighbors": 15}},
        "title": "A title",
        "log1p": {"base": 2.0},
    }
    return made


@pytest.mark.parametrize("stored", [{}, {"compression": "gzip"}], ids=["plain", "gzip"])
@pytest.mark.parametrize("rows", [7, 10**6])
def test_arrays_are_those_of_the_kept_cells_and_genes(
    stored: dict[str, Any], rows: int, adata: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aligned, "BLOCK_BYTES", rows * (5 * 4 + 2 * 8 + 3 + 2 * 8))
    adata.write_h5ad(tmp_path / "in.h5ad", **stored)
    steps = [hr.FilterCells(min_genes=25), hr.FilterGenes(min_cells=36)]
    source = hr.open_h5ad(tmp_path / "in.h5ad")
    there = hr.Plan(source, steps).to_anndata()
    hr.Plan(source, steps).write_h5ad(tmp_path / "out.h5ad", compression=stored.get("compression"))
    assert hr.verify_h5ad(tmp_path / "out.h5ad").problems == ()

    theirs = ad.read_h5ad(tmp_path / "in.h5ad")
    sc.pp.filter_cells(theirs, min_genes=25)
    sc.pp.filter_genes(theirs, min_cells=36)
    assert 0 < theirs.n_obs < N_OBS
    assert 0 < theirs.n_vars < N_VARS
    for ours in (there, ad.read_h5ad(tmp_path / "out.h5ad")):
        assert set(ours.obsm) == set(theirs.obsm)
        for name in theirs.obsm:
            assert ours.obsm[name].dtype == np.asarray(theirs.obsm[name]).dtype
            np.testing.assert_array_equal(ours.obsm[name], np.asarray(theirs.obsm[name]))
        np.testing.assert_array_equal(ours.varm["PCs"], theirs.varm["PCs"])
        left = json.loads(ours.uns["headrace"]["query"]["left_out"]["obsp"])
        assert left == ["connectivities"]
        assert json.loads(ours.uns["headrace"]["query"]["left_out"]["layers"]) == ["counts"]


def test_raw_has_varm_of_its_own(adata: Any, tmp_path: Path) -> None:
    adata.raw = adata
    adata = adata[:, :10].copy()
    adata.write_h5ad(tmp_path / "in.h5ad")
    spec = hr.open_h5ad(tmp_path / "in.h5ad", raw=True).spec
    np.testing.assert_array_equal(spec.varm["PCs"], adata.raw.varm["PCs"])
    assert spec.varm["PCs"].shape == (N_VARS, 5)


def test_what_cannot_be_carried_is_named_once(adata: Any, tmp_path: Path) -> None:
    adata.obsm["graph"] = sparse.eye(N_OBS, format="csr")
    adata.obsm["cube"] = np.zeros((N_OBS, 2, 2))
    adata.obsm["words"] = pd.DataFrame({"w": ["x"] * N_OBS}, index=adata.obs_names)
    adata.write_h5ad(tmp_path / "in.h5ad")
    with pytest.warns(NotCarriedWarning) as said:
        source = hr.open_h5ad(tmp_path / "in.h5ad")
    assert len(said) == 1
    assert "'cube' (it has 3 dimensions), 'graph' (it is encoded as 'csr_matrix'), 'words' (it is a" in str(
        said[0].message
    )
    made = hr.Plan(source, []).to_anndata()
    assert set(made.obsm) == {"X_pca", "X_umap", "flags", "scores"}
    assert json.loads(made.uns["headrace"]["query"]["left_out"]["obsm"]) == ["cube", "graph", "words"]


def test_an_array_of_another_length_is_refused(adata: Any, tmp_path: Path) -> None:
    adata.write_h5ad(tmp_path / "in.h5ad")
    with h5py.File(tmp_path / "in.h5ad", "r+") as file:
        del file["obsm/X_pca"]
        file["obsm/X_pca"] = np.zeros((3, 2))
    with pytest.raises(SourceError, match=r"obsm\['X_pca'\] of .* has 3 rows, not 90"):
        hr.open_h5ad(tmp_path / "in.h5ad")


@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")
def test_uns_is_kept_if_asked(adata: Any, tmp_path: Path) -> None:
    log = adata.copy()
    del log.uns["log1p"]
    sc.pp.log1p(log)
    sc.tl.rank_genes_groups(log, "kind", method="wilcoxon")
    adata.uns["rank_genes_groups"] = log.uns["rank_genes_groups"]
    adata.write_h5ad(tmp_path / "in.h5ad")
    assert "pca" not in hr.Plan(hr.open_h5ad(tmp_path / "in.h5ad"), []).to_anndata().uns

    with pytest.warns(NotCarriedWarning, match=r"of uns of .*: 'neighbors' \(it refers to obsp"):
        source = hr.open_h5ad(tmp_path / "in.h5ad", uns="keep")
    theirs = ad.read_h5ad(tmp_path / "in.h5ad")
    hr.Plan(source, [hr.NormalizeTotal(1e4)]).write_h5ad(tmp_path / "out.h5ad")
    assert hr.verify_h5ad(tmp_path / "out.h5ad").problems == ()
    for ours in (hr.Plan(source, []).to_anndata(), ad.read_h5ad(tmp_path / "out.h5ad")):
        assert set(ours.uns) == {"kind_colors", "pca", "title", "rank_genes_groups", "headrace"}
        assert ours.uns["title"] == "A title"
        np.testing.assert_array_equal(ours.uns["pca"]["variance"], theirs.uns["pca"]["variance"])
        assert ours.uns["pca"]["params"] == theirs.uns["pca"]["params"]
        pd.testing.assert_frame_equal(sc.get.rank_genes_groups_df(ours, "a"), sc.get.rank_genes_groups_df(theirs, "a"))


def test_colours_go_with_their_categories(adata: Any, tmp_path: Path) -> None:
    adata.obs["depth"] = (adata.obs["kind"] != "b").astype(float)
    adata.write_h5ad(tmp_path / "in.h5ad")
    with pytest.warns(NotCarriedWarning):
        source = hr.open_h5ad(tmp_path / "in.h5ad", uns="keep")
    plan = hr.Plan(source, [hr.FilterCells(min={"depth": 0.5})])
    plan.write_h5ad(tmp_path / "out.h5ad")
    theirs = adata[adata.obs["depth"] > 0].copy()  # anndata drops colours with their categories
    for ours in (plan.to_anndata(), ad.read_h5ad(tmp_path / "out.h5ad")):
        assert list(ours.obs["kind"].cat.categories) == list(theirs.obs["kind"].cat.categories) == ["a", "c"]
        assert list(ours.uns["kind_colors"]) == list(theirs.uns["kind_colors"]) == ["#111111", "#333333"]


def test_uns_is_kept_or_not() -> None:
    with pytest.raises(InputError, match="uns='all': None, or 'keep'"):
        hr.open_h5ad("x.h5ad", uns="all")  # type: ignore[arg-type]


def test_a_link_out_of_uns_is_refused(adata: Any, tmp_path: Path) -> None:
    adata.write_h5ad(tmp_path / "in.h5ad")
    with h5py.File(tmp_path / "in.h5ad", "r+") as file:
        file["uns/pca/elsewhere"] = h5py.ExternalLink("/etc/passwd", "/x")
    with pytest.raises(SourceError, match="a link to another file"):
        hr.open_h5ad(tmp_path / "in.h5ad", uns="keep")
