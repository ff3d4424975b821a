"""Counts above a cap, and what the sums are with these clipped."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..chunk import Chunk
from . import kernels
from .bygroup import Floats, GroupMoments, MomentsByGroup, in_parts, rows_by_group, wide_form
from .groups import Groups
from .look import Look

Above = tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]
"""Genes, and a count of each."""


class Excess:
    """Collects the counts above a cap, by group: few, so that clipped sums follow from the plain ones.

    Parameters
    ----------
    groups
        Groups of cells.
    caps
        For each group its cap, a whole number for each gene; other groups are left out.
    look
        Which matrix of the chunk.
    """

    def __init__(self, groups: Groups, caps: dict[int, npt.NDArray[np.int32]], look: Look | None = None) -> None:
        self.groups, self.caps, self.look = groups, caps, look or Look()
        self.found: dict[int, list[Above]] = {}

    def update(self, chunk: Chunk) -> None:
        """Take in the cells of one chunk."""
        X = self.look.csr(chunk)
        for code, rows in rows_by_group(self.groups.codes(chunk)):
            if code in self.caps:
                n = kernels.count_above(X.indptr, X.indices, X.data, rows, self.caps[code])
                genes, values = np.empty(n, dtype=np.int32), np.empty(n, dtype=np.float32)
                kernels.take_above(X.indptr, X.indices, X.data, rows, self.caps[code], genes, values)
                self.found.setdefault(code, []).append((genes, values))

    def merge(self, other: Excess) -> None:
        """Take in all that `other` has seen."""
        for code, parts in other.found.items():
            self.found.setdefault(code, []).extend(parts)

    def result(self) -> dict[int, Above]:
        """Return genes and counts of each group, in increasing order."""
        out = {}
        for code, parts in sorted(self.found.items()):
            genes, values = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
            order = np.lexsort((values, genes))
            out[code] = genes[order], values[order]
        return out


def clipped(moments: MomentsByGroup, code: int, cap: Floats, above: Above | None) -> GroupMoments:
    """Return the moments of one group with the counts above `cap` counted as `cap`.

    Parameters
    ----------
    moments
        Of the counts as they are.
    code
        The group.
    cap
        Shape (genes,).
    above
        Genes and counts of those above it, if any; see `Excess`.
    """
    over = np.zeros((len(cap), 4), dtype=np.int64)
    if above is not None:
        kernels.add_values(*above, over)
    words = wide_form(moments.blocks[code].words, whole=True)
    total = (words[:, 0] - over[:, 1]) + over[:, 0] * cap
    squares = in_parts(words[:, 1] - over[:, 2], words[:, 2] - over[:, 3]) + over[:, 0] * cap**2
    return GroupMoments(moments.of(code).n, total, squares)
