"""`headrace aggregate`: the tables that `GroupStatistics` gives in a program."""

from __future__ import annotations

import shutil
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import headrace as hr
from headrace.cli import main
from headrace.sources.arrays import ArraySource
from tests.steps.test_pseudobulk import cells


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    X, obs, var = cells()
    path = tmp_path / "cells.h5ad"
    hr.Plan(ArraySource(X, obs, var)).write_h5ad(path)
    return path


@pytest.mark.parametrize("ending", [".h5ad", ".parquet", ".csv", ".tsv.gz"])
def test_the_table_of_a_program(ending: str, stored: Path, tmp_path: Path) -> None:
    out = tmp_path / f"table{ending}"
    options = ["--target-sum", "1e4", "--log1p", "--by", "donor, kind", "--metrics", "n_obs,mean,fraction"]
    assert main(["aggregate", "--h5ad", str(stored), *options, "--out", str(out)]) == 0
    steps = [hr.NormalizeTotal(1e4), hr.Log1p(), hr.GroupStatistics(["donor", "kind"], ["n_obs", "mean", "fraction"])]
    wanted = hr.Plan(hr.open_h5ad(stored), steps).to_anndata(dense=True)
    if ending == ".h5ad":
        read = ad.read_h5ad(out)
        np.testing.assert_array_equal(read.layers["mean"].toarray(), wanted.layers["mean"])
        return
    read = pd.read_parquet(out) if ending == ".parquet" else pd.read_csv(out, sep="\t" if "tsv" in ending else ",")
    assert list(read) == ["donor", "kind", "n_obs", "gene", "mean", "fraction"]
    assert len(read) == wanted.n_obs * wanted.n_vars
    np.testing.assert_array_equal(read["mean"].astype(np.float32), wanted.layers["mean"].ravel())
    assert read["gene"].tolist() == [*wanted.var_names] * wanted.n_obs
    assert read["n_obs"][:: wanted.n_vars].tolist() == wanted.obs["n_obs"].tolist()
    assert main(["aggregate", "--h5ad", str(stored), "--by", "kind", "--out", str(out)]) == 1  # it exists


def test_text_that_has_no_room_is_not_begun(stored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    groups = hr.GroupStatistics(["donor", "kind"], ["n_obs", "mean"])
    hr.Plan(hr.open_h5ad(stored), [groups]).write(hr.LongTable(tmp_path / "all.csv"))
    takes = (tmp_path / "all.csv").stat().st_size
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=takes))
    hr.Plan(hr.open_h5ad(stored), [groups]).write(hr.LongTable(tmp_path / "fits.csv"))
    assert (tmp_path / "fits.csv").read_bytes() == (tmp_path / "all.csv").read_bytes()
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=takes // 4))
    with pytest.raises(hr.OutputError, match=r"takes about .* MB are free there"):
        hr.Plan(hr.open_h5ad(stored), [groups]).write(hr.LongTable(tmp_path / "none.csv"))
    assert not list(tmp_path.glob("*none.csv*"))
    hr.Plan(hr.open_h5ad(stored), [groups]).write(hr.LongTable(tmp_path / "small.parquet"))  # who knows how small
    few = [groups, hr.FilterCells(min_counts=1e9), hr.FilterCells(min_genes=0)]
    with pytest.raises(hr.InputError, match="passed the filters"):  # how many would come was not known
        hr.Plan(hr.open_h5ad(stored), few).write(hr.LongTable(tmp_path / "few.csv"))


def test_what_is_wrong_is_said(stored: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for options, message in (
        (["--by", "kinds", "--out", "x.csv"], "did you mean 'kind'"),
        (["--by", "kind", "--out", "x.txt"], "the name of a table ends in .csv"),
        (["--by", "kind", "--metrics", "meen", "--out", "x.csv"], "did you mean 'mean'"),
        (["--by", "kind"], "Missing option '--out'"),
        (["--by", "kind", "--out", "x.csv", "--pca", "5"], "--pca"),
        (["--by", "kind", "--out", "x.csv", "--report", "x.html"], "--report"),
    ):
        assert main(["aggregate", "--h5ad", str(stored), *options]) in (1, 2)
        assert message in capsys.readouterr().err
