"""Missing values in obs and var of a SOMA experiment, through the spool, filters, files and memory."""

from __future__ import annotations

from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import tiledbsoma as soma

import headrace as hr
from headrace.sources.soma.location import reading
from headrace.sources.soma.tables import to_frame

N = 40


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> str:
    uri = str(tmp_path_factory.mktemp("soma") / "exp")
    rng = np.random.default_rng(0)
    missing = np.arange(N) % 7 == 6
    obs = pa.table(
        {
            "soma_joinid": pa.array(np.arange(N)),
            "n": pa.array(np.arange(N) * 3 + 2**55, mask=missing),
            "small": pa.array((np.arange(N) % 100).astype(np.int8), mask=missing),
            "flag": pa.array(np.arange(N) % 2 == 0, mask=missing),
            "label": pa.array([f"t{i}" for i in range(N)], pa.large_string(), mask=missing),
            "kind": pa.array(["a", "b"] * (N // 2), pa.large_string(), mask=missing),
            "depth": pa.array(rng.random(N), mask=missing),
            "when": pa.array(np.arange(N) * 10**9, pa.timestamp("ns")),
        }
    )
    var = pa.table(
        {
            "soma_joinid": pa.array(np.arange(5)),
            "feature_id": pa.array([f"g{i}" for i in range(5)], pa.large_string()),
            "length": pa.array([1, None, 3, 4, 5], pa.int64()),
            "mt": pa.array([True, None, False, True, False]),
        }
    )
    with soma.Experiment.create(uri) as exp:
        with exp.add_new_dataframe("obs", schema=obs.schema, domain=[[0, N - 1]]) as table:
            table.write(obs)
        rna = exp.add_new_collection("ms").add_new_collection("RNA", soma.Measurement)
        with rna.add_new_dataframe("var", schema=var.schema, domain=[[0, 4]]) as table:
            table.write(var)
        x = rna.add_new_collection("X").add_new_sparse_ndarray("raw", type=pa.float32(), shape=(N, 5))
        rows, columns = (each.ravel() for each in np.meshgrid(np.arange(N), np.arange(5), indexing="ij"))
        values = pa.array(rng.integers(1, 9, N * 5).astype(np.float32))
        x.write(pa.Table.from_pydict({"soma_dim_0": rows, "soma_dim_1": columns, "soma_data": values}))
    return uri


@pytest.mark.parametrize("steps", [[], [hr.FilterGenes(min_cells=1), hr.HighlyVariableGenes(2, flavor="seurat_v3")]])
def test_they_stay_missing(steps: list[object], experiment: str, tmp_path: Path) -> None:
    plan = hr.Plan(hr.open_soma(experiment), steps[:1])
    plan.write_h5ad(tmp_path / "out.h5ad")
    assert hr.verify_h5ad(tmp_path / "out.h5ad").problems == ()
    in_memory = plan.to_anndata()
    for got in (ad.read_h5ad(tmp_path / "out.h5ad"), in_memory):
        missing = np.arange(N) % 7 == 6
        for name in ("n", "small", "flag", "label", "kind", "depth"):
            assert got.obs[name].isna().tolist() == missing.tolist(), name
        assert got.obs["n"].dtype == "Int64"
        assert got.obs["small"].dtype == "Int8"
        assert got.obs["flag"].dtype == "boolean"
        assert got.obs["n"].dropna().tolist() == (np.arange(N) * 3 + 2**55)[~missing].tolist()
        assert got.obs["label"].dropna().tolist() == [f"t{i}" for i in range(N) if not missing[i]]
        assert got.obs["soma_joinid"].tolist() == list(range(N))
        assert got.obs.index.name is None
        assert got.var["length"].isna().tolist() == got.var["mt"].isna().tolist() == [False, True, False, False, False]
        assert got.var["length"].dtype == "Int64"


def test_steps_that_read_obs(experiment: str) -> None:
    kept = hr.Plan(hr.open_soma(experiment), [hr.FilterCells(min={"small": 20})]).to_anndata()
    assert kept.obs["soma_joinid"].tolist() == [i for i in range(20, N) if i % 7 != 6]
    steps = [hr.FilterOutliers("n", nmads=10, batch_key="flag"), hr.Pseudobulk("kind", min_cells=1)]
    made = hr.Plan(hr.open_soma(experiment), steps).to_anndata()
    assert made.obs["n_cells"].sum() == N - sum(i % 7 == 6 for i in range(N))
    with pytest.raises(hr.PlanError, match="different values"):
        hr.Plan(hr.open_soma(experiment), [hr.Pseudobulk("n", min_cells=1)])


def test_times_are_text(experiment: str) -> None:
    when = hr.Plan(hr.open_soma(experiment)).to_anndata().obs["when"]
    assert pd.to_datetime(when.astype(str)).tolist() == pd.to_datetime(np.arange(N) * 10**9).tolist()


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string()])
def test_a_nul_is_refused_by_the_name_of_its_column(kind: pa.DataType) -> None:
    with pytest.raises(hr.InputError, match=r"column 'n' has 'b\\x00c', with a NUL"):
        to_frame(pa.table({"m": ["x", "y", "z"], "n": pa.array([None, "a", "b\0c"]).cast(kind)}))


def test_too_many_open_files_are_told_with_their_remedy() -> None:
    """TileDB has only words for it, and no number."""
    with pytest.raises(hr.SourceError, match="while reading obs: .*'ulimit -n' lets this process have"), reading("obs"):
        raise soma.SOMAError("[TileDB::IO] Error: Cannot open file '/data/obs'; Too many open files")
