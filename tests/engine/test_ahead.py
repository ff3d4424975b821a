"""Cells that are written before their components are known: when, and that the file says the same as otherwise."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import headrace as hr
from headrace.engine import ahead
from headrace.engine.elsewhere import Elsewhere
from headrace.engine.settings import Settings
from headrace.events import PassStarted
from headrace.sinks.h5ad import again
from headrace.sources.arrays import ArraySource

LOGGED = [hr.NormalizeTotal(1e4), hr.Log1p()]
MARKED = [*LOGGED, hr.HighlyVariableGenes(n_top_genes=40)]
SCALED = [*MARKED, hr.Scale(max_value=10, store=False)]
WROTE = ["write obsm"]


class Others(Elsewhere):
    """Other processes, as far as it is asked here."""

    in_flight = 1
    token = ""

    def crew(self, place: Any, memory: int, on_event: Any) -> Any:
        """Begin nothing."""


def cells(n: int = 300, n_obs: int = 30) -> ArraySource:
    rng = np.random.default_rng(3)
    X = rng.poisson(rng.gamma(0.5, 3.0, 90) * rng.lognormal(0, 0.5, (n, 1)) * rng.lognormal(0, 1, (n, 90)))
    obs = pd.DataFrame({"donor": pd.Categorical(list("pqr") * (n // 3))}, index=[f"c{i}" for i in range(n)])
    return ArraySource(X, obs, pd.DataFrame(index=[f"g{i}" for i in range(90)]), n_obs=n_obs)


def same(one: ad.AnnData, other: ad.AnnData) -> None:
    np.testing.assert_array_equal(one.obsm["X_pca"], other.obsm["X_pca"])
    np.testing.assert_array_equal(one.varm["PCs"], other.varm["PCs"])
    np.testing.assert_array_equal(one.uns["pca"]["variance"], other.uns["pca"]["variance"])
    np.testing.assert_array_equal(sparse.csr_matrix(one.X).toarray(), sparse.csr_matrix(other.X).toarray())
    pd.testing.assert_frame_equal(one.obs, other.obs)
    pd.testing.assert_frame_equal(one.var, other.var)


@pytest.mark.parametrize(
    "steps",
    [
        [*SCALED, hr.PCA(6)],
        [*MARKED, hr.PCA(6)],
        [hr.FilterCells(min_genes=45), *SCALED, hr.PCA(6)],
        [*SCALED, hr.PCA(None)],  # as many as there are, which is not known when the file is begun
        [hr.HighlyVariableGenes(n_top_genes=40, flavor="seurat_v3"), *LOGGED, hr.PCA(6)],
        [hr.Scale(max_value=10, store=False), hr.PCA(6, mask_var=None)],
        # values of any size: the largest is looked for first, in values that are kept aside then
        [hr.HighlyVariableGenes(n_top_genes=40, flavor="seurat_v3"), hr.NormalizeTotal(1e4), hr.PCA(6)],
    ],
)
def test_the_same_to_the_bit_as_where_it_is_written_last(steps: list[Any], tmp_path: Path) -> None:
    seen: list[Any] = []
    hr.Plan(cells(), steps).write_h5ad(tmp_path / "a.h5ad", on_event=seen.append)
    assert [one.purpose for one in seen if isinstance(one, PassStarted)][-1:] == WROTE
    assert [one.number for one in seen if isinstance(one, PassStarted)] == list(range(1, seen[0].total + 1))
    hr.Plan(cells(), steps).write_h5ad(tmp_path / "b.h5ad", compression="gzip")
    same(ad.read_h5ad(tmp_path / "a.h5ad"), ad.read_h5ad(tmp_path / "b.h5ad"))
    assert not hr.verify_h5ad(tmp_path / "a.h5ad").problems
    held = hr.Plan(cells(n_obs=7), steps).to_anndata()
    np.testing.assert_array_equal(held.obsm["X_pca"], ad.read_h5ad(tmp_path / "b.h5ad").obsm["X_pca"])


def test_neither_chunks_nor_threads_show_in_the_file(tmp_path: Path) -> None:
    steps = [*SCALED, hr.PCA(6)]
    hr.Plan(cells(), steps).write_h5ad(tmp_path / "a.h5ad", executor=hr.Serial())
    hr.Plan(cells(n_obs=7), steps).write_h5ad(tmp_path / "b.h5ad", executor=hr.Threads(3, 4))
    hr.Plan(cells(n_obs=300), steps).write_h5ad(tmp_path / "c.h5ad", checksum=True)
    assert (tmp_path / "a.h5ad").read_bytes() == (tmp_path / "b.h5ad").read_bytes()
    assert (tmp_path / "a.h5ad").read_bytes() == (tmp_path / "c.h5ad").read_bytes()
    assert sorted(os.listdir(tmp_path)) == ["a.h5ad", "b.h5ad", "c.h5ad"]


@pytest.mark.parametrize("direct", [True, False])
def test_of_many_stored_chunks(direct: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts begin and end within the chunks of the file, the last of which is not in it yet."""
    rng = np.random.default_rng(5)
    X = sparse.random_array(
        (6000, 500), density=0.4, format="csr", rng=rng, data_sampler=lambda size: rng.poisson(3, size)
    )
    X.eliminate_zeros()
    obs, var = pd.DataFrame(index=map(str, range(6000))), pd.DataFrame(index=[f"g{i}" for i in range(500)])
    source = ArraySource(X, obs, var, n_obs=1711)
    if not direct:
        monkeypatch.delattr(os, "O_DIRECT")
    steps = [*SCALED, hr.PCA(6)]
    hr.Plan(source, steps).write_h5ad(tmp_path / "a.h5ad", checksum=direct)
    assert X.nnz > 4 << 18
    hr.Plan(source, steps).write_h5ad(tmp_path / "b.h5ad", compression="gzip")
    same(ad.read_h5ad(tmp_path / "a.h5ad"), ad.read_h5ad(tmp_path / "b.h5ad"))


