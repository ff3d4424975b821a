"""Sums by group of cells and gene; a group without cells costs nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from ..chunk import Chunk
from ..errors import CountsError
from ..protocols import Accumulator
from . import kernels
from .groups import Groups
from .measured import Measured
from .moments import as_float
from .representation import Representation
from .shelf import Block, Shelf

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

LARGEST_COUNT = 2**31


@dataclass(frozen=True)
class GroupMoments:
    """Moments of one group.

    Parameters
    ----------
    n
        Cells that measured the gene: one number, or shape (genes,).
    total, squares
        Sums of x and of x**2, shape (genes,), each rounded once.
    """

    n: Any
    total: Floats
    squares: Floats

    @property
    def mean(self) -> Floats:
        """Mean, shape (genes,); 0 where no cell measured the gene."""
        return np.asarray(self.total / np.maximum(self.n, 1))

    @property
    def var(self) -> Floats:
        """Variance with n - 1, shape (genes,), computed in scanpy's own order of operations."""
        n = np.maximum(np.asarray(self.n, dtype=np.float64), 1.0)
        with np.errstate(divide="ignore"):
            return np.asarray((self.squares / n - self.mean**2) * np.where(n > 1, n / (n - 1), 1.0))


class SumsByGroup(Accumulator["MomentsByGroup"]):
    """Accumulates sums of x and x**2 by group and gene, in an exact form.

    Parameters
    ----------
    groups
        Groups of cells; those that come take memory.
    n_vars
        Number of genes.
    rep
        Which matrix of the chunk.
    whole
        True for counts: 16 bytes per gene and group, exact. False for any values: fixed-point sums,
        32 bytes per gene and group, the same to the bit in any order.
    measured
        Which genes each dataset measured, if that matters.
    """

    def __init__(
        self,
        groups: Groups,
        n_vars: int,
        rep: Representation | None = None,
        *,
        whole: bool,
        measured: Measured | None = None,
    ) -> None:
        self.groups, self.n_vars, self.rep, self.whole, self.measured = (
            groups,
            n_vars,
            rep or Representation(),
            whole,
            measured,
        )
        self.blocks = Shelf(self._size(len(groups), n_vars, whole))
        self.bound = 0
        """No sum of squares is above this."""

    @property
    def reads_obs(self) -> tuple[str, ...]:
        """Columns of `obs` that it needs."""
        return self.groups.reads_obs(self.measured)

    @staticmethod
    def memory(groups: int, n_vars: int, *, whole: bool) -> int:
        """Predict its bytes for a number of groups that come, and of the moments of one of them."""
        return Shelf.kept(SumsByGroup._size(groups, n_vars, whole)) + 120 * n_vars

    @staticmethod
    def disk(groups: int, n_vars: int, *, whole: bool) -> int:
        """Predict the bytes of its temporary file, if all sums are too many for memory."""
        size = SumsByGroup._size(groups, n_vars, whole)
        return size - Shelf.kept(size)

    @staticmethod
    def _size(groups: int, n_vars: int, whole: bool) -> int:
        return n_vars * groups * (16 if whole else 32)

    def use_scratch(self, folder: Path) -> None:
        """Be told the folder for the temporary file."""
        self.blocks.scratch = folder

    @property
    def wide(self) -> bool:
        """Whether sums of squares may need more than 63 bits: then they are kept in two parts."""
        return self.bound >= 2**63

    def update(self, chunk: Chunk) -> None:
        """Add the cells of one chunk."""
        X = self.rep.csr(chunk)
        if self.whole:
            self._make_room(X)
        datasets = None if self.measured is None else self.measured.rows(chunk)
        rows_of = dict(rows_by_group(self.groups.codes(chunk)))
        for code in self.blocks.near_first(rows_of):
            block, rows = self._block(code), rows_of[code]
            if datasets is None:
                block.cells += len(rows)
            else:
                block.cells += np.bincount(datasets[rows], minlength=len(block.cells))
            self._add(X, rows, block.words)

    def _add(self, X: sparse.csr_array, rows: Ints, words: npt.NDArray[Any]) -> None:
        add = kernels.add_fixed if not self.whole else kernels.add_wide if self.wide else kernels.add_whole
        add(X.indptr, X.indices, X.data, rows, words)

    def _make_room(self, X: sparse.csr_array) -> None:
        self._raise_bound(X.shape[0] * largest_count(X) ** 2)

    def _raise_bound(self, by: int) -> None:
        was = self.wide
        self.bound += by
        if self.wide and not was:
            for code, block in self.blocks.items():
                self.blocks[code] = Block(widen(block.words), block.cells)

    def _block(self, code: int) -> Block:
        if code not in self.blocks:
            kind: Any = np.int64 if self.whole else np.uint64
            width = 4 if not self.whole else 3 if self.wide else 2
            n_datasets = 1 if self.measured is None else len(self.measured.seen)
            self.blocks[code] = Block(np.zeros((self.n_vars, width), kind), np.zeros(n_datasets, np.int64))
        return self.blocks[code]

    def merge(self, other: SumsByGroup) -> None:
        """Add all that `other` has seen."""
        self._raise_bound(other.bound)
        for code, theirs in other.blocks.items():
            mine = self._block(code)
            mine.cells += theirs.cells
            add_words(mine.words, theirs.words, self.whole)

    def keep(self, genes: npt.NDArray[np.bool_]) -> SumsByGroup:
        """Return the same as if it had only seen the genes where `genes`, shape (n_vars,), is True."""
        measured = self.measured and Measured(self.measured.seen.of_genes(genes), self.measured.row_of)
        kept = SumsByGroup(self.groups, int(genes.sum()), self.rep, whole=self.whole, measured=measured)
        kept.blocks.scratch = self.blocks.scratch
        for code, block in self.blocks.items():
            kept.blocks[code] = Block(block.words[genes], block.cells)
        kept.bound = self.bound
        return kept

    def result(self) -> MomentsByGroup:
        """Return the moments; they share the sums, which are not copied."""
        return MomentsByGroup(self.groups, self.n_vars, self.whole, self.measured, self.blocks)


