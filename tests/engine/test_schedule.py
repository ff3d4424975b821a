"""Which steps share a pass, and that it does not show."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Generator, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import headrace as hr
from headrace.chunk import Chunk, StreamSpec
from headrace.engine.schedule import (
    Node,
    answer,
    flatten,
    lock_of,
    next_pass,
    passes,
    preview,
    run_path,
    source_passes,
    without_idle,
)
from headrace.protocols import Accumulator, Fit, Transform
from headrace.sources.arrays import ArraySource
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


# ------------------------------------------------------------------------------------------ in which pass what is done
class Sums(Accumulator[np.ndarray]):
    """Sums of genes."""

    def __init__(self, spec: StreamSpec, reads: Collection[str] | None = ()) -> None:
        self.sums, self.reads = np.zeros(spec.n_vars), reads

    def update(self, chunk: Chunk) -> None:
        self.sums = self.sums + np.asarray(chunk.X.sum(axis=0)).ravel()

    def merge(self, other: Sums) -> None:
        self.sums = self.sums + other.sums

    def result(self) -> np.ndarray:
        return self.sums

    def keep(self, genes: np.ndarray) -> Sums:
        self.sums = self.sums[genes]
        return self

    @property
    def reads_obs(self) -> Collection[str] | None:
        return self.reads


class Same(Transform):
    def __call__(self, chunk: Chunk) -> Chunk:
        return chunk

    def out(self, spec: StreamSpec) -> StreamSpec:
        return spec


class Noted(Same):
    """What has been found, in a column of `var`."""

    def __init__(self, name: str, values: np.ndarray) -> None:
        self.name, self.values = name, values

    def out(self, spec: StreamSpec) -> StreamSpec:
        return spec.with_var(**{self.name: self.values})


class Kept(Transform):
    """The genes of which something was seen."""

    def __init__(self, genes: np.ndarray) -> None:
        self.genes = genes

    def __call__(self, chunk: Chunk) -> Chunk:
        return replace(chunk, X=sparse.csr_array(chunk.X[:, self.genes]))

    def out(self, spec: StreamSpec) -> StreamSpec:
        return spec.with_genes(self.genes)

    @property
    def kept_genes(self) -> np.ndarray:
        return self.genes


class Learn(Fit):
    def preview(self, spec: StreamSpec) -> StreamSpec:
        return spec

    def fit(self, spec: StreamSpec) -> Generator[Any, Any, Transform]:
        found = np.zeros(spec.n_vars)
        for _ in range(self.passes):
            found = found + (yield Sums(spec))
        return Kept(found > 4) if self.chooses_genes else Noted(self.label, found)


def step(kind: type, label: str, **says: Any) -> Any:
    return type(label, (kind,), {"label": label, **says})()


NOTES = {"annotates": True}
BY_GENE = {"annotates": True, "by_gene": True}
chooses = step(Learn, "c", chooses_genes=True)
waits = step(Learn, "f")
notes = step(Learn, "a", **NOTES)
reads = step(Learn, "r", reads_var=True, **NOTES)
by_gene = step(Learn, "g", **BY_GENE)
each_gene = step(Same, "t", by_gene=True)
all_genes = step(Same, "n")
ends = step(Learn, "s", becomes_source=True)

SCHEDULES: list[tuple[list[Any], list[str]]] = [
    ([], ["write"]),
    ([all_genes], ["write"]),
    ([notes], ["a write"]),
    ([step(Learn, "a", passes=2, **NOTES)], ["a", "a write"]),
    ([notes, step(Learn, "b", passes=2, **NOTES)], ["a b", "b write"]),
    ([step(Learn, "b", passes=3, **NOTES), notes], ["b a", "b", "b write"]),
    ([waits], ["f", "write"]),
    ([step(Learn, "f", passes=2), notes], ["f", "f", "a write"]),
    ([notes, waits], ["a f", "write"]),
    ([notes, waits, notes], ["a f", "a write"]),
    ([reads], ["r write"]),
    ([notes, reads], ["a", "r write"]),
    ([notes, reads, waits], ["a", "r f", "write"]),
    ([notes, step(Same, "v", reads_var=True)], ["a write"]),
    ([chooses, by_gene], ["c g", "write"]),
    ([chooses, each_gene, by_gene, by_gene], ["c g g", "write"]),
    ([chooses, all_genes, by_gene], ["c", "g write"]),
    ([chooses, by_gene, all_genes, by_gene], ["c g", "g write"]),
    ([chooses, notes], ["c", "a write"]),
    ([chooses, step(Learn, "r", reads_var=True, **BY_GENE)], ["c", "r write"]),
    ([chooses, step(Learn, "w", by_gene=True)], ["c", "w", "write"]),
    ([chooses, step(Learn, "g", passes=2, **BY_GENE)], ["c g", "g write"]),
    ([notes, chooses, by_gene], ["a c g", "write"]),
    ([chooses, chooses, by_gene], ["c", "c g", "write"]),
    ([waits, by_gene], ["f", "g write"]),
]


def names(steps: list[Any]) -> str:
    return "".join(each.label for each in steps) or "none"


@pytest.mark.parametrize(("steps", "expected"), SCHEDULES, ids=[names(steps) for steps, _ in SCHEDULES])
def test_what_each_pass_is_for(steps: list[Any], expected: list[str]) -> None:
    assert [" ".join(labels) for labels in passes(steps)] == expected
    assert source_passes(steps) == len(expected)


@pytest.mark.parametrize(
    ("steps", "expected"), [([ends], 1), ([ends, waits, notes], 1), ([waits, ends], 2), ([notes, ends, waits], 1)]
)
def test_a_new_source_ends_the_passes_over_the_old_one(steps: list[Any], expected: int) -> None:
    assert source_passes(steps) == expected


X = np.array([[1, 0, 2, 3, 0], [4, 1, 0, 2, 0], [0, 2, 5, 0, 1], [2, 1, 1, 1, 0]])
TOTALS = X.sum(axis=0)  # 7, 4, 8, 6, 1


def cells(n_obs: int = 2) -> ArraySource:
    return ArraySource(X, pd.DataFrame(index=list("abcd")), pd.DataFrame(index=list("vwxyz")), n_obs=n_obs)


def scheduled(steps: list[Any]) -> tuple[list[str], pd.DataFrame]:
    """Go through all passes by hand; return what fitted in each, and `var` at the end."""
    spec, nodes, out = cells().spec, [Node.of(each) for each in steps], []
    for _ in range(10):
        work = next_pass(nodes, spec)
        for chunk in cells().read(cells().refs(100)):
            chunk = run_path(work.path, [nullcontext()] * len(work.path), chunk)
        out.append(" ".join([node.step.label for node in work.fitting] + ["write"] * work.last))
        answer(nodes, work, spec)
        if work.last:
            return out, preview([node.now for node in nodes], spec).var
    raise AssertionError("it does not end")


@pytest.mark.parametrize(("steps", "expected"), SCHEDULES, ids=[names(steps) for steps, _ in SCHEDULES])
def test_passes_are_done_as_announced_and_find_what_there_is(steps: list[Any], expected: list[str]) -> None:
    done, var = scheduled(steps)
    assert done == expected
    chosen = TOTALS > 4 if chooses in steps else np.full(5, True)
    assert var.index.tolist() == np.array(list("vwxyz"))[chosen].tolist()
    for each in steps:
        if isinstance(each, Learn) and not each.chooses_genes:
            np.testing.assert_array_equal(var[each.label], each.passes * TOTALS[chosen])


@pytest.mark.parametrize("less", [True, False])
def test_a_fit_that_miscounts_its_passes_is_named(less: bool) -> None:
    class Wrong(Learn):
        def fit(self, spec: StreamSpec) -> Generator[Any, Any, Transform]:
            for _ in range(1 if less else 3):
                yield Sums(spec)
            return Same()

    with pytest.raises(AssertionError, match=f"Wrong asked for {'fewer' if less else 'more'} passes than it said"):
        scheduled([type("Wrong", (Wrong,), {"passes": 2})()])


# ------------------------------------------------------------------------------------------- what a chunk goes through
def stop(adds: Collection[str] | None = None, reads: Collection[str] | None = ()) -> Any:
    return type("Stop", (Same,), {"adds_obs": adds, "reads_obs": reads})()


def sums(reads: Collection[str] | None = ()) -> Sums:
    return Sums(cells().spec, reads)


@pytest.mark.parametrize(
    ("path", "used"),
    [
        ([], []),
        ([stop({"x"}), sums()], [1]),
        ([stop({"x"}), sums(None)], [0, 1]),
        ([stop({"x"}), sums({"y"})], [1]),
        ([stop({"x", "y"}), sums({"y"})], [0, 1]),
        ([stop({"x"}), stop(None, {"x"}), sums()], [0, 1, 2]),
        ([stop({"x"}), stop({"y"}, {"x"}), sums({"y"})], [0, 1, 2]),
        ([stop({"x"}), stop({"y"}, {"x"}), sums()], [2]),
        ([stop({"x"}), stop({"y"}), sums({"x"})], [0, 2]),
        ([stop({"x"}), stop(None, None), stop({"y"}), sums()], [0, 1, 3]),
        ([stop({"x"}), sums({"y"}), sums({"x"})], [0, 1, 2]),
        ([sums({"x"}), stop({"x"})], [0]),
    ],
)
def test_what_nobody_reads_is_left_out(path: list[Any], used: list[int]) -> None:
    assert without_idle(path) == tuple(path[i] for i in used)


def test_an_accumulator_is_updated_under_its_lock_with_what_came_before_it() -> None:
    held: list[str] = []

    @contextmanager
    def lock(name: str) -> Iterator[None]:
        held.append(f"+{name}")
        yield
        held.append(f"-{name}")

    class Watched(Sums):
        def update(self, chunk: Chunk) -> None:
            held.append("update")
            super().update(chunk)

    spec = cells().spec
    before, after = Watched(spec), Watched(spec)
    (chunk,) = cells(4).read(cells(4).refs(100))
    double = type("Double", (Same,), {"__call__": lambda self, chunk: chunk.with_data(chunk.X.data * 2)})()
    out = run_path([before, double, after], [lock("a"), lock("b"), lock("c")], chunk)
    assert held == ["+a", "update", "-a", "+c", "update", "-c"]
    np.testing.assert_array_equal(out.X.toarray(), 2 * X)
    np.testing.assert_array_equal(before.sums, TOTALS)
    np.testing.assert_array_equal(after.sums, 2 * TOTALS)
    with pytest.raises(ValueError):
        run_path([before, after], [lock("a")], chunk)


def test_an_accumulator_that_guards_itself_needs_no_lock() -> None:
    spec = cells().spec
    guarded = type("Guarded", (Sums,), {"parallel": True})(spec)
    (chunk,) = cells(4).read(cells(4).refs(100))
    for stop, alone in ((Sums(spec), True), (guarded, False), (Same(), False)):
        lock = lock_of(stop)
        with lock:
            assert (hasattr(lock, "locked") and lock.locked()) == alone
        run_path([stop], [lock], chunk)


def test_recipes_within_recipes_and_what_is_no_step() -> None:
    assert flatten([notes, [waits, (by_gene, [])], all_genes]) == [notes, waits, by_gene, all_genes]
    for wrong, said in (
        ("Log1p", r"'Log1p' is not a step$"),
        (3, r"3 is not a step$"),
        (hr.Log1p, r"did you mean Log1p\(\)\?"),
        (dict, "derives from Transform or Fit of headrace.protocols"),
        (len, "derives from Transform or Fit of headrace.protocols"),
    ):
        with pytest.raises(hr.PlanError, match=said):
            flatten([notes, [wrong]])
