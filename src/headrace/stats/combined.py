"""Two statistics of the same cells."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..chunk import Chunk
from ..protocols import Accumulator
from ..support.locks import Lock


class Combined(Accumulator[tuple[Any, Any]]):
    """Two accumulators that see the same cells, one thread at each; either may be None."""

    parallel = True

    def __init__(self, left: Accumulator[Any] | None, right: Accumulator[Any] | None) -> None:
        self.left, self.right = left, right
        self.locks = Lock(), Lock()

    @property
    def both(self) -> list[Accumulator[Any]]:
        """Those of the two that are there."""
        return [one for one in (self.left, self.right) if one is not None]

    @property
    def reads_obs(self) -> tuple[str, ...] | None:
        """Columns of `obs` that either reads; None if unknown of one."""
        read: tuple[str, ...] = ()
        for one in self.both:
            if one.reads_obs is None:
                return None
            read += tuple(one.reads_obs)
        return read

    def use_scratch(self, folder: Path) -> None:
        """Be told the folder for temporary files."""
        for one in self.both:
            one.use_scratch(folder)

    def update(self, chunk: Chunk) -> None:
        """Add the cells of one chunk."""
        for one, lock in zip((self.left, self.right), self.locks, strict=True):
            if one is not None:
                with nullcontext() if one.parallel else lock:
                    one.update(chunk)

    def merge(self, other: Combined) -> None:
        """Add all that `other` has seen."""
        for mine, theirs in zip(self.both, other.both, strict=True):
            mine.merge(theirs)

    def keep(self, genes: npt.NDArray[np.bool_]) -> Combined:
        """Return both as if they had only seen some genes."""
        left, right = (None if one is None else one.keep(genes) for one in (self.left, self.right))
        return Combined(left, right)

    def result(self) -> tuple[Any, Any]:
        """Return both results; None for an accumulator that is not there."""
        left, right = (None if one is None else one.result() for one in (self.left, self.right))
        return left, right
