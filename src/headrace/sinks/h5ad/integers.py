"""Counts stored as whole numbers, for programs that ask for them."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from ...chunk import Holds, Matrix, StreamSpec
from ...errors import CountsError, OutputError

BEYOND = 2.0**31
COUNTED = (Holds.COUNTS, Holds.UNKNOWN)


def counted(spec: StreamSpec) -> Collection[str]:
    """Return which matrices of a stream hold counts, by where they are in the file.

    Examples
    --------
    >>> import pandas as pd
    >>> spec = StreamSpec(pd.DataFrame(), pd.DataFrame(), 1, holds=Holds.LOGGED, layers={"counts": Holds.COUNTS})
    >>> counted(spec)
    ['layers/counts']
    """
    matrices = {"X": spec.holds, **{f"layers/{name}": holds for name, holds in spec.layers.items()}}
    return [name for name, holds in matrices.items() if holds in COUNTED]


def check_counted(spec: StreamSpec) -> None:
    """Raise `OutputError` if a stream has no counts, or such as are known not to be whole."""
    if not counted(spec):
        raise OutputError("counts='int32': nothing that is written holds counts; leave it out, or SaveLayer('counts')")
    if spec.fractional:
        raise OutputError("counts='int32': the counts are not whole; put RoundCounts() first, or leave it out")


def check_whole(name: str, X: Matrix) -> None:
    """Raise `CountsError` if a matrix has a value that is no int32."""
    values = X if isinstance(X, np.ndarray) else X.data
    wrong = (values != np.floor(values)) | (np.abs(values) >= BEYOND)
    if wrong.any():
        raise CountsError(
            f"{name} holds {values[wrong][0]:g}, which is no whole number of 32 bits; leave counts='int32' out, or put "
            "RoundCounts() first"
        )
