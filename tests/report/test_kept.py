"""What is kept of a run for its report: as pandas, numpy and scanpy compute it from all cells at once."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
import scanpy as sc

import headrace as hr
from headrace.chunk import Chunk
from headrace.engine.observed import Observed
from headrace.engine.schedule import passes
from headrace.sources.arrays import ArraySource
from headrace.stats.distributions import LOG_EDGES
from headrace.stats.planes import Grid
from tests.laws.registry import STEPS, source

FILTERED = [
    hr.QCMetrics({"mt": "MT-"}, percent_top=()),
    hr.FilterCells(min_genes=20, max_counts=400, max={"pct_counts_mt": 30}),
    hr.FilterOutliers("depth", nmads=1.5, batch_key="batch"),
    hr.FilterGenes(min_cells=20),
    hr.NormalizeLength(),
    hr.SizeFactors(),
    hr.Log1p(),
    hr.HighlyVariableGenes(n_top_genes=20),
    hr.SelectGenes("highly_variable"),
]


def kept(of: Any, steps: list[Any], out: Path, **how: Any) -> dict[str, Any]:
    spec = hr.Plan(of, steps).write_h5ad(out, report=out.with_suffix(".html"), overwrite=True, **how)
    return json.loads(spec.uns["headrace"]["report"])


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], anndata.AnnData, Path]:
    out = tmp_path_factory.mktemp("run") / "out.h5ad"
    data = kept(source(), FILTERED, out)
    raw = hr.Plan(source(), []).to_anndata()
    sc.pp.calculate_qc_metrics(raw, percent_top=None, inplace=True)
    raw.var["mt"] = raw.var["feature_name"].str.startswith("MT-")
    sc.pp.calculate_qc_metrics(raw, qc_vars=["mt"], percent_top=None, inplace=True)
    return data, raw, out


def test_the_funnel_is_what_pandas_counts(run: tuple[dict[str, Any], anndata.AnnData, Path]) -> None:
    data, raw, out = run
    obs = raw.obs
    bounded = obs[(obs.n_genes_by_counts >= 20) & (obs.total_counts <= 400) & (obs.pct_counts_mt <= 30)]
    rows = {row["after"].partition("(")[0]: row for row in data["funnel"]}
    assert rows[""]["cells"] == len(obs)
    assert rows["FilterCells"]["cells"] == len(bounded)
    for column in ("dataset_id", "assay_ontology_term_id"):
        assert rows["FilterCells"]["by"][column] == bounded[column].value_counts().to_dict()
    # of those outside several limits, the first one counts: totals before genes before columns
    many = obs.total_counts > 400
    few = ~many & (obs.n_genes_by_counts < 20)
    mt = ~many & ~few & ~(obs.pct_counts_mt <= 30)
    assert [rule["removed"] for rule in rows["FilterCells"]["rules"]] == [many.sum(), few.sum(), mt.sum()]
    written = anndata.read_h5ad(out)
    assert (rows["SelectGenes"]["cells"], rows["SelectGenes"]["genes"]) == written.shape
    cells = bounded.index.isin(written.obs_names)
    assert rows["FilterOutliers"]["cells"] == cells.sum()
    left = raw[written.obs_names].X.toarray()
    assert rows["FilterGenes"]["genes"] == ((left > 0).sum(axis=0) >= 20).sum()


def test_histograms_are_numpys(run: tuple[dict[str, Any], anndata.AnnData, Path]) -> None:
    data, raw, out = run
    written = anndata.read_h5ad(out).obs
    for measure, column in (("n_counts", "total_counts"), ("n_genes", "n_genes_by_counts")):
        values = raw.obs[column].to_numpy(np.float64)
        expected = np.histogram(values[values > 0], LOG_EDGES)[0]
        found = dict(map(tuple, data["measures"][measure]["before"]["bins"]))
        assert found.pop(-1, 0) == (values == 0).sum()
        assert found == {i: expected[i] for i in np.flatnonzero(expected)}
    share = raw.obs["pct_counts_mt"]
    assert data["measures"]["pct_counts_mt"]["before"]["missing"] == share.isna().sum()
    expected = np.histogram(share.dropna(), np.arange(0, 102))[0]
    assert data["measures"]["pct_counts_mt"]["before"]["bins"] == [[i, expected[i]] for i in np.flatnonzero(expected)]
    after = data["measures"]["pct_counts_mt"]["after"]
    assert sum(n for _, n in after["bins"]) == len(written)
    assert (after["least"], after["most"]) == (written["pct_counts_mt"].min(), written["pct_counts_mt"].max())
    assert data["measures"]["pct_counts_mt"]["limits"] == [[None, 30]]


def test_length_bias_is_scanpys_mean_of_log1p(run: tuple[dict[str, Any], anndata.AnnData, Path]) -> None:
    data, raw, out = run
    written = anndata.read_h5ad(out).obs_names
    cells = raw[written].copy()
    cells = cells[:, (cells.X > 0).sum(axis=0) >= 20].copy()
    full = (cells.obs["assay_ontology_term_id"] == "EFO:0008931").to_numpy()
    lengths = cells.var["feature_length"].to_numpy(np.float64)
    for when in ("before", "after"):
        scaled = cells.copy()
        if when == "after":
            X = scaled.X.toarray().astype(np.float64)
            X[full] /= lengths
            scaled.X = X
        sc.pp.normalize_total(scaled, target_sum=1e4)
        X = np.asarray(scaled.X.todense() if hasattr(scaled.X, "todense") else scaled.X, dtype=np.float64)
        logged = np.log1p(X)
        about = data["lengths"][when]
        edges = np.array(about["edges"])
        at = np.searchsorted(edges[:-1], lengths, side="right") - 1
        assert np.bincount(at).tolist() == about["genes"]
        for assay, chosen in (("EFO:0008931", full), ("EFO:0009922", ~full)):
            mean = [logged[chosen][:, at == i].mean() for i in range(len(edges) - 1)]
            assert about["assays"][assay]["cells"] == chosen.sum()
            np.testing.assert_allclose(about["assays"][assay]["mean"], mean, rtol=2e-6)


def test_genes_are_all_there_though_few_were_kept(run: tuple[dict[str, Any], anndata.AnnData, Path]) -> None:
    genes = run[0]["genes"]
    assert genes["chosen"] == 20
    assert sum(n for *_, chosen, n in genes["cells"] if chosen) == 20
    assert genes["genes"] > 20 + sum(n for *_, chosen, n in genes["cells"] if not chosen) // 2


@pytest.mark.parametrize("steps", [FILTERED, STEPS["HVG seurat_v3"], hr.recipes.workbench(n_top_genes=30)], ids=str)
def test_the_same_bits_for_any_chunks_and_threads(steps: list[Any], tmp_path: Path) -> None:
    first = kept(source(), steps, tmp_path / "a.h5ad", executor=hr.Serial())
    for n_obs, executor in ((7, hr.Threads(2, 3)), (31, hr.Threads(4, 8))):
        assert kept(source(n_obs=n_obs), steps, tmp_path / "b.h5ad", executor=executor) == first
        assert (tmp_path / "a.h5ad").read_bytes() == (tmp_path / "b.h5ad").read_bytes()


@pytest.mark.parametrize("name", STEPS)
def test_no_plan_takes_another_pass_or_writes_other_numbers(name: str) -> None:
    steps = hr.Plan(source(), STEPS[name]).steps
    observed = Observed(source().spec, steps)
    assert len(observed.steps) > len(steps)
    assert len(passes(observed.steps)) == len(passes(steps))


def test_a_file_without_a_report_says_nothing_of_one(tmp_path: Path) -> None:
    plain = hr.Plan(source(), FILTERED).write_h5ad(tmp_path / "a.h5ad").uns["headrace"]
    told = hr.Plan(source(), FILTERED).write_h5ad(tmp_path / "b.h5ad", report=tmp_path / "b.html").uns["headrace"]
    assert {k: v for k, v in told.items() if k != "report"} == plain
    a, b = (anndata.read_h5ad(tmp_path / name) for name in ("a.h5ad", "b.h5ad"))
    pd.testing.assert_frame_equal(a.obs, b.obs)
    pd.testing.assert_frame_equal(a.var, b.var)
    assert (a.X != b.X).nnz == 0


def test_squares_hold_the_points_that_numpy_puts_there() -> None:
    rng = np.random.default_rng(0)
    xy = rng.normal(3, 20, (500, 2)).astype(np.float32)
    of = source(500)
    cells = Chunk(of.X, of.obs, obsm={"X_pca": xy})
    parts = [
        replace(cells, X=of.X[i : i + 50], obs=of.obs[i : i + 50], obsm={"X_pca": xy[i : i + 50]})
        for i in range(0, 500, 50)
    ]
    whole, folded, merged = Grid("X_pca"), Grid("X_pca"), Grid("X_pca")
    whole.update(cells)
    for part in parts:
        folded.update(part)
    for part in reversed(parts):
        one = Grid("X_pca")
        one.update(part)
        merged.merge(one)
    assert whole.result() == folded.result() == merged.result()
    side = whole.result()["side"]
    at, n = np.unique(np.floor(xy / np.float32(side)).astype(int), axis=0, return_counts=True)
    assert whole.result()["cells"] == [[*map(int, one), int(k)] for one, k in zip(at, n, strict=True)]
    assert (np.ptp(at, axis=0) < 64).all()
    assert (np.ptp(np.floor(xy / (side / 2)), axis=0) >= 64).any()


def test_of_many_datasets_the_same_ones_are_followed(tmp_path: Path) -> None:
    """Which have most cells differs from point to point; a dataset that is not shown has not lost its cells."""
    n = 900
    names = np.array([f"d{i:03d}" for i in range(150)])[np.arange(n) % 150]
    obs = pd.DataFrame(
        {"dataset_id": pd.Categorical(names), "depth": np.arange(n) % 7}, index=[f"c{i}" for i in range(n)]
    )
    cells = ArraySource(np.ones((n, 3)), obs, pd.DataFrame(index=["g", "h", "i"]))
    rows = kept(cells, [hr.FilterCells(min={"depth": 3})], tmp_path / "x.h5ad")["funnel"]
    left = obs[obs["depth"] >= 3]["dataset_id"].value_counts()
    first, last = rows[0]["by"]["dataset_id"], rows[-1]["by"]["dataset_id"]
    shown = [name for name in first if name != "(others)"]
    assert len(shown) == 60
    assert {name: last.get(name, 0) for name in shown} == {name: left[name] for name in shown}
    assert (sum(first.values()), sum(last.values())) == (n, left.sum())
    assert "(others)" in (tmp_path / "x.html").read_text()


# ------------------------------------------------------------------------------------------------ files and errors
def test_a_report_of_a_file_is_that_of_its_run_or_of_what_can_be_read(tmp_path: Path) -> None:
    kept(source(), FILTERED, tmp_path / "a.h5ad")
    hr.Plan(hr.open_h5ad(tmp_path / "a.h5ad", holds="logged"), []).report(tmp_path / "again.html")
    first, again = (tmp_path / name for name in ("a.html", "again.html"))
    section = 'id="quality"'
    assert (
        first.read_text().split(section)[1].split("</section>")[0]
        == (again.read_text().split(section)[1].split("</section>")[0])
    )
    adata = anndata.read_h5ad(tmp_path / "a.h5ad")
    del adata.uns["headrace"]
    adata.write_h5ad(tmp_path / "foreign.h5ad")
    hr.Plan(hr.open_h5ad(tmp_path / "foreign.h5ad", holds="logged"), []).report(tmp_path / "foreign.html")
    text = (tmp_path / "foreign.html").read_text()
    assert "does not say how it was made" in text
    assert f"{adata.n_obs:,}" in text
    assert "Highly variable genes" in text


@pytest.mark.parametrize("changed", ['{"version": 1}', '{"version": 1, "grids": 5}', "[]", "{", '{"version": 2}'])
def test_a_report_that_somebody_has_changed_is_made_anew(
    changed: str, run: tuple[dict[str, Any], anndata.AnnData, Path], tmp_path: Path
) -> None:
    """What is kept is text in a file that may come from anywhere."""
    path, page = tmp_path / "changed.h5ad", tmp_path / "changed.html"
    shutil.copy(run[2], path)
    with h5py.File(path, "r+") as file:
        del file["uns/headrace/report"]
        file["uns/headrace/report"], file["uns/headrace/query"] = changed, "<script>alert(1)</script>"
    hr.Plan(hr.open_h5ad(path, holds="logged"), []).report(page)
    text = page.read_text()
    assert f"{anndata.read_h5ad(run[2]).n_obs:,}" in text
    assert "<script" not in text


def test_what_cannot_be_written_is_refused_before_anything_is_read(tmp_path: Path, monkeypatch: Any) -> None:
    plan = hr.Plan(source(), [])
    with pytest.raises(hr.InputError, match=r"ends in \.html"):
        plan.write_h5ad(tmp_path / "a.h5ad", report=tmp_path / "a.pdf")
    (tmp_path / "a.html").write_text("mine")
    with pytest.raises(hr.OutputError, match="exists"):
        plan.write_h5ad(tmp_path / "a.h5ad", report=tmp_path / "a.html")
    assert (tmp_path / "a.html").read_text() == "mine"
    monkeypatch.setitem(__import__("sys").modules, "jinja2", None)
    with pytest.raises(hr.InputError, match=r"pip install 'headrace\[report\]'"):
        plan.write_h5ad(tmp_path / "a.h5ad", report=tmp_path / "b.html")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.html"]
