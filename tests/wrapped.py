"""Sources for tests: one that passes everything on to another one, to be watched or broken, and one that is spooled."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

from headrace.chunk import Chunk, StreamSpec
from headrace.protocols import Cost, Source
from headrace.sources.arrays import ArraySource
from headrace.sources.ranges import CellRange
from headrace.traffic import Traffic


class Wrapped(Source[Any]):
    def __init__(self, source: Source[Any]) -> None:
        self.source = source

    def around(self, source: Source[Any]) -> Self:
        """Return the same wrapping of another source."""
        return type(self)(source)

    def within(self, memory: int) -> Self:
        return self.around(self.source.within(memory))

    def refs(self, nnz: int) -> Sequence[Any]:
        return self.source.refs(nnz)

    def read(self, refs: Sequence[Any]) -> Iterator[Chunk]:
        return self.source.read(refs)

    def cost(self) -> Cost:
        return self.source.cost()

    def value_counts(self, column: str) -> dict[str, int]:
        return self.source.value_counts(column)

    def identity(self) -> str:
        return self.source.identity()

    def provenance(self) -> dict[str, Any]:
        return self.source.provenance()

    @property
    def spec(self) -> StreamSpec:
        return self.source.spec

    @property
    def spooled(self) -> bool:
        return self.source.spooled

    @property
    def traffic(self) -> Traffic | None:
        return self.source.traffic

    @property
    def most_nnz(self) -> int | None:
        return self.source.most_nnz

    @property
    def counts_checked(self) -> bool:
        return self.source.counts_checked

    @property
    def layer(self) -> str:
        return self.source.layer

    @property
    def files(self) -> tuple[Path, ...]:
        return self.source.files

    @property
    def notes(self) -> tuple[str, ...]:
        return self.source.notes


class Spooled(ArraySource):
    """A source of 240 cells in memory that is spooled as one that is far away, in four parts."""

    spooled = True

    def refs(self, nnz: int) -> list[Any]:
        del nnz
        return [CellRange(start, start + 60) for start in range(0, 240, 60)]

    def read(self, refs: Sequence[Any]) -> Iterator[Chunk]:
        return super().read([(ref.start, ref.stop) for ref in refs])
