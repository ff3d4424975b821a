"""What the laws are tried on. A new step joins with one line in STEPS, a new accumulator in ACCUMULATORS."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

import headrace as hr
from headrace.chunk import Chunk, Limit, StreamSpec
from headrace.engine.schedule import flatten
from headrace.presence import Presence
from headrace.protocols import Fit, Source
from headrace.sources.arrays import ArraySource
from headrace.stats.bygroup import MomentsByGroup, SumsByGroup
from headrace.stats.cells import DominantGenes, LibrarySizes, ValuesByGroup
from headrace.stats.distributions import CellsOfValues, Distributions, FirstFailed
from headrace.stats.genemajor import RankSums, ValuesByGene
from headrace.stats.groups import Groups
from headrace.stats.histograms import Histograms, HistogramsByGroup
from headrace.stats.lengthbias import LengthBias, length_bins
from headrace.stats.measured import Measured
from headrace.stats.moments import GeneCells, MomentSums
from headrace.stats.pearson import DatasetTotals
from headrace.stats.planes import Together
from headrace.stats.representation import Representation
from headrace.stats.statistics import Statistics, StatisticsByGroup

COUNTS = [hr.SaveLayer("counts")]
LOGGED = [*COUNTS, hr.NormalizeTotal(1e4), hr.Log1p()]
REFERENCE = Path(__file__).parents[1] / "data" / "components.h5ad"
"""Three components of 25 genes, of which `source` has 20: written by anndata."""

MARKED = [hr.HighlyVariableGenes(n_top_genes=30)]

STEPS: dict[str, list[Any]] = {
    "SaveLayer": [hr.SaveLayer("counts")],
    "SaveRaw": [*COUNTS, hr.SaveRaw("counts"), hr.NormalizeTotal(1e4)],
    "RoundCounts": [hr.RoundCounts()],
    "FilterCells": [hr.FilterCells(min_genes=20, max_counts=400, min={"depth": 0.1}, max={"depth": 0.95})],
    "FilterGenes": [hr.FilterGenes(min_cells=20, max_counts=2000)],
    "FilterOutliers": [hr.FilterOutliers("depth", nmads=1.0, batch_key=("batch", "sex"))],
    "FilterOutliers log": [hr.FilterOutliers("depth", nmads=1.5, log=True, side="lower")],
    "SelectGenes": [hr.SelectGenes([f"g{i}" for i in range(0, 90, 7)])],
    "SelectGenes hvg": [*LOGGED, hr.HighlyVariableGenes(n_top_genes=30), hr.SelectGenes("highly_variable")],
    "NormalizeLength": [hr.NormalizeLength()],
    "NormalizeTotal": [hr.NormalizeTotal(1e4)],
    "NormalizeTotal median": [hr.NormalizeTotal(key_added="size")],
    "NormalizeTotal exclude": [hr.NormalizeTotal(exclude_highly_expressed=True, max_fraction=0.1)],
    "NormalizeTotal size": [hr.NormalizeTotal(1e4, size="depth")],
    "SizeFactors": [hr.SizeFactors(), hr.Log1p(base=2)],
    "PFlogPF": [hr.PFlogPF()],
    "Sqrt": [hr.Sqrt()],
    "Arcsinh": [hr.Arcsinh(cofactor=5)],
    "QCMetrics": [hr.QCMetrics({"mt": "MT-"}, percent_top=(2, 5, 50))],
    "QCMetrics of logged": [*LOGGED, hr.QCMetrics(percent_top=(2, 50), expr_type="logs")],
    "Scale": [*LOGGED, hr.Scale(max_value=3)],
    "Scale sparse": [*LOGGED, hr.Scale(zero_center=False)],
    "NormalizePearsonResiduals": [hr.NormalizePearsonResiduals(theta=50)],
    "Scale not stored": [*LOGGED, hr.Scale(max_value=3, store=False)],
    "PCA": [*LOGGED, *MARKED, hr.Scale(max_value=3, store=False), hr.PCA(7)],
    "PCA of what is stored": [*LOGGED, *MARKED, hr.SelectGenes("highly_variable"), hr.Scale(max_value=3), hr.PCA(7)],
    "PCA of logs": [*LOGGED, hr.SaveLayer("logs"), hr.Scale(), hr.PCA(None, mask_var=None, layer="logs")],
    "ProjectPCA": [*LOGGED, *MARKED, hr.Scale(max_value=3, store=False), hr.ProjectPCA(REFERENCE, missing="zero")],
    "PCA not centred": [*LOGGED, hr.Scale(zero_center=False), hr.PCA(5, mask_var=None, zero_center=False)],
    "PCA of residuals": [hr.NormalizePearsonResiduals(theta=50), hr.PCA(9, mask_var=None, key_added="residuals")],
    "HVG seurat": [*LOGGED, hr.HighlyVariableGenes(n_top_genes=30)],
    "HVG seurat batches": [*LOGGED, hr.HighlyVariableGenes(batch_key=["batch", "sex"])],
    "HVG seurat of logs": [*LOGGED, hr.SaveLayer("logs"), hr.HighlyVariableGenes(layer="logs")],
    "HVG cell_ranger": [*LOGGED, hr.HighlyVariableGenes(flavor="cell_ranger", n_top_genes=30, batch_key="batch")],
    "HVG seurat_v3": [*LOGGED, hr.HighlyVariableGenes(flavor="seurat_v3", n_top_genes=30, layer="counts")],
    "HVG seurat_v3_paper": [hr.HighlyVariableGenes(flavor="seurat_v3_paper", n_top_genes=30, batch_key="batch")],
    "HVG pearson_residuals": [
        hr.HighlyVariableGenes(flavor="pearson_residuals", n_top_genes=30, batch_key="batch", theta=10)
    ],
    "HVG seurat_v3 fractional": [
        hr.HighlyVariableGenes(flavor="seurat_v3", n_top_genes=30, batch_key="batch", fractional=True)
    ],
    "HVG measured": [*LOGGED, hr.HighlyVariableGenes(n_top_genes=30, measured_only=True)],
    "HVG seurat_v3 measured": [
        hr.HighlyVariableGenes(flavor="seurat_v3", n_top_genes=30, batch_key="sex", measured_only=True)
    ],
    "HVG pearson measured": [
        hr.HighlyVariableGenes(flavor="pearson_residuals", n_top_genes=30, batch_key="sex", measured_only=True)
    ],
    "RankGenesGroups": [*LOGGED, hr.RankGenesGroups("batch", pts=True)],
    "RankGenesGroups wilcoxon": [*LOGGED, hr.RankGenesGroups("sex", method="wilcoxon", tie_correct=True)],
    "RankGenesGroups of some genes": [
        *LOGGED,
        hr.FilterGenes(min_cells=20),
        hr.RankGenesGroups("batch", reference="q", method="wilcoxon", n_genes=7),
    ],
    "ScoreGenes": [*LOGGED, hr.ScoreGenes(["g3", "MT-4", "G40"], ctrl_size=2, n_bins=4)],
    "ScoreGenesCellCycle": [
        *LOGGED,
        hr.ScoreGenesCellCycle(["g3", "g4", "g13"], ["g30", "G31"], n_bins=5, gene_pool=[f"g{i}" for i in range(60)]),
    ],
    "full_length": hr.recipes.full_length(min_genes=10, n_top_genes=30),
    "workbench": hr.recipes.workbench(n_top_genes=30),
    "workbench of all genes": hr.recipes.workbench(n_top_genes=30, subset=False),
}


def _on_disk(sums: SumsByGroup) -> SumsByGroup:
    """Return sums of which those of one group are in memory."""
    sums.blocks.most = 0
    return sums


def _tables_on_disk(counts: HistogramsByGroup) -> HistogramsByGroup:
    """Return histograms of which those of one group are in memory."""
    counts.tables.most = 0
    return counts


_BY_BATCH = Groups(("batch", "sex"), (("p", "q", "r"), ("f", "m")))
ACCUMULATORS: dict[str, Callable[[StreamSpec], Any]] = {
    "MomentSums": lambda spec: MomentSums(_BY_BATCH, spec.n_vars),
    "SumsByGroup whole": lambda spec: SumsByGroup(_BY_BATCH, spec.n_vars, whole=True),
    "SumsByGroup on disk": lambda spec: _on_disk(SumsByGroup(_BY_BATCH, spec.n_vars, whole=False)),
    "SumsByGroup whole, on disk": lambda spec: _on_disk(SumsByGroup(_BY_BATCH, spec.n_vars, whole=True)),
    "SumsByGroup measured": lambda spec: SumsByGroup(
        _BY_BATCH,
        spec.n_vars,
        Representation(unlog=True, base=1.001),  # exp(3000) would be infinite
        whole=False,
        measured=Measured.of(spec),
    ),
    "HistogramsByGroup on disk": lambda spec: _tables_on_disk(HistogramsByGroup(_BY_BATCH, spec.n_vars)),
    "HistogramsByGroup": lambda spec: HistogramsByGroup(_BY_BATCH, spec.n_vars, measured=Measured.of(spec)),
    "StatisticsByGroup": lambda spec: StatisticsByGroup(_BY_BATCH, spec.n_vars, measured=Measured.of(spec)),
    "StatisticsByGroup and others": lambda spec: StatisticsByGroup(_BY_BATCH, spec.n_vars, others=True),
    "ValuesByGene": lambda spec: ValuesByGene(_BY_BATCH, spec.n_vars),
    "GeneCells": lambda spec: GeneCells(spec.n_vars),
    "LibrarySizes": lambda spec: LibrarySizes(),
    "ValuesByGroup": lambda spec: ValuesByGroup("depth", _BY_BATCH),
    "DominantGenes": lambda spec: DominantGenes(spec.n_vars, 0.1),
    "Distributions": lambda spec: Distributions(["n_counts", "n_genes", "depth"]),
    "FirstFailed": lambda spec: FirstFailed([Limit("n_genes", low=30), Limit("depth", high=0.9)]),
    "CellsOfValues": lambda spec: CellsOfValues(["dataset_id", "sex"]),
    "Together": lambda spec: Together("n_counts", "depth"),
    "LengthBias": lambda spec: LengthBias(
        *length_bins(spec.var["feature_length"].to_numpy(np.float64)), "assay_ontology_term_id", Representation()
    ),
    "DatasetTotals": lambda spec: DatasetTotals(_BY_BATCH, Representation(), Measured.of(spec)),
}


@dataclass(frozen=True, eq=False)
class Joined(ArraySource):
    """Cells of two datasets, of which one measured two thirds of the genes."""

    @property
    def spec(self) -> StreamSpec:
        measured = pd.DataFrame(True, index=["d0", "d1"], columns=self.var.index)
        measured.iloc[1, ::3] = False
        return replace(super().spec, measured=Presence.of(measured))


def source(n_cells: int = 150, n_obs: int | None = None, seed: int = 0) -> Joined:
    """Simulated counts with what is awkward: empty cells, unseen and unmeasured genes, constant ones, large counts."""
    rng = np.random.default_rng(seed)
    n_vars = 90
    X = rng.poisson(rng.gamma(0.6, 2.0, n_vars) * rng.gamma(2.0, 0.5, (n_cells, 1)), (n_cells, n_vars))
    X[rng.random(X.shape) < 0.2] = 0
    X[:, 11], X[:, 12], X[5], X[n_cells - 1] = 0, 1, 0, 0
    X[7, 20] = 3000
    dataset = rng.integers(0, 2, n_cells)
    X[np.ix_(dataset == 1, np.arange(0, n_vars, 3))] = 0
    obs = pd.DataFrame(
        {
            "dataset_id": pd.Categorical.from_codes(dataset, ["d0", "d1"]),
            "batch": pd.Categorical.from_codes(rng.integers(0, 3, n_cells), ["p", "q", "r"]),
            "sex": pd.Categorical.from_codes(rng.integers(-1, 2, n_cells), ["f", "m"]),
            "assay_ontology_term_id": pd.Categorical(np.where(rng.random(n_cells) < 0.5, "EFO:0008931", "EFO:0009922")),
            "depth": np.where(rng.random(n_cells) < 0.05, np.nan, rng.random(n_cells)),
        },
        index=[f"c{i}" for i in range(n_cells)],
    )
    var = pd.DataFrame(
        {
            "feature_name": ["MT-" + str(i) if i < 7 else f"G{i}" for i in range(n_vars)],
            "feature_length": rng.integers(200, 9000, n_vars),
        },
        index=[f"g{i}" for i in range(n_vars)],
    )
    return Joined(X, obs, var, n_obs=n_obs)


def chunks(of: ArraySource, n_obs: int) -> list[Chunk]:
    """Cut a source into chunks."""
    cut = replace(of, n_obs=n_obs)
    return list(cut.read(cut.refs(10**12)))


def fold(accumulator: Any, parts: Iterable[Chunk]) -> Any:
    """Update a copy of an empty accumulator."""
    accumulator = copy.deepcopy(accumulator)
    for part in parts:
        accumulator.update(part)
    return accumulator


def learn(steps: list[Any], of: ArraySource, look: Callable[[Any, list[Chunk]], None] | None = None) -> list[Any]:
    """Turn steps into transforms; `look` is shown every empty accumulator and the chunks that it is to see."""
    spec, cells = of.spec, chunks(of, len(of.obs))
    transforms = []
    for step in flatten(steps):
        transform = step
        if isinstance(step, Fit):
            program, answer = step.fit(spec), None
            while True:
                try:
                    asked = program.send(answer)
                except StopIteration as stop:
                    transform = stop.value
                    break
                if look is not None:
                    look(asked, cells)
                answer = fold(asked, cells).result()
        assert not isinstance(transform, Source)
        transforms.append(transform)
        spec, cells = transform.out(spec), [transform(chunk) for chunk in cells]
    return transforms


def assert_same(a: Any, b: Any, where: str = "") -> None:
    """Equal, and equal in every byte."""
    if isinstance(a, MomentsByGroup):
        assert_same([(c, a.n_cells(c), a.of(c)) for c in a.codes], [(c, b.n_cells(c), b.of(c)) for c in b.codes], where)
        assert_same(a.all(), b.all(), where)
    elif isinstance(a, Histograms):
        caps = np.linspace(0, 40, a.n_seen)
        assert_same(*([(c, h.n_cells(c), h.of(c), h.clipped(c, caps)) for c in h.codes] for h in (a, b)), where)
        assert_same(a.all(), b.all(), where)
    elif isinstance(a, Statistics):
        assert_same(a.cells, b.cells, where)
        assert_same([(g.code, g.genes, g.words) for g in a.of()], [(g.code, g.genes, g.words) for g in b.of()], where)
    elif isinstance(a, RankSums):
        assert_same([a.among_all(), a.beside(0)], [b.among_all(), b.beside(0)], where)
    elif sparse.issparse(a):
        for part in ("shape", "indptr", "indices", "data"):
            assert_same(np.asarray(getattr(a, part)), np.asarray(getattr(b, part)), f"{where}.{part}")
    elif isinstance(a, np.ndarray):
        assert a.dtype == b.dtype, where
        assert a.shape == b.shape, where
        if a.dtype.names:
            assert_same([a[name] for name in a.dtype.names], [b[name] for name in b.dtype.names], where)
        elif a.dtype == object:
            assert a.tolist() == b.tolist(), where
        else:
            assert a.tobytes() == b.tobytes(), where
    elif isinstance(a, pd.DataFrame):
        assert list(a.columns) == list(b.columns), where
        assert list(a.index) == list(b.index), where
        for name in a:
            assert a[name].dtype == b[name].dtype, f"{where}[{name!r}]"
            x, y = (v[name].cat.codes if isinstance(v[name].dtype, pd.CategoricalDtype) else v[name] for v in (a, b))
            assert_same(x.to_numpy(), y.to_numpy(), f"{where}[{name!r}]")
    elif is_dataclass(a):
        for one in fields(a):
            assert_same(getattr(a, one.name), getattr(b, one.name), f"{where}.{one.name}")
    elif isinstance(a, dict):
        assert list(a) == list(b), where
        for key in a:
            assert_same(a[key], b[key], f"{where}[{key!r}]")
    elif isinstance(a, (list, tuple)) or hasattr(a, "__next__"):
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_same(x, y, f"{where}[{i}]")
    else:
        assert a == b, where
