"""Annotations of cells come as they were asked for, in whatever order and however cut obs brings them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import headrace as hr
from headrace.rows import as_table
from headrace.sources.soma import obs as annotations
from headrace.sources.soma.obs import Annotations

N = 1000


class Obs:
    """A table of cells that brings what is asked for, cut and ordered as told."""

    soma_type, index_column_names = "SOMADataFrame", ("soma_joinid",)

    def __init__(self, arrange: Any, missing: Any = ()) -> None:
        self.arrange, self.missing, self.queries = arrange, list(missing), 0

    def read(self, coords: tuple[Any, ...], column_names: list[str]) -> Any:
        assert column_names == ["soma_joinid", "label"]
        self.queries += 1
        asked = coords[0]
        rows = np.arange(asked.start, asked.stop + 1) if isinstance(asked, slice) else np.asarray(asked)
        return Read([table(part) for part in self.arrange(rows[~np.isin(rows, self.missing)])])


class Read:
    def __init__(self, tables: list[pa.Table]) -> None:
        self.tables = tables

    def __iter__(self) -> Iterator[pa.Table]:
        return iter(self.tables)

    def concat(self) -> pa.Table:
        return pa.concat_tables(self.tables)


def table(rows: np.ndarray) -> pa.Table:
    labels = pa.array([f"cell {row}" for row in rows], pa.string())
    return pa.table({"soma_joinid": pa.array(rows, pa.int64()), "label": labels})


ARRANGED = {
    "in order": lambda rows: [rows[a : a + 130] for a in range(0, max(1, len(rows)), 130)],
    "backwards": lambda rows: [rows[::-1]],
    "parts in another order": lambda rows: [rows[len(rows) // 2 :], rows[: len(rows) // 2]],
    "out of order later on": lambda rows: [rows[:100], rows[200:], rows[100:200]],
}


@pytest.fixture(autouse=True)
def _small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"BLOCK": 70, "TILE": 90, "RUN": 400}.items():
        monkeypatch.setattr(annotations, name, value)


@pytest.mark.parametrize("arrange", ARRANGED.values(), ids=ARRANGED)
@pytest.mark.parametrize(
    "joinids", [np.arange(N), np.arange(3, N, 2), np.arange(0, N, 37)], ids=["all", "every other", "few among many"]
)
def test_cells_are_those_asked_for(arrange: Any, joinids: np.ndarray) -> None:
    cells = Annotations(Obs(arrange), joinids, ["label"])
    for start, stop in [(0, 5), (5, 20), (20, len(joinids)), (7, 9), (1, len(joinids) - 1)]:
        got = as_table(cells.read(start, stop))
        assert got.index.tolist() == [str(joinid) for joinid in joinids[start:stop]]
        assert got["label"].tolist() == [f"cell {joinid}" for joinid in joinids[start:stop]]


def test_cells_in_order_are_read_once_in_long_queries() -> None:
    obs = Obs(ARRANGED["in order"])
    cells = Annotations(obs, np.arange(N), ["label"])
    for start in range(0, N, 25):
        cells.read(start, start + 25)
    assert obs.queries == 3  # of 400, 400 and 200 cells


@pytest.mark.parametrize("arrange", [*ARRANGED.values(), lambda rows: [rows] if len(rows) else []])
@pytest.mark.parametrize("missing", [{0}, {500}, {N - 1}, set(range(N))], ids=["first", "one", "last", "all"])
@pytest.mark.parametrize("step", [1, 3], ids=["all", "every third"])
def test_cells_that_are_gone(arrange: Any, missing: set[int], step: int) -> None:
    joinids = np.union1d(np.arange(0, N, step), sorted(missing)[:1])
    obs = Obs(arrange)
    cells = Annotations(obs, joinids, ["label"])
    assert len(cells.empty()) == 0
    obs.missing = sorted(missing)
    with pytest.raises(hr.SourceError, match="obs changed while it was read"):
        for start in range(0, len(joinids), 25):
            cells.read(start, min(start + 25, len(joinids)))
