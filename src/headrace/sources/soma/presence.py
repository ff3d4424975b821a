"""Reading rows of the presence matrix of a Census."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd
import pyarrow as pa

from ...presence import ROWS, Presence
from ..compact import Ints


def read_presence(datasets: pd.Index, rows: Ints, n_genes: int, cells: Iterable[pa.Table]) -> Presence:
    """Return which genes some datasets measured.

    Parameters
    ----------
    datasets
        Their ids.
    rows
        Their joinids, shape (n,).
    n_genes
        The largest joinid of a gene, and one more.
    cells
        Tables of the matrix, in any order.
    """
    bits = np.zeros((len(rows), -(-n_genes // 8)), dtype=np.uint8)
    row_of = np.full(int(rows.max()) + 1, -1)
    row_of[rows] = np.arange(len(rows))
    for part in cells:
        present = part["soma_data"].to_numpy().astype(bool)
        there, at = np.unique(part["soma_dim_0"].to_numpy()[present], return_inverse=True)
        genes = part["soma_dim_1"].to_numpy()[present]
        for first in range(0, len(there), ROWS):  # tables hold few datasets each
            mine = (at >= first) & (at < first + ROWS)
            seen = np.zeros((min(ROWS, len(there) - first), n_genes), dtype=bool)
            seen[at[mine] - first, genes[mine]] = True
            bits[row_of[there[first : first + ROWS]]] |= np.packbits(seen, axis=1)
    return Presence(datasets, bits, n_genes)
