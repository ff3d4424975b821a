"""A look at the cells on their way, for a report; nothing is changed."""

from __future__ import annotations

from collections.abc import Callable, Generator, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from ..chunk import Chunk, StreamSpec
from ..protocols import Accumulator, Fit, Transform
from .annotate import AnnotateGenes

Maker = Callable[[StreamSpec], Accumulator[Any]]
"""Makes an empty accumulator for a stream."""


@dataclass(frozen=True, eq=False)
class Observe(Fit):
    """Sum up what a report shows, within a pass that is made anyway.

    Parameters
    ----------
    looks
        What is summed up, by name.
    found
        Where the results go, by the same names.
    sees_genes
        Whether one of them reads X: it cannot be told afterwards of fewer genes.
    """

    looks: Mapping[Hashable, Maker]
    found: dict[Any, Any] = field(default_factory=dict)
    sees_genes: bool = True
    annotates = True
    label = "report"

    @property
    def by_gene(self) -> bool:
        """True if genes do not matter."""
        return not self.sees_genes

    def memory(self, spec: StreamSpec) -> int:
        """Predict the bytes of the sums: bins, and not cells."""
        return 200_000 * len(self.looks) + 4 * spec.n_vars

    def preview(self, spec: StreamSpec) -> StreamSpec:
        """Describe the same stream."""
        return spec

    def fit(self, spec: StreamSpec) -> Generator[Accumulator[Any], Any, Transform]:
        """Keep what was found; return what changes nothing."""
        self.found.update((yield Looks({name: make(spec) for name, make in self.looks.items()})))
        return AnnotateGenes({})


class Looks(Accumulator[dict[Hashable, Any]]):
    """Several accumulators that see the same cells; the result has theirs, by name."""

    def __init__(self, parts: Mapping[Hashable, Accumulator[Any]]) -> None:
        self.parts = dict(parts)

    @property
    def reads_obs(self) -> tuple[str, ...] | None:
        """Columns of `obs` that one of them reads; None if unknown of one."""
        read: list[str] = []
        for part in self.parts.values():
            if part.reads_obs is None:
                return None
            read += part.reads_obs
        return tuple(dict.fromkeys(read))

    def update(self, chunk: Chunk) -> None:
        """Add the cells of one chunk."""
        for part in self.parts.values():
            part.update(chunk)

    def merge(self, other: Looks) -> None:
        """Add all that `other` has seen."""
        for name, part in self.parts.items():
            part.merge(other.parts[name])

    def keep(self, genes: npt.NDArray[np.bool_]) -> Looks:
        """Return the same, told of fewer genes."""
        return Looks({name: part.keep(genes) for name, part in self.parts.items()})

    def result(self) -> dict[Hashable, Any]:
        """Return what each has found."""
        return {name: part.result() for name, part in self.parts.items()}
