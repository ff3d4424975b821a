"""Sums of cells by group, sparse: as many groups as there are, none of them known beforehand.

Whole numbers are summed as 64-bit integers, others as the 128-bit fixed-point numbers of `kernels`:
neither knows an order, so the sums are the same to the bit however the cells came.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ..chunk import Chunk
from ..protocols import Accumulator
from . import kernels
from .constant import Constants
from .representation import Representation

BLOCK = 256
"""Groups that are kept together: what is merged at a time, so that merging takes little memory."""

MERGE_AT = 200_000
"""Non-zeros that wait in a block before they are merged into its sums: merging is cheaper by the dozen."""

Words = npt.NDArray[np.uint64]
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class SumRows:
    """Some sums: row i belongs to group `groups[i]`, to none if that is negative.

    `values` are whole numbers, int32 or int64, or fixed-point numbers, uint64 of shape (nnz, 2).
    """

    groups: Integers
    indptr: npt.NDArray[Any]
    indices: npt.NDArray[np.int32]
    values: npt.NDArray[Any]

    def rows(self, start: int, stop: int) -> SumRows:
        """Copy some rows."""
        a, b = self.indptr[start], self.indptr[stop]
        indptr = self.indptr[start : stop + 1] - a
        return SumRows(self.groups[start:stop].copy(), indptr, self.indices[a:b].copy(), self.values[a:b].copy())

    def floats(self, start: int, stop: int) -> npt.NDArray[np.float64]:
        """Return the sums of some rows; equal numbers give equal floats, however their words were added up."""
        return _floats(_words(self.values[self.indptr[start] : self.indptr[stop]]))

    def renumbered(self, numbers: Integers) -> SumRows:
        """Give the groups other numbers."""
        return SumRows(numbers[self.groups], self.indptr, self.indices, self.values)


@dataclass(frozen=True)
class GroupTotals:
    """Groups in no particular order.

    Parameters
    ----------
    keys
        The values of the group columns, one tuple per group.
    n_cells
        Cells of each group, shape (groups,).
    parts
        The sums, groups x genes.
    constant
        Columns of `obs` that have one value in every group of at least `min_cells` cells: its values by group.
    n_missing
        Cells that belong to no group, for want of a value in a group column.
    """

    keys: list[tuple[Any, ...]]
    n_cells: Integers
    parts: tuple[SumRows, ...]
    constant: dict[str, list[Any]]
    n_missing: int


class GroupSums(Accumulator[GroupTotals]):
    """Accumulates `GroupTotals`.

    Parameters
    ----------
    by
        Columns of `obs`.
    n_vars
        Number of genes.
    rep
        Which matrix of the chunk.
    min_cells
        Smaller groups do not keep a column of `obs` from being constant.
    detected
        True to count the cells in which a gene is above zero instead of summing values.
    """

    def __init__(
        self,
        by: Sequence[str],
        n_vars: int,
        rep: Representation | None = None,
        min_cells: int = 1,
        detected: bool = False,
    ) -> None:
        self.by, self.n_vars, self.rep, self.detected = tuple(by), n_vars, rep or Representation(), detected
        self.numbers: dict[tuple[Any, ...], int] = {}
        self.n_cells = np.zeros(0, dtype=np.int64)
        self.constants = Constants(min_cells)
        self.blocks: list[_Block] = []
        self.n_missing = 0

    def update(self, chunk: Chunk) -> None:
        """Add the cells of one chunk."""
        keys, first, group = group_rows(chunk.obs, self.by)
        self.n_missing += int((group < 0).sum())
        if not keys:
            return
        numbers = self._number(keys)
        self.n_cells[numbers] += np.bincount(group[group >= 0], minlength=len(keys))
        self.constants.update(chunk.obs.drop(columns=list(self.by)), first, group, numbers, self.n_cells)
        X = self.rep.csr(chunk)
        part = SumRows(np.where(group >= 0, numbers[group], -1), X.indptr, X.indices, self._values(X.data))
        self._take(_summed([part], self.n_vars))

    def merge(self, other: GroupSums) -> None:
        """Add all that `other` has seen."""
        numbers = self._number(list(other.numbers))
        self.n_cells[numbers] += other.n_cells
        self.n_missing += other.n_missing
        self.constants.merge(other.constants, numbers, self.n_cells)
        for block in other.blocks:
            for part in block.parts:
                self._take(_summed([part.renumbered(numbers)], self.n_vars))

    def result(self) -> GroupTotals:
        """Return the totals."""
        parts = tuple(block.squeezed(self.n_vars) for block in self.blocks)
        constant = self.constants.result(len(self.numbers))
        return GroupTotals(list(self.numbers), self.n_cells.copy(), parts, constant, self.n_missing)

    def _number(self, keys: list[tuple[Any, ...]]) -> npt.NDArray[np.int64]:
        """Return the groups' numbers; new ones get the next."""
        numbers = np.array([self.numbers.setdefault(key, len(self.numbers)) for key in keys], dtype=np.int64)
        self.n_cells = np.pad(self.n_cells, (0, len(self.numbers) - len(self.n_cells)))
        return numbers

    def _values(self, data: npt.NDArray[np.float32]) -> npt.NDArray[Any]:
        if self.detected:
            return (data > 0).astype(np.int32)
        if not len(data) or (np.abs(data).max() < 2.0**62 and (np.floor(data) == data).all()):
            return _narrowed(data.astype(np.int64).view(np.uint64)[:, None])
        words = np.empty((len(data), 2), dtype=np.uint64)
        kernels.fixed_words(data, words)
        return words

    def _take(self, part: SumRows) -> None:
        """Share out sums whose groups come in order among the blocks."""
        last = int(part.groups[-1]) // BLOCK if len(part.groups) else -1
        self.blocks.extend(_Block() for _ in range(last + 1 - len(self.blocks)))
        edges = np.searchsorted(part.groups, np.arange(last + 2) * BLOCK)
        for block, start, stop in zip(self.blocks, edges[:-1].tolist(), edges[1:].tolist(), strict=False):
            if stop > start:
                block.take(part.rows(start, stop), self.n_vars)


