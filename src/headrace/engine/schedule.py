"""The schedule: in which passes a list of steps is done.

A fit sees the stream as it is where the fit stands. While it needs passes, the steps after it wait, unless it only
annotates `var`: then they go on, and its last pass is the pass that writes.

Fused passes: a fit that only chooses genes (`chooses_genes`) and a fit after it that learns of each gene from that gene
alone (`by_gene`) share a pass. The second sees all genes, and its accumulator forgets those that were not chosen.
"""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from ..chunk import Chunk, StreamSpec
from ..errors import PlanError
from ..protocols import Accumulator, Fit, Source, Step, Transform

DEEPEST = 100
"""Lists of steps within one another."""


def flatten(steps: Iterable[Any], depth: int = 0) -> list[Step]:
    """Unnest recipes within recipes; raise `PlanError` for what is not a step."""
    if isinstance(steps, (str, bytes, Mapping)) or not isinstance(steps, Iterable):
        raise PlanError(f"steps are a list, not {type(steps).__name__}")
    if depth > DEEPEST:
        raise PlanError(f"the lists of steps are more than {DEEPEST} deep, or one is within itself; give one list")
    flat: list[Step] = []
    for step in steps:
        if isinstance(step, Step):
            flat.append(step)
        elif isinstance(step, Sequence) and not isinstance(step, (str, bytes)):
            flat.extend(flatten(step, depth + 1))
        elif isinstance(step, type) and issubclass(step, Step):
            raise PlanError(f"{step!r} is not a step; did you mean {step.__name__}()?")
        elif callable(step):
            raise PlanError(
                f"{step!r} is not a step; a class of your own derives from Transform or Fit of headrace.protocols"
            )
        else:
            raise PlanError(f"{step!r} is not a step")
    return flat


@dataclass
class Node:
    """One step and how far it has come."""

    step: Step
    transform: Transform | None = None
    """What the step has become, if it has."""
    source: Source[Any] | None = None
    """The source from which the stream begins again, if that is what the step has become."""
    left: int = 0
    """Passes that it still needs."""
    program: Generator[Accumulator[Any], Any, Transform | Source[Any]] | None = field(default=None, repr=False)
    """The running `fit`."""
    accumulator: Accumulator[Any] | None = None
    """What the fit has yielded last."""

    @staticmethod
    def of(step: Step) -> Node:
        """Return a step that has not begun."""
        return Node(step, left=step.passes, transform=step if isinstance(step, Transform) else None)

    @property
    def now(self) -> Step:
        """The transform that the step has become, or the step itself."""
        return self.step if self.transform is None else self.transform

    def begin(self, spec: StreamSpec) -> None:
        """Start the fit on a stream like `spec`, and take its first accumulator."""
        assert self.program is None
        assert isinstance(self.step, Fit)
        self.program = self.step.fit(spec)
        self._send(None)

    def answer(self, spec: StreamSpec | None = None, genes: npt.NDArray[np.bool_] | None = None) -> None:
        """Send the fit what its accumulator has found.

        Parameters
        ----------
        spec, genes
            After a fused pass: the stream of the chosen genes, on which the fit begins again, and which of the genes
            that it saw were chosen, shape (n_vars,).
        """
        assert self.accumulator is not None
        if spec is not None:
            assert genes is not None
            seen, self.program = self.accumulator, None
            self.begin(spec)
            self.accumulator = seen.keep(genes)
        self.left -= 1
        self._send(self.accumulator.result())

    def _send(self, result: Any) -> None:
        assert self.program is not None
        try:
            self.accumulator = self.program.send(result)
        except StopIteration as stop:
            self.accumulator = None
            if isinstance(stop.value, Source):
                self.source = stop.value
            else:
                self.transform = stop.value
            assert self.left == 0, f"{self.step.label} asked for fewer passes than it said"
        else:
            assert self.left > 0, f"{self.step.label} asked for more passes than it said"


@dataclass(frozen=True)
class Pass:
    """One pass over all cells.

    Parameters
    ----------
    path
        What each chunk goes through: transforms, and accumulators that it updates on the way.
    fitting
        The nodes whose accumulators these are.
    last
        Whether this is the pass that writes.
    """

    path: tuple[Transform | Accumulator[Any], ...]
    fitting: tuple[Node, ...]
    last: bool


def front(nodes: Sequence[Node]) -> tuple[list[Node], int, bool]:
    """Return the nodes that fit in the next pass, how many nodes it reaches, and whether it can be the last."""
    fitting: list[Node] = []
    for number, node in enumerate(nodes):
        if node.step.reads_var and node.transform is None and fitting:
            return fitting, number, False
        if node.left:
            fitting.append(node)
            if not node.step.annotates:
                reach = number + 1
                if node.step.chooses_genes:
                    reach += _fused(nodes[reach:])
                    fitting += [node for node in nodes[number + 1 : reach] if node.left]
                return fitting, reach, False
    return fitting, len(nodes), all(node.left == 1 for node in fitting)


