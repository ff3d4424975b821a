"""What other processes can do of the writing of a file: make chunks ready, so that who writes it only copies."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from .chunk import Chunk
from .contract import Contract


class Preparer(Contract):
    """Makes chunks ready for a file, in processes that cannot write to it. It is sent to them, so it pickles small."""

    @abstractmethod
    def prepare(self, chunk: Chunk, before: Mapping[str, int]) -> Any:
        """Return what can be sent back of a chunk; `before` counts the non-zeros of each matrix in the cells before."""

    @abstractmethod
    def taken(self, prepared: Any, obs: pd.DataFrame) -> Chunk:
        """Return a chunk for the sink's own writer, and for no other; `obs` has the columns of the cells, no rows."""

    @property
    def costly(self) -> bool:
        """Whether it takes longer than all else of the writing: it then pays with few processes."""
        return False


def non_zeros(chunk: Chunk) -> dict[str, int]:
    """Count the non-zeros of each sparse matrix of a chunk, by its name in a file."""
    named = {"X": chunk.X, **{f"layers/{name}": layer for name, layer in chunk.layers.items()}}
    return {name: int(X.nnz) for name, X in named.items() if not isinstance(X, np.ndarray)}
