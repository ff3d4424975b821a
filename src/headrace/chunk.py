"""The unit of the stream: some consecutive cells, and the description of the whole stream."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse

from .presence import Presence
from .rows import Obs, ObsRows, column, with_columns
from .scaling import Scaling

Matrix: TypeAlias = sparse.csr_array | npt.NDArray[np.float32]
"""Cells x genes: CSR, or dense where a step says that dense is what it makes."""

Mask: TypeAlias = npt.NDArray[np.bool_]
"""Which genes are meant, shape (n_vars,)."""


class Holds(StrEnum):
    """What the numbers of a matrix are. Steps refuse what they have no meaning for."""

    COUNTS = "counts"
    """Whole numbers of reads or molecules."""
    UNKNOWN = "unknown"
    """Taken for counts by the steps that need counts, and checked as it is read."""
    NORMALIZED = "normalized"
    """Counts divided by lengths or totals."""
    LOGGED = "logged"
    """The logarithm of 1 + normalised counts."""
    STANDARDIZED = "standardized"
    """Centred or scaled gene by gene, or residuals: zero has no special meaning."""


@dataclass(frozen=True)
class Limit:
    """Bounds that a filter sets to cells, inclusive; both None until they are found in the data. Reports draw them."""

    measure: str
    """A column of `obs`, or `n_genes` or `n_counts`: genes above zero and total of X."""
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, eq=False)
class StreamSpec:
    """What is known of a stream before any of it is read.

    Parameters
    ----------
    var
        One row per gene, in the column order of `X`; indexed by `feature_id`.
    obs
        No rows: the names and dtypes of the cell columns, categories included.
    n_obs
        The most cells that can come; filters may leave fewer.
    nnz
        The most non-zeros that can come, or None where the source cannot tell.
    holds
        What `X` holds.
    layers
        What each saved layer holds.
    raw
        The layer that is also to be `raw.X`, with `var` as `raw.var` (`SaveRaw`).
    obsm
        No rows: arrays of several numbers per cell by name, shape (0, k), with their dtypes.
    varm
        Arrays of several numbers per gene by name, shape (n_vars, k), in the column order of `X`.
    uns
        Unstructured annotations, as scanpy writes them.
    measured
        Which genes each dataset measured, where several with different genes are joined, in the column order of `X`.
        Values of other genes are not stored, and are not zero.
    presence_aware
        Whether statistics go by `measured` unless a step is told otherwise.
    filters
        The steps that may have left cells out, with their bounds, in words.
    limits
        The bounds of these steps, as far as they are known.
    made
        What the source itself says of how it was made: of a file, its `uns["headrace"]`, and "log1p" if it has that.
    values
        Counts the cells of each value of a column of the source's `obs`: `Source.value_counts`.
    fractional
        Whether counts, in `X` or a layer, need not be whole; None: the source says that they are counts, and no more.
    whole
        Whether `X` was made whole on the way (`RoundCounts`): counts of the source need no check then.
    whole_obs
        All of the source's `obs`, where it is in memory: sinks look at its texts before anything is read.
    scaling
        How `X` was scaled, or is to be by steps that take scaled values (`Scale`); None if no step has said so.
    samples
        Whether a row is a sample (bulk, or a sum of cells) and not a cell: its matrices are written dense.

    Examples
    --------
    >>> StreamSpec(pd.DataFrame(index=["g", "h"]), pd.DataFrame(), 1200, 1500)
    StreamSpec(1,200 cells x 2 genes, 1,500 non-zeros, counts)
    """

    var: pd.DataFrame
    obs: pd.DataFrame
    n_obs: int
    nnz: int | None = None
    holds: Holds = Holds.COUNTS
    layers: Mapping[str, Holds] = field(default_factory=dict)
    raw: str | None = None
    obsm: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)
    varm: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)
    uns: Mapping[str, Any] = field(default_factory=dict)
    measured: Presence | None = None
    presence_aware: bool = False
    filters: tuple[str, ...] = ()
    limits: tuple[Limit, ...] = ()
    made: Mapping[str, Any] = field(default_factory=dict)
    values: Callable[[str], Mapping[str, int]] | None = None
    fractional: bool | None = False
    whole: bool = False
    whole_obs: pd.DataFrame | None = None
    scaling: Scaling | None = None
    samples: bool = False

    def __repr__(self) -> str:
        return f"StreamSpec({self})"

    def __str__(self) -> str:
        nnz = "" if self.nnz is None else f"{self.nnz:,} non-zeros, "
        layers = f", layers {', '.join(self.layers)}" if self.layers else ""
        return f"{self.n_obs:,} cells x {self.n_vars:,} genes, {nnz}{self.holds}{layers}"

    @property
    def n_vars(self) -> int:
        """Number of genes."""
        return len(self.var)

    def with_var(self, **columns: Any) -> StreamSpec:
        """Return the same stream with more gene columns."""
        return replace(self, var=self.var.assign(**columns))

    def with_genes(self, mask: npt.NDArray[np.bool_]) -> StreamSpec:
        """Return the stream of the genes where `mask`, shape (n_vars,), is True."""
        measured = None if self.measured is None else self.measured.of_genes(mask)
        varm = {name: values[mask] for name, values in self.varm.items()}
        scaling = None if self.scaling is None else self.scaling.of(mask)
        return replace(self, var=self.var[mask], varm=varm, measured=measured, scaling=scaling)

    def with_obs(self, **dtypes: Any) -> StreamSpec:
        """Return the same stream with more cell columns, given by name and dtype."""
        return replace(self, obs=self.obs.assign(**{k: pd.Series(dtype=v) for k, v in dtypes.items()}))

    def with_obsm(self, **arrays: npt.NDArray[Any]) -> StreamSpec:
        """Return the same stream with more arrays per cell, given by name as arrays of shape (0, k)."""
        return replace(self, obsm={**self.obsm, **arrays})

    def with_varm(self, **arrays: npt.NDArray[Any]) -> StreamSpec:
        """Return the same stream with more arrays per gene, of shape (n_vars, k)."""
        return replace(self, varm={**self.varm, **arrays})

    def with_uns(self, **entries: Any) -> StreamSpec:
        """Return the same stream with more unstructured annotations."""
        return replace(self, uns={**self.uns, **entries})


@dataclass(frozen=True, eq=False)
class Chunk:
    """Some consecutive cells of a stream. Never mutated: a transform returns a new one.

    Parameters
    ----------
    X
        Cells x genes, float32, CSR with sorted indices and no stored zeros, or dense.
    obs
        One row per cell, with the columns and dtypes of the stream's `spec.obs`. Where values of a column of whole
        numbers or booleans are missing, it has pandas' nullable type in their place (`support/columns.py`).
    layers
        Matrices saved on the way, of the shape of `X`.
    unlogged
        `X` as it was before `Log1p`, while nothing else has changed it since: statistics
        of un-logged values need no `expm1` and lose no digits.
    obsm
        Several numbers per cell by name, dense, shape (n_obs, k), with the names and dtypes of `spec.obsm`.

    Examples
    --------
    >>> chunk = Chunk(np.ones((2, 3), np.float32), pd.DataFrame(index=["a", "b"]))
    >>> chunk.n_obs, chunk.n_vars, chunk.nnz
    (2, 3, 6)
    """

    X: Matrix
    obs: Obs = Obs()  # noqa: RUF009 # a field without a default, which is a table
    layers: Mapping[str, Matrix] = field(default_factory=dict)
    unlogged: Matrix | None = None
    obsm: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)

    @property
    def rows(self) -> ObsRows:
        """`obs` as it came: a table, or the arrays of one."""
        rows: ObsRows = self.__dict__["rows"]
        return rows

    @property
    def n_obs(self) -> int:
        """Number of cells."""
        return int(self.X.shape[0])

    @property
    def n_vars(self) -> int:
        """Number of genes."""
        return int(self.X.shape[1])

    @property
    def nnz(self) -> int:
        """Number of values stored in `X`."""
        return int(self.X.size) if isinstance(self.X, np.ndarray) else int(self.X.nnz)

    def column(self, name: str) -> pd.Series:
        """Return one column of `obs`; that takes less time than all of it."""
        return column(self.rows, name)

    def with_X(self, X: Matrix) -> Chunk:  # noqa: N802 # X is the field's own name
        """Return the same cells with another matrix."""
        return self.replaced(X=X, unlogged=None)

    def with_data(self, data: npt.NDArray[np.float32]) -> Chunk:
        """Return the same cells with new values at the same places, shape (nnz,), in the order of `X.data`."""
        return self.with_X(with_data(self.X, data))

    def with_obs(self, **columns: Any) -> Chunk:
        """Return the same cells with more columns."""
        return self.replaced(obs=with_columns(self.rows, columns))

    def with_obsm(self, **arrays: npt.NDArray[Any]) -> Chunk:
        """Return the same cells with more arrays, each of shape (n_obs, k)."""
        return self.replaced(obsm={**self.obsm, **arrays})

    def replaced(self, **fields: Any) -> Chunk:
        """Return a chunk with other fields, as `dataclasses.replace`, which would make a table of `obs`."""
        return replace(self, **{"obs": self.rows, **fields})


@dataclass(frozen=True)
class Cost:
    """What it takes to read a source once."""

    nnz: int
    """Non-zeros to decode, those of dropped genes included."""
    bytes: int
    """Bytes as stored."""
    memory: int
    """Bytes held beside the chunks while reading."""
    resident: int = 0
    """Bytes that the process holds from then on: libraries."""
    disk: int = 0
    """Bytes of temporary files while reading."""
    why: str = ""
    """What takes unusually much of the memory, for messages."""


def with_data(X: sparse.csr_array, data: npt.NDArray[np.float32]) -> sparse.csr_array:
    """Return a matrix with the sparsity of `X` (shared, not copied) and new values."""
    return csr(data, X.indices, X.indptr, X.shape[1])


def csr(
    data: npt.NDArray[np.float32], indices: npt.NDArray[np.int32], indptr: npt.NDArray[np.int32], n_vars: int
) -> sparse.csr_array:
    """Return a CSR matrix around the arrays (scipy would copy parts of others); indices are sorted, unique in a row."""
    X = sparse.csr_array((len(indptr) - 1, n_vars), dtype=data.dtype)
    X.data, X.indices, X.indptr = data, indices, indptr
    X.has_canonical_format = True
    return X
