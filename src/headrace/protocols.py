"""The six contracts. Read this page first: everything else implements one of them.

A `Plan` streams chunks of cells from a `Source` through steps into a `Sink`. A step is a `Transform`, or a `Fit`, which
sees all cells first, through an `Accumulator`, and then becomes a transform. An `Executor` runs several chunks at once.
A new step derives from one of the two and writes its two methods. Three laws (`tests/laws`). *Rows*: cells together or
apart give the same. *Merge*: folding a stream equals merging the folds of its parts. *Plan*: no chunk or thread shows.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Generic, Literal, Self, TypeVar

from .afterwards import AddingSink, AddingStep, AddingWriter
from .chunk import Chunk, Cost, Mask, StreamSpec
from .contract import Contract
from .preparer import Preparer
from .traffic import Traffic

Ref = TypeVar("Ref")
Result = TypeVar("Result")


class Source(Contract, Generic[Ref]):
    """Where cells come from: a location, never an open handle, so that it pickles small."""

    @property
    @abstractmethod
    def spec(self) -> StreamSpec:
        """What is known of the stream before it is read."""

    @abstractmethod
    def refs(self, nnz: int) -> Sequence[Ref]:
        """Return a reference per chunk of about `nnz` non-zeros, in order; if `spooled`, it has `start` and `stop`."""

    @abstractmethod
    def read(self, refs: Sequence[Ref]) -> Iterator[Chunk]:
        """Read consecutive chunks, in order. Safe to call from several threads."""

    @abstractmethod
    def cost(self) -> Cost:
        """Estimate what reading all of it takes."""

    def within(self, memory: int) -> Self:
        """Return the same source, made to read in about `memory` bytes beside the chunks."""
        return self

    def value_counts(self, column: str) -> dict[str, int]:
        """Count the cells of each value of a column of `obs`, most first; empty if unknown."""
        return {}

    def identity(self) -> str:
        """Return a text that changes with the cells, genes and values; empty for data in memory."""
        return ""

    def provenance(self) -> dict[str, Any]:
        """Describe the stream in plain values, for the output's `uns["headrace"]`."""
        return {}

    @property
    def spooled(self) -> bool:
        """Whether a plan of several passes keeps the cells on disk after the first."""
        return False

    traffic: Traffic | None = None
    """What it fetches from far away, counted; None if all is at hand."""

    @property
    def most_nnz(self) -> int | None:
        """The largest chunk that pays, in non-zeros; None for the engine's own bound."""
        return None

    @property
    def counts_checked(self) -> bool:
        """Whether the source has checked that its counts are counts."""
        return False

    @property
    def layer(self) -> str:
        """The name of the matrix it streams, in messages."""
        return "X"

    @property
    def files(self) -> tuple[Path, ...]:
        """Local files and folders that it reads: nothing may write over them."""
        return ()

    @property
    def notes(self) -> tuple[str, ...]:
        """What `explain` is to say about how it is read, a line each."""
        return ()


class Step(AddingStep):
    """What a transform and a fit may both say of themselves. Every line has a default."""

    @abstractmethod
    def preview(self, spec: StreamSpec) -> StreamSpec:
        """Describe what will come out, as far as it is known before data is read, or raise `PlanError`."""

    def suited(self, spec: StreamSpec) -> Step:
        """Return the step as it is to be for a stream like `spec`; a plan asks before anything else."""
        return self

    @property
    def passes(self) -> int:
        """Accumulators that `fit` yields: each is one pass over all cells."""
        return 0

    @property
    def annotates(self) -> bool:
        """Whether all that comes of it is in `var` and `uns`: the stream need not wait for it."""
        return False

    @property
    def reads_var(self) -> bool:
        """Whether it uses annotations of genes that earlier fits make, and so waits for them."""
        return False

    @property
    def chooses_genes(self) -> bool:
        """Whether all it does to the cells is to keep some genes, those of its transform's `kept_genes`."""
        return False

    @property
    def by_gene(self) -> bool:
        """Whether it treats each gene alone: it may share the pass in which genes are chosen, and forget the others."""
        return False

    @property
    def becomes_source(self) -> bool:
        """Whether the stream ends here and begins again from a source that the step makes, as in `Pseudobulk`."""
        return False

    @property
    def layer(self) -> str | None:
        """The saved layer that it reads; None for `X`."""
        return None

    @property
    def needs_counts(self) -> bool:
        """Whether what it reads must be counts: the engine checks every value on the way."""
        return False

    @property
    def densifies(self) -> bool:
        """Whether `X` is dense afterwards."""
        return False

    @property
    def keeps_values(self) -> bool:
        """Whether every cell that stays keeps all its values."""
        return self.annotates

    @property
    def scales_cells(self) -> bool:
        """Whether it divides every cell by its total; a plan that does so twice gets a warning."""
        return False

    @property
    def corrects_length(self) -> Collection[str] | Literal["all"]:
        """EFO ids of the assays whose cells it divides by gene length and marks in `obs["length_normalized"]`."""
        return ()

    def memory(self, spec: StreamSpec) -> int:
        """Predict the bytes of its accumulators."""
        return 48 * spec.n_vars

    def disk(self, spec: StreamSpec) -> int:
        """Predict the bytes of temporary files of its accumulators."""
        return 0

    def belongs_to(self, before: Step) -> bool:
        """Whether the user gave it and the step before it as one; that one is then shown for both."""
        return False


