"""Tables of SOMA as pandas has them, missing values included."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from ...errors import ContradictionError, InputError
from ...support.columns import MASKED

_MASKED = {pa.from_numpy_dtype(kind().type): kind() for kind in MASKED}


Known = dict[str, tuple[pa.Array, pd.CategoricalDtype]]
"""The categories that a column had last: as Arrow has them, and as pandas has."""


def to_frame(table: pa.Table, known: Known | None = None) -> pd.DataFrame:
    """Return a table of Arrow's as one of pandas'.

    Whole numbers and booleans are of numpy's types, or of pandas' nullable ones where values are missing: Arrow itself
    would turn them into floats and objects. Times become text, since no .h5ad file holds them: ISO 8601.

    Parameters
    ----------
    table
        It.
    known
        The categories of the table before, if this one goes on from there: to make them takes longer than the codes.

    Raises
    ------
    InputError
        If a text has a NUL.
    ContradictionError
        If a column holds what cannot be read, such as text that is no UTF-8.

    Examples
    --------
    >>> to_frame(pa.table({"n": pa.array([1, None])}))["n"].dtype
    Int64Dtype()
    """
    columns = {}
    for name, values in zip(table.column_names, table.columns, strict=True):
        try:
            _refuse_nul(name, values)
            if known is not None and values.num_chunks == 1 and pa.types.is_dictionary(values.type):
                columns[name] = _categories(name, values.chunk(0), known)
            else:
                columns[name] = _column(values)
        except (pa.ArrowException, UnicodeDecodeError) as error:
            detail = str(error).split("\n")[0]
            raise ContradictionError(f"column {name!r} cannot be read, it is damaged: {detail}") from error
    return pd.DataFrame(columns, index=pd.RangeIndex(len(table)), copy=False)


def _refuse_nul(name: str, values: pa.ChunkedArray) -> None:
    """Raise `InputError` if a text has a NUL, which no .h5ad file holds; of categories that is known before."""
    if pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
        found = pc.match_substring(values, "\0")
        if pc.any(found).as_py():
            wrong = values.filter(found)[0].as_py()
            raise InputError(f"column {name!r} has {wrong!r}, with a NUL (\\0) that an .h5ad cannot hold; replace it")


def _categories(name: str, values: pa.DictionaryArray, known: Known) -> Any:
    dictionary, ordered = values.dictionary, bool(values.type.ordered)
    before, dtype = known.get(name, (None, None))
    if before is None or dtype is None or dtype.ordered != ordered or not before.equals(dictionary):
        dtype = pd.CategoricalDtype(dictionary.to_pandas(), ordered)
        known[name] = dictionary, dtype
    codes = (values.indices.fill_null(-1) if values.null_count else values.indices).to_numpy(zero_copy_only=False)
    least = -1 if values.null_count else 0
    if len(codes) and not least <= codes.min() <= codes.max() < len(dictionary):
        wrong = codes.min() if codes.min() < least else codes.max()
        raise ContradictionError(
            f"column {name!r} cannot be read, it is damaged: it has code {wrong}, and {len(dictionary)} categories"
        )
    return pd.Series(pd.Categorical.from_codes(codes, dtype=dtype, validate=False))


def _column(values: pa.ChunkedArray) -> Any:
    if pa.types.is_temporal(values.type):
        values = values.cast(pa.string())
    masked = _MASKED.get(values.type) if values.null_count else None
    if masked is None:
        return values.combine_chunks().to_pandas()
    return pd.Series(masked.__from_arrow__(values))
