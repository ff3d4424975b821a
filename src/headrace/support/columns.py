"""Columns of `obs` and `var` in which values may be missing.

A column of whole numbers or booleans has the numpy type that the stream's `spec` says, or, in a chunk that has
missing values, pandas' nullable counterpart of it. Nothing else may stand in for it: not floats, not objects.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

MASKED = (
    *(pd.Int8Dtype, pd.Int16Dtype, pd.Int32Dtype, pd.Int64Dtype),
    *(pd.UInt8Dtype, pd.UInt16Dtype, pd.UInt32Dtype, pd.UInt64Dtype, pd.BooleanDtype),
)
"""The nullable types that anndata writes and reads."""

_COUNTERPART = {np.dtype(kind().type): kind() for kind in MASKED}


def is_masked(dtype: Any) -> bool:
    """Return whether a type is a nullable one of whole numbers or booleans."""
    return isinstance(dtype, MASKED)


def nullable(dtype: Any) -> Any:
    """Return the type of the same values that also holds missing ones: itself, if it does.

    Examples
    --------
    >>> nullable(np.dtype("int32")), nullable(np.dtype("float32"))
    (Int32Dtype(), dtype('float32'))
    """
    return _COUNTERPART.get(dtype, dtype) if isinstance(dtype, np.dtype) else dtype


def floats(values: pd.Series) -> npt.NDArray[np.float64]:
    """Return a column of numbers as float64, NaN where one is missing.

    Examples
    --------
    >>> floats(pd.Series([1, None], dtype="Int64"))
    array([ 1., nan])
    """
    if isinstance(values.dtype, np.dtype):
        return np.asarray(values.to_numpy(np.float64))
    return np.asarray(values.to_numpy(np.float64, na_value=np.nan))


def column(values: Sequence[Any], dtype: Any, index: pd.Index) -> pd.Series:
    """Return values as a column of a type, or of its nullable counterpart if some are missing."""
    missing = bool(pd.isna(pd.Series(values, dtype=object)).any())
    return pd.Series(values, index=index, dtype=nullable(dtype) if missing else dtype)


def without_unused_colors(uns: Mapping[str, Any], used: Mapping[str, npt.NDArray[np.bool_]]) -> dict[str, Any]:
    """Return uns, with the colours of the categories that are left: scanpy takes colours by their position.

    Parameters
    ----------
    uns
        Entries such as "cell_type_colors", one colour for each category.
    used
        Of each categorical column, which of its categories are left.

    Examples
    --------
    >>> without_unused_colors({"tissue_colors": ["red", "blue"]}, {"tissue": np.array([False, True])})["tissue_colors"]
    array(['blue'], dtype=object)
    """
    out = dict(uns)
    for name, left in used.items():
        colors = out.get(f"{name}_colors")
        if isinstance(colors, (list, np.ndarray)) and len(colors) == len(left) and not left.all():
            out[f"{name}_colors"] = np.asarray(colors, dtype=object)[left]
    return out
