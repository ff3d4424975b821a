"""Chunks that another process made ready give the bytes of those that the writer makes itself."""

from __future__ import annotations

import pickle
import zlib
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from headrace.chunk import Chunk, StreamSpec
from headrace.preparer import non_zeros
from headrace.sinks.h5ad import hdf5
from headrace.sinks.h5ad.sink import H5ad

N_OBS, N_VARS = 140, 40


def stream(dense: bool = False) -> tuple[StreamSpec, Chunk]:
    rng = np.random.default_rng(5)
    X = sparse.csr_array(sparse.random(N_OBS, N_VARS, 0.3, "csr", np.float32, rng))
    X.data[:] = rng.integers(1, 70_000, X.nnz)
    X.sort_indices()
    kinds = pd.Categorical(rng.choice(["b", "a", "é"], N_OBS), categories=["b", "a", "é", "unused"])
    index = [f"cell {i}" for i in range(N_OBS)]
    obs = pd.DataFrame(
        {"kind": kinds, "n": rng.random(N_OBS), "text": [f"t{i % 7}" for i in range(N_OBS)]}, index=index
    )
    half = X.copy()
    half.data /= 2
    fewer = sparse.csr_array(X.multiply(X > 30_000))
    fewer.eliminate_zeros()
    layers = {"half": half, "fewer": fewer.astype(np.float32)}
    chunk = Chunk(half.toarray() if dense else X, obs, layers, obsm={"pca": rng.random((N_OBS, 3)).astype(np.float32)})
    var = pd.DataFrame(index=[f"g{i}" for i in range(N_VARS)])
    spec = StreamSpec(var, obs.iloc[:0], N_OBS, X.nnz)
    return replace(spec, layers=dict.fromkeys(layers, spec.holds), obsm={"pca": chunk.obsm["pca"][:0]}), chunk


def part(chunk: Chunk, rows: slice) -> Chunk:
    layers = {name: layer[rows] for name, layer in chunk.layers.items()}
    return Chunk(chunk.X[rows], chunk.obs.iloc[rows], layers, obsm={name: v[rows] for name, v in chunk.obsm.items()})


def write(sink: H5ad, spec: StreamSpec, chunk: Chunk, edges: list[int], prepared: bool) -> bytes:
    preparer = pickle.loads(pickle.dumps(sink.preparer(spec)))
    before: dict[str, int] = {}
    with sink.open(spec) as writer:
        for start, stop in pairwise(edges):
            one = part(chunk, slice(start, stop))
            if prepared:
                sent = pickle.loads(pickle.dumps(preparer.prepare(one, before), protocol=5))
                before = {name: before.get(name, 0) + n for name, n in non_zeros(one).items()}
                one = preparer.taken(sent, spec.obs)
                assert one.n_obs == stop - start
            writer.write(one)
        writer.finish(spec)
    return sink.path.read_bytes()


EDGES = [[0, 140], [0, 1, 2, 70, 140], [0, 20, 21, 60, 61, 62, 130, 140], [*range(0, 140, 3), 140]]


@pytest.mark.parametrize("edges", EDGES, ids=["one", "few", "uneven", "many"])
@pytest.mark.parametrize("chunk_bytes", [256, 4096])
@pytest.mark.parametrize(
    "options",
    [{}, {"compression": "gzip"}, {"checksum": False}, {"compression": "gzip", "checksum": False}],
    ids=["plain", "gzip", "unchecked", "gzip-unchecked"],
)
def test_the_same_bytes(
    edges: list[int], chunk_bytes: int, options: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hdf5, "CHUNK_BYTES", chunk_bytes)
    monkeypatch.setattr("isal.isal_zlib.compress", zlib.compress)  # ISA-L's bytes are not always the same
    spec, chunk = stream()
    sink = H5ad(tmp_path / "x.h5ad", overwrite=True, **options)
    for one in (spec, replace(spec, nnz=None), replace(spec, nnz=2**40)):
        assert write(sink, one, chunk, edges, prepared=True) == write(sink, one, chunk, edges, prepared=False)
    back = ad.read_h5ad(sink.path)
    assert (back.X != chunk.X).nnz == 0
    assert (back.layers["fewer"] != chunk.layers["fewer"]).nnz == 0


def test_whole_numbers_and_dense_matrices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hdf5, "CHUNK_BYTES", 512)
    for dense in (False, True):
        spec, chunk = stream(dense)
        if dense:
            spec = replace(spec, layers=dict.fromkeys(spec.layers, spec.holds.LOGGED), holds=spec.holds.LOGGED)
        else:
            spec, chunk = replace(spec, layers={}), replace(chunk, layers={})
        sink = H5ad(tmp_path / "x.h5ad", overwrite=True, counts="int32")
        same = [write(sink, spec, chunk, EDGES[2], prepared) for prepared in (True, False)]
        assert same[0] == same[1]
        assert ad.read_h5ad(sink.path).X.dtype == (np.float32 if dense else np.int32)


def test_what_was_cut_for_another_place_is_not_written(tmp_path: Path) -> None:
    spec, chunk = stream()
    sink = H5ad(tmp_path / "x.h5ad")
    preparer = sink.preparer(spec)
    late = preparer.taken(preparer.prepare(chunk, {"X": 5}), spec.obs)
    with pytest.raises(AssertionError, match="another place"), sink.open(spec) as writer:
        writer.write(late)
        writer.finish(spec)
    assert not sink.path.exists()
