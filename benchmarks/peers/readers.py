"""Ways to read an h5ad file some cells at a time, for `run_loop.py`: h5py, SnapATAC2, BPCells for Python."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import h5py
import numpy as np

Array = np.ndarray[Any, Any]
Chunks = Iterator[tuple[Array, Array, Array]]
"""Values, genes, and where each cell starts, as in CSR."""

CELLS_AT_ONCE = 10_000


def by_h5py(path: str) -> Callable[[], Chunks]:
    """Read the arrays of X."""
    file = h5py.File(path)
    X = file["X"]
    indptr = X["indptr"][:].astype(np.int64)

    def chunks() -> Chunks:
        for start in range(0, len(indptr) - 1, CELLS_AT_ONCE):
            ends = indptr[start : start + CELLS_AT_ONCE + 1]
            place = slice(ends[0], ends[-1])
            yield X["data"][place], X["indices"][place], ends - ends[0]

    return chunks


def by_snapatac2(path: str) -> Callable[[], Chunks]:
    """Use SnapATAC2's compiled reader of backed files."""
    import snapatac2

    counts = snapatac2.read(path, backed="r")

    def chunks() -> Chunks:
        for X, _, _ in counts.chunked_X(CELLS_AT_ONCE):
            yield X.data.astype(np.float32, copy=False), X.indices, X.indptr

    return chunks


def by_bpcells(path: str) -> Callable[[], Chunks]:
    """Pack the counts with BPCells first, and read those."""
    from bpcells.experimental import DirMatrix

    packed = DirMatrix.from_h5ad(path, "bitpacked")
    n = packed.shape[0]

    def chunks() -> Chunks:
        for start in range(0, n, CELLS_AT_ONCE):
            X = packed[start : min(start + CELLS_AT_ONCE, n), :].tocsr()
            yield X.data.astype(np.float32, copy=False), X.indices, X.indptr

    return chunks


READERS = {"h5py": by_h5py, "snapatac2": by_snapatac2, "bpcells": by_bpcells}
