"""Which genes each dataset of a stream measured: a bit each, since the Census has 1,600 datasets and 60,000 genes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

ROWS = 64
"""Datasets that are looked at together: a byte for each of their genes."""


@dataclass(frozen=True, eq=False)
class Presence:
    """Which genes each dataset measured.

    Parameters
    ----------
    datasets
        Their values of `dataset_id`.
    bits
        Shape (datasets, n_vars / 8, rounded up), uint8, as `numpy.packbits` makes them.
    n_vars
        Genes.

    Examples
    --------
    >>> seen = Presence.of(pd.DataFrame([[True, False, True]], index=["a"]))
    >>> seen.row(0)
    array([ True, False,  True])
    """

    datasets: pd.Index
    bits: npt.NDArray[np.uint8]
    n_vars: int

    @staticmethod
    def of(seen: pd.DataFrame) -> Presence:
        """Take it from a table of bool, datasets x genes."""
        return Presence(seen.index, np.packbits(seen.to_numpy(bool), axis=1), seen.shape[1])

    def __len__(self) -> int:
        return len(self.bits)

    @property
    def nbytes(self) -> int:
        """Bytes that it takes."""
        return self.bits.nbytes

    @property
    def complete(self) -> bool:
        """Whether every dataset measured every gene."""
        return all(self.row(k).all() for k in range(len(self)))

    def row(self, k: int) -> npt.NDArray[np.bool_]:
        """Return which genes one dataset measured, shape (n_vars,)."""
        return np.unpackbits(self.bits[k], count=self.n_vars).view(bool)

    def anywhere(self) -> npt.NDArray[np.bool_]:
        """Return which genes at least one dataset measured, shape (n_vars,)."""
        joined = np.bitwise_or.reduce(self.bits, axis=0)
        return np.unpackbits(joined, count=self.n_vars).view(bool)

    def of_genes(self, genes: npt.NDArray[np.bool_] | npt.NDArray[np.int64]) -> Presence:
        """Return the same of some genes, by a mask or by their positions."""
        chosen = np.flatnonzero(genes) if genes.dtype == bool else genes
        bits = np.empty((len(self), -(-len(chosen) // 8)), dtype=np.uint8)
        for first in range(0, len(self), ROWS):
            seen = np.unpackbits(self.bits[first : first + ROWS], axis=1, count=self.n_vars)
            bits[first : first + ROWS] = np.packbits(seen[:, chosen], axis=1)
        return Presence(self.datasets, bits, len(chosen))

    def n_genes(self, genes: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
        """Count for every dataset which of some genes it measured, shape (datasets,)."""
        return np.array([np.count_nonzero(self.row(k) & genes) for k in range(len(self))], dtype=np.int64)

    def n_cells(self, cells: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Count for every gene the cells that measured it, shape (n_vars,); `cells` are those of each dataset."""
        total = np.zeros(self.n_vars, dtype=np.int64)
        for k in np.flatnonzero(cells):
            total += np.multiply(self.row(int(k)), cells[k], dtype=np.int64)
        return total
