"""The main job against the Census notebook's own code, on the same Census.

The notebook: get_anndata, the genes of the presence matrix, divide by feature_length, filter,
normalize_total, log1p, highly_variable_genes.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import anndata as ad
import cellxgene_census
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from scipy import sparse

import headrace as hr

FULL = tuple(hr.FULL_GENE_ASSAYS)


def notebook(
    census_path: Path, organism: str, dataset_id: str, min_genes: int, min_cells: int, n_top: int
) -> ad.AnnData:
    """What the notebook's cells do, in float64; the presence matrix is indexed as its authors meant."""
    with cellxgene_census.open_soma(uri=str(census_path)) as census:
        adata = cellxgene_census.get_anndata(
            census, organism=organism, obs_value_filter=f"dataset_id == '{dataset_id}'"
        )
        datasets = census["census_info"]["datasets"].read().concat().to_pandas().set_index("dataset_id")
        presence = cellxgene_census.get_presence_matrix(census, organism=organism)
        row = presence[[int(datasets.loc[dataset_id, "soma_joinid"])], :]
    adata = adata[:, np.asarray(row.todense()).ravel().astype(bool)].copy()
    counts = sparse.csr_matrix(adata.X, dtype=np.float64)
    lengths = np.where(
        adata.obs["assay_ontology_term_id"].isin(FULL).to_numpy()[:, None],
        adata.var["feature_length"].to_numpy()[None, :],
        1.0,
    )
    coo = counts.tocoo()
    adata.X = sparse.csr_matrix((coo.data / lengths[coo.row, coo.col], (coo.row, coo.col)), shape=coo.shape)
    adata.obs_names = adata.obs["soma_joinid"].astype(str)
    adata.var_names = adata.var["feature_id"]
    sc.pp.filter_cells(adata, min_genes=min_genes)
    sc.pp.filter_genes(adata, min_cells=min_cells)
    sc.pp.normalize_total(adata, target_sum=1e4)
    sc.pp.log1p(adata)
    sc.pp.highly_variable_genes(adata, n_top_genes=n_top)
    return adata


def assert_same(got: ad.AnnData, expected: ad.AnnData) -> None:
    """Same cells, genes and highly variable genes; X and statistics within 1e-6 relative."""
    assert list(got.obs_names) == list(expected.obs_names)
    assert list(got.var_names) == list(expected.var_names)
    assert (got.X.indptr == expected.X.indptr).all()
    assert (got.X.indices == expected.X.indices).all()
    np.testing.assert_allclose(got.X.data, expected.X.data, rtol=1e-6)
    for column in ("means", "dispersions", "dispersions_norm"):
        # a logarithm or a z-score near 0 has no relative error
        np.testing.assert_allclose(got.var[column], expected.var[column], rtol=1e-6, atol=1e-6, err_msg=column)
    assert (got.var["highly_variable"].to_numpy() == expected.var["highly_variable"].to_numpy()).all()
    assert (got.var["n_cells"].to_numpy() == expected.var["n_cells"].to_numpy()).all()
    assert (got.obs["n_genes"].to_numpy() == expected.obs["n_genes"].to_numpy()).all()


