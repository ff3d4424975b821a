"""The commands `spool` and `verify`."""

from __future__ import annotations

from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pytest
from scipy import sparse

import headrace as hr
from headrace.cli import main
from tests.conftest import LIVER


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


def test_verify_what_headrace_did_not_write(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It cannot be verified, so that the exit code is 1; but what was found is told."""
    path = tmp_path / "x.h5ad"
    ad.AnnData(sparse.csr_matrix(np.eye(4, dtype=np.float32))).write_h5ad(path)
    assert main(["verify", str(path)]) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"error: {path} cannot be verified: headrace did not write it, or another program")
    assert said.endswith(
        "Nothing else is wrong: all of it can be read, and fits together: 4 cells x 4 genes, 4 non-zeros\n"
    )
    with h5py.File(path, "r+") as file:
        file["X/data"][1] = np.nan
    assert main(["verify", str(path)]) == 1
    assert "X: NaN or infinity in cells 0 to 4\n" in capsys.readouterr().err
    (tmp_path / "empty.h5ad").touch()
    for wrong in (tmp_path, tmp_path / "empty.h5ad"):
        assert main(["verify", str(wrong)]) == 1
        assert capsys.readouterr().err.startswith(f"error: {wrong} is ")


def test_verify_what_another_program_has_saved(
    demo_census: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "liver.h5ad"
    hr.Plan(hr.open_census(demo_census).query("mus_musculus", dataset_id=LIVER)).write_h5ad(path)
    ad.read_h5ad(path).write_h5ad(path)
    assert main(["verify", str(path)]) == 1
    assert "so it is, too, whenever another program has saved the file" in capsys.readouterr().err


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
