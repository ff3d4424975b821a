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
            if isinstance(X, np.ndarray):
                cell, gene = divmod(at, X.shape[1])
            else:
                cell, gene = int(np.searchsorted(X.indptr, at, side="right")) - 1, int(X.indices[at])
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


def _first_not_number(values: npt.NDArray[np.float32]) -> int:
    """Return where a value stands that is negative or not finite, or -1."""
    if not len(values) or (values.min() >= 0 and values.max() < np.inf):
        return -1
    return int(np.argmax(~((values >= 0) & (values < np.inf))))
