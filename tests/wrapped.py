"""A source that passes everything on to another one: tests override what they want to watch or break."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

from headrace.chunk import Chunk, StreamSpec
from headrace.protocols import Cost, Source
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
