"""Which steps share a pass, and that it does not show."""

from __future__ import annotations

import warnings
from pathlib import Path

import pandas as pd
import pytest

import headrace as hr
from headrace.engine.schedule import Node, next_pass
from headrace.steps.qc import MeasureCells


# ----------------------------------------------------------------------------- looking before genes are chosen
@pytest.mark.parametrize("batch_key", [None, "donor_id"])
def test_what_looks_before_genes_are_chosen_finds_what_it_finds_after(demo_census: Path, batch_key: str | None) -> None:
    census = hr.open_census(demo_census)
    cells = census.query("mus_musculus", genes="any", obs_filter="is_primary_data == True")
    steps = [
        hr.FilterCells(min_genes=100),
        hr.FilterGenes(min_cells=20),
        hr.SaveLayer("counts"),
        hr.QCMetrics(percent_top=())[1],
        hr.HighlyVariableGenes(n_top_genes=200, flavor="seurat_v3", batch_key=batch_key, unfitted="skip"),
        hr.NormalizeTotal(1e4),
        hr.Log1p(),
        hr.SelectGenes("highly_variable"),
    ]
    waits = hr.FilterCells(min_counts=0)  # what comes after it needs the genes that are left
    at_once, waiting = (hr.Plan(cells, each) for each in (steps, [*steps[:2], waits, *steps[2:]]))
    assert (at_once.explain().passes, waiting.explain().passes) == (2, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", hr.UnfittedBatchWarning)
        a, b = at_once.to_anndata(), waiting.to_anndata()
    assert 0 < a.n_vars < cells.spec.n_vars
    pd.testing.assert_frame_equal(a.var, b.var, check_exact=True)
    assert (a.X != b.X).nnz == 0


# ------------------------------------------------------------------------- columns that nobody reads in this pass
BOUNDED = hr.FilterCells(max={"pct_counts_in_top_50_genes": 90.0})


@pytest.mark.parametrize(
    ("steps", "measured"),
    [
        ([hr.QCMetrics((), (50,)), hr.FilterCells(min_genes=50), hr.FilterGenes(min_cells=3)], False),
        ([hr.QCMetrics((), (50,)), BOUNDED, hr.FilterGenes(min_cells=3)], True),
        ([hr.QCMetrics((), (50,)), hr.FilterOutliers("total_counts"), hr.FilterGenes(min_cells=3)], True),
        ([hr.QCMetrics((), (50,)), hr.NormalizeTotal(1e4), hr.FilterGenes(min_cells=3)], True),  # it does not say
    ],
)
def test_columns_that_nobody_reads_wait_for_the_last_pass(
    demo_census: Path, steps: list[object], measured: bool
) -> None:
    cells = hr.open_census(demo_census).query("mus_musculus")
    plan = hr.Plan(cells, steps)
    first = next_pass([Node.of(step) for step in plan.steps], cells.spec)
    assert not first.last
    assert measured == any(isinstance(stop, MeasureCells) for stop in first.path)
    got = plan.to_anndata()
    for name in ("total_counts", "pct_counts_in_top_50_genes"):
        assert got.obs[name].notna().all()


def test_a_step_that_needs_all_chosen_genes_waits(demo_census: Path) -> None:
    cells = hr.open_census(demo_census).query("mus_musculus")
    residuals = hr.HighlyVariableGenes(n_top_genes=50, flavor="pearson_residuals")
    assert hr.Plan(cells, [hr.FilterGenes(min_cells=5), residuals]).explain().passes == 3
    normalized = [hr.FilterGenes(min_cells=5), hr.NormalizeTotal(1e4), hr.Log1p(), hr.HighlyVariableGenes()]
    assert hr.Plan(cells, normalized).explain().passes == 2
