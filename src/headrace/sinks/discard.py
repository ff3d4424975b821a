"""A sink that keeps nothing, for runs that only need statistics."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ..chunk import Chunk, StreamSpec
from ..preparer import Preparer
from ..protocols import Sink, Writer


@dataclass(frozen=True)
class Discard(Sink, Writer):
    """Discards the cells."""

    @contextmanager
    def open(self, spec: StreamSpec) -> Iterator[Discard]:
        """Begin; the writer is the sink itself."""
        del spec
        yield self

    def write(self, chunk: Chunk) -> None:
        """Discard the cells."""

    def finish(self, spec: StreamSpec) -> None:
        """Nothing to finish."""


@dataclass(frozen=True)
class Prepares(Discard):
    """Discards the cells, but says what would make them ready for another sink."""

    sink: Sink

    def preparer(self, spec: StreamSpec) -> Preparer | None:
        """Return that of the other sink."""
        return self.sink.preparer(spec)
