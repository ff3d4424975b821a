"""Paths that the system does not let one look at, and places that are not there: our error, which says why."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import headrace as hr
from headrace.cli import main
from headrace.engine.settings import Settings
from headrace.sources.arrays import ArraySource
from headrace.support.places import absolute, look, nearest, temporary
from headrace.support.target import no_locks
from tests.wrapped import Spooled

LONG = "x" * 300


def small(kind: type[ArraySource] = ArraySource) -> ArraySource:
    obs, var = pd.DataFrame(index=[f"c{i}" for i in range(240)]), pd.DataFrame(index=[f"g{i}" for i in range(30)])
    return kind(np.random.default_rng(0).poisson(1.5, (240, 30)), obs, var)


@pytest.fixture
def bad(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """A path that cannot be looked at, and what the system says of it."""
    if request.param == "long":
        return str(tmp_path / LONG), "File name too long"
    if request.param == "circle":
        (tmp_path / "circle").symlink_to("circle")
        return str(tmp_path / "circle"), "symbolic link"
    hidden, stat = str(tmp_path / "hidden" / "in"), os.stat  # root sees all, so that it is the system that plays

    def refuse(path: Any, *more: Any, **others: Any) -> os.stat_result:
        if isinstance(path, (str, os.PathLike)) and os.fspath(path).startswith(hidden):
            raise PermissionError(errno.EACCES, "Permission denied", os.fspath(path))
        return stat(path, *more, **others)

    monkeypatch.setattr(os, "stat", refuse)
    return hidden, "Permission denied"


INPUTS: dict[str, Callable[[str], Any]] = {
    "open_h5ad": hr.open_h5ad,
    "open_10x": hr.open_10x,
    "open_soma": hr.open_soma,
    "open_census": hr.open_census,
    "open_counts": hr.open_counts,
    "several tables": lambda path: hr.open_counts([path, path]),
    "a dictionary of tables": lambda path: hr.open_counts({"s1": path}),
    "samples": lambda path: hr.open_counts(pd.DataFrame({"s": [1]}, index=["g"]), samples=path),
    "genes": lambda path: hr.open_counts(pd.DataFrame({"s": [1]}, index=["g"]), genes=path),
    "verify_h5ad": hr.verify_h5ad,
}


@pytest.mark.parametrize("bad", ["long", "circle", "hidden"], indirect=True)
@pytest.mark.parametrize("what", INPUTS)
def test_inputs_that_cannot_be_looked_at(what: str, bad: tuple[str, str]) -> None:
    path, said = bad
    with pytest.raises(hr.HeadraceError, match=said) as error:
        INPUTS[what](path)
    assert len(str(error.value)) < 1000


@pytest.mark.parametrize("bad", ["long", "circle", "hidden"], indirect=True)
@pytest.mark.parametrize(
    "arguments",
    [
        ["spool", "list"],
        ["spool", "clean"],
        ["verify"],
        ["report"],
        ["demo", "--out"],
        ["export", "--h5ad", "x.h5ad", "--out", "o.h5ad", "--recipe"],
        ["export", "--h5ad", "x.h5ad", "--out", "o.h5ad", "--genes"],
    ],
)
def test_on_the_command_line(
    arguments: list[str], bad: tuple[str, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code = main([*arguments, bad[0]])
    said = capsys.readouterr().err
    assert "unexpected" not in said
    assert (code, said.count("\n")) == (1, 1) or code == 2, said


@pytest.mark.parametrize("bad", ["long", "circle", "hidden"], indirect=True)
def test_folders_of_spools(bad: tuple[str, str], tmp_path: Path) -> None:
    path, _ = bad
    plan = hr.Plan(small(Spooled), [hr.NormalizeTotal(10), hr.Log1p(), hr.Scale(), hr.PCA(3, mask_var=None)])
    with pytest.raises(hr.OutputError):
        plan.write_h5ad(tmp_path / "out.h5ad", spool=f"{path}/inside")
    with pytest.raises(hr.OutputError):
        plan.write_h5ad(tmp_path / "out.h5ad", spool=path)
    assert not (tmp_path / "out.h5ad").exists()


@pytest.mark.parametrize("bad", ["long"], indirect=True)
def test_reports_with_a_name_that_is_too_long(bad: tuple[str, str], tmp_path: Path) -> None:
    with pytest.raises(hr.OutputError, match="the name is too long"):
        hr.Plan(small()).write_h5ad(tmp_path / "out.h5ad", report=f"{bad[0]}.html")


def test_what_is_not_there_is_none(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert look(tmp_path / "a" / "b") is None
    assert look(tmp_path / "file" / "b") is None
    assert look(tmp_path / "file") is not None
    assert nearest(tmp_path / "file" / "b" / "c") == tmp_path / "file"
    for wrong, said in (("a\0b", "NUL"), ("\ud800", "no Unicode")):
        with pytest.raises(hr.InputError, match=said):
            look(wrong)
    with pytest.raises(hr.OutputError, match="File name too long"):
        no_locks(tmp_path / LONG)


def test_the_folder_of_the_process_was_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone() -> str:
        raise FileNotFoundError(errno.ENOENT, "No such file or directory")

    plan = hr.Plan(small())
    monkeypatch.setattr(os, "getcwd", gone)
    calls: list[Callable[[], Any]] = [
        lambda: plan.write_h5ad("x.h5ad"),
        lambda: plan.report("x.html"),
        lambda: plan.write(hr.Table("x.csv")),
        lambda: hr.open_h5ad("x.h5ad"),
        lambda: hr.open_10x("x"),
        lambda: hr.open_soma("x"),
        lambda: Settings(10**9, spool=Path("x")),
    ]
    for call in calls:
        with pytest.raises(hr.InputError, match="is relative to the folder that this process is in, which was removed"):
            call()
    assert absolute(tmp_path / "x") == tmp_path / "x"
    plan.write_h5ad(tmp_path / "x.h5ad")


def test_no_temporary_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def none() -> str:
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found")

    monkeypatch.setattr(tempfile, "gettempdir", none)
    with pytest.raises(hr.OutputError, match="set TMPDIR"):
        temporary()
    plan = hr.Plan(small(Spooled), [hr.NormalizeTotal(10), hr.Log1p(), hr.Scale(), hr.PCA(3, mask_var=None)])
    with pytest.raises(hr.OutputError, match="set TMPDIR"):
        plan.to_anndata()
    plan.write_h5ad(tmp_path / "x.h5ad")
