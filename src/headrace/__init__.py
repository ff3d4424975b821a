"""Stream CELLxGENE Census and other SOMA data through normalisation, statistics and export.

import headrace as hr

census = hr.open_census("2025-11-08")
liver = census.query("mus_musculus", dataset_id="4546e757-34d0-4d17-be06-538318925fcd")
plan = hr.Plan(liver, [hr.NormalizeLength(), hr.NormalizeTotal(1e4), hr.Log1p()])
plan.write_h5ad("liver.h5ad", memory="1GB")
"""

from __future__ import annotations

import gc
import importlib
from typing import TYPE_CHECKING, Any

from .support.allocator import keep_freed_memory

keep_freed_memory()  # before anything else allocates from threads

__version__ = "0.1.0"

if TYPE_CHECKING:
    from . import recipes
    from .chunk import Chunk, StreamSpec
    from .engine.executors import Serial, Threads
    from .engine.plan import Plan
    from .errors import (
        CountsError,
        HeadraceError,
        InputError,
        MemoryBudgetError,
        OutputError,
        PlanError,
        RoundedCountsWarning,
        SourceError,
    )
    from .sinks.h5ad.verify import Verdict, verify_h5ad
    from .sinks.table import Table
    from .sources.h5ad.source import open_h5ad
    from .sources.soma.census import Census, CensusQuery, DuplicateCellsWarning, FewGenesWarning, open_census
    from .sources.soma.source import open_soma
    from .sources.tables.counts import AnnotationWarning, BulkCounts, FractionalCountsWarning, open_counts
    from .steps.bulk import FilterByExpr, NormFactors
    from .steps.cells import FilterCells, FilterOutliers
    from .steps.flavors import LoessJitterWarning, UnfittedBatchWarning
    from .steps.hvg import HighlyVariableGenes
    from .steps.layers import DropLayer, SaveLayer, UseLayer
    from .steps.normalize import FULL_GENE_ASSAYS, Log1p, NormalizeLength
    from .steps.perlength import RPKM, TPM
    from .steps.pseudobulk import Pseudobulk
    from .steps.qc import QCMetrics
    from .steps.rates import CPM, Libsize, LogCPM
    from .steps.scale import NormalizePearsonResiduals, Scale
    from .steps.select import FilterGenes, SelectGenes
    from .steps.totals import NormalizeTotal, PFlogPF, ProportionalFitting, ScaledTwiceWarning, SizeFactors
    from .steps.transform import Arcsinh, Sqrt

_WHERE = {
    "Table": "sinks.table",
    **dict.fromkeys(
        ("AnnotationWarning", "BulkCounts", "FractionalCountsWarning", "open_counts"), "sources.tables.counts"
    ),
    "recipes": "recipes",
    **dict.fromkeys(("Chunk", "StreamSpec"), "chunk"),
    **dict.fromkeys(
        (
            "CountsError",
            "HeadraceError",
            "InputError",
            "MemoryBudgetError",
            "OutputError",
            "PlanError",
            "RoundedCountsWarning",
            "SourceError",
        ),
        "errors",
    ),
    **dict.fromkeys(("Serial", "Threads"), "engine.executors"),
    "Plan": "engine.plan",
    **dict.fromkeys(
        ("Census", "CensusQuery", "DuplicateCellsWarning", "FewGenesWarning", "open_census"), "sources.soma.census"
    ),
    "open_h5ad": "sources.h5ad.source",
    "open_soma": "sources.soma.source",
    **dict.fromkeys(("Verdict", "verify_h5ad"), "sinks.h5ad.verify"),
    **dict.fromkeys(("FilterCells", "FilterOutliers"), "steps.cells"),
    "HighlyVariableGenes": "steps.hvg",
    **dict.fromkeys(("LoessJitterWarning", "UnfittedBatchWarning"), "steps.flavors"),
    **dict.fromkeys(("DropLayer", "SaveLayer", "UseLayer"), "steps.layers"),
    **dict.fromkeys(("FilterByExpr", "NormFactors"), "steps.bulk"),
    "Pseudobulk": "steps.pseudobulk",
    **dict.fromkeys(("CPM", "Libsize", "LogCPM"), "steps.rates"),
    **dict.fromkeys(("RPKM", "TPM"), "steps.perlength"),
    **dict.fromkeys(("FULL_GENE_ASSAYS", "Log1p", "NormalizeLength"), "steps.normalize"),
    "QCMetrics": "steps.qc",
    **dict.fromkeys(("NormalizePearsonResiduals", "Scale"), "steps.scale"),
    **dict.fromkeys(("FilterGenes", "SelectGenes"), "steps.select"),
    **dict.fromkeys(
        ("NormalizeTotal", "PFlogPF", "ProportionalFitting", "ScaledTwiceWarning", "SizeFactors"), "steps.totals"
    ),
    **dict.fromkeys(("Arcsinh", "Sqrt"), "steps.transform"),
}

__all__ = [
    "CPM",
    "FULL_GENE_ASSAYS",
    "RPKM",
    "TPM",
    "AnnotationWarning",
    "Arcsinh",
    "BulkCounts",
    "Census",
    "CensusQuery",
    "Chunk",
    "CountsError",
    "DropLayer",
    "DuplicateCellsWarning",
    "FewGenesWarning",
    "FilterByExpr",
    "FilterCells",
    "FilterGenes",
    "FilterOutliers",
    "FractionalCountsWarning",
    "HeadraceError",
    "HighlyVariableGenes",
    "InputError",
    "Libsize",
    "LoessJitterWarning",
    "Log1p",
    "LogCPM",
    "MemoryBudgetError",
    "NormFactors",
    "NormalizeLength",
    "NormalizePearsonResiduals",
    "NormalizeTotal",
    "OutputError",
    "PFlogPF",
    "Plan",
    "PlanError",
    "ProportionalFitting",
    "Pseudobulk",
    "QCMetrics",
    "RoundedCountsWarning",
    "SaveLayer",
    "Scale",
    "ScaledTwiceWarning",
    "SelectGenes",
    "Serial",
    "SizeFactors",
    "SourceError",
    "Sqrt",
    "StreamSpec",
    "Table",
    "Threads",
    "UnfittedBatchWarning",
    "UseLayer",
    "Verdict",
    "open_census",
    "open_counts",
    "open_h5ad",
    "open_soma",
    "recipes",
    "verify_h5ad",
]


def __getattr__(name: str) -> Any:
    """Import what is asked for when it is asked for: the command line starts in a fraction of a second.

    Meanwhile Python does not look for garbage: an import makes hardly any, and to look takes a tenth of the time.
    """
    if name not in _WHERE:
        raise AttributeError(f"module 'headrace' has no attribute {name!r}")
    collecting = gc.isenabled()
    gc.disable()
    try:
        module = importlib.import_module(f".{_WHERE[name]}", __name__)
    finally:
        if collecting:
            gc.enable()
    return module if name == _WHERE[name] else getattr(module, name)


def __dir__() -> list[str]:
    """List what is here, whether imported yet or not: for tab completion."""
    return sorted({*globals(), *__all__})
