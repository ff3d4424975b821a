"""Values gene by gene, through a temporary file: what ranks need.

Cells are collected, turned around, and written: each such run has the values of the first gene, then of the second.
All of a gene is then read from every run.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from ..chunk import Chunk
from ..errors import SourceError
from ..protocols import Accumulator
from ..support.locks import Lock
from ..support.memory import n_cores
from ..support.places import temporary
from ..support.scratch import Scratch
from ..support.workers import Workers
from . import kernels
from .groups import Groups
from .representation import Representation

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Marks = npt.NDArray[np.uint64]
Lot = list[tuple[sparse.csr_array, npt.NDArray[Any]]]
"""Cells, and their groups."""

MOST = 2 << 20
"""Values that are collected, and values of genes that are ranked at once, in all threads; of one gene all are."""

MOST_RANKERS = 8
"""Threads that rank: each has genes of its own."""


@dataclass(frozen=True, eq=False)
class Run:
    """Values and groups of some cells, gene by gene: in memory, or in a file from a place on.

    Parameters
    ----------
    indptr
        Where each gene begins, shape (n_vars + 1,).
    checksums
        Of each gene in a file, shape (n_vars,).

    Raises
    ------
    SourceError
        If what is read back from the file is not what was written.
    """

    indptr: npt.NDArray[Any]
    values: npt.NDArray[np.float32] | None
    codes: npt.NDArray[Any] | None
    kind: Any
    file: Scratch | None = None
    at: int = 0
    checksums: Marks | None = None

    def genes(self, start: int, stop: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[Any]]:
        """Return values and groups of some genes."""
        a, b = int(self.indptr[start]), int(self.indptr[stop])
        if self.file is None:
            assert self.values is not None
            assert self.codes is not None
            return self.values[a:b], self.codes[a:b]
        values, codes = np.empty(b - a, dtype=np.float32), np.empty(b - a, dtype=self.kind)
        self.file.read(values, self.at + 4 * a)
        self.file.read(codes, self.at + 4 * int(self.indptr[-1]) + codes.itemsize * a)
        assert self.checksums is not None
        if not np.array_equal(_checksums(self.indptr[start : stop + 1], values, codes), self.checksums[start:stop]):
            raise SourceError(f"the temporary file in {self.file.folder} is damaged; check the disk")
        return values, codes


def _checksums(indptr: npt.NDArray[Any], values: npt.NDArray[np.float32], codes: npt.NDArray[Any]) -> Marks:
    """Return a checksum of each gene's values and groups, shape (genes,); their order is of no matter to ranks."""
    marks = np.empty((len(indptr) - 1, 2), dtype=np.uint64)
    kernels.checksum_rows(indptr.astype(np.int64) - int(indptr[0]), codes, values, values.view(np.uint32), marks)
    return marks[:, 1].copy()