class Transform(Step):
    """Chunk to chunk, row by row. May drop cells or genes, never reorder them."""

    @abstractmethod
    def __call__(self, chunk: Chunk) -> Chunk:
        """Return the transformed cells; never change `chunk`."""

    @abstractmethod
    def out(self, spec: StreamSpec) -> StreamSpec:
        """Describe the stream that comes out, or raise `PlanError` if `spec` makes no sense here."""

    def preview(self, spec: StreamSpec) -> StreamSpec:
        """Describe what will come out: all is known."""
        return self.out(spec)

    @property
    def kept_genes(self) -> Mask | None:
        """The genes that it keeps, shape (n_vars,), if that is all it does; else None."""
        return None

    @property
    def adds_obs(self) -> Collection[str] | None:
        """The columns of `obs` that it adds, if that is all it does: where nothing reads them, it is left out."""
        return None

    @property
    def reads_obs(self) -> Collection[str] | None:
        """The columns of `obs` that it reads; None if unknown."""
        return None


class Accumulator(Contract, Generic[Result]):
    """A summary of cells; a new one is empty. The order of updates and merges must not show, not by one bit."""

    parallel = False  # several threads may update it at once

    @abstractmethod
    def update(self, chunk: Chunk) -> None:
        """Add the cells of one chunk."""

    @abstractmethod
    def merge(self, other: Self) -> None:
        """Add all that `other` has seen."""

    @abstractmethod
    def result(self) -> Result:
        """Return the statistic. May be asked again, and updates may follow."""

    def keep(self, genes: Mask) -> Self:
        """Return it as if it had only seen some genes, shape (n_vars,). Needed by fits that are `by_gene`."""
        raise NotImplementedError(f"{type(self).__name__} cannot forget genes; a fit that yields it is not by_gene")

    def use_scratch(self, folder: Path) -> None:
        """Be told the folder for temporary files, before the first update."""

    @property
    def reads_obs(self) -> Collection[str] | None:
        """The columns of `obs` that it reads; None if unknown."""
        return None


class Fit(Step):
    """A step that sees data before it is a transform, or a source of its own (`becomes_source`)."""

    @abstractmethod
    def fit(self, spec: StreamSpec) -> Generator[Accumulator[Any], Any, Transform | Source[Any]]:
        """Yield an accumulator, be sent its result, and so on (`passes` times); return the transform, or a source."""

    @property
    def passes(self) -> int:
        """One pass over all cells, unless it says otherwise."""
        return 1


class Writer(AddingWriter):
    """An output in the making."""

    @abstractmethod
    def write(self, chunk: Chunk) -> None:
        """Append cells."""

    @abstractmethod
    def finish(self, spec: StreamSpec) -> None:
        """Write what is known only now: genes, their statistics, `uns`."""


class Sink(AddingSink):
    """Where chunks go."""

    def check(self, spec: StreamSpec) -> None:
        """Raise `OutputError` if a stream like `spec` cannot be written, before any of it is read."""

    @abstractmethod
    def open(self, spec: StreamSpec) -> AbstractContextManager[Writer]:
        """Begin. Leaving the block normally commits; an exception leaves no trace."""

    def preparer(self, spec: StreamSpec) -> Preparer | None:
        """Return what can make chunks ready in other processes; None if nothing can."""
        return None

    @property
    def files(self) -> tuple[Path, ...]:
        """Files that it writes: none of them may be one that the source reads."""
        return ()


class Executor(Contract):
    """Runs a function over items: results in order, a bounded number in flight."""

    @property
    @abstractmethod
    def in_flight(self) -> int:
        """Most results that are not yet consumed: memory is divided among them."""

    @abstractmethod
    def map(self, fn: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        """Yield `fn(item)` for every item, in order."""
