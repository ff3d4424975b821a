"""Mean and variance of every gene in every group of cells."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..chunk import Chunk
from ..protocols import Accumulator
from . import kernels
from .groups import Groups
from .representation import Representation

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Moments:
    """Sums over cells, and what follows from them.

    Parameters
    ----------
    n
        Cells in each group, shape (groups,).
    total, squares
        Sums of x and of x**2, shape (groups, genes).
    """

    n: npt.NDArray[np.int64]
    total: Floats
    squares: Floats

    @property
    def mean(self) -> Floats:
        """Mean, shape (groups, genes); NaN in a group without cells."""
        with np.errstate(invalid="ignore"):
            return self.total / self.n[:, None]

    @property
    def var(self) -> Floats:
        """Variance with n - 1, shape (groups, genes), computed in scanpy's own order of operations."""
        n = self.n[:, None].astype(np.float64)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray((self.squares / n - self.mean**2) * np.where(n > 1, n / (n - 1), 1.0))


class MomentSums(Accumulator[Moments]):
    """Accumulates `Moments`, exactly for whole numbers and without any order for others.

    Sums are 128-bit integers in units of 2**-60 (see `kernels`): 32 bytes per gene and group.

    Parameters
    ----------
    groups
        Groups of cells.
    n_vars
        Number of genes.
    rep
        Which matrix of the chunk.
    """

    def __init__(self, groups: Groups, n_vars: int, rep: Representation | None = None) -> None:
        self.groups, self.rep = groups, rep or Representation()
        self.n = np.zeros(len(groups), dtype=np.int64)
        self.sums = np.zeros((len(groups), n_vars, 4), dtype=np.uint64)

    def update(self, chunk: Chunk) -> None:
        """Add the cells of one chunk."""
        X = self.rep.csr(chunk)
        codes = self.groups.codes(chunk)
        self.n += np.bincount(codes[codes >= 0], minlength=len(self.n))
        kernels.add_moments(X.indptr, X.indices, X.data, codes, self.sums)

    def merge(self, other: MomentSums) -> None:
        """Add all that `other` has seen."""
        self.n += other.n
        kernels.merge_sums(self.sums.reshape(-1, 2), other.sums.reshape(-1, 2))

    def result(self) -> Moments:
        """Return the sums as float64, each rounded once."""
        return Moments(self.n.copy(), as_float(self.sums[..., :2]), as_float(self.sums[..., 2:]))


def as_float(words: npt.NDArray[np.uint64]) -> Floats:
    """Turn fixed-point sums (..., 2) into float64."""
    return np.asarray(words[..., 0].view(np.int64) * 8.0 + words[..., 1] * 2.0**-60)


class GeneCells(Accumulator[npt.NDArray[np.int64]]):
    """Counts in how many cells each gene is above zero; the result has shape (genes,), int64."""

    reads_obs = ()

    def __init__(self, n_vars: int, rep: Representation | None = None) -> None:
        self.rep = rep or Representation()
        self.counts = np.zeros(n_vars, dtype=np.int64)

    def update(self, chunk: Chunk) -> None:
        """Add the cells of one chunk."""
        kernels.count_genes(self.rep.csr(chunk).indices, self.counts)

    def keep(self, genes: npt.NDArray[np.bool_]) -> GeneCells:
        """Return the same as if it had only seen the genes where `genes`, shape (n_vars,), is True."""
        kept = GeneCells(0, self.rep)
        kept.counts = self.counts[genes]
        return kept

    def merge(self, other: GeneCells) -> None:
        """Add all that `other` has seen."""
        self.counts += other.counts

    def result(self) -> npt.NDArray[np.int64]:
        """Return the number of cells of each gene."""
        return self.counts.copy()