class ValuesByGene(Accumulator["RankSums"]):
    """Collects the values of every gene with the groups of their cells, in a temporary file.

    Parameters
    ----------
    groups
        Groups of cells; cells without one are one more.
    n_vars
        Number of genes.
    rep
        Which matrix of the chunk.
    """

    parallel = True

    def __init__(self, groups: Groups, n_vars: int, rep: Representation | None = None) -> None:
        self.groups, self.n_vars, self.rep = groups, n_vars, rep or Representation()
        self.kind: Any = next((kind for kind in (np.uint8, np.uint16) if len(groups) <= np.iinfo(kind).max), np.int32)
        self.sizes = np.zeros(len(groups) + 1, dtype=np.int64)
        self.waiting: Lot = []
        self.runs: list[Run] = []
        self.scratch: Path | None = None
        self.genes: npt.NDArray[np.bool_] | None = None
        self._file: Scratch | None = None
        self._end = 0
        self.lock, self.turning = Lock(), Lock()
        """Held while cells are collected; and while those that were are put away, as others are collected."""

    def __getstate__(self) -> dict[str, Any]:
        """Leave out where it would write: a copy puts away in a file of its own."""
        return {**self.__dict__, "_file": None, "_end": 0}

    @property
    def reads_obs(self) -> tuple[str, ...]:
        """Columns of `obs` that it needs."""
        return self.groups.reads_obs(None)

    @staticmethod
    def memory(groups: int, n_vars: int, nnz: int, n_obs: int) -> int:
        """Predict its bytes: what is collected and turned around, or one gene of all cells; runs; sums of ranks."""
        runs = 12 * n_vars * (nnz // MOST + 1)
        return 40 * min(nnz, max(MOST, n_obs)) + runs + 16 * groups * n_vars

    @staticmethod
    def disk(nnz: int) -> int:
        """Predict the bytes of its temporary file."""
        return 6 * nnz if nnz > MOST else 0

    def use_scratch(self, folder: Path) -> None:
        """Be told where the temporary file may go."""
        self.scratch = folder

    def update(self, chunk: Chunk) -> None:
        """Add the cells of one chunk."""
        codes = self.groups.codes(chunk)
        codes[codes < 0] = len(self.groups)
        sizes = np.bincount(codes, minlength=len(self.sizes))
        cells = self.rep.csr(chunk), codes.astype(self.kind)
        with self.lock:
            self.sizes += sizes
            self.waiting.append(cells)
            if sum(X.nnz for X, _ in self.waiting) <= MOST:
                return
            self.turning.acquire()  # so that no third lot is collected
            lot, self.waiting = self.waiting, []
        try:
            self._put_away(lot)
        finally:
            self.turning.release()

    def merge(self, other: ValuesByGene) -> None:
        """Add all that `other` has seen."""
        self.sizes += other.sizes
        self.runs += other.runs
        for one in other.waiting:
            self.waiting.append(one)
            if sum(X.nnz for X, _ in self.waiting) > MOST:
                lot, self.waiting = self.waiting, []
                self._put_away(lot)

    def keep(self, genes: npt.NDArray[np.bool_]) -> ValuesByGene:
        """Return the same as if it had only seen the genes where `genes`, shape (n_vars,), is True."""
        kept = copy.copy(self)
        kept.genes = genes
        return kept

    def result(self) -> RankSums:
        """Return what ranks the values."""
        last = [self._turned(self.waiting)] if self.waiting else []
        return RankSums(self.n_vars, self.sizes.copy(), [*self.runs, *last], self.genes)

    def _turned(self, lot: Lot) -> Run:
        """Return what was collected gene by gene."""
        indptr = np.zeros(self.n_vars + 1, dtype=np.int64)
        for X, _ in lot:
            kernels.count_genes(X.indices[: X.nnz], indptr[1:])
        indptr = np.cumsum(indptr)
        values, codes = np.empty(indptr[-1], dtype=np.float32), np.empty(indptr[-1], dtype=self.kind)
        cursor = indptr[:-1].copy()
        for X, groups in lot:
            kernels.turn(X.indptr, X.indices, X.data, groups, cursor, values, codes)
        return Run(indptr.astype(np.uint32), values, codes, self.kind)

    def _put_away(self, lot: Lot) -> None:
        """Write what was collected to the file."""
        run = self._turned(lot)
        assert run.values is not None
        assert run.codes is not None
        if self._file is None:
            self._file = Scratch(self.scratch or temporary(), "spool= or TMPDIR")
        self._file.write(run.values, self._end)
        self._file.write(run.codes, self._end + run.values.nbytes)
        checksums = _checksums(run.indptr, run.values, run.codes)
        self.runs.append(Run(run.indptr, None, None, self.kind, self._file, self._end, checksums))
        self._end += run.values.nbytes + run.codes.nbytes


@dataclass(frozen=True, eq=False)
class RankSums:
    """Sums of ranks by group and gene.

    Parameters
    ----------
    sizes
        Cells of each group, and of none, shape (groups + 1,).
    genes
        Those that are asked about, of all that were seen; None is all.
    """

    n_seen: int
    sizes: Ints
    runs: list[Run] = field(repr=False)
    genes: npt.NDArray[np.bool_] | None = None

    def among_all(self) -> tuple[Floats, Floats]:
        """Return sums of ranks among all cells, shape (groups + 1, genes), and t**3 - t of ties, shape (genes,)."""
        sums, ties = np.zeros((self.n_seen, len(self.sizes))), np.zeros(self.n_seen)

        def rank(some: slice, indptr: Ints, values: npt.NDArray[np.float32], codes: npt.NDArray[Any]) -> None:
            kernels.rank_sums(indptr, values, codes, self.sizes, sums[some], ties[some])

        self._rank(rank)
        return self._asked(sums).T, self._asked(ties)

    def beside(self, reference: int) -> tuple[Floats, Floats]:
        """Return both, shape (groups + 1, genes), where each group is ranked beside the group of reference alone."""
        shape = (self.n_seen, len(self.sizes))
        sums, ties = np.zeros(shape), np.zeros(shape)

        def rank(some: slice, indptr: Ints, values: npt.NDArray[np.float32], codes: npt.NDArray[Any]) -> None:
            kernels.rank_sums_beside(indptr, values, codes, self.sizes, reference, sums[some], ties[some])

        self._rank(rank)
        return self._asked(sums).T, self._asked(ties).T

    def _asked(self, values: Floats) -> Floats:
        return values if self.genes is None else values[self.genes]

    def _rank(self, rank: Callable[[slice, Ints, npt.NDArray[np.float32], npt.NDArray[Any]], None]) -> None:
        """Call a function with genes, where each begins, values and groups: in several threads, if all fit."""
        total = np.zeros(self.n_seen + 1, dtype=np.int64)
        for run in self.runs:
            total += run.indptr
        threads = min(n_cores(), MOST_RANKERS)
        if np.diff(total).max(initial=0) > MOST // threads:
            threads = 1
        bands = list(_bands(total, MOST // threads))
        with Workers(threads, "headrace-ranks") as pool:
            ends = [pool.submit(lambda band: rank(band, *self._gathered(total, band)), band) for band in bands]
            try:
                for end in ends:
                    end.result()
            finally:
                for end in ends:
                    end.cancel()

    def _gathered(self, total: Ints, band: slice) -> tuple[Ints, npt.NDArray[np.float32], npt.NDArray[Any]]:
        """Return where each gene of a band begins, and the values and groups of all runs."""
        start, stop = band.start, band.stop
        indptr = total[start : stop + 1] - total[start]
        values = np.empty(indptr[-1], dtype=np.float32)
        codes = np.empty(indptr[-1], dtype=self.runs[0].kind if self.runs else np.uint16)
        cursor = indptr[:-1].copy()
        for run in self.runs:
            own = run.indptr[start : stop + 1].astype(np.int64)
            kernels.append_genes(own - own[0], *run.genes(start, stop), cursor, values, codes)
        return indptr, values, codes


def _bands(total: Ints, most: int) -> Iterator[slice]:
    """Yield consecutive genes with no more than `most` values, but at least one gene."""
    start, n = 0, len(total) - 1
    while start < n:
        stop = int(np.searchsorted(total, total[start] + most, side="right")) - 1
        stop = min(max(stop, start + 1), n)
        yield slice(start, stop)
        start = stop
