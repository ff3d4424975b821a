"""Some cells of an .h5ad file: its rows are read in order, and those that were not chosen are left out."""

from __future__ import annotations

import copy
import json
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import pandas as pd

from ...chunk import Chunk, Cost, StreamSpec
from ...protocols import Source
from ...support.inputs import close_inputs, opened
from ..compact import Ints, Joinids
from ..groups import Counts, check_by
from ..ranges import CellRange
from ..sample import Sample, draw, request_of
from .outlived import counts_of


class Rows(Source[CellRange]):
    """A source of all rows of something, which may be counted and sampled."""

    @property
    @abstractmethod
    def obs_names(self) -> list[str]:
        """Names of the columns of obs."""

    @abstractmethod
    def obs_blocks(self, columns: Sequence[str]) -> Iterator[tuple[Ints, pd.DataFrame]]:
        """Yield the numbers of all rows and columns of obs, some at a time."""

    def count(self, by: str | Sequence[str] | None = None) -> pd.DataFrame:
        """Count the cells of each group of columns of obs: a row for each, most cells first, with `n_obs`."""
        return SampledRows(self, ()).count(by)

    def sample(self, n: int | None = None, **asked: Any) -> SampledRows:
        """Return some of the cells, chosen by a hash of the seed and their row; parameters as `CensusQuery.sample`."""
        return SampledRows(self, ()).sample(n, **asked)


@dataclass(frozen=True)
class SampledRows(Source[CellRange]):
    """A sample of the cells of a file; made by `Rows.sample`.

    Parameters
    ----------
    file
        All cells.
    samples
        Each of the cells that the one before leaves; a cell's number is its row.
    """

    file: Rows
    samples: tuple[Sample, ...]

    def __post_init__(self) -> None:
        opened(self, self._closed)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take what was pickled; the file is this process's to close, too."""
        self.__dict__.update(state)
        opened(self, self._closed)

    def _closed(self) -> None:
        """Close the file, which is opened again when it is needed."""
        close_inputs(self.file)
        opened(self, self._closed)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what was looked up."""
        return {k: v for k, v in self.__dict__.items() if k in self.__dataclass_fields__}

    @cached_property
    def spec(self) -> StreamSpec:
        """What is known of the stream: fewer cells, and at most as many non-zeros."""
        values = counts_of(self, replace(self, file=copy.copy(self.file)))
        return replace(self.file.spec, n_obs=len(self.rows), values=values)

    @cached_property
    def rows(self) -> Joinids:
        """The rows that are chosen."""
        rows = Joinids()
        for numbers, _ in self.cells(()):
            rows.extend(numbers)
        return rows

    def refs(self, nnz: int) -> list[CellRange]:
        """Return the spans of rows that have chosen cells, each of about `nnz` non-zeros before any is left out."""
        return [span for span in self.file.refs(nnz) if len(self._chosen(span))]

    def read(self, refs: Sequence[CellRange]) -> Iterator[Chunk]:
        """Read chunks, in order, and leave out what was not chosen."""
        for span, chunk in zip(refs, self.file.read(refs), strict=True):
            keep = self._chosen(span) - span.start
            obsm = {name: values[keep] for name, values in chunk.obsm.items()}
            yield Chunk(chunk.X[keep], chunk.obs.iloc[keep], obsm=obsm)

    def cost(self) -> Cost:
        """Say what reading takes: rows of a file lie together, so that of a span all are read."""
        cost = self.file.cost()
        return replace(cost, memory=cost.memory + self.rows.nbytes)

    def within(self, memory: int) -> Self:
        """Return the same source, opened anew."""
        other = replace(self, file=self.file.within(memory))
        other.__dict__["rows"] = self.rows
        return other

    def value_counts(self, column: str) -> dict[str, int]:
        """Count the cells of each value of a column of obs."""
        return self._count((column,)).values() if column in self.file.obs_names else {}

    def count(self, by: str | Sequence[str] | None = None) -> pd.DataFrame:
        """Count the cells of each group; see `Census.count`."""
        return self._count(check_by(by, self.file.obs_names, "count", "obs")).table(False)

    def sample(self, n: int | None = None, **asked: Any) -> SampledRows:
        """Return the same source with some of its cells; see `CensusQuery.sample`."""
        by = check_by(asked.pop("by", None), self.file.obs_names, "sample", "obs")
        request = _request(by, n, **asked)
        drawn = draw(self._count(by).sizes, lambda: self.cells(by), request, "the file")
        return replace(self, samples=(*self.samples, drawn))

    def cells(self, columns: Sequence[str]) -> Iterator[tuple[Ints, pd.DataFrame]]:
        """Yield the rows that are chosen, and columns of obs."""
        needed = [name for sample in self.samples for name in sample.by]
        for numbers, cells in self.file.obs_blocks(list(dict.fromkeys([*columns, *needed]))):
            for sample in self.samples:
                keep = sample.chosen(numbers, cells[list(sample.by)])
                numbers, cells = numbers[keep], cells[keep]
            yield numbers, cells[list(columns)]

    def _count(self, by: Sequence[str]) -> Counts:
        counts = Counts(by)
        for _, cells in self.cells(by):
            counts.add(cells)
        return counts

    def _chosen(self, span: CellRange) -> Ints:
        """Return the chosen rows of a span."""
        return self.rows.between(span.start, span.stop)

    def identity(self) -> str:
        """Return the file's, with the rows."""
        return json.dumps([self.file.identity(), self.rows.digest()])

    def provenance(self) -> dict[str, Any]:
        """Say what was asked for, in plain values."""
        said = self.file.provenance()
        drawn = [sample.provenance() for sample in self.samples]
        return {**said, "query": {**said["query"], "sample": drawn}}

    @property
    def spooled(self) -> bool:
        """Whether what was read is kept for further passes."""
        return self.file.spooled

    @property
    def most_nnz(self) -> int | None:
        """The largest chunk that pays."""
        return self.file.most_nnz

    @property
    def layer(self) -> str:
        """The name of the matrix, in messages."""
        return self.file.layer

    @property
    def counts_checked(self) -> bool:
        """Whether counts were checked when the file was opened."""
        return self.file.counts_checked

    @property
    def files(self) -> tuple[Path, ...]:
        """The file."""
        return self.file.files

    @property
    def notes(self) -> tuple[str, ...]:
        """What the sample costs."""
        drawn = f"a sample of {len(self.rows):,} of {self.samples[0].of:,} cells: all of the file's X is read"
        return (*self.file.notes, drawn)


def _request(
    by: Sequence[str],
    n: int | None = None,
    *,
    fraction: float | None = None,
    per_group: int | None = None,
    balanced: bool = False,
    min_per_group: int | None = None,
    seed: int = 0,
) -> Any:
    return request_of(by, n, fraction, per_group, balanced, min_per_group, seed)
