"""Of the presence matrix only the rows asked for are read: it has one for each dataset of the Census."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import tiledbsoma as soma

import headrace as hr
from headrace.sources.soma.experiment import PRESENCE, Experiment
from headrace.sources.soma.location import Location
from headrace.sources.soma.presence import read_presence

N_DATASETS, N_VARS = 300, 20_000


def bytes_read() -> int:
    """Bytes that this process has asked the system for."""
    return int(Path("/proc/self/io").read_text().split("rchar: ")[1].split()[0])


@pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="counts bytes as Linux does")
def test_rows_are_read_without_what_lies_between(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    expected = rng.random((N_DATASETS, N_VARS)) < 0.5
    rows, columns = np.nonzero(expected)
    with soma.Experiment.create(str(tmp_path / "experiment")) as made:
        made.add_new_dataframe("obs", schema=pa.schema([("soma_joinid", pa.int64())]), domain=[(0, 9)])
        rna = made.add_new_collection("ms").add_new_collection("RNA", soma.Measurement)
        small = {"tiledb": {"create": {"capacity": 5_000}}}
        matrix = rna.add_new_sparse_ndarray(PRESENCE, type=pa.bool_(), shape=expected.shape, platform_config=small)
        ones = np.ones(len(rows), dtype=bool)
        matrix.write(pa.table({"soma_dim_0": rows, "soma_dim_1": columns, "soma_data": ones}))
    experiment = Experiment(Location.of(tmp_path / "experiment"), "RNA", "raw", None)
    stored = sum(path.stat().st_size for path in (tmp_path / "experiment").rglob("*.tdb"))
    before = bytes_read()
    parts = experiment.presence(np.array([7, 150]))
    assert bytes_read() - before < stored / 5
    assert parts is not None
    table = pa.concat_tables(parts)
    found = np.zeros_like(expected)
    found[table["soma_dim_0"].to_numpy(), table["soma_dim_1"].to_numpy()] = True
    assert np.array_equal(np.flatnonzero(found.any(axis=1)), [7, 150])
    assert np.array_equal(found[[7, 150]], expected[[7, 150]])


@pytest.mark.parametrize(("dataset", "gene"), [(3, 4195730024608447034), (3, 10), (3, -1), (4, 2), (9, 2), (-1, 2)])
def test_genes_and_datasets_that_there_are_not(dataset: int, gene: int) -> None:
    """Found by mutation: coordinates of a matrix that is damaged."""
    rows = np.array([3, 5])
    cells = pa.table({"soma_dim_0": [3, dataset], "soma_dim_1": [1, gene], "soma_data": [True, True]})
    with pytest.raises(hr.HeadraceError, match="presence matrix has genes or datasets that there are not"):
        read_presence(pd.Index(["a", "b"]), rows, 10, [cells])
    right = pa.table({"soma_dim_0": [3, 5], "soma_dim_1": [1, 9], "soma_data": [True, True]})
    found = read_presence(pd.Index(["a", "b"]), rows, 10, [right])
    assert [np.flatnonzero(found.row(k)).tolist() for k in (0, 1)] == [[1], [9]]


@pytest.mark.parametrize("times", [0, 2])
def test_datasets_that_the_census_does_not_list(times: int, demo_census: Path) -> None:
    """Found by mutation: an id in the table of datasets that is no longer the one that cells have."""
    census = hr.open_census(demo_census)
    table = census.table("datasets")
    first = table["dataset_id"] == census.query("mus_musculus").value_counts("dataset_id").popitem()[0]
    census._tables["datasets"] = pd.concat([table[~first], *[table[first]] * times], ignore_index=True)
    with pytest.raises(hr.SourceError, match=f"census_info/datasets lists {times} times"):
        hr.Plan(census.query("mus_musculus"), []).to_anndata()
