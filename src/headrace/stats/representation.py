"""Which matrix of a chunk a statistic reads."""

from __future__ import annotations

from dataclasses import dataclass
from math import log

import numpy as np
from scipy import sparse

from ..chunk import Chunk, Matrix, with_data
from ..errors import CountsError
from . import kernels


@dataclass(frozen=True)
class Representation:
    """`X`, or a layer, or `X` before it was logged.

    Parameters
    ----------
    layer
        Name of a saved layer, or None for `X`.
    unlog
        True to read the values before `Log1p`.
    base
        The base of the logarithm; None is e.
    """

    layer: str | None = None
    unlog: bool = False
    base: float | None = None

    def __call__(self, chunk: Chunk) -> Matrix:
        """Return the matrix, cells x genes."""
        X = chunk.X if self.layer is None else chunk.layers[self.layer]
        if not self.unlog:
            return X
        if self.layer is None and chunk.unlogged is not None:
            return chunk.unlogged
        logged = X.data if sparse.issparse(X) else X.ravel()
        values = np.empty_like(logged)
        kernels.expm1(logged, 1.0 if self.base is None else log(self.base), values)
        if len(values) and not np.isfinite(values.max()):
            raise CountsError(
                f"{self.layer or 'X'} has a value of {np.max(logged):g}, which is no logarithm of 1 + a normalised "
                "count; say what it holds, or log it first"
            )
        return with_data(X, values) if sparse.issparse(X) else values.reshape(X.shape)

    def csr(self, chunk: Chunk) -> sparse.csr_array:
        """Return the matrix as CSR; a dense one is converted."""
        X = self(chunk)
        return X if sparse.issparse(X) else sparse.csr_array(X)