@pytest.fixture(autouse=True)
def _index_of_get_anndata() -> Iterator[None]:
    """`cellxgene_census.get_anndata` makes anndata warn that it turns joinids into text."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Transforming to str index", ad.ImplicitModificationWarning)
        yield


def studies() -> list[str]:
    return [
        "tms_liver_smartseq2",
        "goolam_embryo_smartseq2",
        "fetal_liver_hepatoblast",
        "ziegenhain_mesc_smartseq",
        "heart_1k_v2",
        "neurons_10k_x_1000genes",
        "pancreas_smartseq2",
        "ngp_neuroblastoma_c1",
        "pollen_smarter",
        "pbmc3k",
    ]


def find(census: hr.Census, study: str) -> tuple[str, str]:
    """Return organism and dataset id of a study in the real Census."""
    title = "Liver - A single-cell" if study == "tms_liver_smartseq2" else study
    for organism in census.organisms:
        table = census.datasets(title=title, organism=organism)
        if len(table):
            return organism, str(table["dataset_id"].iloc[0])
    raise AssertionError(f"no study {study} in the Census")


@pytest.mark.parametrize("study", studies())
def test_same_as_the_notebook(study: str, real_census: Path, tmp_path: Path) -> None:
    census = hr.open_census(real_census)
    organism, dataset_id = find(census, study)
    small = study in ("tms_liver_smartseq2", "neurons_10k_x_1000genes")  # a subset of genes was published
    options = {"min_genes": 50 if small else 500, "min_cells": 5, "n_top": 300 if small else 1000}
    expected = notebook(real_census, organism, dataset_id, options["min_genes"], options["min_cells"], options["n_top"])
    query = census.query(organism, dataset_id=dataset_id)
    steps = hr.recipes.full_length(min_genes=options["min_genes"], min_cells=5, n_top_genes=options["n_top"])
    hr.Plan(query, steps).write_h5ad(tmp_path / "out.h5ad")
    got = ad.read_h5ad(tmp_path / "out.h5ad")
    assert_same(got, expected)
    counts = cellxgene_counts(real_census, organism, dataset_id)
    assert (got.layers["counts"] != counts[got.obs_names, got.var_names].X).nnz == 0


def cellxgene_counts(path: Path, organism: str, dataset_id: str) -> ad.AnnData:
    with cellxgene_census.open_soma(uri=str(path)) as census:
        adata = cellxgene_census.get_anndata(
            census, organism=organism, obs_value_filter=f"dataset_id == '{dataset_id}'"
        )
    adata.obs_names = adata.obs["soma_joinid"].astype(str)
    adata.var_names = adata.var["feature_id"]
    return adata


@pytest.mark.parametrize("study", ["tms_liver_smartseq2", "goolam_embryo_smartseq2", "pancreas_smartseq2", "pbmc3k"])
def test_expected_notebook_pipeline(study: str, shared: Path, real_census: Path) -> None:
    """Against results that were computed elsewhere, once, with scanpy 1.11.5 in float64."""
    folder = shared / "data" / "expected" / "notebook_pipeline"
    genes = pd.read_csv(folder / f"{study}.genes.csv.gz").set_index("feature_id")
    cells = pd.read_csv(folder / f"{study}.cells.csv.gz")
    values = pd.read_csv(folder / f"{study}.values.csv.gz")
    census = hr.open_census(real_census)
    organism, dataset_id = find(census, study)
    min_genes, min_cells, n_top = {"tms_liver_smartseq2": (50, 5, 300), "pbmc3k": (200, 3, 1000)}.get(
        study, (500, 5, 1000)
    )
    query = census.query(organism, dataset_id=dataset_id, genes=list(genes.index))  # without spike-ins
    steps = hr.recipes.full_length(min_genes=min_genes, min_cells=min_cells, n_top_genes=n_top)
    adata = hr.Plan(query, steps).to_anndata()
    kept = genes[genes["kept"]]
    assert sorted(adata.var_names) == sorted(kept.index)
    var = adata.var.loc[kept.index]
    for ours, theirs in {
        "means": "hvg_means",
        "dispersions": "hvg_dispersions",
        "dispersions_norm": "hvg_dispersions_norm",
    }.items():
        np.testing.assert_allclose(var[ours], kept[theirs], rtol=1e-6, atol=1e-6, err_msg=ours)
    assert (var["highly_variable"] == kept["hvg_highly_variable"]).all()
    # the Census numbers the cells of a dataset in the order of its file
    first = int(query.cells.joinids[0])
    cells.index = [str(first + i) for i in range(len(cells))]
    assert list(adata.obs_names) == list(cells.index[cells["kept"]])
    assert (adata.obs["n_genes"] == cells["n_genes"][cells["kept"]]).all()
    name_of = dict(zip(cells["cell_id"], cells.index, strict=True))
    values = values[values["feature_id"].isin(kept.index) & values["log1p"].notna()]
    assert len(values) > 1000
    rows = adata.obs_names.get_indexer(values["cell_id"].map(name_of))
    columns = adata.var_names.get_indexer(values["feature_id"])
    got = np.asarray(adata.X[rows, columns]).ravel()
    np.testing.assert_allclose(got, values["log1p"], rtol=1e-6)
    np.testing.assert_array_equal(np.asarray(adata.layers["counts"][rows, columns]).ravel(), values["raw"])


@pytest.mark.parametrize("organism", ["homo_sapiens", "mus_musculus"])
def test_normalized_layer_of_the_census(organism: str, real_census: Path) -> None:
    """`census_normalized` is the Census's `normalized` layer, which is stored with 15 bits."""
    check_normalized(real_census, organism)


def test_normalized_layer_with_mixed_assays(demo_census: Path) -> None:
    check_normalized(demo_census, "homo_sapiens")


def check_normalized(path: Path, organism: str) -> None:
    census = hr.open_census(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", hr.DuplicateCellsWarning)
        raw = census.query(organism, genes="all")
        stored = census.query(organism, genes="all", layer="normalized")
    ours = hr.Plan(raw, hr.recipes.census_normalized()).to_anndata()
    theirs = hr.Plan(stored).to_anndata()
    assert (ours.X.indptr == theirs.X.indptr).all()
    assert (ours.X.indices == theirs.X.indices).all()
    np.testing.assert_allclose(theirs.X.data, ours.X.data, rtol=1.6e-5, atol=2e-45)
