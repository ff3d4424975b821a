"""Sum, sum of squares and count of every gene in every group of cells: as many groups as there are, in flat memory."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import prod
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..chunk import Chunk
from ..errors import PlanError
from ..protocols import Accumulator
from . import kernels
from .groups import Groups
from .measured import Measured
from .representation import Representation
from .runs import Entries, Runs

Ints = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]


def check_number(groups: Groups, n_vars: int, step: str) -> None:
    """Raise `PlanError` if there are more combinations of categories than can be numbered."""
    n = prod(len(categories) for categories in groups.categories)
    if (n + 1) * max(1, n_vars) >= 2**63:
        raise PlanError(
            f"{step}: {', '.join(groups.columns)} have {n:.0e} combinations of categories; group by fewer columns"
        )


class StatisticsByGroup(Accumulator["Statistics"]):
    """Accumulates sums of x and x**2, exact in any order, and in how many cells x is not zero, by group and gene.

    Parameters
    ----------
    groups
        Groups of cells; those that come take memory, or space in a temporary file.
    n_vars
        Number of genes.
    rep
        Which matrix of the chunk.
    measured
        Which genes each dataset measured, if that matters.
    others
        Whether cells that belong to no group are one more, numbered `len(groups)`.
    """

    def __init__(
        self,
        groups: Groups,
        n_vars: int,
        rep: Representation | None = None,
        measured: Measured | None = None,
        others: bool = False,
    ) -> None:
        self.groups, self.n_vars, self.rep, self.measured = groups, n_vars, rep or Representation(), measured
        self.others = others
        self.runs = Runs()
        self.cells: dict[int, int] = {}
        """Cells of each group, or of each group and dataset if what was measured matters."""
        self.n_missing = 0
        self.genes: npt.NDArray[np.bool_] | None = None

    @property
    def reads_obs(self) -> tuple[str, ...]:
        """Columns of `obs` that it needs."""
        return self.groups.reads_obs(self.measured)

    @staticmethod
    def memory(groups: int, n_vars: int, nnz: int) -> int:
        """Predict its bytes for a number of groups that come."""
        return Runs.memory(min(groups * n_vars, nnz)) + 80 * n_vars + 200 * groups

    @staticmethod
    def disk(groups: int, n_vars: int, nnz: int) -> int:
        """Predict the bytes of its temporary file."""
        return Runs.disk(min(groups * n_vars, nnz))

    def use_scratch(self, folder: Path) -> None:
        """Be told where a temporary file may go."""
        self.runs.scratch = folder

    def update(self, chunk: Chunk) -> None:
        """Add the cells of one chunk."""
        X = self.rep.csr(chunk)
        codes = self.groups.codes(chunk)
        missing = codes < 0
        self.n_missing += int(missing.sum())
        if self.others:
            codes[missing] = len(self.groups)
        order = np.argsort(codes, kind="stable")
        order = order[codes[order] >= 0]
        found, starts = np.unique(codes[order], return_index=True)
        self._count(chunk, codes, order)
        n = int(np.diff(X.indptr)[order].sum())
        keys, words = np.empty(n, dtype=np.uint64), np.empty((n, 5), dtype=np.uint64)
        ends = np.append(starts, len(order)).astype(np.int64)
        n = kernels.sum_entries(X.indptr, X.indices, X.data, order, ends, found, self.n_vars, keys, words)
        self.runs.add(Entries(keys[:n].copy(), words[:n].copy()))

    def _count(self, chunk: Chunk, codes: Ints, order: Ints) -> None:
        """Count the cells of one chunk."""
        keys = codes[order]
        if self.measured is not None:
            keys = keys * len(self.measured.seen) + self.measured.rows(chunk)[order]
        for key, n in zip(*(each.tolist() for each in np.unique(keys, return_counts=True)), strict=True):
            self.cells[key] = self.cells.get(key, 0) + n

    def merge(self, other: StatisticsByGroup) -> None:
        """Add all that `other` has seen."""
        self.runs.merge(other.runs)
        self.n_missing += other.n_missing
        for key, n in other.cells.items():
            self.cells[key] = self.cells.get(key, 0) + n

    def keep(self, genes: npt.NDArray[np.bool_]) -> StatisticsByGroup:
        """Return the same as if it had only seen the genes where `genes`, shape (n_vars,), is True."""
        kept = copy.copy(self)
        kept.genes = genes
        return kept

    def result(self) -> Statistics:
        """Return the statistics."""
        cells: dict[int, dict[int, int]] = {}
        datasets = 1 if self.measured is None else len(self.measured.seen)
        for key, n in sorted(self.cells.items()):
            code, dataset = divmod(key, datasets)
            cells.setdefault(code, {})[dataset] = n
        return Statistics(self.groups, self.n_vars, self.measured, cells, self.runs.copy(), self.n_missing, self.genes)


@dataclass(frozen=True, eq=False)
class OfGroup:
    """The statistics of one group, sparse.

    Parameters
    ----------
    code
        The number of the group.
    n_cells
        Its cells.
    genes
        Those with a value in some cell, in order, shape (n,).
    words
        Their sums, shape (n, 5); see `kernels.entries`.
    """

    code: int
    n_cells: int
    genes: npt.NDArray[np.int32]
    words: Words


@dataclass(frozen=True, eq=False)
class Statistics:
    """Statistics of the groups that have come, read group by group, in their order.

    Parameters
    ----------
    cells
        For each group the cells of each dataset; of one dataset if what was measured does not matter.
    n_missing
        Cells that belong to no group.
    genes
        Those that are asked about, of all that were seen; None is all.
    """

    groups: Groups
    n_seen: int
    measured: Measured | None
    cells: dict[int, dict[int, int]]
    runs: Runs = field(repr=False)
    n_missing: int
    genes: npt.NDArray[np.bool_] | None = None

    @property
    def codes(self) -> list[int]:
        """The numbers of the groups that have come, in order."""
        return list(self.cells)

    def n_cells(self, code: int) -> int:
        """Count the cells of a group."""
        return sum(self.cells[code].values())

    def n(self, code: int) -> Ints:
        """Count for every gene the cells of a group that measured it, shape (genes,)."""
        assert self.measured is not None
        datasets = np.zeros(len(self.measured.seen), dtype=np.int64)
        for dataset, cells in self.cells[code].items():
            datasets[dataset] = cells
        n = self.measured.n(datasets)
        return np.asarray(n if self.genes is None else n[self.genes])

    def of(self, codes: Sequence[int] | None = None) -> Iterator[OfGroup]:
        """Yield the statistics of some groups, whose numbers are in order, or of all that have come."""
        codes = self.codes if codes is None else codes
        places = None if self.genes is None else np.where(self.genes, np.cumsum(self.genes) - 1, -1).astype(np.int32)
        edges = (edge for code in codes for edge in (code * self.n_seen, (code + 1) * self.n_seen))
        found = self.runs.ranges(edges)
        for number, entries in enumerate(found):
            if number % 2:
                continue  # between two of the groups
            code = codes[number // 2]
            genes = (entries.keys - np.uint64(code * self.n_seen)).astype(np.int32)
            words = entries.words
            if places is not None:
                genes = places[genes]
                genes, words = genes[genes >= 0], words[genes >= 0]
            yield OfGroup(code, self.n_cells(code), genes, words)
