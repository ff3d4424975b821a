"""Checks of what a SOMA experiment says of its own values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
from scipy import sparse

from ...errors import ContradictionError
from ...stats import kernels
from ..compact import Sizes


def impossible(nnz: Sizes, joinids: npt.NDArray[np.int64]) -> int | None:
    """Return the first number of values that no cell can have, less than none or more than there are genes; or None.

    Parameters
    ----------
    nnz
        How many values each cell is said to have.
    joinids
        Of all genes.

    Examples
    --------
    >>> impossible(Sizes(np.array([2, 9, 1])), np.arange(5))
    9
    """
    most = int(joinids.max(initial=-1)) + 1
    for part in nnz.parts():
        wrong = part[(part < 0) | (part > most)]
        if len(wrong):
            return int(wrong[0])
    return None


def advised(matrices: Iterator[sparse.csr_array], way_out: str) -> Iterator[sparse.csr_array]:
    """Yield what a reader reads; say what helps where obs counts other values than X has."""
    try:
        yield from matrices
    except ContradictionError as error:
        if not way_out or "obs['nnz']" not in str(error):
            raise
        raise ContradictionError(f"{error}; {way_out}") from error


def check_finite(X: sparse.csr_array, joinids: npt.NDArray[np.int64], genes: Sequence[str], layer: str) -> None:
    """Raise `ContradictionError` at the first value that is NaN or infinite, or too large for float32.

    Parameters
    ----------
    joinids, genes
        What rows and columns are called.
    layer
        What the matrix is called.
    """
    at = int(kernels.first_not_finite(X.data))
    if at >= 0:
        row = int(np.searchsorted(X.indptr, at, side="right")) - 1
        raise ContradictionError(
            f"{layer}: cell {joinids[row]} has {X.data[at]} for gene {genes[X.indices[at]]!r}; "
            "numbers are needed, within the range of float32"
        )
