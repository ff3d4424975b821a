"""Small files of parquet that would take memory without end: refused, with figures."""

from __future__ import annotations

import subprocess
import sys
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


def test_a_column_that_contradicts_its_statistics(tmp_path: Path) -> None:
    """Found by mutation: pyarrow lets Arrow's exception through, and the interpreter ends."""
    pytest.importorskip("pyarrow", minversion="21")  # which writes such statistics
    path = tmp_path / "x.parquet"
    counts = pd.DataFrame({"count_a": [1, 2], "count_b": [3, 4]}, index=["g1", "g2"])
    counts.to_parquet(path)
    optional, needed = b"\x25\x02\x18\x07count_b", b"\x25\x00\x18\x07count_b"  # repetition, then name, in the schema
    data = path.read_bytes()
    assert data.count(optional) == 1
    path.write_bytes(data.replace(optional, needed))
    code = "import sys, headrace as hr\ntry: hr.open_counts(sys.argv[1])\nexcept hr.InputError as error: print(error)"
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "cannot be read as parquet" in done.stdout
    assert "copy it again" in done.stdout


def test_lists_are_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    parquet.write_table(pa.table({"sample": ["a", "b"], "runs": [["r1", "r2"], ["r3"]]}), path)
    with pytest.raises(hr.InputError, match=r"x\.parquet: column 'runs\.\S+' holds lists"):
        hr.open_counts(pd.DataFrame({"a": [1], "b": [2]}, index=["g"]), samples=path)
