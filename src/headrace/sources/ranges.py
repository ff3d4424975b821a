"""Ranges of cells: the references to chunks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

MOST_CELLS = 1 << 16
"""Cells per chunk, however few values they have."""


@dataclass(frozen=True)
class CellRange:
    """Some consecutive cells, by position; the reference to one chunk."""

    start: int
    stop: int


def cut(total: npt.NDArray[np.int64], target: int, start: int = 0, stop: int | None = None) -> list[CellRange]:
    """Cut cells into spans of at most about `target` non-zeros. A span has at least one cell.

    Parameters
    ----------
    total
        Non-zeros before each cell, and at last all of them, shape (n_obs + 1,).
    target
        Non-zeros per span.
    start, stop
        The cells to cut; by default all.

    Examples
    --------
    >>> cut(np.array([0, 3, 4, 9, 9]), 4)
    [CellRange(start=0, stop=2), CellRange(start=2, stop=3), CellRange(start=3, stop=4)]
    """
    stop = len(total) - 1 if stop is None else stop
    out = []
    while start < stop:
        end = int(np.searchsorted(total, total[start] + target, side="right")) - 1
        end = min(max(end, start + 1), start + MOST_CELLS, stop)
        out.append(CellRange(start, end))
        start = end
    return out
