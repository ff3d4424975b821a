"""Dense matrices: the same numbers as the sparse ones, for who takes no others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import headrace as hr
from headrace.cli import main
from headrace.sinks import dense as module
from tests.laws.registry import source


@pytest.mark.parametrize("values", [1, 500, 4_000_000])
@pytest.mark.parametrize("options", [{}, {"compression": "gzip", "checksum": False}], ids=["plain", "gzip"])
def test_samples_are_dense_with_the_same_numbers(
    values: int, options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = hr.Plan(source(), [hr.Pseudobulk(["batch", "sex"], min_cells=1), hr.SaveLayer("counts"), hr.CPM()])
    plan.write_h5ad(tmp_path / "sparse.h5ad", dense=False)
    expected = ad.read_h5ad(tmp_path / "sparse.h5ad")
    assert sparse.issparse(expected.X)
    monkeypatch.setattr(module, "VALUES", values)
    plan.write_h5ad(tmp_path / "dense.h5ad", dense=True, **options)
    assert hr.verify_h5ad(tmp_path / "dense.h5ad").problems == ()
    for made in (plan.to_anndata(dense=True), ad.read_h5ad(tmp_path / "dense.h5ad")):
        for ours, theirs in ((made.X, expected.X), (made.layers["counts"], expected.layers["counts"])):
            assert type(ours) is np.ndarray
            assert ours.dtype == np.float32
            np.testing.assert_array_equal(ours, theirs.toarray())
        pd.testing.assert_frame_equal(made.obs, expected.obs)
    with h5py.File(tmp_path / "dense.h5ad") as file:
        assert file["X"].fletcher32 == options.get("checksum", True)


def test_options_of_the_command_line(tmp_path: Path) -> None:
    hr.Plan(source()).write_h5ad(tmp_path / "in.h5ad")
    flags = ["--h5ad", str(tmp_path / "in.h5ad"), "--dense", "--no-checksum", "--out", str(tmp_path / "out.h5ad")]
    assert main(["export", *flags]) == 0
    with h5py.File(tmp_path / "out.h5ad") as file:
        assert not file["X"].fletcher32
        np.testing.assert_array_equal(file["X"][:], ad.read_h5ad(tmp_path / "in.h5ad").X.toarray())
    table = pd.DataFrame(np.arange(12).reshape(4, 3), index=list("abcd"), columns=["s1", "s2", "s3"])
    table.to_csv(tmp_path / "t.csv")
    out = tmp_path / "bulk.h5ad"
    assert main(["bulk", str(tmp_path / "t.csv"), "--method", "none", "--dense", "--out", str(out)]) == 0
    np.testing.assert_array_equal(ad.read_h5ad(out).X, table.to_numpy().T)
