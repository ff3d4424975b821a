"""Totals of cells, compared with what obs says of them: damage on the way that nothing else notices.

TileDB's format has no checksums, and a line without TLS may change bytes. Of bits flipped at random in the files of
rows and values all are noticed: by decoding, by the number of values of each cell, or by these totals. Of those in the
file of columns one in five stays unnoticed: a value has come to another gene, between those before and after it.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import sparse

from ...errors import SourceError
from ...rows import CellRows, ObsRows

EXACT = 2**24
"""Totals up to which sums of float32 are exact."""


def compare_totals(totals: npt.NDArray[np.float64], X: sparse.csr_array, rows: ObsRows, complete: bool = False) -> None:
    """Compare the total of each cell with `obs["raw_sum"]`, if obs has that.

    Parameters
    ----------
    totals
        Of each cell over all genes as stored, shape (n_obs,).
    X
        What is left of it.
    rows
        The cells in obs.
    complete
        Whether no cell can have a value that was left out, so that one that was is of a gene that it cannot have.

    Raises
    ------
    SourceError
        If they differ.
    """
    obs = CellRows.of(rows)
    if "raw_sum" in obs.columns:
        said = np.asarray(obs.columns["raw_sum"])
        wrong = np.flatnonzero((totals != said) & (said < EXACT))
        if len(wrong):
            k = wrong[0]
            raise SourceError(
                f"the values of cell {obs.index[k]} in X sum to {totals[k]:,.10g}, but its obs['raw_sum'] says "
                f"{said[k]:,.10g}: X is damaged, or the source contradicts itself; fetch the data again"
            )
    if complete and "nnz" in obs.columns:
        lost = np.flatnonzero(np.diff(X.indptr) != np.asarray(obs.columns["nnz"]))
        if len(lost):
            raise SourceError(
                f"cell {obs.index[lost[0]]} has a value for a gene that its dataset did not measure: X is damaged, or "
                "the source contradicts itself; fetch the data again"
            )
