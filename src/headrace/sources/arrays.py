"""A source in memory: for tests, small data, and streams that a step has made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse

from ..chunk import Chunk, Cost, Holds, Matrix, StreamSpec, csr
from ..errors import InputError
from ..protocols import Source


@dataclass(frozen=True, eq=False)
class ArraySource(Source[tuple[int, int]]):
    """Cells x genes held in memory, as a source.

    Parameters
    ----------
    X
        Counts or values, cells x genes; anything scipy makes a CSR matrix of. Stored zeros go,
        duplicate entries are an error.
    obs, var
        One row per cell and per gene; their indexes are unique.
    holds
        What `X` holds.
    origin
        What `uns["headrace"]` is to say about where it comes from.
    n_obs
        At most so many cells per chunk, whatever their non-zeros.
    uns
        Unstructured annotations to begin with.
    samples
        Whether a row is a sample and not a cell.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> import headrace as hr
    >>> from headrace.sources.arrays import ArraySource
    >>> source = ArraySource(np.array([[1, 0], [2, 3]]), pd.DataFrame(index=["a", "b"]), pd.DataFrame(index=["g", "h"]))
    >>> hr.Plan(source, [hr.NormalizeTotal(10)]).to_anndata().X.toarray()
    array([[10.,  0.],
           [ 4.,  6.]], dtype=float32)
    """

    X: Any
    obs: pd.DataFrame
    var: pd.DataFrame
    holds: Holds = Holds.UNKNOWN
    origin: Mapping[str, Any] = field(default_factory=dict)
    n_obs: int | None = None
    uns: Mapping[str, Any] = field(default_factory=dict)
    samples: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "X", canonical(self.X))
        if self.X.shape != (len(self.obs), len(self.var)):
            raise InputError(f"X is {self.X.shape}, but obs and var have {len(self.obs)} and {len(self.var)} rows")
        for name, table in (("obs", self.obs), ("var", self.var)):
            if not table.index.is_unique:
                twice = table.index[table.index.duplicated()][0]
                raise InputError(f"the index of {name} has {twice!r} more than once")

    @property
    def spec(self) -> StreamSpec:
        """What is known of the stream."""
        shape = len(self.obs), int(self.X.nnz)
        return StreamSpec(
            self.var,
            self.obs.iloc[:0],
            *shape,
            self.holds,
            uns=self.uns,
            values=self.value_counts,
            whole_obs=self.obs,
            fractional=self._fractional,
            samples=self.samples,
        )

    @property
    def _fractional(self) -> bool:
        """Whether values are not whole."""
        return self.holds in (Holds.COUNTS, Holds.UNKNOWN) and bool((np.floor(self.X.data) != self.X.data).any())

    def refs(self, nnz: int) -> list[tuple[int, int]]:
        """Return the first and last-plus-one position of each chunk of at most about `nnz` non-zeros."""
        out, start = [], 0
        while start < len(self.obs):
            stop = int(np.searchsorted(self.X.indptr, int(self.X.indptr[start]) + nnz, side="right")) - 1
            stop = min(max(stop, start + 1), start + (self.n_obs or len(self.obs)), len(self.obs))
            out.append((start, stop))
            start = stop
        return out

    def read(self, refs: Sequence[tuple[int, int]]) -> Iterator[Chunk]:
        """Yield the cells between positions, in order."""
        for start, stop in refs:
            a, b = self.X.indptr[start], self.X.indptr[stop]
            indptr = (self.X.indptr[start : stop + 1] - a).astype(np.int32)
            X: Matrix = csr(self.X.data[a:b], self.X.indices[a:b], indptr, self.X.shape[1])
            yield Chunk(X, self.obs.iloc[start:stop])

    def cost(self) -> Cost:
        """Return what is held: nothing has to be read."""
        return Cost(int(self.X.nnz), 0, 0)

    def value_counts(self, column: str) -> dict[str, int]:
        """Count the cells of each value of a column of `obs`."""
        if column not in self.obs:
            return {}
        return {str(k): int(v) for k, v in self.obs[column].value_counts().items() if v}

    def provenance(self) -> dict[str, Any]:
        """Say where it comes from."""
        return dict(self.origin)


def rounded(values: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Return where whole numbers stand that float32 cannot hold: above 2**24, not all of them are there.

    Examples
    --------
    >>> rounded(np.array([2**24, 2**24 + 1, 0.1]))
    array([1])
    """
    large = np.flatnonzero(np.abs(values) > 2**24)
    with np.errstate(over="ignore"):  # what float32 does not hold at all becomes infinite
        return np.asarray(large[values[large].astype(np.float32) != values[large]])


def canonical(X: Any) -> sparse.csr_array:
    """Return a float32 CSR matrix with int32 indices, sorted, without stored zeros; never changes `X`."""
    out = sparse.csr_array(X, dtype=np.float32)
    if not out.has_canonical_format or not out.data.all():
        out = out.copy()  # it may share its arrays with X
        before = out.nnz
        out.sum_duplicates()
        if out.nnz < before:
            raise InputError("X has entries twice at the same place")
        out.eliminate_zeros()
    indptr = out.indptr.astype(np.int64 if out.nnz > 2**31 - 1 else np.int32)
    return csr(out.data, out.indices.astype(np.int32, copy=False), indptr, out.shape[1])
