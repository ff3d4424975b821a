"""Numbers beyond what 16, 24 and 31 bits hold."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
import tiledbsoma as soma

from headrace.sources.ranges import CellRange
from headrace.sources.tiles import Line, TileReader, open_fragments

FAR = Path(__file__).parents[2] / "data" / "tiles" / "far" / "far_2_31.zip"
FIRST_ROW, FIRST_COLUMN = 2**31 - 45, 2**24 - 150


@pytest.mark.parametrize("scattered", [False, True])
def test_rows_across_two_to_the_31(tmp_path: Path, scattered: bool) -> None:
    zipfile.ZipFile(FAR).extractall(tmp_path)
    joinids = FIRST_ROW + np.arange(0, 90, 7 if scattered else 1)
    gene_map = np.full(FIRST_COLUMN + 300, -1, dtype=np.int32)
    gene_map[FIRST_COLUMN:] = np.arange(300)
    reader = TileReader(open_fragments(str(tmp_path), {}), joinids, None, gene_map, line=Line(False))
    got = list(reader.read([CellRange(0, 5), CellRange(5, len(joinids))]))
    with soma.open(str(tmp_path)) as array:
        table = array.read((joinids,)).tables().concat()
    rows, columns, values = (table[name].to_numpy() for name in ("soma_dim_0", "soma_dim_1", "soma_data"))
    order = np.lexsort((columns, rows))
    found = np.repeat(joinids, np.concatenate([np.diff(X.indptr) for X in got]))
    assert np.array_equal(found, rows[order])
    assert np.array_equal(np.concatenate([X.indices for X in got]) + FIRST_COLUMN, columns[order])
    assert np.array_equal(np.concatenate([X.data for X in got]), values[order])


def test_cells_far_from_one_another(tmp_path: Path) -> None:
    """Between them are more numbers than a table of rows could have; beyond the array there is nothing."""
    zipfile.ZipFile(FAR).extractall(tmp_path)
    joinids = np.array([0, 5, FIRST_ROW, FIRST_ROW + 89, 2**39])
    gene_map = np.zeros(FIRST_COLUMN + 300, dtype=np.int32) - 1
    gene_map[FIRST_COLUMN:] = np.arange(300)
    reader = TileReader(open_fragments(str(tmp_path), {}), joinids, None, gene_map, line=Line(False))
    (X,) = reader.read([CellRange(0, 5)])
    counts = np.diff(X.indptr)
    assert counts[[0, 1, 4]].tolist() == [0, 0, 0]
    assert (counts[[2, 3]] > 0).all()