def _fused(nodes: Sequence[Node]) -> int:
    """Count the nodes that may see genes before they are chosen, up to the first that may not."""
    for number, node in enumerate(nodes):
        step = node.step
        waits = isinstance(step, Fit) and (step.reads_var or not step.annotates)
        if waits or not step.by_gene:
            return number
    return len(nodes)


def answer(nodes: Sequence[Node], done: Pass, spec: StreamSpec) -> None:
    """Send all fits of a pass what they have found; those that were fused with a choice of genes, of these alone."""
    waiting = list(done.fitting)
    chosen: npt.NDArray[np.bool_] | None = None
    for node in nodes:
        if node in waiting:
            node.answer(*(() if chosen is None else (spec, chosen)))
            waiting.remove(node)
            if not waiting:
                return
            if node.step.chooses_genes:
                assert node.transform is not None
                chosen = node.transform.kept_genes
                assert chosen is not None, f"{node.step.label} chooses genes, but its transform does not say which"
        spec = node.now.preview(spec)


def next_pass(nodes: Sequence[Node], spec: StreamSpec) -> Pass:
    """Start the fits whose turn it is, and return what the next pass does."""
    while True:
        fitting, reach, last = front(nodes)
        path: list[Transform | Accumulator[Any]] = []
        current = spec
        for node in nodes[:reach]:
            if node.transform is None and node.program is None:
                node.begin(current)
            stop = node.accumulator if node.transform is None else node.transform
            assert stop is not None
            path.append(stop)
            current = node.now.preview(current)
        if fitting or last:
            return Pass(tuple(path) if last else without_idle(path), tuple(fitting), last)


def without_idle(path: Sequence[Transform | Accumulator[Any]]) -> tuple[Transform | Accumulator[Any], ...]:
    """Leave out what only adds columns to `obs` (`adds_obs`) that nothing after it is known to read (`reads_obs`)."""
    used: list[Transform | Accumulator[Any]] = []
    read: set[str] | None = set()
    for stop in reversed(path):
        added = stop.adds_obs if isinstance(stop, Transform) else None
        if added is not None and read is not None and read.isdisjoint(added):
            continue
        used.append(stop)
        read = None if read is None or stop.reads_obs is None else read.union(stop.reads_obs)
    return tuple(reversed(used))


def preview(steps: Sequence[Step], spec: StreamSpec) -> StreamSpec:
    """Describe what comes out, as far as it is known; raise `PlanError` if the steps do not fit together."""
    for step in steps:
        spec = step.preview(spec)
    return spec


def passes(steps: Sequence[Step]) -> list[list[str]]:
    """Return for each pass what it is for, without reading anything."""
    nodes = [Node.of(step) for step in steps]
    out: list[list[str]] = []
    while True:
        fitting, _, last = front(nodes)
        labels = [node.step.label for node in fitting]
        if last:
            return [*out, [*labels, "write"]]
        if fitting:
            out.append(labels)
        for node in fitting:
            node.left -= 1
            if not node.left:
                node.transform = _DONE


def source_passes(steps: Sequence[Step]) -> int:
    """Count the passes over the source itself: those up to a step that becomes a source of its own."""
    for number, step in enumerate(steps):
        if step.becomes_source:
            return len(passes(steps[: number + 1])) - 1
    return len(passes(steps))


def lock_of(stop: Transform | Accumulator[Any]) -> AbstractContextManager[Any]:
    """Return what is held while a chunk is at a stop: only accumulators that do not guard themselves need a lock."""
    return threading.Lock() if isinstance(stop, Accumulator) and not stop.parallel else nullcontext()


def run_path(path: Sequence[Transform | Accumulator[Any]], locks: Sequence[Any], chunk: Chunk) -> Chunk:
    """Take a chunk through a pass's path; an accumulator is updated one chunk at a time, unless it is `parallel`."""
    for stop, lock in zip(path, locks, strict=True):
        if isinstance(stop, Transform):
            chunk = stop(chunk)
        else:
            with lock:
                stop.update(chunk)
    return chunk


class _Done(Transform):
    """What a fit has become, where only the number of passes matters."""

    def __call__(self, chunk: Chunk) -> Chunk:
        """Return the same cells."""
        return chunk

    def out(self, spec: StreamSpec) -> StreamSpec:
        """Describe the same stream."""
        return spec


_DONE = _Done()
