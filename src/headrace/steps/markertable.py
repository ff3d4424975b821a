"""The tables of markers in `uns`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

KINDS: dict[str, Any] = {"names": object, "scores": "f4", "pvals": "f8", "pvals_adj": "f8", "logfoldchanges": "f4"}
"""The tables and the types of their numbers, as scanpy has them."""


def tables(groups: Sequence[str], n_genes: int) -> dict[str, np.recarray[Any, Any]]:
    """Return empty tables by name, with a column for each group.

    Examples
    --------
    >>> tables(["T cell", "B cell"], 3)["scores"].dtype.names
    ('T cell', 'B cell')
    """
    return {
        part: np.empty(n_genes, dtype=[(name, kind) for name in groups]).view(np.recarray)
        for part, kind in KINDS.items()
    }
