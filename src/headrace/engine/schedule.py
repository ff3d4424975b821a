"""In which passes a list of steps is done.

A fit looks at the stream as it is where the fit stands. While it has looks left, the steps after it
must wait, unless it only annotates `var`: then they go on, and its last look is the pass that writes.

A fit that only chooses genes (`chooses_genes`) need not be waited for by one that learns of each gene from that gene
alone (`by_gene`): that one looks at all genes in the same pass, and forgets those that were not chosen.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..chunk import Chunk, Holds, StreamSpec
from ..errors import PlanError
from ..protocols import Accumulator, Fit, Source, Transform


def flatten(steps: Iterable[Any]) -> list[Any]:
    """Unnest recipes within recipes."""
    flat: list[Any] = []
    for step in steps:
        if isinstance(step, (Fit, Transform)) and not isinstance(step, type):
            flat.append(step)
        elif isinstance(step, Sequence) and not isinstance(step, str):
            flat.extend(flatten(step))
        else:
            made = f"{step.__name__}()" if isinstance(step, type) else None
            raise PlanError(f"{step!r} is not a step" + (f"; did you mean {made}?" if made else ""))
    return flat


@dataclass
class Node:
    """One step and how far it has come."""

    step: Any
    transform: Transform | None = None
    source: Source[Any] | None = None
    """What the stream begins again from, if that is what the fit has become."""
    left: int = 0
    """Looks it still needs."""
    program: Generator[Accumulator[Any], Any, Transform | Source[Any]] | None = field(default=None, repr=False)
    asked: Accumulator[Any] | None = None

    @staticmethod
    def of(step: Any) -> Node:
        """Begin."""
        if isinstance(step, Fit):
            return Node(step, left=step.passes)
        return Node(step, transform=step)

    @property
    def name(self) -> str:
        """The step's name in messages."""
        return type(self.step).__name__

    def begin(self, spec: StreamSpec) -> None:
        """Start the fit on a stream like `spec`, and take down what it asks for first."""
        assert self.program is None
        self.program = self.step.fit(spec)
        self._send(None)

    def answer(self, spec: StreamSpec | None = None, genes: Any = None) -> None:
        """Give the fit what its accumulator has found.

        Parameters
        ----------
        spec, genes
            If it looked before genes were chosen: the stream of those genes, on which it begins again, and which of
            those that it saw they are.
        """
        if spec is not None:
            seen, self.program = self.asked, None
            self.begin(spec)
            self.asked = seen.keep(genes)  # type: ignore[union-attr] # what a fit that is `by_gene` asks for can
        assert self.asked is not None
        self.left -= 1
        self._send(self.asked.result())

    def _send(self, result: Any) -> None:
        assert self.program is not None
        try:
            self.asked = self.program.send(result)
        except StopIteration as stop:
            self.asked = None
            if isinstance(stop.value, Source):
                self.source = stop.value
            else:
                self.transform = stop.value
            assert self.left == 0, f"{self.name} asked for fewer passes than it said"
        else:
            assert self.left > 0, f"{self.name} asked for more passes than it said"


@dataclass(frozen=True)
class Pass:
    """One look at all cells.

    Parameters
    ----------
    path
        What each chunk goes through: transforms, and accumulators that it updates on the way.
    looking
        The nodes whose accumulators these are.
    last
        Whether this is the pass that writes.
    """

    path: tuple[Transform | Accumulator[Any], ...]
    looking: tuple[Node, ...]
    last: bool


def front(nodes: Sequence[Node]) -> tuple[list[Node], int, bool]:
    """Return the nodes that look in the next pass, how many nodes it reaches, and whether it can be the last."""
    looking: list[Node] = []
    for number, node in enumerate(nodes):
        if isinstance(node.step, Fit) and node.step.reads_var and node.transform is None and looking:
            return looking, number, False
        if node.left:
            looking.append(node)
            if not node.step.annotates:
                reach = number + 1
                if getattr(node.step, "chooses_genes", False):
                    reach += _not_waiting(nodes[reach:])
                    looking += [node for node in nodes[number + 1 : reach] if node.left]
                return looking, reach, False
    return looking, len(nodes), all(node.left == 1 for node in looking)


