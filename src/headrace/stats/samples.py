"""Accumulators of what comparisons need of every sample.

A sample is a row with an id of its own, the index of `obs`: it is by that id that a number found in
one pass is given back to its row in the next, whatever the order in which chunks were summed up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse

from ..chunk import Chunk
from ..errors import CountsError, InputError
from ..protocols import Accumulator
from . import kernels
from .representation import Representation

Floats = npt.NDArray[np.float64]


class PerSample(Accumulator[pd.DataFrame]):
    """Collects numbers about every row; the result is a table indexed by sample, in order of the ids.

    Parameters
    ----------
    measure
        From a CSR matrix and the ids of its rows to columns of numbers, each of shape (rows,).
    """

    def __init__(self, measure: Callable[[sparse.csr_array, pd.DataFrame], Mapping[str, npt.NDArray[Any]]]) -> None:
        self.measure = measure
        self.parts: list[pd.DataFrame] = []

    def update(self, chunk: Chunk) -> None:
        """Add the samples of one chunk."""
        self.parts.append(
            pd.DataFrame(dict(self.measure(Representation().csr(chunk), chunk.obs)), index=chunk.obs.index)
        )

    def merge(self, other: PerSample) -> None:
        """Add all that `other` has seen."""
        self.parts.extend(other.parts)

    def result(self) -> pd.DataFrame:
        """Return the table; raises `InputError` if an id came twice."""
        if not self.parts:
            raise InputError("there are no samples: no row has passed the filters before this step")
        table = pd.concat(self.parts).sort_index()
        if not table.index.is_unique:
            twice = table.index[table.index.duplicated()][0]
            raise InputError(
                f"sample {twice!r} comes more than once; the ids of samples (the index of obs) must be unique"
            )
        return table


def sizes(X: sparse.csr_array, obs: pd.DataFrame) -> Mapping[str, npt.NDArray[Any]]:
    """Measure `libsize`, the sum of each row, and refuse what is below zero or missing."""
    if X.nnz and not X.data.min() >= 0:
        at = int(np.flatnonzero(~(X.data >= 0))[0])
        row = int(np.searchsorted(X.indptr, at, side="right")) - 1
        raise CountsError(f"sample {obs.index[row]!r} holds {X.data[at]:g}; counts are needed here, from 0 on")
    libsize, roots = np.empty(X.shape[0]), np.empty(X.shape[0])
    kernels.row_sums(X.indptr, X.data, libsize)
    kernels.row_sqrt_sums(X.indptr, X.data, roots)
    return {"libsize": libsize, "roots": roots}


class OneRow(Accumulator[Floats | None]):
    """Picks one sample; the result is its values, shape (genes,), float64, or None if it never came.

    Parameters
    ----------
    name
        Its id.
    n_vars
        Number of genes.
    """

    def __init__(self, name: object, n_vars: int) -> None:
        self.name, self.n_vars = name, n_vars
        self.row: Floats | None = None

    def update(self, chunk: Chunk) -> None:
        """Search one chunk for it."""
        at = np.flatnonzero(chunk.obs.index == self.name)
        if len(at):
            X = Representation().csr(chunk)
            a, b = X.indptr[at[0]], X.indptr[at[0] + 1]
            self.row = np.zeros(self.n_vars)
            self.row[X.indices[a:b]] = X.data[a:b]

    def merge(self, other: OneRow) -> None:
        """Add all that `other` has seen."""
        self.row = other.row if self.row is None else self.row

    def result(self) -> Floats | None:
        """Return the row."""
        return self.row


@dataclass(frozen=True)
class Overview:
    """Of all samples: the table of `sizes`, which genes any of them has, shape (genes,), and one sample's row."""

    table: pd.DataFrame
    seen: npt.NDArray[np.bool_]
    row: Floats | None

    @property
    def n_seen(self) -> int:
        """Genes above zero in at least one sample."""
        return int(self.seen.sum())


class Overviews(Accumulator[Overview]):
    """Accumulates an `Overview`, and one sample's row on the way."""

    def __init__(self, n_vars: int, row: object = None) -> None:
        self.sizes = PerSample(sizes)
        self.row = OneRow(row, n_vars)
        self.seen = np.zeros(n_vars, dtype=bool)

    def update(self, chunk: Chunk) -> None:
        """Add the samples of one chunk."""
        self.sizes.update(chunk)
        self.row.update(chunk)
        X = Representation().csr(chunk)
        self.seen[X.indices[X.data > 0]] = True

    def merge(self, other: Overviews) -> None:
        """Add all that `other` has seen."""
        self.sizes.merge(other.sizes)
        self.row.merge(other.row)
        self.seen |= other.seen

    def result(self) -> Overview:
        """Return what was seen."""
        return Overview(self.sizes.result(), self.seen.copy(), self.row.result())


@dataclass(frozen=True)
class Logs:
    """Of every gene: the sum of the logarithms of its values above 0, and in how many samples it has one."""

    total: Floats
    n: npt.NDArray[np.int64]


class LogSums(Accumulator[tuple[pd.DataFrame, Logs]]):
    """Accumulates `Logs` and the samples' sizes, in fixed point: the order of samples does not show."""

    def __init__(self, n_vars: int) -> None:
        self.sizes = PerSample(sizes)
        self.sums = np.zeros((n_vars, 2), dtype=np.uint64)
        self.counts = np.zeros(n_vars, dtype=np.int64)

    def update(self, chunk: Chunk) -> None:
        """Add the samples of one chunk."""
        self.sizes.update(chunk)
        X = Representation().csr(chunk)
        kernels.add_logs(X.indices, X.data, self.sums, self.counts)

    def merge(self, other: LogSums) -> None:
        """Add all that `other` has seen."""
        self.sizes.merge(other.sizes)
        kernels.merge_sums(self.sums, other.sums)
        self.counts += other.counts

    def result(self) -> tuple[pd.DataFrame, Logs]:
        """Return the table of sizes, and the sums."""
        total = self.sums[:, 0].view(np.int64) * 8.0 + self.sums[:, 1] * 2.0**-60
        return self.sizes.result(), Logs(np.asarray(total), self.counts.copy())
