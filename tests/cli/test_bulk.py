"""`headrace bulk`, and samples made of cells by `headrace export`."""

from __future__ import annotations

from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest

import headrace as hr
from headrace.cli import main

LIVER = "4546e757-34d0-4d17-be06-538318925fcd"


def test_log_cpm_as_edger(shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = shared / "data/bulk/airway.counts.csv.gz"
    assert main(["bulk", str(table), "--method", "tmm", "--log", "--out", str(tmp_path / "out.h5ad")]) == 0
    out, said = capsys.readouterr()
    assert not out
    assert "genes x samples (by the ids of the sample table), 8 samples, 64,102 genes" in said
    made = anndata.read_h5ad(tmp_path / "out.h5ad")
    expected = pd.read_csv(shared / "data/expected/edger/airway.logcpm_tmm_prior2.sample500.csv.gz", index_col=0)
    np.testing.assert_allclose(made[:, expected.index].X.T, expected, rtol=1e-6)
    assert set(made.layers) - {None} == {"counts"}
    assert made.obs["dex"].tolist()[:2] == ["untrt", "trt"]


def test_a_table_goes_out(shared: Path, tmp_path: Path) -> None:
    table = shared / "data/bulk/marioni.counts.csv.gz"
    out = tmp_path / "tpm.csv.gz"
    assert main(["bulk", str(table), "--lengths", "length", "--to", "tpm", "--out", str(out)]) == 0
    expected = pd.read_csv(shared / "data/expected/edger/marioni.tpm_raw.sample500.csv.gz", index_col=0)
    np.testing.assert_allclose(pd.read_csv(out, index_col=0).loc[expected.index], expected, rtol=1e-6)
    assert pd.read_csv(tmp_path / "tpm.samples.csv.gz", index_col=0)["norm_factors"].notna().all()


def test_wrong_usage_and_failures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = ["--out", str(tmp_path / "x.csv")]
    assert main(["bulk", "none.csv", *out, "--log", "--to", "cpm"]) == 2
    assert main(["bulk", "none.csv", *out, "--prior-count", "1"]) == 2
    assert main(["bulk", "none.csv", *out]) == 1
    assert "error: there is no file none.csv" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_pseudobulk_of_a_census(demo_census: Path, tmp_path: Path) -> None:
    query = ["--census", str(demo_census), "--organism", "mus_musculus", "--dataset-id", LIVER]
    steps = ["--pseudobulk", "donor_id,cell_type", "--method", "tmm", "--layer", "counts"]
    assert main(["export", *query, *steps, "--out", str(tmp_path / "pb.h5ad")]) == 0
    made = anndata.read_h5ad(tmp_path / "pb.h5ad")
    liver = hr.open_census(demo_census).query("mus_musculus", dataset_id=LIVER)
    by_hand = hr.Plan(liver, [hr.Pseudobulk(["donor_id", "cell_type"]), hr.NormFactors()]).to_anndata()
    np.testing.assert_array_equal(made.obs["norm_factors"], by_hand.obs["norm_factors"])
    np.testing.assert_array_equal(made.X, by_hand.X, strict=True)  # dense, as pydeseq2 needs
    assert main(["export", *query, *steps, "--sparse", "--out", str(tmp_path / "sparse.h5ad")]) == 0
    np.testing.assert_array_equal(anndata.read_h5ad(tmp_path / "sparse.h5ad").X.toarray(), made.X)
    assert main(["export", *query, "--method", "tmm", "--out", str(tmp_path / "no.h5ad")]) == 2
