"""How the cells of a query are cut into chunks: at the edges of bands, given how many values each has."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..compact import Even, Ints, Joinids, Sizes
from ..ranges import CellRange

BAND = 2048
"""Cells per band: the extent of a tile of the Census's X."""

MOST_CELLS = 1 << 15
"""Cells per span, however few values they have: their annotations take more memory than so few values."""


def spans(joinids: Joinids, nnz: Sizes | Even, target: int) -> list[CellRange]:
    """Cut the cells into spans of at most about `target` non-zeros, at the edges of bands where that fits.

    Parameters
    ----------
    joinids, nnz
        Of every cell, in order.
    target
        Non-zeros per span. A span has at least one cell.
    """
    out: list[CellRange] = []
    start, held = 0, 0
    for left, sizes in bands(joinids, nnz):
        right, n = left + len(sizes), int(sizes.sum())
        if held + n <= target and right - start <= MOST_CELLS:
            held += n
            continue
        if left > start:
            out.append(CellRange(start, left))
        start, held = left, n
        if n <= target:
            continue
        total = np.concatenate([[0], np.cumsum(sizes)])
        at = 0
        while total[-1] - total[at] > target:  # a band too large for one span: in parts of about one size
            rest = int(total[-1] - total[at])
            stop = int(np.searchsorted(total, total[at] + rest // -(-rest // target), side="right")) - 1
            stop = min(max(stop, at + 1), len(sizes))
            out.append(CellRange(left + at, left + stop))
            at = stop
        start, held = left + at, int(total[-1] - total[at])
    if start < len(joinids):
        out.append(CellRange(start, len(joinids)))
    return out


def largest_band(joinids: Joinids, nnz: Sizes | Even) -> int:
    """Return the most non-zeros that cells of one band have; parameters as in `spans`."""
    return max((int(sizes.sum()) for _, sizes in bands(joinids, nnz)), default=0)


def bands(joinids: Joinids, nnz: Sizes | Even) -> Iterator[tuple[int, Ints]]:
    """Yield for each band with cells of the query the position of the first, and the values of each."""
    at = 0
    for part in joinids.parts():  # none ends within a band
        sizes = nnz[at : at + len(part)]
        edges = np.concatenate([[0], np.flatnonzero(np.diff(part // BAND)) + 1, [len(part)]])
        for start, stop in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
            yield at + start, sizes[start:stop]
        at += len(part)
