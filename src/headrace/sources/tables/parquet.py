"""Tables of parquet, read if they fit in memory: a small file may hold any number of equal rows, or of long texts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from ...errors import HeadraceError, InputError, MemoryBudgetError
from ...support.memory import opening_limit

VALUE, COPIES = 8, 3
"""Bytes of a value, at least, and how often it is held: by Arrow, by pandas, and as counts."""

BATCH = 1 << 20
"""Rows of a column of text that are looked at together, whatever number the file says that there are."""


def read_parquet(path: Path) -> pd.DataFrame:
    """Read a file of parquet.

    Raises
    ------
    InputError
        If it is none, or is damaged.
    MemoryBudgetError
        If it does not fit in memory.
    """
    try:
        _check_sizes(path)
        return pd.read_parquet(path)
    except HeadraceError:
        raise
    except Exception as error:  # whatever pandas and Arrow raise for what is broken
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path} cannot be read as parquet: {said}; it may be damaged, so copy it again") from error


def _check_sizes(path: Path) -> None:
    """Raise if a table takes too much: by its sizes as stored, then by how often each of its texts comes.

    What the file says of a column in a group of rows is not asked for (`RowGroupMetaData.column`): if Arrow finds that
    wrong, pyarrow lets the C++ exception through, which ends the process. Where Arrow reads, it becomes an error.
    """
    from pyarrow.parquet import ParquetFile  # which takes its time to import

    with ParquetFile(path, memory_map=False) as file:
        about, schema = file.metadata, file.schema_arrow
        for at in range(about.num_columns):
            leaf = about.schema.column(at)
            if leaf.max_repetition_level:
                raise InputError(f"{path}: column {leaf.path!r} holds lists, which no table of numbers and text has")
            _check(path, about.num_rows * VALUE, f"column {leaf.path!r}, {about.num_rows:,} rows,")
        stored = sum(about.row_group(at).total_byte_size for at in range(about.num_row_groups))
        whole = max(stored, about.num_rows * about.num_columns * VALUE)
        _check(path, whole, f"the table of {about.num_rows:,} rows and {about.num_columns:,} columns")
    texts = [each.name for each in schema if _is_text(each.type)]
    with ParquetFile(path, read_dictionary=texts, memory_map=False) as file:
        for name in texts:  # each text is held once here
            parts = file.iter_batches(BATCH, columns=[name], use_threads=False)
            _check(path, sum(_text_bytes(part.column(0)) for part in parts), f"the text of column {name!r}")


def _is_text(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
        or pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
    )


def _text_bytes(values: pa.Array) -> int:
    """Return the bytes of all texts, each as often as it comes."""
    if not pa.types.is_dictionary(values.type):
        return int(values.nbytes)
    lengths = pc.binary_length(values.dictionary).fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
    codes = values.indices.drop_null().to_numpy(zero_copy_only=False)
    return int(np.bincount(codes, minlength=len(lengths)) @ lengths)


def _check(path: Path, n_bytes: int, what: str) -> None:
    limit = opening_limit()
    if COPIES * n_bytes > limit:
        raise MemoryBudgetError(
            f"{path}: {what} takes {n_bytes / 1e6:,.0f} MB unpacked, about {COPIES * n_bytes / 1e6:,.0f} MB as it is "
            f"read, and there are {limit / 1e6:,.0f} MB; raise memory=, or look whether the file is broken"
        )
