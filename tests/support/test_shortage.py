"""What is missing is not always room: the message names the limit that was met."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import headrace as hr
from headrace.cli.console import Session
from headrace.engine.settings import Settings
from headrace.engine.spool import Spool
from headrace.sources.arrays import ArraySource
from headrace.support import private
from headrace.support.shortage import remedy
from tests.wrapped import Spooled


def small(kind: type[ArraySource] = ArraySource) -> ArraySource:
    obs, var = pd.DataFrame(index=[f"c{i}" for i in range(240)]), pd.DataFrame(index=[f"g{i}" for i in range(300)])
    return kind(np.random.default_rng(0).poisson(1.5, (240, 300)), obs, var)


@contextmanager
def limited(kind: int, most: int) -> Iterator[None]:
    before = resource.getrlimit(kind)
    resource.setrlimit(kind, (most, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(kind, before)


@pytest.mark.parametrize("code", ["EMFILE", "ENFILE", "EFBIG", "EACCES", "EROFS", "ENOSPC", "EDQUOT", "EIO"])
def test_what_helps(code: str) -> None:
    number = getattr(errno, code)
    said = remedy(OSError(number, os.strerror(number)), "free some space, or choose another place")
    assert ("ulimit -n" in said) == (code == "EMFILE")
    assert ("too large" in said or "that large" in said) == (code == "EFBIG")
    assert ("free some space" in said) == (code in ("ENOSPC", "EDQUOT", "EIO"))
    assert ("choose another place" in said) == (code not in ("EMFILE", "ENFILE", "EFBIG"))


def test_a_limit_of_the_size_of_files_is_told_before_anything_is_read(tmp_path: Path) -> None:
    events: list[Any] = []
    with (
        limited(resource.RLIMIT_FSIZE, 50_000),
        pytest.raises(hr.OutputError, match=r"'ulimit -f' lets no file .*0.1 MB"),
    ):
        hr.Plan(small()).write_h5ad(tmp_path / "x.h5ad", on_event=events.append)
    assert events == []
    assert list(tmp_path.iterdir()) == []


def test_a_limit_of_the_size_of_files_that_was_not_foreseen(tmp_path: Path) -> None:
    with limited(resource.RLIMIT_FSIZE, 30_000), pytest.raises(hr.OutputError, match="'ulimit -f'.*raise it"):
        hr.Plan(small()).write_h5ad(tmp_path / "x.h5ad", compression="gzip")
    assert list(tmp_path.iterdir()) == []


def test_a_spool_that_nothing_came_into_leaves_no_folder(tmp_path: Path) -> None:
    plan = hr.Plan(small(Spooled), [hr.NormalizeTotal(10), hr.Log1p(), hr.Scale(), hr.PCA(3, mask_var=None)])
    with (
        limited(resource.RLIMIT_FSIZE, 0),
        pytest.raises(hr.OutputError, match="cannot write to the spool.*'ulimit -f'"),
    ):
        plan.write(hr.Table(tmp_path / "x.csv"), Settings(10**9, spool=tmp_path / "spool"))
    assert list(tmp_path.iterdir()) == []


def test_too_many_open_files_wherever_it_shows(capsys: pytest.CaptureFixture[str]) -> None:
    assert Session().ended(OSError(errno.EMFILE, "Too many open files")) == 1
    assert capsys.readouterr().err.startswith("error: Too many open files: 'ulimit -n' lets this process have ")


def test_a_folder_in_place_of_a_part_is_no_part(tmp_path: Path) -> None:
    folder = tmp_path / "0123456789abcdef"
    with Spool(folder, pd.DataFrame()).opened({}, keep=True) as spool:
        (spool.path(0, 5) / "inside").mkdir(parents=True)
        before = os.listdir("/proc/self/fd")
        assert not spool.whole(0, 5)
        assert os.listdir("/proc/self/fd") == before, "nothing stays open"
        assert not spool.path(0, 5).exists()


def test_a_link_to_a_folder_is_removed_and_not_what_it_points_at(tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "file").write_text("")
    with private.own_folder(tmp_path / "own", "the folder", "choose another") as own:
        (tmp_path / "own" / "link").symlink_to(tmp_path / "theirs")
        own.remove("link")
        own.remove("nothing")
        assert own.names() == set()
    assert (tmp_path / "theirs" / "file").exists()
