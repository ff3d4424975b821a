"""Kills, full disks, broken disks, flipped bits: a few of each here, hundreds with `make faults`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from tests.conftest import LIVER

import headrace as hr
from headrace.engine.spool import Spool, clean, decode, encode, found, sections
from headrace.events import PassStarted

HERE = Path(__file__).parent

STEPS = [hr.FilterGenes(min_cells=5), hr.NormalizeTotal(1e4), hr.Log1p(), hr.HighlyVariableGenes(n_top_genes=100)]


def script(name: str, *arguments: str) -> dict[str, Any]:
    """Run a script of this folder as a program; return its figures."""
    environment = os.environ | {"PYTHONWARNINGS": "ignore"}
    if name not in ("disk.py", "readonly.py") and os.access("/dev/shm", os.W_OK):
        environment["TMPDIR"] = "/dev/shm"  # hundreds of flushes of a real disk take minutes
    done = subprocess.run(
        [sys.executable, str(HERE / name), *arguments], capture_output=True, text=True, env=environment, timeout=600
    )
    if done.returncode == 77:
        pytest.skip(done.stdout.strip())
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


# ---------------------------------------------------------------------------------------------------- the campaigns
def test_kills() -> None:
    figures = script("campaign.py", "--kills", "25", "--small")
    assert figures["failures"] == 0
    assert figures["kills"] >= 25


def test_kills_in_each_pass_of_principal_components() -> None:
    figures = script("components.py")
    assert figures["passes"] == [3, 3]  # genes, products of pairs, scores
    assert figures["kills"] == 2 * sum(figures["passes"])
    ahead, last = figures["chunks_not_read_again"]
    assert ahead == 0  # nothing is kept of a source that is at hand and read once
    assert last > 0
    assert figures["failures"] == 0


def test_calls_that_fail() -> None:
    if shutil.which(os.environ.get("CC", "cc")) is None:
        pytest.skip("needs a C compiler")
    if not sys.platform.startswith("linux"):
        pytest.skip("needs LD_PRELOAD and /proc")
    figures = script("eio.py", "--case", "0", "--writes", "8")
    assert figures["failures"] == 0
    assert sum(figures["calls"].values()) > 300


@pytest.mark.skipif(
    shutil.which("unshare") is None and "CI" not in os.environ,
    reason="needs mounts of its own (where CI runs, that is a failure)",
)
def test_full_disks() -> None:
    figures = script("disk.py")
    assert figures["failures"] == 0
    assert figures["command line"]["exit_code"] == 1


@pytest.mark.skipif(
    shutil.which("unshare") is None and "CI" not in os.environ,
    reason="needs mounts of its own (where CI runs, that is a failure)",
)
def test_a_read_only_root_without_a_home() -> None:
    figures = script("readonly.py")
    assert figures["failures"] == 0
    assert figures["compiled before"]["warnings"] == 0


def test_flips() -> None:
    figures = script("flips.py", "--flips", "30")
    for kind in ("plain", "gzip", "no checksum"):
        assert set(figures[kind]) <= {"found", "harmless"}
        assert figures[kind]["found"] > 20


def test_files_that_are_changed() -> None:
    figures = script("mutations.py", "--rounds", "250")
    assert figures["failures"] == 0
    assert sum(seen.get("refused", 0) for seen in figures["files"].values()) > 100


# ---------------------------------------------------------------------------------------------------- parts go bad
def cut(part: Path) -> None:
    part.write_bytes(part.read_bytes()[:-7])


def flip(part: Path) -> None:
    stored = bytearray(part.read_bytes())
    stored[len(stored) // 3] ^= 8
    part.write_bytes(stored)


def empty(part: Path) -> None:
    part.write_bytes(b"")


def folder(part: Path) -> None:
    part.unlink()
    part.mkdir()


DAMAGE = {"cut": cut, "flipped": flip, "empty": empty, "deleted": Path.unlink, "unreadable": folder}


class Hurt:
    """Does something to the parts between two passes."""

    def __init__(self, spool: Path, how: Any) -> None:
        self.spool, self.how, self.name = spool, how, ""

    def __call__(self, event: Any) -> None:
        if isinstance(event, PassStarted) and event.number == 2:
            part = sorted(self.spool.glob("*/*.part"))[-1]
            self.name = part.name
            self.how(part)


@pytest.fixture
def liver(demo_census: Path) -> Any:
    return hr.open_census(demo_census).query("mus_musculus", dataset_id=LIVER)


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_part_that_goes_bad_between_two_passes(damage: str, liver: Any, tmp_path: Path) -> None:
    hr.Plan(liver, STEPS).write_h5ad(tmp_path / "whole.h5ad")
    out = tmp_path / "out.h5ad"
    out.write_text("old")
    hurt = Hurt(tmp_path / ".headrace-spool", DAMAGE[damage])
    with pytest.raises(hr.SourceError, match=r"the spool's part .*\.part .*run again to read it anew"):
        hr.Plan(liver, STEPS).write_h5ad(out, overwrite=True, on_event=hurt)
    assert hurt.name
    assert out.read_text() == "old"
    for part in tmp_path.glob(".headrace-spool/*/*.part"):
        if part.is_dir():
            part.rmdir()  # what nobody but this test does
    hr.Plan(liver, STEPS).write_h5ad(out, overwrite=True)
    assert out.read_bytes() == (tmp_path / "whole.h5ad").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.h5ad", "whole.h5ad"]


def test_a_part_cut_anywhere_is_noticed() -> None:
    stored = encode(chunk())
    assert decode(stored, chunk().obs.iloc[:0]).n_obs == 3
    for length in range(min(200, len(stored))):
        with pytest.raises(ValueError, match="part|written|checksum"):
            sections(stored[:length])


def chunk() -> hr.Chunk:
    from headrace.sources.arrays import ArraySource

    source = ArraySource(np.eye(3), pd.DataFrame(index=list("abc")), pd.DataFrame(index=list("xyz")))
    return next(iter(source.read(source.refs(10))))


@pytest.mark.parametrize("about", [None, b"", b"{"], ids=["gone", "empty", "cut"])
def test_a_spool_whose_run_was_killed_while_removing_it_is_listed_and_cleaned(
    about: bytes | None, tmp_path: Path
) -> None:
    """`rmtree` takes files in any order; and what was not flushed may be empty when the power comes back."""
    spool = Spool(tmp_path / ("0" * 32), chunk().obs.iloc[:0])
    with spool.opened({}, keep=True):
        spool.store(0, 3, chunk())
    described = spool.folder / "about.json"
    described.unlink()
    if about is not None:
        described.write_bytes(about)
    (entry,) = found(tmp_path)
    assert entry["parts"] == 1
    assert entry["about"] == {}
    assert clean(tmp_path) == 1
    assert list(tmp_path.iterdir()) == []


# --------------------------------------------------------------------------------------------- the order of things
def test_the_same_bytes_for_any_number_of_threads(liver: Any, tmp_path: Path) -> None:
    for number, executor in enumerate((hr.Serial(), hr.Threads(1, 1), hr.Threads(2, 3), hr.Threads(4, 9)) * 2):
        hr.Plan(liver, STEPS).write_h5ad(tmp_path / f"{number}.h5ad", executor=executor)
    assert len({path.read_bytes() for path in tmp_path.glob("*.h5ad")}) == 1