@dataclass(frozen=True, eq=False)
class MomentsByGroup:
    """Moments of the groups that have come, turned into numbers one group at a time."""

    groups: Groups
    n_vars: int
    whole: bool
    measured: Measured | None
    blocks: Shelf = field(repr=False)

    def __len__(self) -> int:
        return len(self.blocks)

    @property
    def codes(self) -> list[int]:
        """The numbers of the groups, in order."""
        return list(self.blocks)

    def n_cells(self, code: int) -> int:
        """Count the cells of a group."""
        return int(self.blocks[code].cells.sum())

    def of(self, code: int) -> GroupMoments:
        """Return the moments of one group."""
        return self._moments(self.blocks[code])

    def all(self) -> GroupMoments:
        """Return the moments of all cells that have a group."""
        words, cells = None, np.zeros(0, dtype=np.int64)
        for code in self.blocks:
            block = self.blocks[code]
            if len(self.blocks) == 1:
                return self._moments(block)
            if words is None:
                words, cells = wide_form(block.words, self.whole), block.cells.copy()
            else:
                add_words(words, wide_form(block.words, self.whole), self.whole)
                cells += block.cells
        if words is None:
            return GroupMoments(0, np.zeros(self.n_vars), np.zeros(self.n_vars))
        return self._moments(Block(words, cells))

    def _moments(self, block: Block) -> GroupMoments:
        n: Any = int(block.cells.sum()) if self.measured is None else self.measured.n(block.cells)
        if not self.whole:
            return GroupMoments(n, as_float(block.words[:, :2]), as_float(block.words[:, 2:]))
        words = block.words
        squares = words[:, 1].astype(np.float64) if words.shape[1] == 2 else in_parts(words[:, 1], words[:, 2])
        return GroupMoments(n, words[:, 0].astype(np.float64), squares)


def largest_count(X: sparse.csr_array) -> int:
    """Return the largest value of a matrix of counts, or raise `CountsError` if it is none."""
    largest = int(X.data.max()) if X.nnz else 0
    if largest >= LARGEST_COUNT:
        raise CountsError(f"a count of {largest} is too large: counts are below 2**31; is this a matrix of counts?")
    return largest


def rows_by_group(codes: Ints) -> Iterator[tuple[int, Ints]]:
    """Yield each group's number and its rows, in order; a number below 0 is no group."""
    if not len(codes):
        return
    order = np.argsort(codes, kind="stable")
    found, start = np.unique(codes[order], return_index=True)
    for code, rows in zip(found, np.split(order, start[1:]), strict=True):
        if code >= 0:
            yield int(code), rows


def widen(words: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Split sums of squares into their low 32 bits and the rest."""
    return np.stack([words[:, 0], words[:, 1] & 0xFFFFFFFF, words[:, 1] >> 32], axis=1)


def wide_form(words: npt.NDArray[Any], whole: bool) -> npt.NDArray[Any]:
    """Return a copy to which any number of others may be added."""
    return widen(words) if whole and words.shape[1] == 2 else words.copy()


def add_words(mine: npt.NDArray[Any], theirs: npt.NDArray[Any], whole: bool) -> None:
    """Add sums to sums, in place."""
    if not whole:
        kernels.merge_sums(mine.reshape(-1, 2), theirs.reshape(-1, 2))
    else:
        mine += widen(theirs) if theirs.shape[1] < mine.shape[1] else theirs


def in_parts(low: Ints, high: Ints) -> Floats:
    """Turn low + 2**32 * high into float64, rounded once."""
    high, low = high + (low >> 32), low & 0xFFFFFFFF
    return np.asarray(high * 2.0**32 + low)
