"""How often each gene has each count, by group of cells: any sum of a function of counts follows from it exactly.

Small counts are looked up in a table, large ones are few and counted as they come (`tally.py`). The variance
of clipped counts, whose clip is known only when all cells have been seen, in one pass.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import sparse

from ..chunk import Chunk
from ..protocols import Accumulator
from ..support.locks import Lock
from . import kernels
from .bygroup import Floats, GroupMoments, Ints, in_parts, largest_count, rows_by_group
from .groups import Groups
from .measured import Measured
from .representation import Representation
from .shelf import Block, Shelf
from .tally import MOST, Tally

VALUE_BITS = 31
"""Bits of a count; above them in a key are gene and group."""

WIDEST, NARROWEST = 32, 4
"""Counts below so many are in the table; fewer, if there are many groups."""

TABLES = 32 << 20
"""Bytes that all groups' tables may take before they are made narrower."""


class HistogramsByGroup(Accumulator["Histograms"]):
    """Accumulates how often each gene has each count, by group.

    Parameters
    ----------
    groups
        Groups of cells; those that come take memory.
    n_vars
        Number of genes.
    rep
        Which matrix of the chunk; it holds counts.
    measured
        Which genes each dataset measured, if that matters.
    """

    parallel = True

    def __init__(
        self, groups: Groups, n_vars: int, rep: Representation | None = None, measured: Measured | None = None
    ) -> None:
        self.groups, self.n_vars, self.rep, self.measured = groups, n_vars, rep or Representation(), measured
        self.width = width(len(groups), n_vars)
        self.tables = Shelf(self._size(len(groups), n_vars))
        """Of every group, shape (genes, width): in how many cells a gene has this count; column 0: a larger one."""
        self.numbers: dict[int, int] = {}
        """In which order the groups came: large counts are tallied under it."""
        self.tally = Tally(n_vars << VALUE_BITS, at_once=n_vars)
        self.genes: npt.NDArray[np.bool_] | None = None
        self.lock = Lock()
        """Held while tables change, and while keys are written to the tally's buffer."""

    @property
    def reads_obs(self) -> tuple[str, ...]:
        """Columns of `obs` that it needs."""
        return self.groups.reads_obs(self.measured)

    @staticmethod
    def memory(groups: int, n_vars: int, nnz: int) -> int:
        """Predict its bytes for a number of groups that come, and of the moments of one of them."""
        return Shelf.kept(HistogramsByGroup._size(groups, n_vars)) + 160 * n_vars + Tally.memory(n_vars, nnz)

    @staticmethod
    def disk(groups: int, n_vars: int, nnz: int) -> int:
        """Predict the bytes of its temporary files if many counts are large: full-length ones took half of that."""
        size = HistogramsByGroup._size(groups, n_vars)
        return size - Shelf.kept(size) + (nnz if nnz > MOST else 0)

    @staticmethod
    def _size(groups: int, n_vars: int) -> int:
        return 4 * n_vars * groups * width(groups, n_vars)

    def use_scratch(self, folder: Path) -> None:
        """Be told where temporary files may go."""
        self.tally.scratch = self.tables.scratch = folder

    def update(self, chunk: Chunk) -> None:
        """Add the cells of one chunk."""
        X = self.rep.csr(chunk)
        largest_count(X)
        datasets = None if self.measured is None else self.measured.rows(chunk)
        rows_of = dict(rows_by_group(self.groups.codes(chunk)))
        with self.lock:
            codes = self.tables.near_first(rows_of)
        for code in codes:
            self._count(code, X, rows_of[code], None if datasets is None else datasets[rows_of[code]])

    def _count(self, code: int, X: sparse.csr_array, rows: Ints, cells: Ints | None) -> None:
        """Count the values of the rows of a group; what is large is put in order while other threads go on."""
        tally, new, done = self.tally, True, 0
        while done < len(rows):
            with self.lock:
                table = self._table(code)
                if new:
                    table.cells += len(rows) if cells is None else np.bincount(cells, minlength=len(table.cells))
                new, first = False, np.uint64(self.numbers[code] * self.n_vars)
                done, tally.n = kernels.add_counts(
                    X.indptr, X.indices, X.data, rows, done, table.words, first, tally.buffer, tally.n
                )
                full = tally.full() if done < len(rows) else None
            tally.count(full)

    def _table(self, code: int) -> Block:
        if code not in self.tables:
            n_datasets = 1 if self.measured is None else len(self.measured.seen)
            self.numbers[code] = len(self.numbers)
            times = np.zeros((self.n_vars, self.width), dtype=np.uint32)
            self.tables[code] = Block(times, np.zeros(n_datasets, np.int64))
        return self.tables[code]

    def merge(self, other: HistogramsByGroup) -> None:
        """Add all that `other` has seen."""
        ranges = {}
        for code, theirs in other.tables.items():
            mine = self._table(code)
            mine.words += theirs.words
            mine.cells += theirs.cells
            ranges[other.numbers[code]] = self.numbers[code]
        self.tally.merge(other.tally, ranges)

    def keep(self, genes: npt.NDArray[np.bool_]) -> HistogramsByGroup:
        """Return the same as if it had only seen the genes where `genes`, shape (n_vars,), is True."""
        kept = copy.copy(self)
        kept.genes = genes
        return kept

    def result(self) -> Histograms:
        """Return the histograms; they share the tables, which are not copied."""
        return Histograms(self.groups, self.n_vars, self.measured, self.tables, self.numbers, self.tally, self.genes)


