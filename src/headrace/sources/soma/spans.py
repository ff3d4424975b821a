"""Cells cut into spans, one for each chunk."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..ranges import CellRange

BAND = 2048
"""Cells per band: the extent of a tile of the Census's X."""


def spans(joinids: npt.NDArray[np.int64], nnz: npt.NDArray[np.int64], target: int) -> list[CellRange]:
    """Cut the cells into spans of at most about `target` non-zeros, at the edges of bands where that fits.

    Parameters
    ----------
    joinids, nnz
        Of every cell, in order, shape (n_obs,).
    target
        Non-zeros per span. A span has at least one cell.
    """
    if not len(joinids):
        return []
    total = np.concatenate([[0], np.cumsum(nnz)])
    edges = np.flatnonzero(np.diff(joinids // BAND)) + 1
    bounds = np.concatenate([[0], edges, [len(joinids)]])
    out: list[CellRange] = []
    start = 0
    for left, right in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
        if total[right] - total[start] <= target:
            continue
        if left > start:
            out.append(CellRange(start, left))
            start = left
        while total[right] - total[start] > target:  # a band too large for one span: in parts of about one size
            rest = int(total[right] - total[start])
            stop = int(np.searchsorted(total, total[start] + rest // -(-rest // target), side="right")) - 1
            stop = min(max(stop, start + 1), right)
            out.append(CellRange(start, stop))
            start = stop
    if start < len(joinids):
        out.append(CellRange(start, len(joinids)))
    return out


def largest_band(joinids: npt.NDArray[np.int64], nnz: npt.NDArray[np.int64]) -> int:
    """Return the most non-zeros that cells of one band have; parameters as in `spans`."""
    if not len(joinids):
        return 0
    starts = np.concatenate([[0], np.flatnonzero(np.diff(joinids // BAND)) + 1])
    return int(np.add.reduceat(nnz, starts).max())
