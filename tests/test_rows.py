"""Rows of obs are cut out of their table when somebody looks, and are then what pandas gives."""

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
from headrace.rows import TableRows

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
    pd.testing.assert_frame_equal(chunk(TableRows(TABLE, 1, 4)).obs, TABLE.iloc[1:4])
    pd.testing.assert_frame_equal(chunk(TABLE).obs, TABLE)


def test_rows_that_follow_are_joined_and_no_others() -> None:
    first = TableRows(TABLE, 0, 2)
    joined = first.joined(TableRows(TABLE, 2, 5))
    assert joined is not None
    pd.testing.assert_frame_equal(joined.cut, TABLE.iloc[:5])
    for other in (TableRows(TABLE, 3, 5), TableRows(TABLE.copy(), 2, 5), TABLE.iloc[2:5]):
        assert first.joined(other) is None


def test_other_fields_leave_them_alone_and_new_columns_are_only_of_the_chunk() -> None:
    rows = TableRows(TABLE, 1, 3)
    before = chunk(rows)
    assert before.with_data(before.X.data * 2).replaced(layers={}).with_obsm(pca=np.zeros((2, 1))).rows is rows
    after = before.with_obs(more=[1, 2])
    assert after.obs["more"].tolist() == [1, 2]
    assert list(before.obs) == list(rows.cut) == list(TABLE)
    pd.testing.assert_frame_equal(replace(before, layers={}).obs, TABLE.iloc[1:3])


def test_a_chunk_that_is_sent_takes_its_own_rows_along() -> None:
    long = pd.DataFrame({"n": np.arange(1_000_000)})
    sent = pickle.dumps(chunk(TableRows(long, 10, 12)))
    assert len(sent) < 10_000
    pd.testing.assert_frame_equal(pickle.loads(sent).obs, long.iloc[10:12])


def test_a_plan_that_looks_at_no_column_cuts_blocks_and_not_chunks(
    demo_census: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lengths: list[int] = []
    cut = TableRows.cut.func  # type: ignore[attr-defined] # a cached property
    counted = property(lambda rows: lengths.append(len(rows)) or cut(rows))  # type: ignore[func-returns-value]
    monkeypatch.setattr(TableRows, "cut", counted)
    monkeypatch.setattr(settings, "MAX_CHUNK_NNZ", 50_000)
    query = hr.open_census(demo_census).query("homo_sapiens", genes="all", primary_only=False)
    steps = [hr.SaveLayer("counts"), hr.NormalizeTotal(1e4), hr.Log1p(), hr.HighlyVariableGenes(100)]
    chunks: list[Any] = []
    hr.Plan(query, steps).write_h5ad(
        tmp_path / "out.h5ad",
        executor=hr.Serial(),
        on_event=lambda event: chunks.append(event) if isinstance(event, hr.events.ChunkDone) else None,
    )
    n_obs = query.spec.n_obs
    assert len(chunks) > 5
    assert max(lengths) > 2 * n_obs // len(chunks)  # several chunks at once
    assert len(lengths) < len(chunks)
    got = ad.read_h5ad(tmp_path / "out.h5ad")
    assert got.obs_names.tolist() == [str(joinid) for joinid in got.obs["soma_joinid"]]
    assert len(got) == n_obs