def _not_waiting(nodes: Sequence[Node]) -> int:
    """Count the nodes that may see genes before they are chosen, up to the first that may not."""
    for number, node in enumerate(nodes):
        waits = isinstance(node.step, Fit) and (node.step.reads_var or not node.step.annotates)
        if waits or not getattr(node.step, "by_gene", False):
            return number
    return len(nodes)


def answer(nodes: Sequence[Node], looked: Pass, spec: StreamSpec) -> None:
    """Give all fits of a pass what they have found; one that did not wait for genes to be chosen, of these alone."""
    waiting = list(looked.looking)
    chooser: Any = None
    for node in nodes:
        if node in waiting:
            node.answer(*(() if chooser is None else (spec, chooser.transform.mask)))
            waiting.remove(node)
            if not waiting:
                return
            if getattr(node.step, "chooses_genes", False):
                chooser = node
        spec = node.step.preview(spec) if node.transform is None else node.transform.out(spec)


def next_pass(nodes: Sequence[Node], spec: StreamSpec) -> Pass:
    """Start the fits whose turn it is, and return what the next pass does."""
    while True:
        looking, reach, last = front(nodes)
        path: list[Transform | Accumulator[Any]] = []
        current = spec
        for node in nodes[:reach]:
            if node.transform is None and node.program is None:
                node.begin(current)
            if node.transform is not None:
                path.append(node.transform)
                current = node.transform.out(current)
            else:
                assert node.asked is not None
                path.append(node.asked)
                current = node.step.preview(current)
        if looking or last:
            return Pass(tuple(path) if last else without_idle(path), tuple(looking), last)


def without_idle(path: Sequence[Any]) -> tuple[Any, ...]:
    """Leave out what only adds columns to `obs` (`adds_obs`) that nothing after it is known to read (`reads_obs`)."""
    used: list[Any] = []
    read: set[str] | None = set()
    for stop in reversed(path):
        added = getattr(stop, "adds_obs", None)
        if added is not None and read is not None and read.isdisjoint(added):
            continue
        used.append(stop)
        more = getattr(stop, "reads_obs", None)
        read = None if read is None or more is None else read.union(more)
    return tuple(reversed(used))


def preview(steps: Sequence[Any], spec: StreamSpec) -> StreamSpec:
    """Describe what comes out, as far as it is known; raise `PlanError` if the steps do not fit together."""
    for step in steps:
        spec = step.preview(spec) if isinstance(step, Fit) else step.out(spec)
    return spec


def passes(steps: Sequence[Any]) -> list[list[str]]:
    """Return for each pass what it is for, without reading anything."""
    nodes = [Node.of(step) for step in steps]
    out: list[list[str]] = []
    while True:
        looking, _, last = front(nodes)
        if last:
            return [*out, [*(node.name for node in looking), "write"]]
        if looking:
            out.append([node.name for node in looking])
        for node in looking:
            node.left -= 1
            if not node.left:
                node.transform = node.step  # done; what it has become does not matter here


def source_passes(steps: Sequence[Any]) -> int:
    """Count the passes that look at the source itself: those up to a step that becomes a source of its own."""
    for number, step in enumerate(steps):
        if getattr(step, "becomes_source", False):
            return len(passes(steps[: number + 1])) - 1
    return len(passes(steps))


def counting(steps: Sequence[Any], spec: StreamSpec) -> list[str]:
    """Return the names of the steps that take the source's own values for counts."""
    names = []
    untouched = (Holds.COUNTS, Holds.UNKNOWN)
    for step in steps:
        layer = getattr(step, "layer", None)
        holds = spec.holds if layer is None else spec.layers.get(layer)
        if getattr(step, "needs_counts", False) and holds in untouched:
            names.append(type(step).__name__)
        spec = step.preview(spec) if isinstance(step, Fit) else step.out(spec)
    return names


def run_path(path: Sequence[Any], locks: Sequence[Any], chunk: Chunk) -> Chunk:
    """Take a chunk through a pass's path; accumulators are updated one chunk at a time."""
    for stop, lock in zip(path, locks, strict=True):
        if lock is None:
            chunk = stop(chunk)
        else:
            with lock:
                stop.update(chunk)
    return chunk


__all__ = [
    "Node",
    "Pass",
    "answer",
    "counting",
    "flatten",
    "front",
    "next_pass",
    "passes",
    "preview",
    "run_path",
    "source_passes",
    "without_idle",
]