class _Block:
    """The sums of some groups, and what waits to be added to them."""

    def __init__(self) -> None:
        self.parts: list[SumRows] = []
        self.waiting = 0

    def take(self, part: SumRows, n_vars: int) -> None:
        self.parts.append(part)
        self.waiting += len(part.indices)
        if self.waiting > max(MERGE_AT, len(self.parts[0].indices)):
            self.squeezed(n_vars)

    def squeezed(self, n_vars: int) -> SumRows:
        """Merge what waits into one part."""
        if len(self.parts) != 1:
            self.parts = [_summed(self.parts, n_vars)]
        self.waiting = 0
        return self.parts[0]


def _summed(parts: list[SumRows], n_vars: int) -> SumRows:
    """Sum the rows of each group; groups come out in order."""
    if not parts:
        return SumRows(np.zeros(0, np.int64), np.zeros(1, np.int64), np.zeros(0, np.int32), np.zeros(0, np.int32))
    groups = np.concatenate([part.groups for part in parts])
    width = max(part.values.ndim for part in parts)
    words = np.concatenate([_widened(_words(part.values), width) for part in parts])
    indices = np.concatenate([part.indices for part in parts])
    offsets = np.cumsum([0, *(len(part.indices) for part in parts)])
    indptr = np.concatenate([part.indptr[:-1] + at for part, at in zip(parts, offsets, strict=False)] + [offsets[-1:]])
    order = np.argsort(groups, kind="stable")
    order = order[groups[order] >= 0]
    present, starts = np.unique(groups[order], return_index=True)
    out = np.zeros(len(present) + 1, dtype=np.int64), np.empty_like(indices), np.empty_like(words)
    n = kernels.sum_groups(indptr, indices, words, order, np.append(starts, len(order)), n_vars, *out)
    return SumRows(present, out[0], out[1][:n].copy(), _narrowed(out[2][:n]))


def _words(values: npt.NDArray[Any]) -> Words:
    """Return the values as the words that are added up, (n, 1) or (n, 2)."""
    return values.astype(np.int64).view(np.uint64)[:, None] if values.ndim == 1 else values


def _narrowed(words: Words) -> npt.NDArray[Any]:
    """Return a copy of the words as the smallest values that hold them."""
    if words.shape[1] == 2:
        return words.copy()
    whole = words[:, 0].view(np.int64)
    small = not len(whole) or max(int(whole.max()), -int(whole.min())) < 2**31
    return whole.astype(np.int32 if small else np.int64)


def _widened(words: Words, width: int) -> Words:
    """Turn integers into fixed-point numbers if that is what the others are."""
    if words.shape[1] == width:
        return words
    whole = words[:, 0].view(np.int64)
    return np.stack([(whole >> 3).view(np.uint64), (whole & 7).astype(np.uint64) << np.uint64(60)], axis=1)


def _floats(words: Words) -> npt.NDArray[np.float64]:
    """Turn sums into float64; equal numbers give equal floats, however their words were added up."""
    if words.shape[1] == 1:
        return words[:, 0].view(np.int64).astype(np.float64)
    high = words[:, 0].view(np.int64) + (words[:, 1] >> np.uint64(63)).astype(np.int64)
    low = words[:, 1] & np.uint64(2**63 - 1)
    return np.asarray(high * 8.0 + low * 2.0**-60)


def group_rows(
    obs: pd.DataFrame, by: Sequence[str]
) -> tuple[list[tuple[Any, ...]], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Find the groups among some cells: their keys, where each comes first, and the group of every cell or -1."""
    code = np.zeros(len(obs), dtype=np.int64)
    missing = np.zeros(len(obs), dtype=bool)
    for name in by:
        codes, values = pd.factorize(obs[name], use_na_sentinel=True)
        missing |= codes < 0
        code = code * max(1, len(values)) + codes
    valid = np.flatnonzero(~missing)
    _, first, inverse = np.unique(code[valid], return_index=True, return_inverse=True)
    group = np.full(len(obs), -1, dtype=np.int64)
    group[valid] = inverse
    first = valid[first]
    columns = [obs[name].iloc[first].tolist() for name in by]
    return list(zip(*columns, strict=True)), first, group
