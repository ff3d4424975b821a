"""One number per cell, and statistics that need all of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..chunk import Chunk, Matrix
from ..protocols import Accumulator
from ..support.columns import floats
from . import kernels
from .groups import Groups
from .representation import Representation


def library_sizes(X: Matrix) -> npt.NDArray[np.float64]:
    """Sum each cell's values in float64, from left to right, shape (n_obs,)."""
    if isinstance(X, np.ndarray):
        return np.asarray(X.sum(axis=1, dtype=np.float64))
    sizes = np.empty(X.shape[0])
    kernels.row_sums(X.indptr, X.data, sizes)
    return sizes


@dataclass(frozen=True, eq=False)
class Sizes:
    """How much of each cell there is.

    Parameters
    ----------
    column
        A column of `obs` that says it. None: the sum of the values.
    chosen
        Which genes to sum, shape (n_vars,). None: all.
    """

    column: str | None = None
    chosen: npt.NDArray[np.bool_] | None = None

    def __call__(self, chunk: Chunk) -> npt.NDArray[np.float64]:
        """Return the sizes, shape (n_obs,)."""
        if self.column is not None:
            return floats(chunk.column(self.column)).copy()
        if self.chosen is None:
            return library_sizes(chunk.X)
        X = Representation().csr(chunk)
        sizes = np.empty(X.shape[0])
        kernels.row_sums_of(X.indptr, X.indices, X.data, self.chosen, sizes)
        return sizes


class LibrarySizes(Accumulator[npt.NDArray[np.float64]]):
    """Collects every cell's total; the result is sorted, shape (n_obs,), 8 bytes per cell."""

    def __init__(self, rep: Representation | None = None, sizes: Sizes | None = None) -> None:
        self.rep, self.sizes = rep or Representation(), sizes
        self.parts: list[npt.NDArray[np.float64]] = []

    def update(self, chunk: Chunk) -> None:
        """Add the cells of one chunk."""
        self.parts.append(library_sizes(self.rep(chunk)) if self.sizes is None else self.sizes(chunk))

    def merge(self, other: LibrarySizes) -> None:
        """Add all that `other` has seen."""
        self.parts.extend(other.parts)

    def result(self) -> npt.NDArray[np.float64]:
        """Return all totals, in increasing order."""
        return np.sort(np.concatenate(self.parts)) if self.parts else np.empty(0)


class DominantGenes(Accumulator[npt.NDArray[np.bool_]]):
    """Finds the genes that have more than a fraction of any cell's total; the result has shape (genes,), bool."""

    def __init__(self, n_vars: int, fraction: float) -> None:
        self.fraction = fraction
        self.marked = np.zeros(n_vars, dtype=bool)

    def update(self, chunk: Chunk) -> None:
        """Add the cells of one chunk."""
        X = Representation().csr(chunk)
        kernels.mark_dominant(X.indptr, X.indices, X.data, library_sizes(X), self.fraction, self.marked)

    def merge(self, other: DominantGenes) -> None:
        """Add all that `other` has seen."""
        self.marked |= other.marked

    def result(self) -> npt.NDArray[np.bool_]:
        """Return which genes they are."""
        return self.marked.copy()


class ValuesByGroup(Accumulator[dict[int, npt.NDArray[np.float64]]]):
    """Collects a column of `obs` by group; the result maps a group to its values in increasing order, without NaN.

    Parameters
    ----------
    column
        A column of numbers.
    groups
        Groups of cells; a cell without a group is left out. 16 bytes per cell.
    """

    def __init__(self, column: str, groups: Groups) -> None:
        self.column, self.groups = column, groups
        self.parts: list[tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]] = []

    def update(self, chunk: Chunk) -> None:
        """Take in the cells of one chunk."""
        self.parts.append((self.groups.codes(chunk), floats(chunk.column(self.column)).copy()))

    def merge(self, other: ValuesByGroup) -> None:
        """Add all that `other` has seen."""
        self.parts.extend(other.parts)

    def result(self) -> dict[int, npt.NDArray[np.float64]]:
        """Return every group's values, sorted."""
        if not self.parts:
            return {}
        codes, values = (np.concatenate(arrays) for arrays in zip(*self.parts, strict=True))
        there = (codes >= 0) & ~np.isnan(values)
        codes, values = codes[there], values[there]
        if not len(codes):
            return {}
        order = np.lexsort((values, codes))
        codes, values = codes[order], values[order]
        found, start = np.unique(codes, return_index=True)
        return {int(code): part for code, part in zip(found, np.split(values, start[1:]), strict=True)}