def test_counts_that_are_stored_as_whole_numbers(tmp_path: Path) -> None:
    steps = [hr.HighlyVariableGenes(n_top_genes=40, flavor="seurat_v3"), hr.Scale(max_value=10, store=False), hr.PCA(6)]
    hr.Plan(cells(), steps).write_h5ad(tmp_path / "a.h5ad", counts="int32")
    hr.Plan(cells(), steps).write_h5ad(tmp_path / "b.h5ad", compression="gzip")
    same(ad.read_h5ad(tmp_path / "a.h5ad"), ad.read_h5ad(tmp_path / "b.h5ad"))


@pytest.mark.parametrize(
    ("steps", "gives_back", "settings", "said"),
    [
        ([*SCALED, hr.PCA(6)], True, Settings(1), ""),
        ([*SCALED, hr.PCA(6)], False, Settings(1), "cannot be read back"),
        ([*SCALED, hr.PCA(6)], True, Settings(1, Others()), "other processes"),
        ([*SCALED, hr.PCA(6), hr.FilterGenes(min_cells=3)], True, Settings(1), "nothing is added"),
        ([*MARKED, hr.SaveLayer("logs"), hr.PCA(6, layer="logs")], True, Settings(1), "nothing is added"),
        ([*MARKED, hr.Scale(), hr.PCA(6)], True, Settings(1), "X is dense"),
        ([*SCALED, hr.PCA(5, key_added="few"), hr.PCA(6)], True, Settings(1), "PCA has its first look"),
        ([*LOGGED, hr.PCA(6, mask_var=None)], True, Settings(1), "PCA has its first look in a pass that is needed"),
        ([*MARKED, hr.SelectGenes("highly_variable"), hr.PCA(6)], True, Settings(1), "PCA has its first look"),
    ],
)
def test_one_reason_where_it_is_not_done(steps: list[Any], gives_back: bool, settings: Settings, said: str) -> None:
    why = ahead.why_not(hr.Plan(cells(), steps).steps, gives_back, settings)
    assert said in why
    assert bool(said) == bool(why)


