"""What obs says of the number of values of each cell is believed only where it can be true."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import tiledbsoma as soma

import headrace as hr

COUNTS = np.array([[1, 2, 0], [3, 0, 4], [5, 6, 7], [0, 1, 1]], np.float32)


def experiment(path: Path, nnz: Any) -> str:
    """Write an experiment of four cells and three genes whose obs has a column nnz."""
    cells, genes = np.arange(4), np.arange(3)
    rows, columns = np.nonzero(COUNTS)
    with soma.Experiment.create(str(path)) as made:
        obs = pa.table({"soma_joinid": cells, "nnz": nnz})
        made.add_new_dataframe("obs", schema=obs.schema, index_column_names=["soma_joinid"], domain=[(0, 3)]).write(obs)
        rna = made.add_new_collection("ms").add_new_collection("RNA", soma.Measurement)
        var = pa.table({"soma_joinid": genes, "var_id": ["g0", "g1", "g2"]})
        rna.add_new_dataframe("var", schema=var.schema, index_column_names=["soma_joinid"], domain=[(0, 2)]).write(var)
        X = rna.add_new_collection("X").add_new_sparse_ndarray("raw", type=pa.float32(), shape=(4, 3))
        X.write(pa.table({"soma_dim_0": rows, "soma_dim_1": columns, "soma_data": COUNTS[rows, columns]}))
    return str(path)


@pytest.mark.parametrize("reader", ["tiles", "tiledb"])
@pytest.mark.parametrize(
    "nnz",
    [[9, 9, 9, 9], [0, 0, 0, 0], [-1, 2, 3, 2], [2**40] * 4, [2.0, np.nan, 3.0, 2.0], ["a", "b", "c", "d"], [True] * 4],
    ids=["of more genes", "none", "negative", "huge", "missing", "text", "booleans"],
)
def test_sizes_that_cannot_be_are_left_out(nnz: Any, reader: Any, tmp_path: Path) -> None:
    source = hr.open_soma(experiment(tmp_path / "e", nnz), reader=reader)
    np.testing.assert_array_equal(hr.Plan(source).to_anndata().X.toarray(), COUNTS)
