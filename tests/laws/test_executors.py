"""Law 3, further: the file is the same to the byte if other processes did the passes, whatever the ranges."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import headrace as hr
from headrace.engine import queue
from headrace.engine.cluster import Workers
from headrace.sinks.h5ad.prepared import H5adPreparer

from .registry import STEPS, source

MEMORY = 4 * 10**9
N_OBS = 23
"""Cells of a chunk: 7 chunks."""


def one_machine(steps: list[Any], path: Path, executor: Any = None) -> bytes:
    of = replace(source(), n_obs=N_OBS)
    hr.Plan(of, steps).write_h5ad(path, executor=executor or hr.Serial(), memory=MEMORY, overwrite=True)
    return path.read_bytes()


def through_a_queue(plan: hr.Plan, folder: Path, shards: int) -> bytes:
    """Do all commands of a queue, shards last to first; with three shards each of them twice."""
    at = queue.begin(plan, folder, shards, MEMORY)
    while True:
        for shard in reversed(at.missing):
            assert not queue.work(folder, shard)[2]
            assert shards != 3 or queue.work(folder, shard)[2], "done before"
        at = queue.status(folder)
        assert not at.missing
        if at.number == at.total:
            break
        at = queue.merge(folder)
    if shards == 3:
        queue.merge(folder)
    queue.assemble(folder, folder / "x.h5ad")
    return (folder / "x.h5ad").read_bytes()


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The file of one machine, made once for each plan."""
    folder, made = tmp_path_factory.mktemp("one"), {}

    def of(name: str) -> bytes:
        if name not in made:
            made[name] = one_machine(STEPS[name], folder / "x.h5ad")
        return made[name]  # type: ignore[no-any-return]

    return of


@pytest.mark.parametrize("name", STEPS)
def test_threads(name: str, expected: Any, tmp_path: Path) -> None:
    assert one_machine(STEPS[name], tmp_path / "x.h5ad", hr.Threads(3, 4)) == expected(name)


@pytest.mark.parametrize("shards", [1, 3, 7])
@pytest.mark.parametrize("name", STEPS)
def test_shards(name: str, shards: int, expected: Any, tmp_path: Path) -> None:
    plan = hr.Plan(replace(source(), n_obs=N_OBS), STEPS[name])
    assert through_a_queue(plan, tmp_path / "run", shards) == expected(name)


# ------------------------------------------------------------------------------------------------------------ dask
@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    """Two workers, each a process with one thread."""
    distributed = pytest.importorskip("distributed", reason="pip install 'headrace[dask]'")
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=":0", memory_limit=6 * 10**9
        ) as cluster,
        distributed.Client(cluster) as made,
    ):
        yield made


@pytest.mark.parametrize("name", STEPS)
def test_distributed(name: str, expected: Any, client: Any, tmp_path: Path) -> None:
    assert one_machine(STEPS[name], tmp_path / "x.h5ad", hr.Distributed(client)) == expected(name)
    assert not (tmp_path / ".headrace-spool").exists()


@pytest.mark.parametrize("name", STEPS)
def test_workers_make_chunks_ready_for_the_file(
    name: str, client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Chunks of HDF5 are small here, so that many lie within the cells of a task."""
    monkeypatch.setattr("headrace.engine.cluster.MANY", 2)
    _small_chunks()
    client.run(_small_chunks)
    taken: list[Any] = []
    take = H5adPreparer.taken
    monkeypatch.setattr(H5adPreparer, "taken", lambda *given: taken.append(given[1]) or take(*given))
    of = replace(source(), n_obs=N_OBS)
    try:
        files = []
        for executor in (hr.Serial(), hr.Distributed(client)):
            path = tmp_path / f"{len(files)}.h5ad"
            hr.Plan(of, STEPS[name]).write_h5ad(path, executor=executor, memory=MEMORY)
            files.append(path.read_bytes())
    finally:
        _small_chunks(1 << 20)
        client.run(_small_chunks, 1 << 20)
    assert files[0] == files[1]
    assert taken or STEPS[name][-1].becomes_source
    assert not (tmp_path / ".headrace-spool").exists()


def _small_chunks(size: int = 512) -> None:
    from headrace.sinks.h5ad import hdf5

    hdf5.CHUNK_BYTES = size


@pytest.mark.parametrize("name", ["HVG seurat_v3", "RankGenesGroups wilcoxon", "workbench"])
def test_distributed_without_a_shared_folder(
    name: str, expected: Any, client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What tasks leave is fetched from the workers, piece by piece."""
    asked = Workers.ask

    def ask(self: Workers, workers: Any) -> Any:
        found = asked(self, workers)
        for one in found.values():
            one["shares"] = False
        return found

    monkeypatch.setattr(Workers, "ask", ask)
    monkeypatch.setattr("headrace.engine.cluster_tasks.PIECE", 1000)
    client.run(_small_pieces)
    events: list[Any] = []
    of = replace(source(), n_obs=N_OBS)
    hr.Plan(of, STEPS[name]).write_h5ad(
        tmp_path / "x.h5ad", executor=hr.Distributed(client), memory=MEMORY, on_event=events.append
    )
    assert (tmp_path / "x.h5ad").read_bytes() == expected(name)
    assert "do not see" in str(events)


def _small_pieces() -> None:
    from headrace.engine import cluster_worker

    cluster_worker.PIECE = 1000
