"""Stream CELLxGENE Census and other SOMA data through normalisation, statistics and export.

import headrace as hr

census = hr.open_census("2025-11-08")
liver = census.query("mus_musculus", dataset_id="4546e757-34d0-4d17-be06-538318925fcd")
plan = hr.Plan(liver, [hr.NormalizeLength(), hr.NormalizeTotal(1e4), hr.Log1p()])
plan.write_h5ad("liver.h5ad", memory="1GB")

The public names are in the stub beside this file (`__init__.pyi`); each is imported when it is first asked for.
"""

from __future__ import annotations

import gc
import sys
from typing import Any

import lazy_loader

from .support.allocator import keep_freed_memory, map_little
from .support.limits import LIBRARIES, check_address_space

keep_freed_memory()  # before anything else allocates from threads
map_little()  # before pyarrow is imported

__version__ = "0.1.0"

_import, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str) -> Any:
    """Import a public name when it is asked for, without garbage collection: imports make little, a search is slow."""
    if "numba" not in sys.modules:
        check_address_space(LIBRARIES, "headrace")
    collecting = gc.isenabled()
    gc.disable()
    try:
        return _import(name)
    finally:
        if collecting:
            gc.enable()
