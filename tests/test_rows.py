"""Annotations of cells as arrays are, once somebody looks, the table that pandas would have made."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import headrace as hr
from headrace.chunk import Chunk
from headrace.engine import settings
from headrace.rows import CellRows
from headrace.sources.soma import obs as annotations

TABLE = pd.DataFrame(
    {
        "donor": pd.Categorical(["a", "b", None, "a", "c", "b"]),
        "age": [1.5, 2.0, np.nan, 4.0, 5.0, 6.0],
        "name": ["p", "q", "r", "s", "t", "u"],
    },
    index=list("uvwxyz"),
)


def chunk(rows: Any) -> Chunk:
    return Chunk(sparse.csr_array(np.ones((len(rows), 3), np.float32)), rows)


def test_a_chunk_has_the_rows_of_its_table() -> None:
    rows = CellRows.of(TABLE)
    assert chunk(TABLE).obs is TABLE
    pd.testing.assert_frame_equal(chunk(rows).obs, TABLE)
    pd.testing.assert_frame_equal(chunk(rows.take(slice(1, 4))).obs, TABLE.iloc[1:4])
    at = np.array([4, 0, 2])
    pd.testing.assert_frame_equal(chunk(rows.take(at)).obs, TABLE.iloc[at])
    for name in TABLE:
        pd.testing.assert_series_equal(chunk(rows).column(name), TABLE[name], check_names=False)
    pd.testing.assert_frame_equal(CellRows.of(TABLE[[]]).table, TABLE[[]], check_column_type=False)


def test_what_a_step_does_to_the_table_is_not_lost() -> None:
    """It is not to change it, but return a new chunk; what is written is what it has seen."""
    before = chunk(CellRows.of(TABLE.copy()))
    before.obs["age"] = 7.0
    assert before.column("age").tolist() == [7.0] * 6
    assert before.replaced(layers={}).obs["age"].tolist() == [7.0] * 6


NEW = {
    "array": np.arange(6),
    "masked": pd.array([1, None, 3, 4, 5, 6], dtype="Int64"),
    "categorical": pd.Categorical(list("xyxyxy")),
    "list": [1, 2, 3, 4, 5, 6],
    "one for all": 7,
    "by the cells' names": pd.Series([6, 5, 4, 3, 2, 1], index=list("zyxwvu")),
    "text": np.array(list("abcdef"), dtype=object),
}


@pytest.mark.parametrize("name", NEW)
@pytest.mark.parametrize("replaces", [False, True], ids=["new", "instead of another"])
def test_columns_are_added_as_pandas_adds_them(name: str, replaces: bool) -> None:
    called = "age" if replaces else "new"
    expected = TABLE.copy()
    expected[called] = NEW[name]
    for rows in (TABLE, CellRows.of(TABLE)):
        before = chunk(rows)
        pd.testing.assert_frame_equal(before.with_obs(**{called: NEW[name]}).obs, expected)
        assert list(before.obs) == list(TABLE)


def test_other_fields_leave_them_alone() -> None:
    rows = CellRows.of(TABLE)
    before = chunk(rows)
    assert before.with_data(before.X.data * 2).replaced(layers={}).with_obsm(pca=np.zeros((6, 1))).rows is rows
    pd.testing.assert_frame_equal(replace(before, layers={}).obs, TABLE)


def test_a_chunk_that_is_sent_takes_its_own_rows_along() -> None:
    long = pd.DataFrame({"n": np.arange(1_000_000)})
    sent = pickle.dumps(chunk(CellRows.of(long).take(slice(10, 12))))
    assert len(sent) < 10_000
    pd.testing.assert_frame_equal(pickle.loads(sent).obs, long.iloc[10:12])


@pytest.mark.parametrize("filtered", [False, True], ids=["one pass", "from the spool, filtered"])
def test_a_plan_that_looks_at_no_column_makes_no_table_of_a_chunk(
    filtered: bool, demo_census: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lengths: list[int] = []
    table = CellRows.table.func  # type: ignore[attr-defined] # a cached property
    counted = property(lambda rows: lengths.append(len(rows)) or table(rows))  # type: ignore[func-returns-value]
    monkeypatch.setattr(CellRows, "table", counted)
    monkeypatch.setattr(settings, "MAX_CHUNK_NNZ", 50_000)
    query = hr.open_census(demo_census).query("homo_sapiens", genes="all", primary_only=False)
    qc = [hr.QCMetrics({"mt": "MT-"}, percent_top=()), hr.FilterCells(min_genes=300), hr.FilterGenes(min_cells=3)]
    steps = [hr.SaveLayer("counts"), hr.NormalizeTotal(1e4), hr.Log1p(), hr.HighlyVariableGenes(100)]
    chunks: list[Any] = []
    hr.Plan(query, [*(qc if filtered else []), *steps]).write_h5ad(
        tmp_path / "out.h5ad",
        executor=hr.Serial(),
        on_event=lambda event: chunks.append(event) if isinstance(event, hr.events.ChunkDone) else None,
    )
    n_obs = query.spec.n_obs
    assert len(chunks) > 5
    assert sum(length > 0 for length in lengths) <= -(-n_obs // annotations.BLOCK)  # where a chunk lies in two of them
    got = ad.read_h5ad(tmp_path / "out.h5ad")
    assert got.obs_names.tolist() == [str(joinid) for joinid in got.obs["soma_joinid"]]
    assert (len(got) < n_obs) == filtered
