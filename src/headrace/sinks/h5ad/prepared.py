"""Chunks of cells made ready for an .h5ad file by other processes: what HDF5 stores, but for its place in the file.

A stored chunk of HDF5 holds so many entries of a dataset, wherever cells end. Once it is known how many non-zeros come
before some cells, all chunks that lie within them can be filtered anywhere; what is left at both ends goes along as it
is. The writer puts both into the file in the order in which it would have made them itself: the bytes are the same.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ...chunk import Chunk, Matrix
from ...preparer import Preparer
from ...support.packed import pack_rows, unpack_rows
from .digests import row_checksums
from .hdf5 import Compression, chunk_buffer, chunk_rows, filtered
from .integers import check_whole

INT32_MAX = 2**31 - 1


@dataclass(frozen=True, eq=False)
class Entries:
    """Entries of a dataset: those that fill a chunk begun before, whole chunks as they are stored, and the rest."""

    head: npt.NDArray[Any]
    chunks: tuple[npt.NDArray[np.uint8], ...]
    tail: npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class FilteredRows:
    """Some rows of a sparse matrix, as they are stored: it stands in a chunk where a matrix does.

    Parameters
    ----------
    shape, nnz
        Of the matrix.
    before
        Non-zeros of the rows before.
    ends
        Where each row ends, counted from the first of these rows, shape (n_obs,).
    marks
        The rows' checksums, shape (n_obs, 2).
    data, indices
        What is stored.
    """

    shape: tuple[int, int]
    nnz: int
    before: int
    ends: npt.NDArray[np.int64]
    marks: npt.NDArray[np.uint64]
    data: Entries
    indices: Entries


@dataclass(frozen=True, eq=False)
class Prepared:
    """A chunk that is sent: its matrices, and `obs` packed."""

    matrices: dict[str, FilteredRows | npt.NDArray[Any]]
    obs: tuple[bytes, bytes, bytes]
    obsm: dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class H5adPreparer(Preparer):
    """Filters chunks of the sparse matrices; see `H5ad` for what the parameters mean.

    Parameters
    ----------
    compression, checksum
        How numbers are stored.
    nnz
        The most non-zeros that can come to a matrix, if known: the file's chunks and integers are sized by it.
    whole
        Matrices that are stored as whole numbers.
    """

    compression: Compression
    checksum: bool
    nnz: int | None
    whole: Collection[str]

    @property
    def costly(self) -> bool:
        """Whether chunks are compressed."""
        return self.compression is not None

    def prepare(self, chunk: Chunk, before: Mapping[str, int]) -> Prepared:
        """Filter what can be filtered."""
        matrices = {"X": chunk.X, **{f"layers/{name}": layer for name, layer in chunk.layers.items()}}
        made = {name: self._rows(name, X, before.get(name, 0)) for name, X in matrices.items()}
        return Prepared(made, pack_rows(chunk.rows), dict(chunk.obsm))

    def taken(self, prepared: Prepared, obs: pd.DataFrame) -> Chunk:
        """Return a chunk whose matrices only `SparseWriter` can read."""
        X: Any = prepared.matrices["X"]
        layers: dict[str, Any] = {
            name.removeprefix("layers/"): each for name, each in prepared.matrices.items() if name != "X"
        }
        numbers, text, others = (memoryview(part) for part in prepared.obs)
        return Chunk(X, unpack_rows(numbers, text, others, obs, X.shape[0]), layers, obsm=prepared.obsm)

    def _rows(self, name: str, X: Matrix, before: int) -> FilteredRows | npt.NDArray[Any]:
        if isinstance(X, np.ndarray):
            return X
        if name in self.whole:
            check_whole(name, X)
        ends = X.indptr[1:].astype(np.int64)
        data = self._entries(X.data, value_type(name in self.whole), before)
        indices = self._entries(X.indices, index_type(self.nnz), before)
        return FilteredRows(X.shape, int(X.nnz), before, ends, row_checksums(X), data, indices)

    def _entries(self, values: npt.NDArray[Any], dtype: npt.DTypeLike, before: int) -> Entries:
        kind = np.dtype(dtype)
        n = chunk_rows(kind.itemsize, self.checksum, self.nnz)
        first = min(-before % n, len(values))
        last = first + (len(values) - first) // n * n
        stored = [self._stored(values[at : at + n].astype(kind, copy=False)) for at in range(first, last, n)]
        return Entries(values[:first].astype(kind), tuple(stored), values[last:].astype(kind))

    def _stored(self, values: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
        buffer = chunk_buffer(values.nbytes)
        buffer[: values.nbytes] = values.view(np.uint8)
        return np.frombuffer(filtered(buffer, values.itemsize, self.compression, self.checksum), dtype=np.uint8)


def index_type(nnz: int | None) -> type[np.int32] | type[np.int64]:
    """Return the dtype of column numbers and row ends, if at most so many non-zeros can come."""
    return np.int64 if nnz is None or nnz > INT32_MAX else np.int32


def value_type(whole: bool) -> type[np.int32] | type[np.float32]:
    """Return the dtype of a matrix."""
    return np.int32 if whole else np.float32


__all__ = ["Entries", "FilteredRows", "H5adPreparer", "Prepared", "index_type", "value_type"]
