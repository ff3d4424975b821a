"""Products of all pairs of values of some rows.

Genes that most rows have a value of are multiplied as a dense matrix, with vectors, zeros and all; the others value by
value. Each product is rounded to a whole number by itself: which gene is which does not show in the sums.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from . import kernels

DENSE = 0.3
"""Share of rows from which on a gene is dense: a product is four times as fast then."""

PADDING = 32
"""The width of the dense matrix is a multiple of it."""


@dataclass(frozen=True)
class Rows:
    """Values of some cells in chosen genes, less what zero is: CSR, with few bytes for a gene's number."""

    indptr: npt.NDArray[np.int32]
    indices: npt.NDArray[np.uint16]
    data: npt.NDArray[np.float64]


class Pairs:
    """Values of some rows, laid out to be multiplied.

    Parameters
    ----------
    batch
        The rows, in any order.
    genes
        Number of chosen genes.
    """

    def __init__(self, batch: Sequence[Rows], genes: int) -> None:
        indptr = np.cumsum(np.concatenate([np.zeros(1, np.int64), *(np.diff(rows.indptr) for rows in batch)]))
        indices = np.concatenate([rows.indices for rows in batch])
        data = np.concatenate([rows.data for rows in batch])
        n_rows = len(indptr) - 1
        self.columns = np.flatnonzero(np.bincount(indices, minlength=genes) > DENSE * n_rows)
        place = np.full(genes, -1, dtype=np.int32)
        place[self.columns] = np.arange(len(self.columns))
        self.dense = np.zeros((n_rows, -(-len(self.columns) // PADDING) * PADDING))
        self.indptr, self.indices, self.data = np.empty_like(indptr), np.empty_like(indices), np.empty_like(data)
        n = kernels.set_apart(indptr, indices, data, place, self.dense, self.indptr, self.indices, self.data)
        self.starts, (self.rows, self.places) = np.zeros(genes + 1, np.int64), np.empty((2, n), np.int32)
        kernels.by_column(self.indptr, self.indices[:n], self.starts, self.rows, self.places)

    def add(self, first: int, last: int, sums: npt.NDArray[np.int64]) -> None:
        """Add the products of the genes from `first` to `last` to their rows of `sums`, (genes, genes).

        Those of a pair are added in one place or the other, above the diagonal or below it.
        """
        by_column = self.starts, self.rows, self.places
        kernels.add_products(self.indptr, self.indices, self.data, *by_column, first, last, sums)
        if len(self.columns):
            kernels.add_mixed_products(self.dense, self.columns, self.data, *by_column, first, last, sums)
            start, stop = np.searchsorted(self.columns, (first, last))
            kernels.add_dense_products(self.dense, self.columns, start, stop, sums)
