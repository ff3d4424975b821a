"""How often each gene has each count: every sum that can be asked for, against numpy on the whole matrix."""

from __future__ import annotations

import copy
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import headrace as hr
from headrace.chunk import Chunk
from headrace.presence import Presence
from headrace.sources.arrays import ArraySource, canonical
from headrace.stats import histograms, tally
from headrace.stats.groups import Groups
from headrace.stats.histograms import Histograms, HistogramsByGroup
from headrace.stats.measured import Measured
from headrace.support import scratch

N_CELLS, N_GENES = 600, 50
BATCHES = ("a", "b", "never", "c")
SIZES = [(1 << 20, 2 << 20), (64, 200), (100, 10**6)]
"""Of the buffer and of what is kept in memory: all at once, through the file, all in memory piece by piece."""


@pytest.fixture(params=SIZES, ids=["ample", "through a file", "in pieces"])
def sizes(request: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in zip(("BUFFER", "MOST"), request.param, strict=True):
        monkeypatch.setattr(tally, name, value)


def counts(largest: float = 2e9) -> np.ndarray[Any, np.dtype[np.float64]]:
    rng = np.random.default_rng(5)
    X = np.floor(rng.lognormal(2, 2.5, (N_CELLS, N_GENES)) * (rng.random((N_CELLS, N_GENES)) < 0.4))
    X[:, 0] = 0
    X[3, 1] = largest
    return np.minimum(X, 2**31 - 128).astype(np.float32).astype(np.float64)


def chunks(X: Any, size: int = 97) -> list[Chunk]:
    batch = pd.Categorical(np.array(BATCHES)[[0, 1, 3]][np.arange(len(X)) % 3], categories=BATCHES)
    obs = pd.DataFrame({"batch": batch}, index=[f"c{i}" for i in range(len(X))])
    whole = canonical(X)
    return [Chunk(whole[i : i + size], obs.iloc[i : i + size]) for i in range(0, len(X), size)]


def batches(X: Any) -> dict[int, Any]:
    return {code: X[np.arange(len(X)) % 3 == place] for place, code in enumerate((0, 1, 3))}


def agree(got: Histograms, X: Any) -> None:
    cap = np.linspace(0, 5000, X.shape[1]) + 0.5
    assert got.codes == [0, 1, 3]
    for code, rows in batches(X).items():
        assert got.n_cells(code) == len(rows)
        for moments, values in ((got.of(code), rows), (got.clipped(code, cap), np.minimum(rows, cap))):
            assert moments.n == len(rows)
            np.testing.assert_allclose(moments.total, values.sum(axis=0), rtol=1e-15)
            np.testing.assert_allclose(moments.squares, (values**2).sum(axis=0), rtol=1e-15)
    np.testing.assert_array_equal(got.all().total, X.sum(axis=0))
    np.testing.assert_allclose(got.all().squares, (X**2).sum(axis=0), rtol=1e-15)


@pytest.mark.parametrize("widest", [4, 32])
def test_sums(widest: int, sizes: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(histograms, "WIDEST", widest)
    X = counts()
    seen = HistogramsByGroup(Groups(("batch",), (BATCHES,)), N_GENES)
    assert seen.width == widest
    for number, chunk in enumerate(chunks(X)):
        seen.update(chunk)
        if number == 3:
            seen.result().all()  # may be asked on the way
    agree(seen.result(), X)


@pytest.mark.parametrize("buffers", [1, 4])
def test_several_threads(buffers: int, sizes: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cells come from all of them at once, and buffers of large counts are put in order meanwhile."""
    monkeypatch.setattr(tally, "BUFFERS", buffers)
    X = counts()
    seen = HistogramsByGroup(Groups(("batch",), (BATCHES,)), N_GENES)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(seen.update, chunks(X, 5)))
    agree(seen.result(), X)


def test_merged(sizes: None) -> None:
    """Groups come in another order to each; what one has put away is taken over."""
    X = counts()
    empty = HistogramsByGroup(Groups(("batch",), (BATCHES,)), N_GENES)
    folds = [copy.deepcopy(empty) for _ in range(3)]
    for number, chunk in enumerate(chunks(X)):
        folds[number % 3].update(Chunk(chunk.X[::-1].sorted_indices(), chunk.obs[::-1]))
    folds[2].merge(folds[0])
    folds[2].merge(copy.deepcopy(empty))
    folds[1].merge(folds[2])
    agree(folds[1].result(), X)


def test_some_genes(sizes: None) -> None:
    X = counts()
    seen = HistogramsByGroup(Groups(("batch",), (BATCHES,)), N_GENES)
    for chunk in chunks(X):
        seen.update(chunk)
    genes = np.arange(N_GENES) % 3 == 1
    agree(seen.keep(genes).result(), X[:, genes])
    agree(seen.result(), X)


def test_many_groups_have_narrow_tables() -> None:
    assert histograms.width(1, 60_000) == 32
    assert histograms.width(8, 60_000) == 16
    assert histograms.width(200, 60_000) == 4
    predicted = HistogramsByGroup.memory(200, 60_000, 10**9)
    assert predicted <= 260e6


def scattered(monkeypatch: pytest.MonkeyPatch) -> hr.Plan:
    """Return a plan whose large counts do not fit in memory."""
    monkeypatch.setattr(tally, "BUFFER", 64)
    monkeypatch.setattr(tally, "MOST", 200)
    source = ArraySource(counts(), pd.DataFrame(index=[f"c{i}" for i in range(N_CELLS)]), genes())
    return hr.Plan(source, [hr.HighlyVariableGenes(10, "seurat_v3", span=0.8)])


def test_the_temporary_file_goes_where_it_is_told_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = []
    make = scratch.TemporaryFile
    monkeypatch.setattr(scratch, "TemporaryFile", lambda **where: (there.append(where["dir"]), make(**where))[1])
    plan = scattered(monkeypatch)
    (tmp_path / "mine").mkdir()
    plan.write_h5ad(tmp_path / "beside.h5ad", spool=tmp_path / "mine")
    plan.write_h5ad(tmp_path / "beside.h5ad", spool=tmp_path / "mine" / "not there", overwrite=True)
    assert there == [tmp_path / "mine", tmp_path / "mine" / "not there", tmp_path / "mine"]
    assert sorted(os.listdir(tmp_path)) == ["beside.h5ad", "mine"]
    assert os.listdir(tmp_path / "mine") == []


def test_explain_says_what_disk_it_may_need() -> None:
    spec = hr.chunk.StreamSpec(genes(), pd.DataFrame(), 10**6, nnz=5 * 10**8)
    assert hr.HighlyVariableGenes(10, "seurat_v3").disk(spec) == 5 * 10**8
    assert hr.HighlyVariableGenes(10).disk(spec) == 0
    source = ArraySource(counts(), pd.DataFrame(index=[f"c{i}" for i in range(N_CELLS)]), genes())
    plan = hr.Plan(source, [hr.HighlyVariableGenes(10, "seurat_v3", span=0.8)])
    assert "temporary files" not in str(plan.explain())  # few enough to stay in memory


def test_a_full_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = Path("/dev/full").open
    monkeypatch.setattr(scratch, "TemporaryFile", lambda **where: full("wb", buffering=0))
    with pytest.raises(hr.OutputError, match=r"cannot write a temporary file in .*: No space left on device; .*spool="):
        scattered(monkeypatch).write_h5ad(tmp_path / "out.h5ad", spool=tmp_path)
    assert not (tmp_path / "out.h5ad").exists()


def test_what_comes_back_otherwise_than_it_went_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    read = scratch.os.preadv

    def flipped(fd: int, buffers: list[memoryview], offset: int) -> int:
        n = read(fd, buffers, offset)
        buffers[0][n // 2] ^= 4
        return n

    monkeypatch.setattr(scratch.os, "preadv", flipped)
    with pytest.raises(hr.SourceError, match="the temporary file in .* is damaged"):
        scattered(monkeypatch).var()


def test_no_cell_is_left(sizes: None) -> None:
    """Of datasets that measured other genes, too."""
    seen = Presence.of(pd.DataFrame([[True] * N_GENES, [False] * N_GENES]))
    for measured in (None, Measured(seen, np.array([0, 1]))):
        moments = HistogramsByGroup(Groups(), N_GENES, measured=measured).result().all()
        assert np.all(moments.n == 0)
        assert moments.total.tolist() == [0.0] * N_GENES


def test_too_large_a_count_is_refused() -> None:
    seen = HistogramsByGroup(Groups(), 2)
    X = sparse.csr_array(np.array([[1.0, 2.0**31]], dtype=np.float32))
    with pytest.raises(hr.CountsError, match="2147483648 is too large"):
        seen.update(Chunk(X, pd.DataFrame(index=["c"])))


def genes() -> pd.DataFrame:
    return pd.DataFrame(index=[f"g{i}" for i in range(N_GENES)])
