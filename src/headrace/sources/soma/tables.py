"""Tables of SOMA as pandas has them, missing values included."""

from __future__ import annotations

import pandas as pd
import pyarrow as pa

from ...support.columns import MASKED

_MASKED = {pa.from_numpy_dtype(kind().type): kind() for kind in MASKED}


def to_frame(table: pa.Table) -> pd.DataFrame:
    """Return a table of Arrow's as one of pandas'.

    Whole numbers and booleans are of numpy's types, or of pandas' nullable ones where values are missing: Arrow itself
    would turn them into floats and objects. Times become text, since no .h5ad file holds them: ISO 8601.

    Examples
    --------
    >>> to_frame(pa.table({"n": pa.array([1, None])}))["n"].dtype
    Int64Dtype()
    """
    columns = {}
    for name, values in zip(table.column_names, table.columns, strict=True):
        if pa.types.is_temporal(values.type):
            values = values.cast(pa.string())
        masked = _MASKED.get(values.type) if values.null_count else None
        if masked is None:
            columns[name] = values.combine_chunks().to_pandas()
        else:
            columns[name] = pd.Series(masked.__from_arrow__(values))
    return pd.DataFrame(columns, index=pd.RangeIndex(len(table)), copy=False)
