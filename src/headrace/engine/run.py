"""One run of a plan: its passes over the data, in order."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any

from ..chunk import Chunk, StreamSpec
from ..errors import InputError, OutputError, SourceError
from ..events import ChunkDone, Notice, PassFinished, PassStarted, one_at_a_time
from ..preparer import Preparer
from ..protocols import Accumulator, Source, Step, Transform
from ..steps.bounds import need_cells
from ..support.inputs import close_inputs
from ..support.memory import Budget
from ..support.private import temporary_folder
from ..traffic import Traffic
from .elsewhere import Elsewhere, Spread, cut
from .leftover import SPOOLS, is_of_use, tell
from .place import Job, Place
from .preflight import check_room, load
from .provenance import fingerprint, parameters, provenance
from .ranges import through
from .schedule import Node, Pass, answer, next_pass, passes, source_passes
from .settings import Settings
from .spool import Spool, check_spool_fits, need, size_of

FETCHED = "fetched"  # the folder in a spool for what has come from far away and is no part yet


class Run:
    """The passes of one plan, in order. A context manager: it holds the spool.

    Parameters
    ----------
    source, steps
        The plan's.
    before
        Transforms that come before all steps.
    budget
        How the memory is divided.
    settings
        How to run.
    watched
        The steps, and what looks at cells between them.
    """

    def __init__(
        self,
        source: Source[Any],
        steps: Sequence[Step],
        before: tuple[Transform, ...],
        budget: Budget,
        settings: Settings,
        watched: Sequence[Step] = (),
    ) -> None:
        self.settings, self.executor = settings, settings.workers()
        self.on_event = one_at_a_time(settings.on_event)
        self.origin, self.steps, self.before = source, steps, before
        self.source = self.within = source.within(settings.memory // 4)
        self.budget, self.chunk_nnz = budget, budget.chunk_nnz
        self.refs = self.source.refs(self.chunk_nnz)
        self.spec = self.source.spec
        self.nodes = [Node.of(step) for step in watched or steps]
        self.specs: list[StreamSpec] = []  # before each of them, and after the last
        self.purposes = passes(steps)
        self.over_source, self.upto = steps, len(self.nodes)  # whose passes are over the source, and that it waits for
        self.number = 0
        self.writing: Pass | None = None
        self.spool: Spool | None = None
        self.opened_spool: Spool | None = None
        self.stack = ExitStack()
        self.kept: set[Any] = set()
        self.storing, self.fetched, self.lost_part = True, False, False
        self.elsewhere = self.executor if isinstance(self.executor, Elsewhere) else None
        self.spread: Spread | None = None

    def __enter__(self) -> Run:
        spooled = self.settings.keeps(self.source, self.over_source)
        load(spooled)
        check_room(self.budget, self.executor.in_flight)
        if self.elsewhere is not None:
            try:
                self._send_out(self.elsewhere, spooled)
            except BaseException as error:
                kept = self.opened_spool is not None and size_of(self.opened_spool.folder)  # by an earlier run
                self.stack.__exit__(*((type(error), error, error.__traceback__) if kept else (None, None, None)))
                raise
        elif spooled:
            try:
                self._open_spool()
            except OutputError as error:
                self._do_without(error)
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        spool, traffic = self.opened_spool, self.within.traffic
        local = bool(self.origin.files) and not self.lost_part
        useful = error is not None and spool is not None and is_of_use(spool, error, local)
        if traffic is not None:
            if not useful:
                traffic.forget()
            traffic.keep = None
        if useful or error is None:
            self.stack.__exit__(kind, error, trace)
        else:
            self.stack.close()  # as if all had gone well: what was read is of no use
        if error is not None:
            close_inputs(self.origin)
            close_inputs(self.within)
            if spool is not None:
                tell(spool, error)

    def fit(self) -> None:
        """Do all passes but the last."""
        while self.writing is None:
            following = next_pass(self.nodes[: self.upto], self.spec)
            if following.last:
                self.writing = following
                return
            came = sum(self._fold(following))
            need_cells(came, self.expected)
            answer(self.nodes, following, self.spec)
            self._begin_again()

    @property
    def expected(self) -> StreamSpec:
        """What the last pass will bring, as far as it is known before it."""
        spec = self.spec
        for node in self.nodes:
            spec = node.now.preview(spec)
        return spec

    def last_pass(self, preparer: Preparer | None = None) -> Iterator[Chunk]:
        """Yield the cells of the last pass, as the preparer makes them; statistics are complete when it ends."""
        self.fit()
        assert self.writing is not None
        yield from self._stream(self.writing, preparer)
        for node in self.writing.fitting:
            node.answer()

    def finished(self, n_obs: int) -> StreamSpec:
        """Describe what came out, with all that the fits have found."""
        if not n_obs:
            raise InputError(f"no cell of {self.spec.n_obs} passed the filters; loosen them")
        spec = self.spec
        for node in self.nodes:
            assert node.transform is not None
            self.specs.append(spec)
            spec = node.transform.out(spec)
        self.specs.append(spec)
        return replace(spec, n_obs=n_obs, uns={**spec.uns, "headrace": provenance(self.origin, self.steps)})

    # ------------------------------------------------------------------------------------------------ one pass
    def _stream(self, current: Pass, preparer: Preparer | None = None) -> Iterator[Chunk]:
        """Read all cells once and take them through the path of a pass."""
        with self._told(current):
            if self.spread is not None:
                stage = self.spread.stage(current, self.number, self.before, self.nodes, self.expected.obs)
                yield from self.spread.cells(stage, preparer)
                self.spread.take_in(stage, [stop for stop in current.path if isinstance(stop, Accumulator)])
                return
            path = (*self.before, *current.path)
            stream = through(self._read(), self._kept, path, self.executor, self.settings.memory)
            with closing(stream) as done, self._fetching() as traffic:
                for n_obs, chunk in done:
                    self.on_event(ChunkDone(n_obs, chunk.nnz))
                    yield chunk
                    if traffic is not None:
                        traffic.raise_error()

    def _fold(self, current: Pass) -> Iterator[int]:
        """Do a pass that does not write; yield numbers of cells that came to its end."""
        if self.spread is None:
            yield from (chunk.n_obs for chunk in self._stream(current))
            return
        with self._told(current):
            stage = self.spread.stage(current, self.number, self.before, self.nodes, None)
            yield self.spread.fold(stage, [stop for stop in current.path if isinstance(stop, Accumulator)])

    @contextmanager
    def _told(self, current: Pass) -> Iterator[None]:
        """Tell of a pass that is done within the block."""
        self.number += 1
        purpose = " + ".join(self.purposes[self.number - 1])
        workers = 1 if self.spread is None else self.spread.crew.n_workers
        self.on_event(PassStarted(self.number, len(self.purposes), purpose, self.spec.n_obs, workers))
        started = time.monotonic()
        for stop in current.path:
            if isinstance(stop, Accumulator):
                stop.use_scratch(self.disk)
        yield
        self.on_event(PassFinished(self.number, time.monotonic() - started))

    @contextmanager
    def _fetching(self) -> Iterator[Traffic | None]:
        """Tell of what is fetched within the block, if something is."""
        traffic = self.source.traffic
        if traffic is None or self.fetched:
            yield None
            return
        self.fetched = True
        share = 1.0
        if self.kept:
            share -= sum(ref.stop - ref.start for ref in self.kept) / self.spec.n_obs
        with traffic.told(self.on_event, int(self.source.cost().bytes * share)):
            yield traffic

    def _read(self) -> Generator[tuple[Any, Chunk | None]]:
        """Yield each chunk with its reference; None where the spool has it."""
        for there, group in groupby(self.refs, lambda ref: ref in self.kept):
            run = list(group)
            if there:
                yield from ((ref, None) for ref in run)
            else:
                yield from zip(run, self.source.read(run), strict=True)

    def _kept(self, ref: Any, chunk: Chunk | None) -> Chunk:
        """Keep a chunk that was read, or take it from the spool."""
        if chunk is None:
            assert self.spool is not None
            try:
                return self.spool.load(ref.start, ref.stop)
            except SourceError:
                self.lost_part = True
                raise
        if self.spool is not None and self.storing:
            try:
                self.spool.store(ref.start, ref.stop, chunk)
                self.kept.add(ref)
            except OutputError as error:
                self._do_without(error)
        return chunk

    def _do_without(self, error: OutputError) -> None:
        """Go on without a spool, unless another pass needs it; with one, only a run that is stopped would miss it."""
        if source_passes(self.over_source) > 1:
            raise error
        if self.storing:
            self.storing = False
            self.on_event(Notice(f"a run that is interrupted cannot go on later: {error}"))

    def _begin_again(self) -> None:
        """Go on from the source that a fit has become, if one has."""
        for number, node in enumerate(self.nodes):
            if node.source is not None:
                spec = self.spec
                for one in self.nodes[: number + 1]:
                    self.specs.append(spec)
                    spec = one.now.preview(spec)
                self.source, self.nodes, self.before = node.source, self.nodes[number + 1 :], ()
                self.refs, self.spec = self.source.refs(self.chunk_nnz), self.source.spec
                self.spool, self.kept, self.fetched, self.spread = None, set(), True, None
                return

    # ----------------------------------------------------------------------------------------------- the spool
    @cached_property
    def disk(self) -> Path:
        """The folder for what does not fit in memory."""
        return self.settings.spool or temporary_folder(SPOOLS.strip("."))

    def _open_spool(self, token: str = "") -> Spool:
        about = {"source": self.source.provenance(), "steps": [parameters(step) for step in self.steps]}
        identity = self.source.identity() or token
        spool = Spool(self.disk / fingerprint(about, identity, self.chunk_nnz), self.spec.obs)
        check_spool_fits(self.disk, 0 if spool.made else need(self.spec.n_obs, self.source.cost().nnz))
        self.spool = self.opened_spool = self.stack.enter_context(spool.opened(about, self.settings.keep_spool))
        if token:
            return spool
        if self.settings.resume:
            if self.source.traffic is not None:
                self.source.traffic.keep = spool.folder / FETCHED
            self.kept = {ref for ref in self.refs if spool.whole(ref.start, ref.stop)}
        if self.kept:
            self.on_event(Notice(f"going on from an earlier run: {len(self.kept)} of {len(self.refs)} parts are there"))
        return spool

    def _send_out(self, executor: Elsewhere, spooled: bool) -> None:
        """Begin a run that other processes do: all that they leave is in the folder of the spool."""
        spool = self._open_spool(executor.token)
        place = Place(spool.folder, spool.held[0])
        if not self.settings.resume:
            place.folder.empty()
        crew = self.stack.enter_context(executor.crew(place, self.settings.memory, self.on_event))
        several = spooled and source_passes(self.steps) > 1
        ranges = cut(self.refs, crew.ranges(len(self.refs), self.source.cost().nnz))
        job = Job(self.source, self.spec.obs, ranges, self.settings.memory, several, self.source.identity())
        self.spread = Spread(place, crew, job, self.on_event)
