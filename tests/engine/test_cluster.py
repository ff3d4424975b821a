"""A dask cluster whose workers cannot be used, vanish or drag on; every ending is one line that says what to do."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import headrace as hr
from headrace.chunk import Chunk, StreamSpec
from headrace.engine import cluster_worker
from headrace.engine.place import Place, ready_name
from headrace.events import Notice, PassStarted
from headrace.protocols import Transform
from headrace.sinks.h5ad.prepared import H5adPreparer
from headrace.sources.arrays import ArraySource
from tests.laws.registry import STEPS, source

distributed = pytest.importorskip("distributed", reason="pip install 'headrace[dask]'")

GB = 10**9


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=":0", memory_limit=3 * GB
    ) as made:
        yield made


@pytest.fixture
def client(cluster: Any) -> Iterator[Any]:
    with distributed.Client(cluster) as made:
        made.wait_for_workers(2)
        yield made


def small() -> ArraySource:
    return replace(source(), n_obs=11)


@dataclass(frozen=True)
class Sleeps(Transform):
    """Takes its time; with the first cells until another worker has begun them too, as files tell."""

    seconds: float = 0.0
    first: str = ""

    def __call__(self, chunk: Chunk) -> Chunk:
        time.sleep(self.seconds)
        if self.first and chunk.obs.index[0] == "c0":
            begun, again = Path(self.first), Path(f"{self.first}-again")
            if begun.exists():
                again.touch()
            begun.touch()
            end = time.monotonic() + 300
            while not again.exists() and time.monotonic() < end:
                time.sleep(0.1)
        return chunk

    def out(self, spec: StreamSpec) -> StreamSpec:
        return spec


@dataclass(frozen=True)
class Fails(Transform):
    """Fails in a worker only."""

    def __call__(self, chunk: Chunk) -> Chunk:
        if chunk.obs.index[0] == "c22":
            raise RuntimeError("no such luck\nand more")
        return chunk

    def out(self, spec: StreamSpec) -> StreamSpec:
        return spec


def refused(client: Any, tmp_path: Path, **options: Any) -> str:
    with pytest.raises(hr.HeadraceError) as caught:
        hr.Plan(small(), []).write_h5ad(
            tmp_path / "x.h5ad", **{"executor": hr.Distributed(client), "memory": "2GB", **options}
        )
    assert not list(tmp_path.iterdir()), "nothing is left of a run that did not begin"
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_without_dask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(hr.InputError, match=r"pip install 'headrace\[dask\]'"):
        hr.Distributed("tcp://127.0.0.1:8786")


def test_nothing_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headrace.engine.cluster.STARTING", 1.0)
    with pytest.raises(hr.InputError, match="no dask scheduler answers at 'tcp://127.0.0.1:9'"):
        hr.Plan(small(), []).write_h5ad(tmp_path / "x.h5ad", executor=hr.Distributed("tcp://127.0.0.1:9"))
    assert not (tmp_path / "x.h5ad").exists()


def test_workers_of_a_cluster_are_not_counted() -> None:
    with pytest.raises(hr.InputError, match="n_workers= is of processes of this machine"):
        hr.Distributed("tcp://127.0.0.1:9", 2)
    with pytest.raises(hr.InputError, match="n_workers"):
        hr.Distributed(n_workers=0)


def test_too_little_memory(client: Any, tmp_path: Path) -> None:
    text = refused(client, tmp_path, memory="4GB")
    assert "may take 3,000 MB, and memory= is 4,000 MB for each" in text
    assert "--memory-limit" in text


def _another_version(name: str, number: str) -> None:
    cluster_worker.versions.__globals__["version"] = lambda one: number if one == name else _version(one)


def _version(name: str) -> str:
    from importlib.metadata import version

    return version(name)


@pytest.mark.parametrize("name", ["headrace", "numpy", "tiledbsoma"])
def test_another_version(name: str, client: Any, tmp_path: Path) -> None:
    one = next(iter(client.nthreads()))
    client.run(_another_version, name, "0.0.9", workers=[one])
    try:
        text = refused(client, tmp_path)
    finally:
        client.run(_another_version, name, _version(name), workers=[one])
    assert f"worker {one} has {name} 0.0.9, this process has {_version(name)}" in text
    assert "install the same versions" in text


@dataclass(frozen=True, eq=False)
class OfAFile(ArraySource):
    """Data of a file that is nowhere."""

    @property
    def files(self) -> tuple[Path, ...]:
        return (Path("/nowhere/in.h5ad"),)


def test_a_worker_that_does_not_see_the_file(client: Any, tmp_path: Path) -> None:
    of = small()
    with pytest.raises(hr.InputError, match=r"worker tcp\S+ does not see /nowhere/in.h5ad; put it in a folder"):
        hr.Plan(OfAFile(of.X, of.obs, of.var), []).write_h5ad(
            tmp_path / "x.h5ad", executor=hr.Distributed(client), memory="2GB"
        )
    assert not list(tmp_path.iterdir())


def test_what_fails_in_a_worker_is_one_line(client: Any, tmp_path: Path) -> None:
    with pytest.raises(hr.WorkersError, match="RuntimeError: no such luck;") as caught:
        hr.Plan(small(), [Fails()]).write_h5ad(tmp_path / "x.h5ad", executor=hr.Distributed(client), memory="2GB")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "x.h5ad").exists()


def test_an_error_of_headrace_is_what_it_is_at_home(client: Any, tmp_path: Path) -> None:
    of = small()
    X = of.X.copy()
    X.data[3] = 0.5
    with pytest.raises(hr.CountsError) as at_home:
        hr.Plan(ArraySource(X, of.obs, of.var), STEPS["HVG seurat_v3"]).to_anndata()
    with pytest.raises(hr.CountsError) as caught:
        hr.Plan(ArraySource(X, of.obs, of.var), STEPS["HVG seurat_v3"]).to_anndata(
            executor=hr.Distributed(client), memory="2GB"
        )
    assert str(caught.value).split(";")[0] == str(at_home.value).split(";")[0]


def test_events_say_how_many_workers(client: Any, tmp_path: Path) -> None:
    events: list[Any] = []
    spec = hr.Plan(small(), STEPS["HVG seurat"]).write_h5ad(
        tmp_path / "x.h5ad", executor=hr.Distributed(client), memory="2GB", on_event=events.append
    )
    started = [event for event in events if isinstance(event, PassStarted)]
    assert [event.workers for event in started] == [2] * len(started)
    assert spec.n_obs == 150


def test_tables_and_chunks_and_reports_are_the_same(client: Any, tmp_path: Path) -> None:
    executor, steps = hr.Distributed(client), STEPS["HVG seurat batches"]
    pd.testing.assert_frame_equal(
        hr.Plan(small(), steps).var(executor=executor, memory="2GB"), hr.Plan(small(), steps).var()
    )
    chunks = list(hr.Plan(small(), steps).chunks(executor=executor, memory="2GB"))
    assert sum(chunk.n_obs for chunk in chunks) == 150
    pytest.importorskip("jinja2")
    kept = []
    for number, each in enumerate([executor, hr.Serial()]):
        hr.Plan(small(), steps).write_h5ad(
            tmp_path / f"{number}.h5ad", executor=each, memory="2GB", report=tmp_path / f"{number}.html"
        )
        kept.append((tmp_path / f"{number}.h5ad").read_bytes())
    assert kept[0] == kept[1]


def test_a_worker_that_is_killed(client: Any, tmp_path: Path) -> None:
    steps = [Sleeps(0.1), *STEPS["HVG seurat"]]
    hr.Plan(small(), steps).write_h5ad(tmp_path / "whole.h5ad", executor=hr.Serial(), memory="2GB")
    told: list[str] = []
    victim = next(iter(client.run(os.getpid).values()))
    begun = threading.Event()

    def listen(event: Any) -> None:
        if isinstance(event, PassStarted) and not begun.is_set():
            begun.set()
            threading.Timer(0.2, lambda: os.kill(victim, signal.SIGKILL)).start()
        if isinstance(event, Notice):
            told.append(event.message)

    hr.Plan(small(), steps).write_h5ad(
        tmp_path / "x.h5ad", executor=hr.Distributed(client), memory="2GB", on_event=listen
    )
    assert (tmp_path / "x.h5ad").read_bytes() == (tmp_path / "whole.h5ad").read_bytes()
    assert any("is gone: range" in one for one in told), told


def test_two_workers_compress(client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import anndata as ad

    taken: list[Any] = []
    take = H5adPreparer.taken
    monkeypatch.setattr(H5adPreparer, "taken", lambda *given: taken.append(given[1]) or take(*given))
    files = [tmp_path / "one.h5ad", tmp_path / "two.h5ad"]
    for path, executor in zip(files, (hr.Serial(), hr.Distributed(client)), strict=True):
        hr.Plan(small(), STEPS["workbench"]).write_h5ad(path, executor=executor, memory="2GB", compression="gzip")
    assert len(taken) > 2
    assert hr.verify_h5ad(files[1]).problems == ()
    one, two = map(ad.read_h5ad, files)
    assert (one.X != two.X).sum() == 0
    assert one.obs.equals(two.obs)
    assert json.dumps(one.uns["headrace"]["digests"], default=str) == json.dumps(
        two.uns["headrace"]["digests"], default=str
    )


def test_chunks_of_an_earlier_run_that_stored_them_otherwise(
    client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They lie in the folder of the same plan; with a file that has other filters they are not to be used."""
    monkeypatch.setattr("headrace.engine.cluster.MANY", 2)
    plan, executor, ready = hr.Plan(small(), STEPS["HVG seurat"]), hr.Distributed(client), Place.ready

    def stopped(self: Place, stage: Any, number: int, preparer: Any, keep: bool) -> Iterator[Chunk]:
        if number == 1:
            raise OSError("the client goes away")
        return ready(self, stage, number, preparer, keep)

    monkeypatch.setattr(Place, "ready", stopped)
    with pytest.raises(OSError, match="goes away"):
        plan.write_h5ad(tmp_path / "x.h5ad", executor=executor, memory="2GB", compression="gzip")
    monkeypatch.setattr(Place, "ready", ready)
    folder = next((tmp_path / ".headrace-spool").iterdir())
    assert list(folder.glob("*.ready")), "or there would be nothing to mistake"
    for name, how in (("two", executor), ("one", hr.Serial())):
        plan.write_h5ad(tmp_path / f"{name}.h5ad", executor=how, memory="2GB", checksum=False)
    assert (tmp_path / "two.h5ad").read_bytes() == (tmp_path / "one.h5ad").read_bytes()


