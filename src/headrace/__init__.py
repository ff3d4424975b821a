"""Stream CELLxGENE Census and other SOMA data through normalisation, statistics and export.

    import headrace as hr

    census = hr.open_census("2025-11-08")
    liver = census.query("mus_musculus", dataset_id="4546e757-34d0-4d17-be06-538318925fcd")
    plan = hr.Plan(liver, [hr.NormalizeLength(), hr.NormalizeTotal(1e4), hr.Log1p()])
    plan.write_h5ad("liver.h5ad", memory="1GB")
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from . import recipes
    from .chunk import Chunk, StreamSpec
    from .errors import (
        CountsError,
        HeadraceError,
        InputError,
        MemoryBudgetError,
        OutputError,
        PlanError,
        SourceError,
    )
    from .executors import Serial, Threads
    from .plan import Plan
    from .sources.census import Census, CensusQuery, DuplicateCellsWarning, FewGenesWarning, open_census
    from .sources.soma import open_soma
    from .steps.hvg import HighlyVariableGenes
    from .steps.layers import SaveLayer
    from .steps.normalize import FULL_GENE_ASSAYS, Log1p, NormalizeLength, NormalizeTotal
    from .steps.select import FilterCells, FilterGenes, SelectGenes

_WHERE = {
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
            "SourceError",
        ),
        "errors",
    ),
    **dict.fromkeys(("Serial", "Threads"), "executors"),
    "Plan": "plan",
    **dict.fromkeys(
        ("Census", "CensusQuery", "DuplicateCellsWarning", "FewGenesWarning", "open_census"), "sources.census"
    ),
    "open_soma": "sources.soma",
    "HighlyVariableGenes": "steps.hvg",
    "SaveLayer": "steps.layers",
    **dict.fromkeys(("FULL_GENE_ASSAYS", "Log1p", "NormalizeLength", "NormalizeTotal"), "steps.normalize"),
    **dict.fromkeys(("FilterCells", "FilterGenes", "SelectGenes"), "steps.select"),
}

__all__ = [
    "FULL_GENE_ASSAYS",
    "Census",
    "CensusQuery",
    "Chunk",
    "CountsError",
    "DuplicateCellsWarning",
    "FewGenesWarning",
    "FilterCells",
    "FilterGenes",
    "HeadraceError",
    "HighlyVariableGenes",
    "InputError",
    "Log1p",
    "MemoryBudgetError",
    "NormalizeLength",
    "NormalizeTotal",
    "OutputError",
    "Plan",
    "PlanError",
    "SaveLayer",
    "SelectGenes",
    "Serial",
    "SourceError",
    "StreamSpec",
    "Threads",
    "open_census",
    "open_soma",
    "recipes",
]


def __getattr__(name: str) -> Any:
    """Import what is asked for when it is asked for: the command line starts in a fraction of a second."""
    if name not in _WHERE:
        raise AttributeError(f"module 'headrace' has no attribute {name!r}")
    module = importlib.import_module(f".{_WHERE[name]}", __name__)
    return module if name == _WHERE[name] else getattr(module, name)