def test_a_plan_says_why_its_cells_are_written_last() -> None:
    assert "X is written in the last pass: X is dense" in str(
        hr.Plan(cells(), [*MARKED, hr.Scale(), hr.PCA(6)]).explain()
    )
    assert "X is written in the last pass" not in str(hr.Plan(cells(), [*SCALED, hr.PCA(6)]).explain())


def test_nothing_is_kept_of_a_source_that_is_read_once(demo_census: Path, tmp_path: Path) -> None:
    plan = hr.Plan(hr.open_census(demo_census).query("mus_musculus"), [*SCALED, hr.PCA(6)])
    said = str(plan.explain())
    assert "reading    1 pass over the source" in said
    assert "spool" not in said
    assert "disk       at most about" in said
    folders: list[list[str]] = []
    plan.write_h5ad(tmp_path / "a.h5ad", on_event=lambda event: folders.append(sorted(os.listdir(tmp_path))))
    assert {name for names in folders for name in names} == {".a.h5ad.partial"}


@pytest.mark.parametrize("at", ["data", "indices"])
def test_what_was_changed_behind_its_back_is_noticed(at: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = again.Stored.read
    calls: list[int] = []

    def damaged(stored: Any, file: Any, start: int, stop: int) -> Any:
        out = real(stored, file, start, stop)
        calls.append(1)
        if len(calls) == {"data": 4, "indices": 5}[at]:  # of the second part
            out[3] = 1 if at == "data" else 1 << 20
        return out

    monkeypatch.setattr(again.Stored, "read", damaged)
    with pytest.raises(hr.OutputError, match="is not what was written"):
        hr.Plan(cells(), [*SCALED, hr.PCA(6)]).write_h5ad(tmp_path / "a.h5ad", executor=hr.Serial())
    assert os.listdir(tmp_path) == []


def test_a_file_that_is_cut_or_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = hr.Plan(cells(), [*SCALED, hr.PCA(6)])

    def fails(handle: int, buffers: Any, offset: int) -> int:
        raise OSError(5, "Input/output error")

    from headrace.sinks.h5ad.hdf5 import Appender

    monkeypatch.setattr(Appender, "stored", _from_the_file)
    for preadv, said in ((lambda *given: 0, "has lost its end"), (fails, "cannot be read back: Input/output error")):
        with monkeypatch.context() as patch:
            patch.setattr(again.os, "preadv", preadv)
            with pytest.raises(hr.OutputError, match=said):
                plan.write_h5ad(tmp_path / "a.h5ad")
        assert os.listdir(tmp_path) == []


def _from_the_file(appender: Any) -> again.Stored:
    """All of it as if it were in the file already."""
    return again.Stored(np.zeros(9, np.int64), appender.rows, appender.buffer[:0])


@pytest.mark.parametrize("purpose", ["PCA", "write obsm"])
def test_a_run_that_is_stopped_in_a_later_look_leaves_nothing(purpose: str, tmp_path: Path) -> None:
    def stop(event: Any) -> None:
        if isinstance(event, PassStarted) and event.purpose == purpose:
            raise KeyboardInterrupt

    plan = hr.Plan(cells(), [*SCALED, hr.PCA(6)])
    with pytest.raises(KeyboardInterrupt):
        plan.write_h5ad(tmp_path / "a.h5ad", on_event=stop)
    assert os.listdir(tmp_path) == []
    plan.write_h5ad(tmp_path / "a.h5ad")
    np.testing.assert_array_equal(ad.read_h5ad(tmp_path / "a.h5ad").obsm["X_pca"], plan.to_anndata().obsm["X_pca"])
