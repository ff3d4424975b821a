"""Which genes each dataset of a query measured: a bit each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ..compact import Ints


class Presence:
    """Some rows of the presence matrix.

    Parameters
    ----------
    rows
        Joinids of the datasets, in the order in which they are asked for later, shape (n,).
    n_genes
        The largest joinid of a gene, and one more.
    cells
        Tables of the matrix, in any order.
    """

    def __init__(self, rows: Ints, n_genes: int, cells: Iterable[pa.Table]) -> None:
        self.n_genes = n_genes
        self._bits = np.zeros((len(rows), -(-n_genes // 8)), dtype=np.uint8)
        row_of = np.full(int(rows.max()) + 1, -1)
        row_of[rows] = np.arange(len(rows))
        for part in cells:
            present = part["soma_data"].to_numpy().astype(bool)
            there, at = np.unique(part["soma_dim_0"].to_numpy()[present], return_inverse=True)
            genes = part["soma_dim_1"].to_numpy()[present]
            for first in range(0, len(there), 64):  # tables hold few datasets each
                mine = (at >= first) & (at < first + 64)
                seen = np.zeros((min(64, len(there) - first), n_genes), dtype=bool)
                seen[at[mine] - first, genes[mine]] = True
                self._bits[row_of[there[first : first + 64]]] |= np.packbits(seen, axis=1)

    @property
    def nbytes(self) -> int:
        """Bytes that they take."""
        return self._bits.nbytes

    def n_cells(self, cells: Sequence[int]) -> Ints:
        """Return in how many cells each gene was measured, shape (n_genes,), given how many each dataset has."""
        total = np.zeros(self.n_genes, dtype=np.int64)
        for k, n in enumerate(cells):
            total[np.unpackbits(self._bits[k], count=self.n_genes).view(bool)] += n
        return total

    def of(self, genes: Ints) -> npt.NDArray[np.bool_]:
        """Return which of some genes each dataset measured, shape (datasets, genes)."""
        out = np.empty((len(self._bits), len(genes)), dtype=bool)
        for k, row in enumerate(self._bits):
            out[k] = np.unpackbits(row, count=self.n_genes).view(bool)[genes]
        return out
