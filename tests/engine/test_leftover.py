"""What a run that fails leaves: a spool that another run goes on from, and is told of, or nothing; no file open."""

from __future__ import annotations

import errno
import gc
import os
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import headrace as hr
from headrace.cli import main
from headrace.cli.console import Session
from headrace.events import PassStarted
from headrace.support import workers
from headrace.support.prefetch import prefetch
from headrace.support.workers import Workers
from tests.wrapped import Spooled

STEPS = [hr.FilterGenes(min_cells=5), hr.NormalizeTotal(1e4)]


def far(bad: float | None = None) -> Spooled:
    """240 cells, of which the 200th may have a value that is no count."""
    X = np.random.default_rng(0).poisson(1.5, (240, 300)).astype(np.float32)
    if bad is not None:
        X[200, 3] = bad
    return Spooled(
        X, pd.DataFrame(index=[f"c{i}" for i in range(240)]), pd.DataFrame(index=[f"g{i}" for i in range(300)])
    )


@dataclass
class Fails:
    """A listener that raises when a pass begins."""

    error: BaseException
    number: int = 2
    seen: list[int] = field(default_factory=list)

    def __call__(self, event: Any) -> None:
        if isinstance(event, PassStarted):
            self.seen.append(event.number)
            if event.number == self.number:
                raise self.error


@pytest.mark.parametrize("bad", [np.nan, 0.5, -1.0])
def test_the_datas_fault_leaves_no_spool(bad: float, tmp_path: Path) -> None:
    with pytest.raises(hr.InputError):
        hr.Plan(far(bad), STEPS).write_h5ad(tmp_path / "x.h5ad")
    assert list(tmp_path.iterdir()) == []


def test_a_census_that_contradicts_itself_leaves_no_spool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from headrace.errors import ContradictionError

    assert issubclass(ContradictionError, hr.SourceError)
    with pytest.raises(ContradictionError):
        hr.Plan(far(), STEPS).write_h5ad(tmp_path / "x.h5ad", on_event=Fails(ContradictionError("nnz lies")))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [hr.OutputError("writing failed"), hr.SourceError("the line is down")])
def test_what_can_go_on_says_where_and_how_much(error: Exception, tmp_path: Path) -> None:
    with pytest.raises(type(error)) as caught:
        hr.Plan(far(), STEPS).write_h5ad(tmp_path / "x.h5ad", on_event=Fails(error))
    (spool,) = (tmp_path / ".headrace-spool").iterdir()
    size = sum(part.stat().st_size for part in spool.glob("*.part"))
    told = str(caught.value)
    assert str(spool) in told
    assert f"({size / 1e6:,.1f} MB)" in told
    assert "run it again" in told
    assert f"headrace spool clean {spool.parent}" in told
    notes: list[Any] = []
    hr.Plan(far(), STEPS).write_h5ad(tmp_path / "x.h5ad", on_event=notes.append)
    assert any("going on from an earlier run: 4 of 4" in str(note) for note in notes)
    assert [path.name for path in tmp_path.iterdir()] == ["x.h5ad"]


def test_an_error_of_somebody_elses_gets_a_note(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        hr.Plan(far(), STEPS).write_h5ad(tmp_path / "x.h5ad", on_event=Fails(ZeroDivisionError()))
    (note,) = caught.value.__notes__
    assert str(tmp_path / ".headrace-spool") in note


def test_a_full_disk_names_the_spool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int, data: Any, offset: int) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("headrace.sinks.h5ad.output.os.pwrite", full)
    with pytest.raises(hr.OutputError, match=r"No space left.*kept in the spool .* \(0\.\d MB\)"):
        hr.Plan(far(), STEPS).write_h5ad(tmp_path / "x.h5ad")


def test_chunks_that_nobody_wants_leave_no_spool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    chunks = hr.Plan(far(), STEPS).chunks()
    next(chunks)
    chunks.close()  # type: ignore[attr-defined] # it is a generator
    assert list(tmp_path.glob("**/*.part")) == []


