"""Two statistics of the same cells."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ..chunk import Chunk
from ..protocols import Accumulator


class Combined:
    """Two accumulators that see the same cells; either may be None."""

    def __init__(self, left: Accumulator[Any] | None, right: Accumulator[Any] | None) -> None:
        self.left: Any = left
        self.right: Any = right

    @property
    def reads_obs(self) -> tuple[str, ...] | None:
        """Columns of `obs` that either needs; None if one does not say."""
        read: tuple[str, ...] = ()
        for one in (self.left, self.right):
            names = () if one is None else getattr(one, "reads_obs", None)
            if names is None:
                return None
            read += tuple(names)
        return read

    def update(self, chunk: Chunk) -> None:
        """Take in the cells of one chunk."""
        for one in (self.left, self.right):
            if one is not None:
                one.update(chunk)

    def merge(self, other: Combined) -> None:
        """Take in all that `other` has seen."""
        for mine, theirs in ((self.left, other.left), (self.right, other.right)):
            if mine is not None and theirs is not None:
                mine.merge(theirs)

    def keep(self, genes: npt.NDArray[np.bool_]) -> Combined:
        """Return both as if they had only seen some genes; both must be able to."""
        left, right = (one and one.keep(genes) for one in (self.left, self.right))
        return Combined(left, right)

    def result(self) -> tuple[Any, Any]:
        """Return both results."""
        return self.left and self.left.result(), self.right and self.right.result()
