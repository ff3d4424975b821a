"""One number per cell, and statistics over them that need them all."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..chunk import Chunk, Matrix
from . import kernels
from .look import Look


def library_sizes(X: Matrix) -> npt.NDArray[np.float64]:
    """Sum each cell's values in float64, from left to right, shape (n_obs,)."""
    if isinstance(X, np.ndarray):
        return X.sum(axis=1, dtype=np.float64)
    sizes = np.empty(X.shape[0])
    kernels.row_sums(X.indptr, X.data, sizes)
    return sizes


class LibrarySizes:
    """Collects every cell's total; the result is sorted, shape (n_obs,), 8 bytes per cell."""

    def __init__(self, look: Look | None = None) -> None:
        self.look = look or Look()
        self.parts: list[npt.NDArray[np.float64]] = []

    def update(self, chunk: Chunk) -> None:
        """Take in the cells of one chunk."""
        self.parts.append(library_sizes(self.look(chunk)))

    def merge(self, other: LibrarySizes) -> None:
        """Take in all that `other` has seen."""
        self.parts.extend(other.parts)

    def result(self) -> npt.NDArray[np.float64]:
        """Return all totals, in increasing order."""
        return np.sort(np.concatenate(self.parts)) if self.parts else np.empty(0)
