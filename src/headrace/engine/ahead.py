"""Cells that are written ahead of what is added to them.

Principal components change nothing of `X` and `obs`: these are written in the pass that they would be written in
without them. What is needed of `X` then is read back from where it was written, and of that the values of the genes
that matter are kept aside for all looks that follow.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse

from ..afterwards import Reading
from ..chunk import Chunk, Mask, StreamSpec, csr
from ..protocols import Executor, Step, Transform, Writer
from ..stats import kernels
from ..support.scratch import Scratch
from .elsewhere import Elsewhere
from .executors import MOST_THREADS, Threads
from .run import Run
from .schedule import Pass, next_pass, passes
from .settings import Settings

BYTES_PER_NNZ = 6
"""Of a value that is kept aside: 4, and 2 for its gene."""

READERS = Threads(workers=2, in_flight=4)
"""What reads chunks back, before a thread is free for them: a disk gives more if it is asked for two at a time."""


def why_not(steps: Sequence[Step], gives_back: bool, settings: Settings) -> str:
    """Return why cells are not written before what the last step adds to them; nothing if they are.

    Parameters
    ----------
    gives_back
        Whether the sink does.
    """
    if not steps or not steps[-1].adds_obsm:
        return "nothing is added to cells alone at the end"
    if isinstance(settings.executor, Elsewhere):
        return "other processes do the passes"
    if not gives_back:
        return "the output cannot be read back while it is written"
    if any(step.becomes_source for step in steps):
        return "cells come from a source that a step makes"
    if any(step.densifies for step in steps):
        return "X is dense"
    if len(purposes(steps)) > len(passes(steps)):
        return f"{steps[-1].label} has its first look in a pass that is needed anyway"
    return ""


def more(executor: Executor) -> Executor:
    """Return some threads more, and many more chunks in flight: one that multiplies several would hold up all.

    Of a chunk that is read back little is left.
    """
    if not isinstance(executor, Threads):
        return executor
    workers = min(executor.workers + -(-executor.workers // 2), MOST_THREADS)
    return Threads(workers, min(4 * executor.workers, MOST_THREADS))


def purposes(steps: Sequence[Step]) -> list[list[str]]:
    """Return for each pass what it is for, if cells are written ahead."""
    *before, last = steps
    return [*passes(before), *([last.label] for _ in range(last.passes)), ["write obsm"]]


class RunAhead(Run):
    """A run that writes cells before what its last step adds to them; `add` comes after `last_pass`."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.purposes = purposes(self.steps)
        self.over_source = self.steps[:-1]
        self.upto = len(self.nodes) - 1
        self.readings: Sequence[Reading] = ()

    def add(self, writer: Writer) -> None:
        """Take more looks at the cells that were written, and add arrays of `obsm` to them."""
        self.readings, self.before, aside = writer.again(), (), None
        self.executor = more(self.executor)
        while True:
            following = next_pass(self.nodes, self.spec)
            *_, stop = following.path
            if aside is not None:
                self.readings = aside.readings()
            if following.last:
                for chunk in self._stream(Pass((stop,), (), last=True)):
                    writer.add(chunk.obsm)
                return
            if aside is None:
                genes = self._genes()
                aside = Aside(self.disk, genes)
                for chunk in self._stream(Pass((OnlyGenes(genes), stop), following.fitting, last=False)):
                    aside.keep(chunk)
            else:
                for _ in self._stream(Pass((stop,), following.fitting, last=False)):
                    pass
            for node in following.fitting:
                node.answer()

    def _genes(self) -> Mask:
        """Mark the genes that the last step reads."""
        spec = self.spec
        for node in self.nodes[:-1]:
            spec = node.now.preview(spec)
        genes = self.nodes[-1].step.reads_genes(spec)
        return np.ones(spec.n_vars, dtype=bool) if genes is None else genes

    def _read(self) -> Generator[tuple[Any, Chunk | None]]:
        """Yield what reads each chunk back, if something does."""
        if self.readings:
            readers = READERS if isinstance(self.executor, Threads) else self.executor
            yield from ((made, None) for made in readers.map(lambda read: read(), self.readings))
        else:
            yield from super()._read()

    def _kept(self, ref: Any, chunk: Chunk | None) -> Chunk:
        """Read a chunk back."""
        return ref() if self.readings else super()._kept(ref, chunk)


@dataclass(frozen=True, eq=False)
class OnlyGenes(Transform):
    """Leave out the values of other genes, but not their columns: for what reads these genes alone."""

    genes: Mask

    def __call__(self, chunk: Chunk) -> Chunk:
        """Return the cells with fewer values."""
        X = _sparse(chunk)
        number = np.where(self.genes, np.arange(len(self.genes)), -1).astype(np.int32)
        indptr = np.empty(chunk.n_obs + 1, dtype=np.int32)
        indices, data = np.empty(X.nnz, dtype=np.int32), np.empty(X.nnz, dtype=np.float32)
        n = kernels.keep_rows(X.indptr, X.indices, X.data, number, indptr, indices, data)
        return chunk.with_X(csr(data[:n].copy(), indices[:n].copy(), indptr, chunk.n_vars))

    def out(self, spec: StreamSpec) -> StreamSpec:
        """Describe the same genes."""
        return spec


class Aside:
    """Values of some genes, in a temporary file.

    Parameters
    ----------
    folder
        Where it is.
    genes
        The genes.
    """

    def __init__(self, folder: Path, genes: Mask) -> None:
        self.file = Scratch(folder, "spool=")
        self.genes, self.n_vars = np.flatnonzero(genes).astype(np.int32), len(genes)
        self.number = np.cumsum(genes) - 1
        self.dtype = np.dtype(np.uint16 if len(self.genes) <= 1 << 16 else np.uint32)
        self.parts: list[tuple[int, int, int]] = []
        self.size = 0

    def keep(self, chunk: Chunk) -> None:
        """Write the next cells, which have values of these genes only."""
        X = _sparse(chunk)
        self.parts.append((self.size, chunk.n_obs, chunk.nnz))
        written: tuple[npt.NDArray[Any], ...] = (X.data, X.indptr, self.number[X.indices].astype(self.dtype))
        for values in written:
            self.file.write(values, self.size)
            self.size += values.nbytes

    def readings(self) -> Sequence[Reading]:
        """Return what reads them, a call for each chunk."""
        return [partial(self._read, *part) for part in self.parts]

    def _read(self, offset: int, n_obs: int, nnz: int) -> Callable[[], Chunk]:
        data, indptr = np.empty(nnz, dtype=np.float32), np.empty(n_obs + 1, dtype=np.int32)
        number = np.empty(nnz, dtype=self.dtype)
        read: tuple[npt.NDArray[Any], ...] = (data, indptr, number)
        for values in read:
            self.file.read(values, offset)
            offset += values.nbytes
        return partial(self._chunk, data, indptr, number)

    def _chunk(self, data: npt.NDArray[Any], indptr: npt.NDArray[Any], number: npt.NDArray[Any]) -> Chunk:
        X = csr(data, self.genes[number], indptr, self.n_vars)
        return Chunk(X, pd.DataFrame(index=range(len(indptr) - 1)))


def _sparse(chunk: Chunk) -> sparse.csr_array:
    assert not isinstance(chunk.X, np.ndarray), "a step makes X dense, and does not say so"
    return chunk.X


__all__ = ["BYTES_PER_NNZ", "RunAhead", "purposes", "why_not"]
