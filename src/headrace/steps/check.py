"""The checks that values are counts, and that functions of them are numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from ..chunk import Chunk, Matrix, StreamSpec
from ..errors import CountsError
from ..protocols import Transform
from ..stats import kernels


@dataclass(frozen=True, eq=False)
class CheckCounts(Transform):
    """Let counts through, and raise `CountsError` at the first value that is none.

    Parameters
    ----------
    steps
        Names of the steps that need counts, for the message.
    where
        What the values are called in the source.
    genes
        The stream's genes.
    whole
        Whether counts must be whole, and not only from 0 on.
    """

    steps: tuple[str, ...]
    where: str
    genes: pd.Index
    whole: bool = True

    def __call__(self, chunk: Chunk) -> Chunk:
        """Return the same cells."""
        X = chunk.X
        values: npt.NDArray[np.float32] = X.ravel() if isinstance(X, np.ndarray) else X.data
        at = int(kernels.first_not_count(values)) if self.whole else _first_not_number(values)
        if at >= 0:
            cell, gene = place_of(X, at)
            wanted = "Whole numbers" if self.whole else "Numbers"
            largest = float(np.nanmax(values))
            raise CountsError(
                f"{self.where} holds no counts: {values[at]:g} in cell {chunk.obs.index[cell]!r}, gene "
                f"{self.genes[gene]!r} (largest value here {largest:g}). {wanted} from 0 on are "
                f"needed by {', '.join(self.steps)}; choose the layer with counts, or leave these steps out; "
                "if these are counts that are not whole, put RoundCounts() before them"
            )
        return chunk

    def out(self, spec: StreamSpec) -> StreamSpec:
        """Describe the same stream."""
        return spec


def check_defined(step: str, function: str, chunk: Chunk, after: npt.NDArray[np.float32]) -> None:
    """Raise `CountsError` at the first value of X whose function is no number; `after` are the functions, flat."""
    at = int(kernels.first_not_finite(after))
    if at >= 0:
        value = (chunk.X.ravel() if isinstance(chunk.X, np.ndarray) else chunk.X.data)[at]
        cell, gene = place_of(chunk.X, at)
        raise CountsError(
            f"{step}: {value:g} in cell {chunk.obs.index[cell]!r}, gene number {gene} of the stream, has no "
            f"{function}: these are no counts, but perhaps centred values or residuals; choose the layer with counts"
        )


def place_of(X: Matrix, at: int) -> tuple[int, int]:
    """Return the row and the column of a stored value."""
    if isinstance(X, np.ndarray):
        cell, gene = divmod(at, X.shape[1])
        return cell, gene
    return int(np.searchsorted(X.indptr, at, side="right")) - 1, int(X.indices[at])


def _first_not_number(values: npt.NDArray[np.float32]) -> int:
    """Return where a value stands that is negative or not finite, or -1."""
    if not len(values) or (values.min() >= 0 and values.max() < np.inf):
        return -1
    return int(np.argmax(~((values >= 0) & (values < np.inf))))
