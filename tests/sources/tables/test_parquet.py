"""Small files of parquet that would take memory without end: refused, with figures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet

import headrace as hr


def test_rows_without_end(tmp_path: Path) -> None:
    """A row group of 10 million equal rows takes 76 kB."""
    path, n = tmp_path / "x.parquet", 10**7
    with parquet.ParquetWriter(path, pa.schema([("gene", pa.int8()), ("s1", pa.int64())])) as writer:
        writer.write_table(pa.table({"gene": pa.array(np.zeros(n, np.int8)), "s1": pa.array(np.zeros(n, np.int64))}))
    assert path.stat().st_size < 100_000
    said = r"x.parquet: column 'gene', 10,000,000 rows, takes 80 MB unpacked, about 240 MB as it is read, and there are"
    with pytest.raises(hr.MemoryBudgetError, match=said):
        hr.open_counts(path, memory="400MB")
    with pytest.raises(hr.MemoryBudgetError, match=said):
        hr.open_counts(pd.DataFrame({"a": [1], "b": [2]}, index=["g"]), samples=path, memory="400MB")


def test_a_text_that_comes_often(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    story = pa.DictionaryArray.from_arrays(pa.array(np.zeros(200, np.int32)), pa.array(["x" * 1_000_000]))
    ids, counts = pa.array([f"g{i}" for i in range(200)]), pa.array(range(200))
    parquet.write_table(pa.table({"gene": ids, "story": story.cast(pa.string()), "s1": counts}), path)
    assert path.stat().st_size < 100_000
    with pytest.raises(hr.MemoryBudgetError, match="the text of column 'story' takes 200 MB unpacked, about 600 MB"):
        hr.open_counts(path, memory="500MB")
    made = hr.open_counts(path, memory="4GB")
    assert made.X.toarray().ravel().tolist() == list(range(200))
