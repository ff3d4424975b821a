"""What the spool believes: its own parts of this run, in a folder of its own, and nothing else."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import headrace as hr
from headrace.engine.spool import found
from headrace.sources.arrays import ArraySource
from headrace.sources.ranges import CellRange
from headrace.support.private import own_folder, temporary_folder
from tests.conftest import LIVER
from tests.engine.test_spool import STEPS, Counting

Swap = Callable[[list[Path], Path], None]


def swapped(parts: list[Path], other: Path) -> None:
    first, second = parts[0].read_bytes(), parts[1].read_bytes()
    parts[0].write_bytes(second)
    parts[1].write_bytes(first)


def copied(parts: list[Path], other: Path) -> None:
    shutil.copy(parts[0], parts[2])


def all_one(parts: list[Path], other: Path) -> None:
    for part in parts[1:]:
        shutil.copy(parts[0], part)


def of_another_run(parts: list[Path], other: Path) -> None:
    (folder,) = other.glob(".headrace-spool/*")
    for part in parts:
        shutil.copy(folder / part.name, part)


def shortened(parts: list[Path], other: Path) -> None:
    parts[1].write_bytes(parts[1].read_bytes()[:-7])


def missing(parts: list[Path], other: Path) -> None:
    parts[1].unlink()


def renamed(parts: list[Path], other: Path) -> None:
    parts[1].rename(parts[1].with_name("cells-000000000000-000000000001.part"))


def extra(parts: list[Path], other: Path) -> None:
    shutil.copy(parts[0], parts[0].with_name("cells-000000000000-000000009999.part"))


def empty(parts: list[Path], other: Path) -> None:
    parts[0].write_bytes(b"")


def linked(parts: list[Path], other: Path) -> None:
    parts[0].unlink()
    parts[0].symlink_to(parts[1])


@pytest.fixture(scope="module")
def kept(demo_census: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    """A spool that was kept, of another one beside it, and the output as it should be."""
    folder = tmp_path_factory.mktemp("kept")
    liver = hr.open_census(demo_census).query("mus_musculus", dataset_id=LIVER)
    hr.Plan(Counting(liver), STEPS).write_h5ad(folder / "out.h5ad", keep_spool=True)
    (folder / "other").mkdir()
    fewer = [*STEPS[:-1], hr.HighlyVariableGenes(n_top_genes=99)]
    hr.Plan(Counting(liver), fewer).write_h5ad(folder / "other" / "out.h5ad", keep_spool=True)
    return folder, (folder / "out.h5ad").read_bytes()


ALL: list[Swap] = [swapped, copied, all_one, of_another_run, shortened, missing, renamed, extra, empty, linked]


@pytest.mark.parametrize("swap", ALL, ids=lambda swap: swap.__name__)
def test_parts_that_are_not_what_they_were_are_read_again(
    swap: Swap, kept: tuple[Path, bytes], demo_census: Path, tmp_path: Path
) -> None:
    folder, whole = kept
    shutil.copytree(folder / ".headrace-spool", tmp_path / ".headrace-spool")
    parts = sorted(tmp_path.glob(".headrace-spool/*/*.part"))
    assert len(parts) > 3
    swap(parts, folder / "other")
    liver = Counting(hr.open_census(demo_census).query("mus_musculus", dataset_id=LIVER))
    hr.Plan(liver, STEPS).write_h5ad(tmp_path / "out.h5ad")
    assert (tmp_path / "out.h5ad").read_bytes() == whole
    again = {swapped: 2, copied: 1, extra: 0, all_one: len(parts) - 1, of_another_run: len(parts)}.get(swap, 1)
    assert len(liver.log) == again


@pytest.mark.parametrize(
    "swap", [swapped, copied, of_another_run, shortened, missing, linked], ids=lambda s: s.__name__
)
def test_parts_that_change_between_two_passes_are_refused(
    swap: Swap, kept: tuple[Path, bytes], demo_census: Path, tmp_path: Path
) -> None:
    done = False

    def listen(event: Any) -> None:
        nonlocal done
        if isinstance(event, hr.events.PassFinished) and not done:
            done = True
            swap(sorted(tmp_path.glob(".headrace-spool/*/*.part")), kept[0] / "other")

    liver = Counting(hr.open_census(demo_census).query("mus_musculus", dataset_id=LIVER))
    with pytest.raises(hr.SourceError, match="run again to read it anew"):
        hr.Plan(liver, STEPS).write_h5ad(tmp_path / "out.h5ad", on_event=listen)
    assert not (tmp_path / "out.h5ad").exists()


# ------------------------------------------------------------------------------------------------------- the folder
class Small(ArraySource):
    """Cells in memory that are kept all the same."""

    spooled = True

    def identity(self) -> str:
        return "small"

    def refs(self, nnz: int) -> Any:
        return [CellRange(at, at + 10) for at in range(0, 40, 10)]

    def read(self, refs: Any) -> Any:
        return super().read([(one.start, one.stop) for one in refs])


def plan() -> hr.Plan:
    X = np.random.default_rng(0).poisson(1.0, (40, 30)).astype(np.float32)
    source = Small(
        X, pd.DataFrame(index=[f"c{i}" for i in range(40)]), pd.DataFrame(index=[f"g{i}" for i in range(30)])
    )
    return hr.Plan(source, [hr.NormalizeTotal(), hr.Log1p(), hr.HighlyVariableGenes(n_top_genes=5)])


def spool_of(folder: Path) -> Path:
    plan().write_h5ad(folder / "first.h5ad", keep_spool=True)
    (entry,) = found(folder / ".headrace-spool")
    return Path(entry["folder"])


def test_the_folder_is_ones_own(tmp_path: Path) -> None:
    spool = spool_of(tmp_path)
    assert spool.stat().st_mode & 0o777 == 0o700
    assert {part.stat().st_mode & 0o777 for part in spool.glob("*.part")} == {0o600}


def test_what_others_could_write_to_is_made_anew(tmp_path: Path) -> None:
    spool = spool_of(tmp_path)
    before = {part.name: part.stat().st_mtime_ns for part in spool.glob("*.part")}
    (spool / "fetched").mkdir()
    (spool / "fetched" / "a.bytes").write_bytes(b"put there by somebody else")
    spool.chmod(0o777)
    plan().write_h5ad(tmp_path / "out.h5ad", keep_spool=True)
    assert spool.stat().st_mode & 0o777 == 0o700
    assert not (spool / "fetched").exists()
    assert all(part.stat().st_mtime_ns != before[part.name] for part in spool.glob("*.part"))


def test_a_link_is_refused(tmp_path: Path) -> None:
    spool = spool_of(tmp_path)
    elsewhere = tmp_path / "elsewhere"
    spool.rename(elsewhere)
    spool.symlink_to(elsewhere)
    with pytest.raises(hr.OutputError, match="is a symbolic link, which is not followed; .*spool="):
        plan().write_h5ad(tmp_path / "out.h5ad")
    assert len(list(elsewhere.glob("*.part"))) == 4


def test_that_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = spool_of(tmp_path)
    uid = os.geteuid()
    if uid == 0:
        os.chown(spool, 4321, 4321)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: uid + 1)
        monkeypatch.setattr("headrace.support.private._owner_of_files", lambda handle: uid + 1)
    with pytest.raises(hr.OutputError, match="belongs to another user .*: what lies there is not believed; .*spool="):
        plan().write_h5ad(tmp_path / "out.h5ad")


def test_a_folder_that_is_put_in_its_place_is_not_read(tmp_path: Path) -> None:
    with own_folder(tmp_path / "a", "the spool", "choose another") as folder:
        (tmp_path / "a" / "x").write_bytes(b"mine")
        (tmp_path / "a").rename(tmp_path / "b")
        (tmp_path / "a").mkdir()
        (tmp_path / "a" / "x").write_bytes(b"evil")
        assert folder.read("x") == b"mine"
        folder.empty()
    assert (tmp_path / "a" / "x").read_bytes() == b"evil"


@pytest.mark.parametrize("what", ["another's", "link", "file"])
def test_the_name_in_the_temporary_folder_is_nobody_elses(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path))
    guessed = tmp_path / f"headrace-spool-{os.getuid()}"
    assert temporary_folder("headrace-spool") == guessed
    if what == "link":
        (tmp_path / "elsewhere").mkdir()
        guessed.symlink_to(tmp_path / "elsewhere")
    elif what == "file":
        guessed.write_text("")
    else:
        guessed.mkdir()
        uid = os.geteuid()
        os.chown(guessed, 4321, 4321) if uid == 0 else monkeypatch.setattr(os, "geteuid", lambda: uid + 1)
        if uid:
            monkeypatch.setattr("headrace.support.private._owner_of_files", lambda handle: uid)
    chosen = temporary_folder("headrace-spool")
    assert chosen != guessed
    assert chosen != temporary_folder("headrace-spool"), "it cannot be guessed"
    adata = plan().to_anndata()
    assert adata.n_obs == 40
    assert not [*(tmp_path / "elsewhere").glob("*")]
    assert [path.name for path in tmp_path.iterdir()] in (
        [guessed.name],
        ["elsewhere", guessed.name],
        [guessed.name, "elsewhere"],
    )


def test_parts_that_lie_ready_in_the_temporary_folder_are_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another user has run the same plan on fewer cells, and left what that gave where ours will look."""
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path))
    expected = plan().to_anndata()
    spool = spool_of(tmp_path)
    guessed = tmp_path / f"headrace-spool-{os.getuid()}"
    shutil.copytree(spool.parent, guessed)
    for part in guessed.glob("*/*.part"):
        part.write_bytes(next(spool.glob("*-000000000010.part")).read_bytes())
    if os.geteuid() == 0:
        for path in (guessed, *guessed.rglob("*")):
            os.chown(path, 4321, 4321)
    adata = plan().to_anndata()
    np.testing.assert_array_equal(adata.X.toarray(), expected.X.toarray())


@pytest.mark.parametrize("about", ["[" * 100_000, "[1]", '{"source": 3}', '{"source": {"query": 5}}', "\0", '"x"'])
def test_a_list_of_spools_survives_what_others_wrote(about: str, tmp_path: Path) -> None:
    from headrace.cli import main

    spool = spool_of(tmp_path)
    (spool / "about.json").write_text(about)
    assert main(["spool", "list", str(tmp_path / ".headrace-spool")]) == 0
    assert found(tmp_path / ".headrace-spool")[0]["parts"] == 4
