"""Reading rows of the presence matrix of a Census."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd
import pyarrow as pa

from ...errors import ContradictionError
from ...presence import Presence
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

    Raises
    ------
    ContradictionError
        If the matrix has a dataset that was not asked for, or a gene that there is not: it is damaged.
    """
    bits = np.zeros((len(rows), -(-n_genes // 8)), dtype=np.uint8)
    row_of = np.full(int(rows.max()) + 1, -1)
    row_of[rows] = np.arange(len(rows))
    for part in cells:
        present = part["soma_data"].to_numpy().astype(bool)
        dataset, genes = part["soma_dim_0"].to_numpy()[present], part["soma_dim_1"].to_numpy()[present]
        asked = (dataset >= 0) & (dataset < len(row_of))
        if not (asked & (genes >= 0) & (genes < n_genes)).all() or (row_of[dataset] < 0).any():
            raise ContradictionError(
                f"the presence matrix has genes or datasets that there are not, of {n_genes:,} genes: it is damaged; "
                "fetch the data again"
            )
        ends = np.flatnonzero(np.diff(dataset)) + 1  # the genes of a dataset come together, or in a few parts
        for first, last in zip([0, *ends], [*ends, len(dataset)], strict=True) if len(dataset) else ():
            seen = np.zeros(n_genes, dtype=bool)
            seen[genes[first:last]] = True
            bits[row_of[dataset[first]]] |= np.packbits(seen)
    return Presence(datasets, bits, n_genes)
