"""How expression goes with gene length, by assay."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ..chunk import Chunk
from ..protocols import Accumulator
from . import kernels
from .cells import library_sizes
from .moments import as_float
from .representation import Representation

TARGET = 1e4
"""What every cell is scaled to before the logarithm is taken: values before and after a correction are comparable."""

N_BINS = 20


def length_bins(lengths: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.int32], list[float]]:
    """Return the bin of each gene, -1 without a length, and the edges: bins of about equally many genes."""
    there = lengths > 0
    known = np.sort(lengths[there])
    n = min(N_BINS, len(np.unique(known)))
    edges = np.unique(known[(np.arange(n) * len(known)) // max(n, 1)]) if n else np.zeros(0)
    bins = np.where(there, np.searchsorted(edges, lengths, side="right") - 1, -1).astype(np.int32)
    return bins, [*edges.tolist(), *known[-1:].tolist()]


class LengthBias(Accumulator[dict[str, Any]]):
    """Sums log1p of values per 10,000 by assay and bin of gene length.

    The result has `edges` of the bins in bases, the `genes` of each, and for every assay its `cells` and the `mean` of
    each bin over all its cells and genes, zeros included. Sums are fixed-point integers: no order shows.

    Parameters
    ----------
    bins, edges
        Of `length_bins`.
    assay
        The column of `obs` with the assay; None for one group of all cells.
    rep
        Which matrix of the chunk, before the logarithm.
    """

    def __init__(self, bins: npt.NDArray[np.int32], edges: list[float], assay: str | None, rep: Representation) -> None:
        self.bins, self.edges, self.assay, self.rep = bins, edges, assay, rep
        self.n_bins = max(len(edges) - 1, 0)
        self.cells: dict[str, int] = {}
        self.sums: dict[str, npt.NDArray[np.uint64]] = {}

    @property
    def reads_obs(self) -> tuple[str, ...]:
        """The column with the assay."""
        return () if self.assay is None else (self.assay,)

    def update(self, chunk: Chunk) -> None:
        """Add the cells of one chunk."""
        X = self.rep.csr(chunk)
        sizes = library_sizes(X)
        scaled, logged = np.empty_like(X.data), np.empty_like(X.data)
        kernels.scale_rows(X.indptr, X.data, TARGET / np.where(sizes > 0, sizes, TARGET), scaled)
        kernels.log1p(scaled, 1.0, logged)
        at = self.bins[X.indices]
        logged[at < 0] = 0  # genes without a length count nowhere
        names, codes = self._assays(chunk)
        sums = np.zeros((len(names), max(self.n_bins, 1), 4), dtype=np.uint64)
        kernels.add_moments(X.indptr, np.maximum(at, 0), logged, codes, sums)
        for number, name in enumerate(names):
            self._add(name, int(np.count_nonzero(codes == number)), sums[number])

    def _assays(self, chunk: Chunk) -> tuple[list[str], npt.NDArray[np.int64]]:
        if self.assay is None:
            return ["all cells"], np.zeros(chunk.n_obs, dtype=np.int64)
        codes, found = pd.factorize(chunk.column(self.assay), use_na_sentinel=True)
        return [str(name) for name in found], codes.astype(np.int64)

    def _add(self, name: str, n: int, sums: npt.NDArray[np.uint64]) -> None:
        self.cells[name] = self.cells.get(name, 0) + n
        mine = self.sums.setdefault(name, np.zeros_like(sums))
        kernels.merge_sums(mine.reshape(-1, 2), sums.reshape(-1, 2))

    def merge(self, other: LengthBias) -> None:
        """Add all that `other` has seen."""
        for name, n in other.cells.items():
            self._add(name, n, other.sums[name])

    def result(self) -> dict[str, Any]:
        """Return the means as plain data, the assay with most cells first."""
        genes = np.bincount(self.bins[self.bins >= 0], minlength=self.n_bins)[: self.n_bins]
        order = sorted(self.cells, key=lambda name: (-self.cells[name], name))
        assays = {}
        for name in order:
            totals = as_float(self.sums[name][: self.n_bins, :2])
            mean = totals / np.maximum(genes * self.cells[name], 1)
            assays[name] = {"cells": self.cells[name], "mean": [float(f"{x:.9g}") for x in mean]}
        return {"edges": self.edges, "genes": [int(n) for n in genes], "assays": assays}
