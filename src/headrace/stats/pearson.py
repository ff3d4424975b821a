"""Pearson residuals of an analytic negative-binomial model, and their variance (Lause et al. 2021)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..chunk import Chunk
from ..protocols import Accumulator
from . import kernels
from .bygroup import Floats, Ints, add_words, rows_by_group
from .cells import library_sizes
from .groups import Groups
from .measured import Measured
from .moments import as_float
from .representation import Representation
from .shelf import Block, Shelf


@dataclass(frozen=True)
class Model:
    """What the model of one group expects: a cell of size s has `s * share` of each gene.

    Parameters
    ----------
    share
        Shape (genes,); 0 for genes that the group has none of.
    clip
        Residuals are within -clip and clip.
    """

    share: Floats
    clip: float


class Models(Mapping[int, Model]):
    """The models of many groups, each made when it is asked for; those asked for last are kept.

    Parameters
    ----------
    make
        Returns the model of a group.
    codes
        The numbers of the groups.
    """

    KEPT = 32

    def __init__(self, make: Callable[[int], Model], codes: Collection[int]) -> None:
        self._make, self._codes = make, frozenset(codes)
        self._kept: dict[int, Model] = {}

    def __getitem__(self, code: int) -> Model:
        if code not in self._codes:
            raise KeyError(code)
        model = self._kept.pop(code, None) or self._make(code)
        self._kept[code] = model
        if len(self._kept) > self.KEPT:
            del self._kept[next(iter(self._kept))]
        return model

    def __iter__(self) -> Iterator[int]:
        return iter(sorted(self._codes))

    def __len__(self) -> int:
        return len(self._codes)

    def __contains__(self, code: object) -> bool:
        return code in self._codes


class DatasetTotals(Accumulator[dict[int, Ints]]):
    """Sums all counts by group and dataset, exactly; the result maps a group to int64 (datasets,)."""

    def __init__(self, groups: Groups, rep: Representation, measured: Measured | None) -> None:
        self.groups, self.rep, self.measured = groups, rep, measured
        self.totals: dict[int, Ints] = {}

    def update(self, chunk: Chunk) -> None:
        """Add the cells of one chunk."""
        sizes = library_sizes(self.rep(chunk)).astype(np.int64)
        for code, dataset, rows in rows_by_dataset(self.groups.codes(chunk), self.measured, chunk):
            self._of(code)[dataset] += sizes[rows].sum()

    def _of(self, code: int) -> Ints:
        n = 1 if self.measured is None else len(self.measured.seen)
        return self.totals.setdefault(code, np.zeros(n, dtype=np.int64))

    def merge(self, other: DatasetTotals) -> None:
        """Add all that `other` has seen."""
        for code, theirs in other.totals.items():
            self._of(code)[:] += theirs

    def result(self) -> dict[int, Ints]:
        """Return the totals of each group's datasets."""
        return {code: totals.copy() for code, totals in sorted(self.totals.items())}


class ResidualSums(Accumulator[Iterator[tuple[int, Floats]]]):
    """Accumulates clipped residuals and their squares by group and gene, as fixed-point sums.

    Parameters
    ----------
    groups, n_vars, rep, measured
        As in `SumsByGroup`; 32 bytes per gene and group that comes.
    models
        What is expected in each group; others are left out.
    theta
        Overdispersion.
    """

    def __init__(
        self,
        groups: Groups,
        n_vars: int,
        rep: Representation,
        models: Mapping[int, Model],
        theta: float,
        measured: Measured | None,
    ) -> None:
        self.groups, self.n_vars, self.rep, self.models = groups, n_vars, rep, models
        self.theta, self.measured = theta, measured
        self.blocks = Shelf(self._size(len(models), n_vars))

    @staticmethod
    def memory(groups: int, n_vars: int) -> int:
        """Predict its bytes for a number of groups that come."""
        return Shelf.kept(ResidualSums._size(groups, n_vars))

    @staticmethod
    def disk(groups: int, n_vars: int) -> int:
        """Predict the bytes of its temporary file, if all sums are too many for memory."""
        size = ResidualSums._size(groups, n_vars)
        return size - Shelf.kept(size)

    @staticmethod
    def _size(groups: int, n_vars: int) -> int:
        return 32 * n_vars * groups

    def use_scratch(self, folder: Path) -> None:
        """Be told the folder for the temporary file."""
        self.blocks.scratch = folder

    def update(self, chunk: Chunk) -> None:
        """Add the cells of one chunk."""
        X = self.rep.csr(chunk)
        sizes = library_sizes(X)
        everything = np.ones(self.n_vars, dtype=bool)
        for code, dataset, rows in rows_by_dataset(self.groups.codes(chunk), self.measured, chunk):
            if code in self.models:
                model, block = self.models[code], self._block(code)
                seen = everything if self.measured is None else self.measured.seen.row(dataset)
                kernels.add_residuals(
                    X.indptr, X.indices, X.data, rows, sizes, model.share, self.theta, model.clip, seen, block.words
                )
                block.cells[dataset] += len(rows)

    def _block(self, code: int) -> Block:
        if code not in self.blocks:
            n = 1 if self.measured is None else len(self.measured.seen)
            self.blocks[code] = Block(np.zeros((self.n_vars, 4), dtype=np.uint64), np.zeros(n, dtype=np.int64))
        return self.blocks[code]

    def merge(self, other: ResidualSums) -> None:
        """Add all that `other` has seen."""
        for code, theirs in other.blocks.items():
            mine = self._block(code)
            mine.cells += theirs.cells
            add_words(mine.words, theirs.words, whole=False)

    def result(self) -> Iterator[tuple[int, Floats]]:
        """Yield for each group the variance (with n) of every gene's residuals; 0 for genes without counts."""
        for code, block in self.blocks.items():
            n = int(block.cells.sum()) if self.measured is None else np.maximum(self.measured.n(block.cells), 1)
            total, squares = as_float(block.words[:, :2]), as_float(block.words[:, 2:])
            yield code, np.maximum(squares / n - (total / n) ** 2, 0.0)


def rows_by_dataset(
    codes: Ints, measured: Measured | None, chunk: Chunk
) -> Iterator[tuple[int, int, npt.NDArray[np.int64]]]:
    """Yield the rows of each group and dataset; all datasets are number 0 if what was measured does not matter."""
    if measured is None:
        for code, rows in rows_by_group(codes):
            yield code, 0, rows
        return
    datasets = measured.rows(chunk)
    n = len(measured.seen)
    for both, rows in rows_by_group(np.where(codes >= 0, codes * n + datasets, -1)):
        yield both // n, both % n, rows
