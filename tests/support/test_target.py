"""Where an output cannot be written, or may not be: said before anything is read."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import stat
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

import headrace as hr
from headrace.engine.settings import Settings
from headrace.sources.arrays import ArraySource
from headrace.support import target
from tests.wrapped import Spooled


def small() -> Spooled:
    rng = np.random.default_rng(0)
    obs = pd.DataFrame(index=[f"c{i}" for i in range(240)])
    return Spooled(rng.poisson(1.5, (240, 300)), obs, pd.DataFrame(index=[f"g{i}" for i in range(300)]))


def source() -> ArraySource:
    held = small()
    return ArraySource(held.X, held.obs, held.var)


def refused(plan: hr.Plan, path: Path, match: str, **more: Any) -> None:
    """Check that a plan is refused before its first event, and leaves nothing."""
    events: list[Any] = []
    before = sorted(path.parent.iterdir()) if path.parent.is_dir() else []
    with pytest.raises(hr.OutputError, match=match):
        plan.write_h5ad(path, on_event=events.append, **more)
    assert events == []
    assert (sorted(path.parent.iterdir()) if path.parent.is_dir() else []) == before


def test_a_name_that_is_too_long_once_something_is_added_to_it(tmp_path: Path) -> None:
    for length in (255, 247, 300):
        refused(hr.Plan(source()), tmp_path / ("x" * (length - 5) + ".h5ad"), "is too long.*choose a shorter one")
    path = tmp_path / ("x" * 241 + ".h5ad")
    hr.Plan(source()).write_h5ad(path)
    assert path.is_file()
    with pytest.raises(hr.OutputError, match="is too long"):
        hr.Plan(source()).write(hr.Table(tmp_path / ("x" * 250 + ".csv")))


def test_a_folder_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read_only(path: Any, flags: int, *more: Any, **others: Any) -> int:
        if flags & os.O_CREAT and str(path).startswith(str(tmp_path)):
            raise OSError(errno.EROFS, "Read-only file system")
        return opened(path, flags, *more, **others)

    opened = os.open
    monkeypatch.setattr(os, "open", read_only)
    refused(hr.Plan(source()), tmp_path / "x.h5ad", f"cannot write to {tmp_path}: Read-only file system")


def test_another_users_file_in_a_sticky_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.h5ad"
    path.write_text("theirs")
    tmp_path.chmod(0o1777)
    me = path.stat().st_uid
    monkeypatch.setattr(os, "geteuid", lambda: me + 7 if me else 7)
    refused(hr.Plan(source()), path, "belongs to another user.*sticky", overwrite=True)
    tmp_path.chmod(0o777)
    monkeypatch.setattr(os, "geteuid", lambda: me)
    hr.Plan(source()).write_h5ad(path, overwrite=True)
    assert stat.S_ISREG(path.stat().st_mode)


def test_a_file_that_is_a_mount(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.h5ad"
    path.write_text("mounted")
    monkeypatch.setattr(target, "_mounted", lambda: {str(path)})
    refused(hr.Plan(source()), path, "mounted there as a single file", overwrite=True)


@pytest.mark.parametrize("nameless", [True, False])
def test_a_run_that_is_killed_while_it_tries_locks(
    nameless: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It leaves no file, where the file system has files without a name."""
    there: list[int] = []
    monkeypatch.setattr(fcntl, "flock", lambda handle, operation: there.append(len(list(tmp_path.iterdir()))))
    if nameless:
        try:
            os.close(os.open(tmp_path, os.O_TMPFILE | os.O_RDWR))
        except (AttributeError, OSError):
            pytest.skip("no files without a name here")
    else:
        monkeypatch.delattr(os, "O_TMPFILE", raising=False)
    assert target.no_locks(tmp_path) is None
    assert there == ([0] if nameless else [1])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("code", ["ENOLCK", "EOPNOTSUPP", "ENOSYS", "EINVAL", "EBADF", "EPERM"])
def test_no_locks(code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(handle: int, operation: int) -> None:
        raise OSError(getattr(errno, code), os.strerror(getattr(errno, code)))

    monkeypatch.setattr(fcntl, "flock", flock)
    events: list[Any] = []
    plan = hr.Plan(small(), [hr.FilterGenes(min_cells=5), hr.NormalizeTotal(1e4)])
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        told_before: list[int] = []

        def listen(event: Any) -> None:
            told_before.append(len(told))
            events.append(event)

        plan.write_h5ad(tmp_path / "x.h5ad", on_event=listen)
    assert [one.category for one in told] == [hr.StorageWarning]
    assert "has no locks" in str(told[0].message)
    assert told_before[0] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["x.h5ad"]
    with pytest.warns(hr.StorageWarning, match="has no locks"):  # the spool is in the system's temporary folder
        next(plan.chunks())


def test_a_lock_that_another_run_holds_is_still_seen(tmp_path: Path) -> None:
    path = tmp_path / "x.h5ad"

    def write_again(event: Any) -> None:
        if "Chunk" in type(event).__name__ and not nested:
            nested.append(event)
            with pytest.raises(hr.OutputError, match="another run is writing"):
                hr.Plan(source()).write_h5ad(path, overwrite=True)

    nested: list[Any] = []
    hr.Plan(source()).write_h5ad(path, on_event=write_again)
    assert nested


def disk(free: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=free))


def test_too_little_space_for_what_explain_predicts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    X = np.ones((200, 500), dtype=np.float32)
    counts = ArraySource(X, pd.DataFrame(index=map(str, range(200))), pd.DataFrame(index=map(str, range(500))))
    everything = hr.Plan(counts, [hr.SaveLayer("counts"), hr.Log1p()])
    assert everything.explain().output_bytes > 1_600_000
    disk(1_590_000, monkeypatch)
    refused(everything, tmp_path / "x.h5ad", "takes about 2 MB, and 2 MB are free there; free some space")
    some = hr.Plan(counts, [hr.SaveLayer("counts"), hr.FilterCells(min_genes=3)])
    for plan, more in ((some, {}), (everything, {"compression": "gzip"})):
        with pytest.warns(hr.StorageWarning, match="may take up to .* MB, and 2 MB are free there"):
            plan.write_h5ad(tmp_path / "x.h5ad", overwrite=True, **more)  # type: ignore[arg-type] # gzip
    disk(10**10, monkeypatch)
    everything.write_h5ad(tmp_path / "x.h5ad", overwrite=True)


def test_paths_that_are_relative_when_the_process_goes_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    plan = hr.Plan(small(), [hr.FilterGenes(min_cells=5), hr.NormalizeTotal(1e4)])

    def leave(event: Any) -> None:
        if "Chunk" in type(event).__name__:
            monkeypatch.chdir(tmp_path / "there")

    monkeypatch.chdir(tmp_path / "here")
    plan.write_h5ad("x.h5ad", spool="spool", keep_spool=True, on_event=leave)
    monkeypatch.chdir(tmp_path / "here")
    plan.write(hr.Table("x.csv"), Settings(10**9, spool=Path("other"), keep_spool=True, on_event=leave))
    names = {"x.h5ad", "x.csv", "x.samples.csv", "x.genes.csv", "spool", "other"}
    assert {path.name for path in (tmp_path / "here").iterdir()} == names
    assert list((tmp_path / "there").iterdir()) == []


def test_nothing_is_left_by_an_attempt(tmp_path: Path) -> None:
    (tmp_path / ".x.h5ad.attempt").write_text("of a run that was killed")
    hr.Plan(source()).write_h5ad(tmp_path / "x.h5ad")
    assert [path.name for path in tmp_path.iterdir()] == ["x.h5ad"]
