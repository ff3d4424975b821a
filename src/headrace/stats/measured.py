"""Which genes the cells of each dataset tell about."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..chunk import Chunk, StreamSpec
from ..presence import Presence

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Measured:
    """Which genes the cells of each dataset tell about.

    Parameters
    ----------
    seen
        Of each dataset and gene.
    row_of
        For each category of `obs["dataset_id"]` its row in `seen`, or -1.
    """

    seen: Presence
    row_of: Ints

    @staticmethod
    def of(spec: StreamSpec) -> Measured:
        """Take it from a stream that joins several datasets."""
        assert spec.measured is not None
        categories = spec.obs["dataset_id"].cat.categories
        return Measured(spec.measured, spec.measured.datasets.get_indexer(categories).astype(np.int64))

    def rows(self, chunk: Chunk) -> Ints:
        """Return the row in `seen` of every cell, shape (n_obs,)."""
        return np.asarray(self.row_of[chunk.column("dataset_id").cat.codes.to_numpy(np.int64)])

    def n(self, cells: Ints) -> Ints:
        """Count for every gene the cells that measured it; `cells` are those of each dataset."""
        return self.seen.n_cells(cells)
