"""The six contracts. Read this page first: everything else implements one of them.

A `Plan` streams chunks of cells from a `Source` through steps into a `Sink`. A step is a
`Transform`, or a `Fit` that looks at the data first and then becomes one. What a fit sees is
summed up by an `Accumulator`; an `Executor` says how many chunks are worked on at once.

Three laws hold for every implementation, and are tested for every one (`tests/laws`):

1. *Rows.* Transforming cells together or apart gives the same cells.
2. *Merge.* Folding a stream equals merging the folds of its parts, in any grouping and order.
3. *Plan.* A result is the same to the bit for every chunk size, thread count and executor.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol, Self, TypeVar, runtime_checkable

from .chunk import Chunk, StreamSpec

Ref = TypeVar("Ref")
Result_co = TypeVar("Result_co", covariant=True)
Item = TypeVar("Item")
Out = TypeVar("Out")


@dataclass(frozen=True)
class Cost:
    """What it takes to read a source once."""

    nnz: int
    """Non-zeros to be decoded, of genes that are dropped too."""
    bytes: int
    """Bytes as stored."""
    memory: int
    """Bytes held beside the chunks while reading."""
    resident: int = 0
    """Bytes that the process holds from then on: libraries."""
    disk: int = 0
    """Bytes of temporary files while reading."""


@runtime_checkable
class Source(Protocol[Ref]):
    """Where cells come from: a location, never an open handle, so that it pickles small."""

    spooled: bool
    """Whether a plan that looks at the cells more than once is to keep them on disk meanwhile."""

    @property
    def spec(self) -> StreamSpec:
        """What is known of the stream before it is read."""

    def identity(self) -> str:
        """Return a text that is another one if the cells, the genes or their values may be others."""

    def refs(self, nnz: int) -> Sequence[Ref]:
        """Return one small reference per chunk, in stream order, each of about `nnz` non-zeros.

        A source that is spooled gives references with `start` and `stop`, positions of cells.
        """

    def read(self, refs: Sequence[Ref]) -> Iterator[Chunk]:
        """Read some chunks that follow one another, in order. Safe to call from several threads."""

    def within(self, memory: int) -> Self:
        """Return the same source, made to read in about `memory` bytes beside the chunks."""

    def cost(self) -> Cost:
        """Estimate what reading all of it takes."""

    def value_counts(self, column: str) -> dict[str, int]:
        """Count the cells of each value of a column of `obs`, most first; empty if unknown."""

    def provenance(self) -> dict[str, Any]:
        """Say what the stream is, in plain values, for the output's `uns["headrace"]`."""


@runtime_checkable
class Transform(Protocol):
    """Chunk to chunk, row by row. May drop cells or genes, never reorder them."""

    def __call__(self, chunk: Chunk) -> Chunk:
        """Return the transformed cells."""

    def out(self, spec: StreamSpec) -> StreamSpec:
        """Describe the stream that comes out, or raise `PlanError` if `spec` makes no sense here."""


class Accumulator(Protocol[Result_co]):
    """A summary of cells that can be merged; a new one is empty.

    The order of updates and merges must not show in the result, not by one bit.
    """

    def update(self, chunk: Chunk) -> None:
        """Take in the cells of one chunk."""

    def merge(self, other: Self) -> None:
        """Take in all that `other` has seen."""

    def result(self) -> Result_co:
        """Return the statistic. May be asked again, and updates may follow."""


@runtime_checkable
class Fit(Protocol):
    """A step that must see data before it is a `Transform`.

    It may instead become a `Source`: the stream then ends here, and begins again from that source
    (as in `Pseudobulk`, where cells go in and samples come out).
    """

    passes: int
    """How many accumulators `fit` yields: each is one look at all cells."""
    annotates: bool
    """True if all that comes of it is in `var` and `uns`: the stream need not wait for it."""
    reads_var: bool
    """True if `fit` uses annotations of earlier fits, and so must wait for them."""

    def preview(self, spec: StreamSpec) -> StreamSpec:
        """Describe what will come out as far as it is known before any data is read.

        Genes that may go are still there, annotations to come hold nothing. Raises `PlanError` if
        `spec` makes no sense here.
        """

    def fit(self, spec: StreamSpec) -> Generator[Accumulator[Any], Any, Transform | Source[Any]]:
        """Yield an accumulator, be sent its result, and so on; return the transform, or a source."""


class Writer(Protocol):
    """An output in the making."""

    def write(self, chunk: Chunk) -> None:
        """Append cells."""

    def finish(self, spec: StreamSpec) -> None:
        """Write what is known only now: genes, their statistics, `uns`."""


class Sink(Protocol):
    """Where chunks go."""

    def open(self, spec: StreamSpec) -> AbstractContextManager[Writer]:
        """Begin. Leaving the block normally commits; an exception leaves no trace."""


class Executor(Protocol):
    """Runs a function over items: results in order, a bounded number in flight."""

    def map(self, fn: Callable[[Item], Out], items: Iterable[Item]) -> Iterator[Out]:
        """Yield `fn(item)` for every item, in order."""


Step = Transform | Fit | Sequence[Any]
"""A step of a plan; a sequence of steps is a step, so recipes nest."""
