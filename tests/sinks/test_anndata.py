"""An AnnData in memory: what comes of chunks, and of none."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from headrace.chunk import Holds, StreamSpec
from headrace.sinks.anndata import InMemory
from headrace.sources.arrays import ArraySource

X = np.array([[1, 0, 2], [0, 0, 0], [3, 4, 0]])
OBS = pd.DataFrame(
    {"kind": pd.Categorical(["b", None, "b"], categories=["a", "b"]), "n": [1, 2, 3]}, index=["x", "y", "z"]
)
TWO = np.array([[1.0, -1.0], [2.0, -2.0], [3.0, -3.0]])


def spec_of(source: ArraySource) -> StreamSpec:
    spec = replace(source.spec, layers={"counts": Holds.COUNTS}, uns={"by": {"hand": 1}})
    return spec.with_obsm(X_two=np.empty((0, 2))).with_varm(PCs=np.arange(6.0).reshape(3, 2))


@pytest.mark.parametrize("n_obs", [1, 2, 3])
@pytest.mark.parametrize("dense", [False, True])
def test_chunks_are_put_together(n_obs: int, dense: bool) -> None:
    source = ArraySource(X, OBS, pd.DataFrame({"s": list("pqr")}, index=list("ghi")), n_obs=n_obs)
    sink, spec, at = InMemory(), spec_of(source), 0
    with sink.open(spec) as writer:
        for chunk in source.read(source.refs(100)):
            layer = chunk.X * 2
            X_ = chunk.X.toarray() if dense else chunk.X
            writer.write(replace(chunk, X=X_, layers={"counts": layer}, obsm={"X_two": TWO[at : at + chunk.n_obs]}))
            at += chunk.n_obs
        assert sink.result == []
        writer.finish(spec)
    (adata,) = sink.result
    assert isinstance(adata.X, np.ndarray if dense else sparse.csr_matrix)
    np.testing.assert_array_equal(adata.X if dense else adata.X.toarray(), X)
    np.testing.assert_array_equal(adata.layers["counts"].toarray(), 2 * X)
    np.testing.assert_array_equal(adata.obsm["X_two"], TWO)
    np.testing.assert_array_equal(adata.varm["PCs"], spec.varm["PCs"])
    assert adata.obs["kind"].cat.categories.tolist() == ["b"]
    assert adata.obs["kind"].isna().tolist() == [False, True, False]
    assert (adata.obs_names.tolist(), adata.obs["n"].tolist()) == (["x", "y", "z"], [1, 2, 3])
    assert adata.uns == {"by": {"hand": 1}}
    # it is the caller's: changing it does not change what the plan knows
    adata.var["s"] = "other"
    adata.varm["PCs"][:] = 0
    assert spec.var["s"].tolist() == list("pqr")
    assert spec.varm["PCs"].sum() == 15
    assert source.obs["kind"].cat.categories.tolist() == ["a", "b"]


def test_no_cells_are_an_anndata_too() -> None:
    source = ArraySource(X, OBS, pd.DataFrame(index=list("ghi")))
    sink, spec = InMemory(), spec_of(source)
    with sink.open(spec) as writer:
        writer.finish(spec)
    (adata,) = sink.result
    assert adata.shape == adata.layers["counts"].shape == (0, 3)
    assert adata.X.dtype == np.float32
    assert adata.obsm["X_two"].shape == (0, 2)
    assert adata.obs["n"].dtype == np.int64
