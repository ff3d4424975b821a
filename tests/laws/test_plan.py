"""Law 3. The result is the same to the bit for every chunk size, number of threads and order of work."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import headrace as hr
from headrace.protocols import Executor, Source
from headrace.sources.arrays import ArraySource
from tests.wrapped import Wrapped

from .registry import STEPS, assert_same, source

PLANS = [name for name in STEPS if name not in ("HVG measured",)] + ["HVG measured"]


class AnyOrder(Executor):
    """An executor that works on the items in random order."""

    in_flight = 1

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def map(self, fn: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        items = list(items)
        done: dict[int, Any] = {}
        for i in np.random.default_rng(self.seed).permutation(len(items)):
            done[i] = fn(items[i])
        return iter([done[i] for i in range(len(items))])


class Cut(Wrapped):
    """Another source, cut into chunks of a given number of non-zeros."""

    def __init__(self, source: Source[Any], nnz: int) -> None:
        super().__init__(source)
        self.nnz = nnz

    def around(self, source: Source[Any]) -> "Cut":
        return Cut(source, self.nnz)

    def refs(self, nnz: int) -> Any:
        return self.source.refs(self.nnz)


def result(of: Any, steps: list[Any], executor: Any) -> dict[str, Any]:
    adata = hr.Plan(of, steps).to_anndata(executor=executor)
    uns = {name: value for name, value in adata.uns.items() if name != "headrace"}
    aside = {"obsm": dict(adata.obsm), "varm": dict(adata.varm)}
    return {"X": adata.X, "layers": dict(adata.layers), "obs": adata.obs, "var": adata.var, "uns": uns, **aside}


@pytest.mark.parametrize("name", PLANS)
def test_plan(name: str) -> None:
    of, steps = source(), STEPS[name]
    expected = result(of, steps, hr.Serial())
    for n_obs, executor in [
        (1, hr.Serial()),
        (7, hr.Threads(2, 3)),
        (7, AnyOrder(1)),
        (31, hr.Threads(4, 8)),
        (31, AnyOrder(2)),
        (2048, hr.Threads(1, 1)),
    ]:
        assert_same(result(replace(of, n_obs=n_obs), steps, executor), expected, f"{n_obs} {executor}")


@pytest.mark.parametrize("name", PLANS)
def test_var_alone_is_what_the_export_has(name: str) -> None:
    of, steps = replace(source(), n_obs=40), STEPS[name]
    assert_same(hr.Plan(of, steps).var(), result(of, steps, hr.Serial())["var"])


REAL: dict[str, list[Any]] = {
    "quality and seurat": [
        hr.QCMetrics(percent_top=(50, 100)),
        hr.FilterCells(min_genes=200),
        hr.FilterOutliers("log1p_total_counts", nmads=5),
        hr.FilterGenes(min_cells=3),
        *hr.recipes.workbench(n_top_genes=500),
    ],
    "seurat_v3 and scuttle": [
        hr.FilterGenes(min_cells=3),
        *hr.recipes.lognormcounts(),
        hr.HighlyVariableGenes(flavor="seurat_v3", layer="counts", batch_key="half"),
    ],
    "residuals": [
        hr.HighlyVariableGenes(flavor="pearson_residuals", n_top_genes=200),
        hr.SelectGenes("highly_variable"),
        hr.NormalizePearsonResiduals(),
    ],
}


@pytest.mark.parametrize("name", REAL)
def test_plan_on_a_real_study(name: str, shared: Path) -> None:
    folder = shared / "data" / "sc" / "mouse" / "heart_1k_v2"
    triplets = pd.read_parquet(folder / "X.parquet")
    n_cells, n_vars = len(pd.read_parquet(folder / "obs.parquet")), len(pd.read_parquet(folder / "var.parquet"))
    X = sparse.csr_array((triplets["count"], (triplets["cell"], triplets["gene"])), shape=(n_cells, n_vars))
    obs = pd.DataFrame({"half": pd.Categorical(np.arange(n_cells) % 2)}, index=[f"c{i}" for i in range(n_cells)])
    of = ArraySource(X, obs, pd.DataFrame(index=[f"g{i}" for i in range(n_vars)]))
    expected = result(of, REAL[name], hr.Serial())
    for n_obs, executor in [(23, hr.Threads(2, 3)), (100, AnyOrder(0)), (300, hr.Threads(4, 5))]:
        assert_same(result(replace(of, n_obs=n_obs), REAL[name], executor), expected, f"{n_obs}")


@pytest.mark.parametrize("form", ["csr", "csc", "dense"])
def test_plan_on_an_h5ad(form: str, tmp_path: Path) -> None:
    of = source()
    X = of.X.toarray() if form == "dense" else sparse.csr_matrix(of.X).asformat(form)
    anndata.AnnData(X, of.obs, of.var).write_h5ad(tmp_path / "x.h5ad", compression="gzip")
    stored = hr.open_h5ad(tmp_path / "x.h5ad")
    for name in ("workbench", "HVG seurat_v3", "FilterOutliers", "Scale"):
        expected = result(ArraySource(of.X, of.obs, of.var), STEPS[name], hr.Serial())
        for nnz, executor in [(1, hr.Serial()), (300, hr.Threads(3, 4)), (1000, AnyOrder(5)), (10**9, hr.Serial())]:
            assert_same(result(Cut(stored, nnz), STEPS[name], executor), expected, f"{name} {nnz}")


@pytest.mark.parametrize("genes", ["measured", "any"])
def test_plan_on_a_census(genes: Any, demo_census: Path) -> None:
    query = hr.open_census(demo_census).query("homo_sapiens", genes=genes, primary_only=True)
    steps = [
        hr.QCMetrics(percent_top=(10, 50)),
        hr.FilterCells(min_genes=50),
        hr.FilterGenes(min_cells=5),
        *hr.recipes.workbench(n_top_genes=200),
    ]
    v3 = [hr.HighlyVariableGenes(flavor="seurat_v3", n_top_genes=300, batch_key="dataset_id")]
    for plan in (steps, v3):
        expected = result(query, plan, hr.Serial())
        assert len(expected["obs"]) > 1000
        for nnz, executor in [(40_000, hr.Threads(3, 4)), (150_000, AnyOrder(3))]:
            assert_same(result(Cut(query, nnz), plan, executor), expected, f"{nnz}")
