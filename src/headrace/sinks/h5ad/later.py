"""Arrays of `obsm`, kept until all of X is in the file: they lie in it where they would if they came only then."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...support.scratch import Scratch

BLOCK = 1 << 20
"""Bytes that are written at once, at most; a row at least."""


class Later:
    """Rows of one array, in a temporary file.

    Parameters
    ----------
    folder
        Where it is.
    empty
        No rows: their width and type.
    """

    def __init__(self, folder: Path, empty: npt.NDArray[Any]) -> None:
        self.file = Scratch(folder, "the path of the output")
        self.width, self.dtype = empty.shape[1], empty.dtype
        self.rows = 0

    def append(self, values: npt.NDArray[Any]) -> None:
        """Add rows."""
        self.file.write(values, self.rows * self.width * self.dtype.itemsize)
        self.rows += len(values)

    def blocks(self) -> Iterator[npt.NDArray[Any]]:
        """Yield all rows, some at a time."""
        size = self.width * self.dtype.itemsize
        step = max(1, BLOCK // max(1, size))
        for start in range(0, self.rows, step):
            out = np.empty((min(step, self.rows - start), self.width), self.dtype)
            self.file.read(out, start * size)
            yield out
