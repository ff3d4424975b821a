"""Sums of counts that are clipped, each gene of each group at a bound of its own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ..chunk import Chunk, with_data
from ..protocols import Accumulator
from .bygroup import Floats, MomentsByGroup, SumsByGroup
from .groups import Groups
from .measured import Measured
from .representation import Representation


class ClippedSums(Accumulator[MomentsByGroup]):
    """Accumulates `SumsByGroup` of values that are clipped from above; for counts that are not whole.

    Parameters
    ----------
    groups, n_vars, rep, measured
        As in `SumsByGroup`.
    caps
        The largest value of each gene, shape (genes,), by group; other groups are not clipped.
    """

    def __init__(
        self, groups: Groups, n_vars: int, rep: Representation, caps: Mapping[int, Floats], measured: Measured | None
    ) -> None:
        self.rep, self.caps = rep, dict(caps)
        self.sums = SumsByGroup(groups, n_vars, Representation("clipped"), whole=False, measured=measured)

    def use_scratch(self, folder: Path) -> None:
        """Be told the folder for the temporary file."""
        self.sums.use_scratch(folder)

    def update(self, chunk: Chunk) -> None:
        """Add the cells of one chunk."""
        X = self.rep.csr(chunk)
        group = np.repeat(self.sums.groups.codes(chunk), np.diff(X.indptr))
        data = X.data.astype(np.float64)
        for code in np.unique(group).tolist():
            if code in self.caps:
                its = group == code
                data[its] = np.minimum(data[its], self.caps[code][X.indices[its]])
        self.sums.update(chunk.replaced(layers={"clipped": with_data(X, data)}))

    def merge(self, other: ClippedSums) -> None:
        """Add all that `other` has seen."""
        self.sums.merge(other.sums)

    def result(self) -> MomentsByGroup:
        """Return the moments of the clipped values."""
        return self.sums.result()