def test_chunks_that_were_made_ready_and_damaged(client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many workers make chunks ready without gzip too. What is damaged ends the run, and is made again by the next."""
    monkeypatch.setattr("headrace.engine.cluster.MANY", 2)
    plan = hr.Plan(small(), STEPS["HVG seurat"])
    plan.write_h5ad(tmp_path / "one.h5ad", executor=hr.Serial(), memory="2GB")
    ready, hurt = Place.ready, [True]

    def damaged(self: Place, stage: Any, number: int, preparer: Any, keep: bool) -> Iterator[Chunk]:
        if number == 1 and hurt:
            hurt.clear()
            name = self.path / ready_name(stage.number, number, 0)
            stored = bytearray(name.read_bytes())
            stored[len(stored) // 2] ^= 1
            name.write_bytes(stored)
        return ready(self, stage, number, preparer, keep)

    monkeypatch.setattr(Place, "ready", damaged)
    executor = hr.Distributed(client)
    with pytest.raises(hr.SourceError, match="is gone or damaged; run again"):
        plan.write_h5ad(tmp_path / "two.h5ad", executor=executor, memory="2GB")
    assert not (tmp_path / "two.h5ad").exists()
    plan.write_h5ad(tmp_path / "two.h5ad", executor=executor, memory="2GB")
    assert (tmp_path / "two.h5ad").read_bytes() == (tmp_path / "one.h5ad").read_bytes()


def test_a_worker_that_drags_on(client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headrace.engine.cluster_tasks.SLOW_AT_LEAST", 1.0)
    steps = [Sleeps(0.0, str(tmp_path / "begun")), *STEPS["NormalizeTotal"]]
    hr.Plan(small(), steps).write_h5ad(tmp_path / "x.h5ad", executor=hr.Distributed(client), memory="2GB")
    assert (tmp_path / "begun-again").exists(), "the other worker did it"
    hr.Plan(small(), steps).write_h5ad(tmp_path / "whole.h5ad", executor=hr.Serial(), memory="2GB")
    assert (tmp_path / "x.h5ad").read_bytes() == (tmp_path / "whole.h5ad").read_bytes()


def test_a_worker_that_goes_before_it_is_asked(client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dask has such a task done again by the worker that is gone, and by no other, and waits for ever."""
    from distributed import Future

    asked, result, told = [], Future.result, []

    def late(self: Any, timeout: float | None = None) -> Any:
        if self.key.startswith("headrace-pass-1-3-") and not asked:
            asked.append(self.key)
            (where,) = client.who_has([self])[self.key]
            os.kill(client.run(os.getpid, workers=[where])[where], signal.SIGKILL)
            while where in client.nthreads():
                time.sleep(0.1)
        return result(self, timeout)

    monkeypatch.setattr(Future, "result", late)
    hr.Plan(small(), STEPS["HVG seurat"]).write_h5ad(
        tmp_path / "x.h5ad",
        executor=hr.Distributed(client),
        memory="2GB",
        on_event=lambda event: told.append(str(event)),
    )
    assert asked
    assert any("range 3 of pass" in one or "range 3 is done again" in one for one in told), told
    hr.Plan(small(), STEPS["HVG seurat"]).write_h5ad(tmp_path / "whole.h5ad", executor=hr.Serial(), memory="2GB")
    assert (tmp_path / "x.h5ad").read_bytes() == (tmp_path / "whole.h5ad").read_bytes()
