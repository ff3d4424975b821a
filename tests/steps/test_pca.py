"""Principal components in a stream: what they refuse, what they say, what becomes of them in files, new cells."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import headrace as hr
from headrace.chunk import Holds
from headrace.events import PassStarted
from headrace.sources.arrays import ArraySource
from headrace.stats import pairs
from headrace.stats.gram import GramSums, Values

LOGGED = [hr.NormalizeTotal(1e4), hr.Log1p()]
MARKED = [*LOGGED, hr.HighlyVariableGenes(n_top_genes=40)]
SCALED = [*MARKED, hr.Scale(max_value=10, store=False)]


def cells(n: int = 200, n_vars: int = 90, seed: int = 0, holds: Holds = Holds.COUNTS) -> ArraySource:
    rng = np.random.default_rng(seed)
    X = rng.poisson(rng.gamma(0.5, 3.0, n_vars) * rng.lognormal(0, 0.5, (n, 1)) * rng.lognormal(0, 1, (n, n_vars)))
    obs = pd.DataFrame(index=[f"c{i}" for i in range(n)])
    return ArraySource(X, obs, pd.DataFrame(index=[f"g{i}" for i in range(n_vars)]), holds, n_obs=30)


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        ([*LOGGED, hr.PCA()], r"var has no column 'highly_variable'; put HighlyVariableGenes\(n_top_genes=2000\)"),
        ([*MARKED, hr.PCA(mask_var="highly_varable")], "no column 'highly_varable'; did you mean 'highly_variable'"),
        ([*MARKED, hr.PCA(layer="logs")], "PCA: no layer 'logs' was saved before"),
        ([hr.PCA(5, mask_var=None)], "X holds counts here"),
        ([*LOGGED, hr.PCA(90, mask_var=None)], "200 cells and 90 genes have at most 89 components"),
        ([*SCALED, hr.Scale()], "standardized here already"),
    ],
)
def test_what_cannot_work_is_refused_before_reading(steps: list[Any], said: str) -> None:
    with pytest.raises(hr.InputError, match=said):
        hr.Plan(cells(), steps)


def test_parameters() -> None:
    source = cells()
    numbered = ArraySource(source.X, source.obs, source.var.assign(rank=range(90)))
    with pytest.raises(hr.PlanError, match=r"var\['rank'\] is int64; a mask of genes is bool"):
        hr.Plan(numbered, [*LOGGED, hr.PCA(3, mask_var="rank")])
    with pytest.raises(hr.InputError, match=r"PCA\(n_comps=0\): at least 1"):
        hr.PCA(0)
    with pytest.raises(hr.InputError, match="a name without '/'"):
        hr.PCA(key_added="a/b")


def test_more_than_5000_genes_are_refused_with_what_to_do() -> None:
    source = ArraySource(np.eye(6, 5001), pd.DataFrame(index=list("abcdef")), pd.DataFrame(index=map(str, range(5001))))
    with pytest.raises(hr.PlanError, match=r"5,001 genes; .* more than 5,000 take 0\.2 GB .* HighlyVariableGenes"):
        hr.Plan(source, [*LOGGED, hr.PCA(2, mask_var=None)])


def test_more_components_than_marked_genes_are_refused_when_these_are_known() -> None:
    with pytest.raises(hr.InputError, match=r"PCA\(n_comps=50\): 200 cells and 40 genes have at most 39 components"):
        hr.Plan(cells(), [*SCALED, hr.PCA()]).to_anndata()
    assert hr.Plan(cells(), [*SCALED, hr.PCA(None)]).to_anndata().obsm["X_pca"].shape == (200, 39)


def test_values_beyond_what_a_logarithm_can_be() -> None:
    source = cells()
    source.X.data[3] = 5000.0
    logs = ArraySource(source.X, source.obs, source.var, Holds.LOGGED)
    with pytest.raises(
        hr.CountsError, match=r"PCA: X has values that are larger .* Scale\(max_value=10, store=False\)"
    ):
        hr.Plan(logs, [hr.PCA(3, mask_var=None)]).to_anndata()


def test_a_change_after_scale_makes_it_void() -> None:
    source = ArraySource(cells().X, cells().obs, cells().var, Holds.NORMALIZED)
    with pytest.raises(hr.PlanError, match="X was changed after Scale"):
        hr.Plan(source, [hr.Scale(store=False), hr.Log1p(), hr.PCA(3, mask_var=None)])
    with_logs = [*LOGGED, hr.SaveLayer("logs"), hr.Scale(store=False), hr.UseLayer("logs"), hr.PCA(3, mask_var=None)]
    plain = hr.Plan(cells(), [*LOGGED, hr.PCA(3, mask_var=None)]).to_anndata()
    np.testing.assert_array_equal(hr.Plan(cells(), with_logs).to_anndata().obsm["X_pca"], plain.obsm["X_pca"])


def test_it_takes_two_more_looks_and_says_so(demo_census: Path, tmp_path: Path) -> None:
    query = hr.open_census(demo_census).query("mus_musculus")
    plan = hr.Plan(query, [*MARKED, hr.Scale(max_value=10, store=False), hr.PCA(10)])
    said = str(plan.explain())
    assert "pass 1   from the source: HighlyVariableGenes + Scale + write" in said
    assert "pass 2   from X as written: PCA" in said
    assert "pass 3   from its values kept aside: write obsm" in said
    seen: list[Any] = []
    plan.write_h5ad(tmp_path / "a.h5ad", on_event=seen.append)
    assert [event.purpose for event in seen if isinstance(event, PassStarted)] == [
        "HighlyVariableGenes + Scale + write",
        "PCA",
        "write obsm",
    ]


def test_the_file_has_what_memory_has_and_is_the_same_however_cut(tmp_path: Path) -> None:
    steps = [*SCALED, hr.PCA(7), hr.FilterGenes(min_cells=30)]
    held = hr.Plan(cells(), steps).to_anndata()
    hr.Plan(cells(), steps).write_h5ad(tmp_path / "a.h5ad", executor=hr.Serial())
    hr.Plan(cells(), steps).write_h5ad(tmp_path / "b.h5ad", executor=hr.Threads(3, 4))
    assert (tmp_path / "a.h5ad").read_bytes() == (tmp_path / "b.h5ad").read_bytes()
    read = ad.read_h5ad(tmp_path / "a.h5ad")
    assert read.varm["PCs"].shape == (held.n_vars, 7)
    assert held.n_vars < 90
    np.testing.assert_array_equal(read.obsm["X_pca"], held.obsm["X_pca"])
    np.testing.assert_array_equal(read.varm["PCs"], held.varm["PCs"])
    np.testing.assert_array_equal(read.uns["pca"]["variance_ratio"], held.uns["pca"]["variance_ratio"])
    assert read.uns["pca"]["params"]["mask_var"] == "highly_variable"
    assert read.uns["pca"]["params"]["use_highly_variable"]
    assert not hr.verify_h5ad(tmp_path / "a.h5ad").problems
    chunks = np.concatenate([chunk.obsm["X_pca"] for chunk in hr.Plan(cells(), steps).chunks()])
    np.testing.assert_array_equal(chunks, held.obsm["X_pca"])


def test_all_genes_are_written_and_read(tmp_path: Path) -> None:
    hr.Plan(cells(), [*LOGGED, hr.PCA(3, mask_var=None)]).write_h5ad(tmp_path / "a.h5ad")
    assert ad.read_h5ad(tmp_path / "a.h5ad").uns["pca"]["params"]["use_highly_variable"] == False  # noqa: E712 # numpy's


def test_sparse_and_dense_products_are_the_same_numbers() -> None:
    """The three loops, on values of any density: all genes dense, those that half of the cells have, none."""
    rng = np.random.default_rng(1)
    n, genes = 701, 150
    X = rng.normal(size=(n, genes)) * (rng.random((n, genes)) < rng.random(genes))
    source = ArraySource(X, pd.DataFrame(index=map(str, range(n))), pd.DataFrame(index=map(str, range(genes))))
    (chunk,) = source.read(source.refs(10**9))
    found = []
    for share in (0.0, 0.5, 2.0):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(pairs, "DENSE", share)
            sums = GramSums(Values(np.ones(genes, dtype=bool)), np.full(genes, 8.0), n)
            sums.update(chunk)
            found.append(sums.result())
    np.testing.assert_array_equal(np.triu(found[0].products), np.triu(found[1].products))
    np.testing.assert_array_equal(np.triu(found[0].products), np.triu(found[2].products))
    weight = sums.values.weights
    exact = (X.astype(np.float32).astype(np.float64)).T @ X.astype(np.float32).astype(np.float64)
    np.testing.assert_allclose(np.triu(found[0].products / np.outer(weight, weight)), np.triu(exact), atol=1e-9)


# -------------------------------------------------------------------------------------------------------- new cells
def test_new_cells_are_projected_as_scanpy_ingest_does(tmp_path: Path) -> None:
    """`scanpy.tl.Ingest._pca`: values less their own means, times the loadings of the reference."""
    hr.Plan(cells(), [*SCALED, hr.PCA(6)]).write_h5ad(tmp_path / "reference.h5ad")
    new = cells(120, seed=5)
    project = hr.ProjectPCA(tmp_path / "reference.h5ad")
    got = hr.Plan(new, [*LOGGED, hr.Scale(max_value=10, store=False), project]).to_anndata()
    values = hr.Plan(new, [*LOGGED, hr.Scale(max_value=10)]).to_anndata().X.astype(np.float64)
    loadings = ad.read_h5ad(tmp_path / "reference.h5ad").varm["PCs"]
    np.testing.assert_allclose(got.obsm["X_pca"], (values - values.mean(axis=0)) @ loadings, atol=2e-5)
    np.testing.assert_array_equal(got.varm["PCs"], loadings)


def test_genes_that_are_missing_are_named_or_left_out_by_choice(tmp_path: Path) -> None:
    hr.Plan(cells(), [*SCALED, hr.PCA(6)]).write_h5ad(tmp_path / "reference.h5ad")
    reference = ad.read_h5ad(tmp_path / "reference.h5ad")
    lost = reference.var_names[reference.var["highly_variable"]][2]
    kept = hr.SelectGenes([gene for gene in reference.var_names if gene != lost])
    with pytest.raises(hr.PlanError, match=f"1 of 40 genes of .* are not in the stream, e.g. '{lost}'") as said:
        hr.Plan(cells(), [*LOGGED, kept, hr.ProjectPCA(tmp_path / "reference.h5ad")])
    assert "did you mean" not in str(said.value)  # ids that look alike are of genes that have nothing in common
    others = ArraySource(
        reference.X, reference.obs[[]], pd.DataFrame(index="other " + reference.var_names), Holds.LOGGED
    )
    with pytest.raises(hr.PlanError, match="no gene of .* is in the stream .*; name them alike"):
        hr.Plan(others, [hr.ProjectPCA(tmp_path / "reference.h5ad")])
    project = hr.ProjectPCA(tmp_path / "reference.h5ad", missing="zero")
    got = hr.Plan(cells(), [*LOGGED, kept, project]).to_anndata()
    values, loadings = got.X.toarray().astype(np.float64), reference.varm["PCs"][reference.var_names != lost]
    np.testing.assert_allclose(got.obsm["X_pca"], (values - values.mean(axis=0)) @ loadings, atol=2e-5)


def test_a_reference_without_components_is_named(tmp_path: Path) -> None:
    hr.Plan(cells(), LOGGED).write_h5ad(tmp_path / "a.h5ad")
    with pytest.raises(hr.InputError, match="has no components: varm has no 'PCs'.* a plan with PCA writes them"):
        hr.Plan(cells(), [*LOGGED, hr.ProjectPCA(tmp_path / "a.h5ad")])
    with pytest.raises(hr.InputError, match="cannot be read: No such file"):
        hr.Plan(cells(), [*LOGGED, hr.ProjectPCA(tmp_path / "b.h5ad")])


# ----------------------------------------------------------------------------------------------------------- recipes
def test_recipes_and_the_command_line(demo_census: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from headrace.cli import main

    query = hr.open_census(demo_census).query("mus_musculus")
    made = hr.Plan(query, hr.recipes.full_length(min_genes=10, n_top_genes=50, pca=5)).to_anndata()
    assert made.obsm["X_pca"].shape == (made.n_obs, 5)
    bench = hr.Plan(query, hr.recipes.workbench(n_top_genes=50, pca=5)).to_anndata()
    assert bench.varm["PCs"].shape == (50, 5)
    flags = ["--target-sum", "1e4", "--log1p", "--hvg", "50", "--pca", "5"]
    where = ["export", "--census", str(demo_census), "--organism", "mus_musculus", "--out", str(tmp_path / "a.h5ad")]
    assert main([*where, *flags]) == 0
    steps = [*LOGGED, hr.HighlyVariableGenes(n_top_genes=50), hr.Scale(max_value=10, store=False), hr.PCA(5)]
    expected = hr.Plan(query, steps).to_anndata()
    np.testing.assert_array_equal(ad.read_h5ad(tmp_path / "a.h5ad").obsm["X_pca"], expected.obsm["X_pca"])
    capsys.readouterr()
    assert main([*where, "--pca", "5"]) == 2
    assert "--hvg says how many" in capsys.readouterr().err
