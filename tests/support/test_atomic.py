"""What others put beside an output, or in its place, is neither followed nor taken for it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import headrace as hr
from headrace.chunk import Chunk
from headrace.sources.arrays import ArraySource
from headrace.support.atomic import atomic_file

NAMES = ["out.h5ad", "out.csv", "out.tsv.gz", "out.parquet"]


def write(path: Path, overwrite: bool = False, at_end: Any = None) -> None:
    """Write a small file of any kind."""

    class Source(ArraySource):
        def read(self, refs: Any) -> Any:
            yield from super().read(refs)
            if at_end is not None:
                at_end()

    source = Source(np.eye(3), pd.DataFrame(index=list("abc")), pd.DataFrame(index=list("xyz")), n_obs=1)
    if path.suffix == ".h5ad":
        hr.Plan(source).write_h5ad(path, overwrite=overwrite)
    else:
        hr.Plan(source).write(hr.Table(path, overwrite=overwrite))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("to", ["file", "nothing", "folder"])
def test_a_link_in_the_place_of_the_partial_file_is_not_followed(to: str, name: str, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    if to == "file":
        victim.write_text("precious")
    elif to == "folder":
        victim.mkdir()
    (tmp_path / f".{name}.partial").symlink_to(victim)
    with pytest.raises(hr.OutputError, match=r"\.partial is a symbolic link, which headrace does not make; remove it"):
        write(tmp_path / name)
    assert not (tmp_path / name).exists()
    assert victim.is_dir() if to == "folder" else (victim.exists() == (to == "file"))
    if to == "file":
        assert victim.read_text() == "precious"


@pytest.mark.parametrize("name", NAMES)
def test_a_hard_link_in_its_place_is_not_written_to(name: str, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    os.link(victim, tmp_path / f".{name}.partial")
    write(tmp_path / name)
    assert victim.read_text() == "precious"
    assert (tmp_path / name).stat().st_ino != victim.stat().st_ino


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("what", ["left", "fifo", "read-only"])
def test_what_a_killed_run_has_left_is_taken_over(what: str, name: str, tmp_path: Path) -> None:
    left = tmp_path / f".{name}.partial"
    if what == "fifo":
        os.mkfifo(left)
    else:
        left.write_text("half" * 10_000)
        left.chmod(0o444 if what == "read-only" else 0o644)
    write(tmp_path / name)
    write(tmp_path / f"again.{name}")
    assert (tmp_path / name).read_bytes() == (tmp_path / f"again.{name}").read_bytes()
    assert not left.exists()


@pytest.mark.parametrize("old", [True, False])
@pytest.mark.parametrize("by", ["file", "link", "nothing", "copy"])
def test_what_is_put_in_its_place_does_not_become_the_output(by: str, old: bool, tmp_path: Path) -> None:
    out = tmp_path / "out.h5ad"
    left = tmp_path / ".out.h5ad.partial"
    if old:
        out.write_text("old")

    def swap() -> None:
        held = left.read_bytes()
        left.unlink()
        if by in ("file", "copy"):
            left.write_bytes(b"evil" if by == "file" else held)
        elif by == "link":
            left.symlink_to("/etc/hostname")

    with pytest.raises(hr.OutputError, match="was replaced or removed by another process while it was written"):
        write(out, overwrite=True, at_end=swap)
    assert (out.read_text() == "old") if old else not out.exists()
    if by == "file":
        assert left.read_bytes() == b"evil", "what is somebody else's is left alone"


def test_what_is_put_there_before_it_is_opened_again(tmp_path: Path) -> None:
    with pytest.raises(hr.OutputError, match="was replaced"), atomic_file(tmp_path / "x") as partial:
        partial.path.unlink()
        partial.path.write_text("evil")
        partial.open(os.O_RDWR)
    assert not (tmp_path / "x").exists()


def test_the_mode_is_that_of_any_new_file(tmp_path: Path) -> None:
    write(tmp_path / "out.h5ad")
    (tmp_path / "plain").write_text("")
    assert (tmp_path / "out.h5ad").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_chunk_is_what_was_streamed(tmp_path: Path) -> None:
    write(tmp_path / "out.csv")
    read = hr.open_counts(tmp_path / "out.csv")
    (chunk,) = read.read(read.refs(100))
    assert isinstance(chunk, Chunk)
    np.testing.assert_array_equal(chunk.X.toarray(), np.eye(3))