def test_spools_of_programs_are_listed_and_cleaned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tmp").mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    monkeypatch.chdir(tmp_path / "here")
    plan = hr.Plan(far(), STEPS)
    with monkeypatch.context() as patched:
        patched.setattr("headrace.sinks.anndata.InMemory.open", lambda *_: (_ for _ in ()).throw(OSError("no")))
        with pytest.raises(OSError, match="no"):
            plan.to_anndata()
    with pytest.raises(hr.OutputError):
        plan.write_h5ad("x.h5ad", on_event=Fails(hr.OutputError("full")))
    places = {str(path.parent) for path in tmp_path.glob("**/about.json")}
    assert len(places) == 2
    assert main(["spool", "list"]) == 0
    listed = capsys.readouterr().out
    assert len(listed.splitlines()) == 2
    assert str(tmp_path / "tmp") in listed
    assert main(["spool", "list", str(tmp_path / "here")]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1, "the folder of outputs will do"
    assert main(["spool", "clean"]) == 0
    assert "removed 2 spools" in capsys.readouterr().err
    assert list(tmp_path.glob("**/*.part")) == []


def test_an_interrupt_tells_of_new_parts_by_no_clock(tmp_path: Path) -> None:
    session = Session()
    spool = tmp_path / ".headrace-spool"
    old, new = spool / "0" / "old.part", spool / "0" / "new.part"
    old.parent.mkdir(parents=True)
    old.write_bytes(b"old")
    os.utime(old, (2e9 * 2, 2e9 * 2))  # by a server whose clock is ahead
    session.watch(tmp_path / "x.h5ad", spool)
    assert session._outcome() == "nothing was written"
    new.write_bytes(b"new")
    os.utime(new, (1e9, 1e9))  # by one whose clock is behind
    assert "go on from what is kept" in session._outcome()


# ------------------------------------------------------------------------------------------------- files and threads
KINDS: dict[str, Any] = {"csr": sparse.csr_matrix, "csc": sparse.csc_matrix, "dense": np.asarray}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fault", ["data", "output"])
def test_the_input_is_closed_after_a_run_that_failed(kind: str, fault: str, tmp_path: Path) -> None:
    X = np.random.default_rng(0).poisson(1.0, (300, 50)).astype(np.float32)
    X[250, 3] = np.nan if fault == "data" else 1
    adata, path = anndata.AnnData(KINDS[kind](X)), tmp_path / "in.h5ad"
    adata.write_h5ad(path)
    source = hr.open_h5ad(path)
    plan = hr.Plan(source, STEPS)
    gc.disable()
    try:
        listener = Fails(hr.OutputError("full")) if fault == "output" else lambda event: None
        with pytest.raises(hr.HeadraceError) as caught:
            plan.write_h5ad(tmp_path / "x.h5ad", on_event=listener)
        assert caught.tb is not None, "somebody looks at it still"
        if fault == "output":
            plan.write_h5ad(tmp_path / "x.h5ad")  # the same plan once more: it opens the file again
            assert source.spec.values is not None
            assert source.value_counts("none") == {}
            with pytest.raises(hr.OutputError):
                plan.write_h5ad(tmp_path / "y.h5ad", on_event=Fails(hr.OutputError("full")))
        adata.write_h5ad(path)
    finally:
        gc.enable()


@pytest.mark.parametrize("end", ["to_anndata", "write_h5ad", "var", "report"])
def test_the_input_of_a_sample_is_closed_too(end: str, tmp_path: Path) -> None:
    adata, path = anndata.AnnData(np.full((20, 5), np.nan, np.float32)), tmp_path / "in.h5ad"
    adata.write_h5ad(path)
    plan = hr.Plan(hr.open_h5ad(path, holds="counts").sample(15), STEPS)
    run = {
        "to_anndata": plan.to_anndata,
        "write_h5ad": lambda: plan.write_h5ad(tmp_path / "x.h5ad"),
        "var": plan.var,
        "report": lambda: plan.report(tmp_path / "x.html"),
    }[end]
    gc.disable()
    try:
        for _ in range(2):  # the second time it has changed: opened again, it is closed again
            with pytest.raises(hr.HeadraceError) as caught:
                run()
            assert caught.tb is not None, "somebody looks at it still"
            adata.write_h5ad(path)
    finally:
        gc.enable()


def test_the_input_is_closed_where_it_cannot_be_opened(tmp_path: Path) -> None:
    adata, path = anndata.AnnData(sparse.csr_matrix(np.full((30, 5), 0.5, dtype=np.float32))), tmp_path / "in.h5ad"
    adata.write_h5ad(path)
    gc.disable()
    try:
        with pytest.raises(hr.CountsError) as caught:
            hr.open_h5ad(path)
        assert caught.tb is not None
        adata.write_h5ad(path)
    finally:
        gc.enable()


def interrupted_starts(monkeypatch: pytest.MonkeyPatch, after: int) -> list[threading.Thread]:
    """Raise KeyboardInterrupt just after a thread has been started in the main thread."""
    start, seen = threading.Thread.start, []

    def interrupted(thread: threading.Thread) -> None:
        start(thread)
        if threading.current_thread() is threading.main_thread():
            seen.append(thread)
            if len(seen) == after:
                raise KeyboardInterrupt

    monkeypatch.setattr(threading.Thread, "start", interrupted)
    return seen


def test_an_interrupt_while_a_thread_starts_leaves_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "in.h5ad"
    anndata.AnnData(sparse.csr_matrix(np.ones((300, 50), dtype=np.float32))).write_h5ad(path)
    monkeypatch.setattr("headrace.engine.run.check_room", lambda *_: None)  # it starts threads to see if it can
    for after in range(1, 6):
        with monkeypatch.context() as patched:
            seen = interrupted_starts(patched, after)
            with pytest.raises(KeyboardInterrupt):
                hr.Plan(hr.open_h5ad(path), STEPS).write_h5ad(tmp_path / "x.h5ad", executor=hr.Threads(2, 2))
        assert len(seen) >= after
        left = [thread.name for thread in threading.enumerate() if "headrace" in thread.name]
        assert left == []
        open_files = [os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if alive(fd)]
        assert [name for name in open_files if name.startswith(str(tmp_path))] == []
        assert [path.name for path in tmp_path.iterdir()] == ["in.h5ad"]


def alive(fd: str) -> bool:
    return os.path.lexists(f"/proc/self/fd/{fd}")


def test_threads_that_never_began_are_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", none)
    with pytest.raises(RuntimeError, match="can't start"):
        list(prefetch(iter(range(3))))
    with Workers(2, "test") as pool, pytest.raises(RuntimeError, match="can't start"):
        pool.submit(print)
    workers.end(threading.Thread(target=print))
