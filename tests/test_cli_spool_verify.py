"""The commands `spool` and `verify`."""

from __future__ import annotations

from pathlib import Path

import h5py
import pytest

import headrace as hr
from conftest import LIVER
from headrace.cli import main


def test_verify(demo_census: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "liver.h5ad"
    hr.Plan(hr.open_census(demo_census).query("mus_musculus", dataset_id=LIVER)).write_h5ad(path)
    assert main(["verify", str(path)]) == 0
    assert "is whole: 700 cells" in capsys.readouterr().err
    with h5py.File(path, "r+") as file:
        file["X/indices"][:2] = file["X/indices"][:2][::-1]
    assert main(["verify", str(path)]) == 1
    assert "error: " in (said := capsys.readouterr().err)
    assert "columns not sorted" in said
    assert main(["verify", str(tmp_path / "nowhere.h5ad")]) == 1
    assert "there is no file" in capsys.readouterr().err


def test_spool_list_and_clean(demo_census: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    query = hr.open_census(demo_census).query("mus_musculus", dataset_id=LIVER)
    folder = tmp_path / "spool"
    hr.Plan(query, [hr.FilterGenes(min_cells=3)]).write_h5ad(tmp_path / "x.h5ad", spool=folder, keep_spool=True)
    assert main(["spool", "list", str(folder)]) == 0
    assert LIVER in capsys.readouterr().out
    assert main(["spool", "clean", str(folder)]) == 0
    assert "removed 1 spool\n" in capsys.readouterr().err
    assert main(["spool", "list", str(folder)]) == 0
    assert capsys.readouterr().out == ""
