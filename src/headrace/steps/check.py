"""The check that values are counts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from ..chunk import Chunk, StreamSpec
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
    """

    steps: tuple[str, ...]
    where: str
    genes: pd.Index

    def __call__(self, chunk: Chunk) -> Chunk:
        """Return the same cells."""
        X = chunk.X
        values: npt.NDArray[np.float32] = X.ravel() if isinstance(X, np.ndarray) else X.data
        at = int(kernels.first_not_count(values))
        if at >= 0:
            if isinstance(X, np.ndarray):
                cell, gene = divmod(at, X.shape[1])
            else:
                cell, gene = int(np.searchsorted(X.indptr, at, side="right")) - 1, int(X.indices[at])
            largest = float(np.nanmax(values))
            guess = ", as if it had been log-transformed" if 0 < largest < 20 and bool((values >= 0).all()) else ""
            raise CountsError(
                f"{self.where} holds no counts: {values[at]:g} in cell {chunk.obs.index[cell]!r}, gene "
                f"{self.genes[gene]!r} (largest value here {largest:g}{guess}). Whole numbers from 0 on are "
                f"needed by {', '.join(self.steps)}; choose the layer with counts, or leave these steps out"
            )
        return chunk

    def out(self, spec: StreamSpec) -> StreamSpec:
        """Describe the same stream."""
        return spec