@dataclass(frozen=True, eq=False)
class Histograms:
    """How often each gene has each count in the groups that have come; asked one group at a time.

    Parameters
    ----------
    genes
        Those that are asked about, of all that were seen; None is all.
    """

    groups: Groups
    n_seen: int
    measured: Measured | None
    tables: Shelf = field(repr=False)
    numbers: dict[int, int] = field(repr=False)
    tally: Tally = field(repr=False)
    genes: npt.NDArray[np.bool_] | None = None
    last: dict[int, Ints] = field(default_factory=dict, repr=False)
    """Sums of the group that was asked about last: to get them means to read its part of the temporary file."""

    def __len__(self) -> int:
        return len(self.tables)

    @property
    def codes(self) -> list[int]:
        """The numbers of the groups, in order."""
        return list(self.tables)

    def n_cells(self, code: int) -> int:
        """Count the cells of a group."""
        return int(self.tables[code].cells.sum())

    def of(self, code: int) -> GroupMoments:
        """Return the moments of one group."""
        return self._moments(self.tables[code].cells, self._sums(code))

    def all(self) -> GroupMoments:
        """Return the moments of all cells that have a group."""
        cells = np.zeros(1 if self.measured is None else len(self.measured.seen), dtype=np.int64)
        n_genes = self.n_seen if self.genes is None else int(self.genes.sum())
        words = np.zeros((n_genes, 4), dtype=np.int64)
        for code in self.codes:
            cells += self.tables[code].cells
            words += self._sums(code)
        return self._moments(cells, words)

    def clipped(self, code: int, cap: Floats) -> GroupMoments:
        """Return the moments of one group with the counts above `cap`, shape (genes,), counted as `cap`."""
        words = self._sums(code)
        over = self._sums(code, np.minimum(np.floor(cap), 2.0**VALUE_BITS).astype(np.int64))
        times = over[:, 0]
        total = (words[:, 1] - over[:, 1]) + times * cap
        squares = in_parts(words[:, 2] - over[:, 2], words[:, 3] - over[:, 3]) + times * cap**2
        return GroupMoments(self._n(self.tables[code].cells), total, squares)

    def _sums(self, code: int, above: Ints | None = None) -> Ints:
        """Sum 1, x and x**2 over the counts above a bound, shape (genes, 4); x**2 as its low 32 bits and the rest."""
        if above is None and code in self.last:
            return self.last[code]
        bound = np.zeros(self.n_seen, dtype=np.int64)
        if above is not None:
            bound[slice(None) if self.genes is None else self.genes] = above
        words = np.zeros((self.n_seen, 4), dtype=np.int64)
        kernels.sum_table(self.tables[code].words, bound, words)
        for keys, counts in self.tally.entries(self.numbers[code]):
            kernels.sum_counts(keys, counts, bound, words)
        words = words if self.genes is None else words[self.genes]
        if above is None:
            self.last.clear()
            self.last[code] = words
        return words

    def _n(self, cells: Ints) -> int | Ints:
        """Count the cells that measured a gene: one number, or shape (genes,)."""
        if self.measured is None:
            return int(cells.sum())
        n = self.measured.n(cells)
        return n if self.genes is None else n[self.genes]

    def _moments(self, cells: Ints, words: Ints) -> GroupMoments:
        return GroupMoments(self._n(cells), words[:, 1].astype(np.float64), in_parts(words[:, 2], words[:, 3]))


def width(groups: int, n_vars: int) -> int:
    """Return how many counts the tables of so many groups have columns for: a power of 2."""
    columns = WIDEST
    while columns > NARROWEST and groups * n_vars * 4 * columns > TABLES:
        columns //= 2
    return columns
