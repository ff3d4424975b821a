"""Matrices made dense on their way into a sink, for programs that take no sparse ones (pydeseq2)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..chunk import Chunk, Matrix, StreamSpec
from ..protocols import Sink, Writer

VALUES = 4_000_000
"""At most so many values of a matrix are dense at once."""


@dataclass(frozen=True)
class Dense(Sink):
    """Writes X and layers into another sink as dense float32, some rows at a time.

    Parameters
    ----------
    sink
        Where they go.
    """

    sink: Sink

    @property
    def files(self) -> tuple[Path, ...]:
        """Those of the other sink."""
        return self.sink.files

    def check(self, spec: StreamSpec) -> None:
        """Have the other sink check the stream."""
        self.sink.check(spec)

    @contextmanager
    def open(self, spec: StreamSpec) -> Iterator[Writer]:
        """Begin."""
        with self.sink.open(spec) as writer:
            yield _DenseWriter(writer, max(1, VALUES // max(1, spec.n_vars)))


@dataclass
class _DenseWriter(Writer):
    """Makes chunks dense; see `Dense`."""

    writer: Writer
    rows: int

    def write(self, chunk: Chunk) -> None:
        """Append cells."""
        for start in range(0, chunk.n_obs, self.rows):
            part = slice(start, min(start + self.rows, chunk.n_obs))
            self.writer.write(
                replace(
                    chunk,
                    X=_dense(chunk.X[part]),
                    obs=chunk.obs.iloc[part],
                    layers={name: _dense(X[part]) for name, X in chunk.layers.items()},
                    obsm={name: values[part] for name, values in chunk.obsm.items()},
                )
            )

    def finish(self, spec: StreamSpec) -> None:
        """Write what is known only now."""
        self.writer.finish(spec)


def _dense(X: Matrix) -> Matrix:
    return X if isinstance(X, np.ndarray) else X.toarray()
