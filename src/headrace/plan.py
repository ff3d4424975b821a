"""A source and a list of steps: what `headrace` is about."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from . import memory as budgets
from .chunk import Chunk, StreamSpec
from .errors import InputError
from .events import ChunkDone, Listener, PassFinished, PassStarted, ignore
from .executors import Serial, Threads, n_cores
from .protocols import Executor, Sink, Source, Transform, Writer
from .report import Explanation, explain, provenance
from .schedule import Node, Pass, counting, flatten, next_pass, passes, preview, run_path
from .sinks.anndata import InMemory
from .sinks.h5ad import H5ad
from .sinks.hdf5 import Compression
from .sinks.staged import check_target
from .steps.check import CheckCounts


class Plan:
    """A list of steps over a source, in the order in which they happen.

    Parameters
    ----------
    source
        Where the cells come from: `Census.query(...)`, `open_soma(...)`, or anything with the
        methods of `headrace.protocols.Source`.
    steps
        Transforms and fits. A list within the list is its steps, so recipes nest.

    Raises
    ------
    PlanError
        If the steps do not fit together or do not fit the source. Nothing is read for that.

    Examples
    --------
    >>> import headrace as hr, headrace.testing, tempfile
    >>> census = hr.open_census(headrace.testing.build_demo_census(tempfile.mkdtemp()))
    >>> liver = census.query("mus_musculus", dataset_id="4546e757-34d0-4d17-be06-538318925fcd")
    >>> plan = hr.Plan(liver, [hr.FilterGenes(min_cells=5), hr.NormalizeTotal(1e4), hr.Log1p()])
    >>> adata = plan.to_anndata()
    >>> adata.n_obs == liver.spec.n_obs
    True
    """

    def __init__(self, source: Source[Any], steps: Sequence[Any] = ()) -> None:
        self.source = source
        self.steps = tuple(flatten(steps))
        spec = source.spec
        needing = tuple(dict.fromkeys(counting(self.steps, spec)))
        self._preview = preview(self.steps, spec)
        layer = getattr(source, "layer", "X")
        self._before: tuple[Transform, ...] = (
            (CheckCounts(needing, f"layer {layer!r} of the source", spec.var.index),) if needing else ()
        )

    def explain(self, memory: int | str | None = None) -> Explanation:
        """Say what the plan will do and take, without reading X.

        Parameters
        ----------
        memory
            The budget, e.g. "1GB"; by default a quarter of what there is, at most 4 GB.

        Returns
        -------
        A plain-text plan (print it): cells, genes, non-zeros, bytes to read, passes over the source and
        why, index dtypes, predicted peak memory and output size, and what each assay gets.
        """
        total = budgets.default_budget() if memory is None else budgets.parse_bytes(memory)
        budget = self._budget(total, Threads(n_cores()))
        return explain(self.source, self.steps, self._preview, passes(self.steps), budget)

    def write_h5ad(
        self,
        path: str | os.PathLike[str],
        *,
        memory: int | str | None = None,
        overwrite: bool = False,
        compression: Compression = None,
        checksum: bool = True,
        executor: Executor | None = None,
        on_event: Listener = ignore,
    ) -> StreamSpec:
        """Run the plan and write an .h5ad file, whole or not at all.

        Parameters
        ----------
        path
            The file; refused if it exists, unless `overwrite`.
        memory
            The budget for resident memory, e.g. "1GB".
        compression
            None, or "gzip".
        checksum
            Whether HDF5 is to check every chunk of numbers when it is read (fletcher32).
        executor
            `Threads` on all processors by default; the result is the same to the bit with any.
        on_event
            Called with the events of `headrace.events`.

        Returns
        -------
        The description of what was written: cells, genes with their statistics, `uns`.
        """
        check_target(Path(os.path.abspath(path)), overwrite)
        if compression not in (None, "gzip"):
            raise InputError(f"compression={compression!r}: None or 'gzip'")
        return self.write(H5ad(Path(path), overwrite, compression, checksum), memory, executor, on_event)

    def to_anndata(self, *, memory: int | str | None = None, executor: Executor | None = None) -> Any:
        """Run the plan and return an AnnData; the result itself is not within the budget."""
        sink = InMemory()
        self.write(sink, memory, executor)
        return sink.result[0]

    def var(self, *, memory: int | str | None = None, executor: Executor | None = None) -> pd.DataFrame:
        """Run the plan without writing X, and return the table of genes with their statistics."""
        return self.write(_Nowhere(), memory, executor).var

    def chunks(self, *, memory: int | str | None = None, executor: Executor | None = None) -> Iterator[Chunk]:
        """Run the plan and yield the chunks of its last pass, in order."""
        running = _Run(self, memory, executor, ignore)
        for _, chunk in running.last_pass():
            yield chunk

    def write(
        self,
        sink: Sink,
        memory: int | str | None = None,
        executor: Executor | None = None,
        on_event: Listener = ignore,
    ) -> StreamSpec:
        """Run the plan into any sink; see `write_h5ad`."""
        running = _Run(self, memory, executor, on_event)
        running.look()
        written = 0
        with sink.open(running.expected) as writer:
            for _, chunk in running.last_pass():
                writer.write(chunk)
                written += chunk.n_obs
            spec = running.finished(written)
            writer.finish(spec)
        return spec

    def _budget(self, total: int, executor: Any) -> budgets.Budget:
        """Divide the memory among what the plan needs."""
        statistics = self.source.spec.n_vars * 48 * max(1, sum(getattr(s, "n_groups", 1) for s in self.steps))
        in_flight = int(getattr(executor, "in_flight", n_cores() + 1))
        return budgets.divide(total, self._preview, self.source.cost(), statistics=statistics, in_flight=in_flight)


class _Run:
    """One run of a plan: its passes, in order."""

    def __init__(self, plan: Plan, memory: int | str | None, executor: Executor | None, on_event: Listener) -> None:
        self.plan, self.on_event = plan, on_event
        cores = n_cores()
        self.executor: Executor = executor or (Threads(cores, cores) if cores > 1 else Serial())
        total = budgets.default_budget() if memory is None else budgets.parse_bytes(memory)
        source = plan.source.within(total // 4)
        self.source = source
        budget = plan._budget(total, self.executor)
        self.chunk_nnz = budget.chunk_nnz
        self.refs = source.refs(self.chunk_nnz)
        self.before = plan._before
        self.spec = source.spec
        self.nodes = [Node.of(step) for step in plan.steps]
        self.purposes = passes(plan.steps)
        self.number = 0
        self.writing: Pass | None = None

    def look(self) -> None:
        """Do all passes but the last."""
        while self.writing is None:
            following = next_pass(self.nodes, self.spec)
            if following.last:
                self.writing = following
                return
            for _ in self._stream(following):
                pass
            for node in following.looking:
                node.answer()
            self._begin_again()

    def _begin_again(self) -> None:
        """Go on from the source that a fit has become, if one has."""
        for number, node in enumerate(self.nodes):
            if node.source is not None:
                self.source, self.nodes, self.before = node.source, self.nodes[number + 1 :], ()
                self.refs, self.spec = self.source.refs(self.chunk_nnz), self.source.spec

    @property
    def expected(self) -> StreamSpec:
        """What the last pass will bring, as far as it is known before it."""
        spec = self.spec
        for node in self.nodes:
            spec = node.transform.out(spec) if node.transform is not None else node.step.preview(spec)
        return spec

    def last_pass(self) -> Iterator[tuple[int, Chunk]]:
        """Yield the cells of the last pass; statistics are complete when it ends."""
        self.look()
        assert self.writing is not None
        yield from self._stream(self.writing)
        for node in self.writing.looking:
            node.answer()

    def finished(self, n_obs: int) -> StreamSpec:
        """Describe what came out, with all that was learnt."""
        if not n_obs:
            raise InputError(f"no cell of {self.spec.n_obs} passed the filters; loosen them")
        spec = self.spec
        for node in self.nodes:
            assert node.transform is not None
            spec = node.transform.out(spec)
        return replace(spec, n_obs=n_obs, uns={**spec.uns, "headrace": provenance(self.plan.source, self.plan.steps)})

    def _stream(self, current: Pass) -> Iterator[tuple[int, Chunk]]:
        """Read all cells once and take them along the path."""
        self.number += 1
        purpose = " + ".join(self.purposes[self.number - 1])
        self.on_event(PassStarted(self.number, len(self.purposes), purpose, self.spec.n_obs))
        started = time.monotonic()
        path = (*self.before, *current.path)
        locks = [threading.Lock() if hasattr(stop, "update") else None for stop in path]

        def work(chunk: Chunk) -> tuple[int, Chunk]:
            return chunk.n_obs, run_path(path, locks, chunk)

        for n_obs, chunk in self.executor.map(work, self.source.read(self.refs)):
            self.on_event(ChunkDone(n_obs, chunk.nnz))
            yield n_obs, chunk
        self.on_event(PassFinished(self.number, time.monotonic() - started))


class _Nowhere:
    """A sink that keeps nothing."""

    def open(self, spec: StreamSpec) -> AbstractContextManager[Writer]:
        from contextlib import nullcontext  # noqa: PLC0415

        del spec
        return nullcontext(self)

    def write(self, chunk: Chunk) -> None:
        """Let the cells go."""

    def finish(self, spec: StreamSpec) -> None:
        """Nothing to finish."""
