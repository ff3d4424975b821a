"""Whole counts of fractional ones."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..chunk import Chunk, Holds, StreamSpec
from ..errors import CountsError, PlanError
from ..protocols import Transform


@dataclass(frozen=True)
class RoundCounts(Transform):
    """Round counts to whole numbers, halves to even as `numpy.rint`; what becomes 0 is no longer stored.

    For counts that are not whole (SoupX, CellBender, alevin-fry, RSEM) where a method wants whole ones.

    Raises
    ------
    PlanError
        If X holds no counts here.
    CountsError
        While reading: if a value is negative.

    Examples
    --------
    >>> import numpy as np, pandas as pd, headrace as hr
    >>> from headrace.sources.arrays import ArraySource
    >>> cells, genes = pd.DataFrame(index=["c"]), pd.DataFrame(index=["g", "h", "i"])
    >>> hr.Plan(ArraySource(np.array([[0.4, 1.5, 2.6]]), cells, genes), [hr.RoundCounts()]).to_anndata().X.toarray()
    array([[0., 2., 3.]], dtype=float32)
    """

    by_gene = True
    reads_obs = ()

    def __call__(self, chunk: Chunk) -> Chunk:
        """Return the cells with whole counts."""
        X = chunk.X
        values = X if isinstance(X, np.ndarray) else X.data
        if values.size and not values.min() >= 0:
            raise CountsError(f"RoundCounts: {values.min():g} is no count; counts are numbers from 0 on")
        if isinstance(X, np.ndarray):
            return chunk.with_X(np.rint(X))
        whole = chunk.with_data(np.rint(X.data))
        whole.X.eliminate_zeros()  # type: ignore[union-attr] # it is sparse
        return whole

    def out(self, spec: StreamSpec) -> StreamSpec:
        """Describe the stream of whole counts."""
        if spec.holds not in (Holds.COUNTS, Holds.UNKNOWN):
            raise PlanError(f"RoundCounts: X is {spec.holds} here, and no counts; put it before that step")
        return replace(spec, holds=Holds.COUNTS, fractional=spec.fractional and bool(spec.layers), whole=True)
