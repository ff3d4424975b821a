"""A plan: a source and a list of steps."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from ..chunk import Chunk, StreamSpec
from ..errors import InputError
from ..events import Listener, ignore
from ..protocols import Executor, Sink, Source, Step
from ..sinks.anndata import InMemory
from ..sinks.dense import Dense
from ..sinks.discard import Discard
from ..sinks.h5ad.hdf5 import Compression
from ..sinks.h5ad.sink import H5ad
from ..steps.bounds import need_cells
from ..steps.normalize import length_normalized
from ..support.amounts import parse_rate
from ..support.atomic import check_target
from ..support.given import check_call
from ..support.places import absolute
from .ahead import RunAhead, why_not
from .checks import check_outputs, count_checks, refuse_to_overwrite, warn_if_scaled_twice
from .explain import Explanation, described, explain, predicted
from .leftover import SPOOLS
from .provenance import recounted
from .reporting import Reporting
from .run import Run
from .schedule import flatten, preview
from .settings import Settings, budget_of, bytes_of
from .spool import need


class Plan:
    """A list of steps over a source, in the order in which they happen.

    Parameters
    ----------
    source
        Where the cells come from: `Census.query(...)`, `open_soma(...)`, `open_h5ad(...)`, `open_counts(...)`, or
        any `headrace.protocols.Source`.
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
        if not isinstance(source, Source):
            raise InputError(
                f"Plan: {type(source).__name__} is no source; hr.open_h5ad(path) makes one of a file, "
                "census.query(...) of a Census, hr.open_soma(uri) of any SOMA experiment"
            )
        if isinstance(steps, Step):
            raise InputError(f"Plan: steps are a list: [{type(steps).__name__}(...)]")
        self.source = source
        self._reads = self._preview = source.spec
        suited = []
        for step in flatten(steps):
            suited.append(step.suited(self._preview))
            self._preview = preview([step], self._preview)
        self.steps = tuple(suited)
        self._before = count_checks(source, self.steps)
        warn_if_scaled_twice(self.steps)

    def __repr__(self) -> str:
        source = f"{type(self.source).__name__}({self._reads})"
        return "\n".join(["Plan", f"  source  {source}", *(f"  step    {text}" for text in described(self.steps))])

    def explain(self, memory: int | str | None = None, rate: float | str | None = None) -> Explanation:
        """Say what the plan will do and take as `write_h5ad`, without reading X.

        Parameters
        ----------
        memory
            The budget, e.g. "1GB"; by default a quarter of what there is, at most 4 GB.
        rate
            Of the line to a source that is far away, e.g. "50Mbit": how long fetching will take. By default the rate
            that was seen so far, if there was something to see.

        Returns
        -------
        A plain-text plan (print it): cells, genes, non-zeros, bytes to read or fetch, passes over the source and
        why, index dtypes, predicted peak memory and output size, and what each assay gets.
        """
        check_call(Plan.explain, locals())
        settings = Settings(bytes_of(memory), spool=Path(SPOOLS))
        line = None if rate is None else parse_rate(rate)
        why = why_not(self.steps, not self._is_dense(None), settings)
        reads = self.steps if why else self.steps[:-1]
        budget = budget_of(self.source, self.steps, self._preview, settings, reads)
        return explain(self.source, self.steps, self._preview, why, budget, settings.keeps(self.source, reads), line)

    def write_h5ad(
        self,
        path: str | os.PathLike[str],
        *,
        memory: int | str | None = None,
        overwrite: bool = False,
        compression: Compression = None,
        checksum: bool = True,
        dense: bool | None = None,
        counts: Literal["float32", "int32"] = "float32",
        spool: str | os.PathLike[str] | None = None,
        resume: bool = True,
        keep_spool: bool = False,
        executor: Executor | None = None,
        on_event: Listener = ignore,
        report: str | os.PathLike[str] | None = None,
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
        dense
            Whether X and layers are written as dense arrays, cells x genes x 4 bytes each: pydeseq2 takes no others.
            None: those of samples are (`open_counts`, `Pseudobulk`), those of cells are not.
        counts
            How X and layers that hold counts are stored: "int32" for programs that ask for whole numbers (brisc).
        spool
            Folder for what a plan keeps of its source, if it takes several passes or the source is far away;
            `.headrace-spool` beside `path` by default.
        resume
            Whether to go on from what an interrupted run of the same plan has kept there. False: nothing is kept of a
            source that is far away, unless the plan takes several passes.
        keep_spool
            Whether to leave it there when the file is in place.
        executor
            `Threads` on all processors by default; the result is the same to the bit with any.
        on_event
            Called with the events of `headrace.events`.
        report
            An .html file for a report of the run; needs `pip install 'headrace[report]'`. What it is drawn from is
            summed up in the passes of the plan, and kept in `uns["headrace"]["report"]`.

        Returns
        -------
        The description of what was written: cells, genes with their statistics, `uns`.
        """
        check_call(Plan.write_h5ad, locals())
        target = absolute(path)
        check_target(target, overwrite)
        if compression not in (None, "gzip"):
            raise InputError(f"compression={compression!r}: None or 'gzip'")
        if counts not in ("float32", "int32"):
            raise InputError(f"counts={counts!r}: 'float32' or 'int32'")
        settings = Settings(
            memory=bytes_of(memory),
            executor=executor,
            on_event=on_event,
            spool=Path(spool) if spool is not None else target.parent / SPOOLS,
            resume=resume,
            keep_spool=keep_spool,
        )
        asked = None if report is None else Reporting(report, overwrite, self.source, self.steps, (target,))
        least, most = predicted(self.source, self.steps, self._preview, self._is_dense(dense))
        sink = self._form(H5ad(target, overwrite, compression, checksum, counts), dense)
        return self._write(sink, settings, (0 if compression else least, most), asked)

    def report(
        self,
        path: str | os.PathLike[str],
        *,
        memory: int | str | None = None,
        overwrite: bool = False,
        executor: Executor | None = None,
        on_event: Listener = ignore,
    ) -> None:
        """Run the plan without writing X, and write a report of it: one .html file. `write_h5ad` has one, too.

        Of a file that was written with a report, and without steps, nothing is read but what is kept in it.

        Parameters
        ----------
        path
            The file; refused if it exists, unless `overwrite`.
        memory, executor, on_event
            As in `write_h5ad`.
        """
        check_call(Plan.report, locals())
        asked = Reporting(path, overwrite, self.source, self.steps)
        if not asked.from_file():
            self._write(Discard(), Settings(bytes_of(memory), executor, on_event), asked=asked)

    def to_anndata(
        self, *, memory: int | str | None = None, executor: Executor | None = None, dense: bool | None = None
    ) -> Any:
        """Run the plan and return an AnnData, which is not within the budget; `dense` as in `write_h5ad`."""
        check_call(Plan.to_anndata, locals())
        sink = InMemory()
        self.write(self._form(sink, dense), Settings(bytes_of(memory), executor))
        return sink.result[0]

    def var(self, *, memory: int | str | None = None, executor: Executor | None = None) -> pd.DataFrame:
        """Run the plan without writing X, and return the table of genes with their statistics."""
        check_call(Plan.var, locals())
        return self.write(Discard(), Settings(bytes_of(memory), executor)).var

    def chunks(self, *, memory: int | str | None = None, executor: Executor | None = None) -> Iterator[Chunk]:
        """Run the plan and yield the chunks of its last pass, in order."""
        check_call(Plan.chunks, locals())
        settings = Settings(bytes_of(memory), executor)
        check_outputs(Discard(), settings.place(self.source, self.steps))
        with self._run(settings, Discard()) as running:
            yield from running.last_pass()

    def write(self, sink: Sink, settings: Settings | None = None, report: Reporting | None = None) -> StreamSpec:
        """Run the plan into any sink; see `write_h5ad`."""
        check_call(Plan.write, locals())
        return self._write(sink, settings or Settings(bytes_of(None)), asked=report)

    def _write(
        self, sink: Sink, settings: Settings, size: tuple[int, int] = (0, 0), asked: Reporting | None = None
    ) -> StreamSpec:
        """Run the plan into a sink whose file takes so many bytes, at least and at most; report on it if asked."""
        if asked is None:
            return self._stream(sink, settings, size)
        with asked.following(settings) as followed:
            spec = self._stream(sink, followed, size, asked)
        asked.write(spec)
        return spec

    def _stream(
        self, sink: Sink, settings: Settings, size: tuple[int, int], asked: Reporting | None = None
    ) -> StreamSpec:
        """Run the plan into a sink."""
        refuse_to_overwrite(self.source, sink)
        sink.check(self._preview)
        run = self._run(settings, sink, asked)
        place = settings.place(self.source, run.over_source)
        spool = need(self.source.spec.n_obs, self.source.cost().nnz) if place else 0
        check_outputs(sink, place, *size, spool)
        with run as running:
            running.fit()
            written, corrected, assays = 0, Counter[str](), "length_normalized" in running.expected.obs
            with sink.open(running.expected) as writer:
                for chunk in running.last_pass(sink.preparer(running.expected)):
                    writer.write(chunk)
                    written += chunk.n_obs
                    corrected.update(length_normalized(chunk.obs) if assays else {})
                need_cells(written, running.expected)
                if isinstance(running, RunAhead):
                    running.add(writer)
                spec = running.finished(written)
                if not any(
                    step.becomes_source for step in self.steps
                ):  # else nobody has counted what samples are made of
                    spec = recounted(spec, corrected)
                spec = spec if asked is None else asked.kept(spec, running.specs)
                writer.finish(spec)
        return spec

    def _is_dense(self, dense: bool | None) -> bool:
        """Return whether matrices are written dense: as asked, or else those of samples."""
        return self._preview.samples if dense is None else dense

    def _form(self, sink: Sink, dense: bool | None) -> Sink:
        """Return what gives a sink dense matrices, or sparse ones as they come."""
        return Dense(sink) if self._is_dense(dense) else sink

    def _run(self, settings: Settings, sink: Sink, asked: Reporting | None = None) -> Run:
        """Begin a run."""
        watching = 0 if asked is None else asked.observed.memory
        watched = () if asked is None else asked.observed.steps
        ahead = not why_not(watched or self.steps, sink.gives_back, settings)
        reads = self.steps[:-1] if ahead else self.steps
        budget = budget_of(self.source, self.steps, self._preview, settings, reads, watching)
        if asked is not None:
            asked.begins(budget)
        kind = RunAhead if ahead else Run
        return kind(self.source, self.steps, self._before, budget, settings, watched)
